"""The columns of step 4: who answers in each, what they are called, and what may be put there.

A column is plain data: {"kind": "base"}, {"kind": "prompted", "text": p+}, {"kind": "run", "run": id} or {"kind": "steer",
"run": id, "alpha": x}. What comes from the page or a file goes through :func:`columns_of` or :func:`changed`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import answers, compare_runs, context, state
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.generation import Speaker
    from workbench.models import LoadedModel
    from workbench.reading import Axes
    from workbench.runs.store import Run

MOST, LEAST = 4, 2
KINDS = ("align", "baseline")  # of runs that leave an aligned model
LONGEST = 1000  # characters of p+
RUNS = 40  # that are offered

Column = dict[str, Any]


def runs_for(workspace: Workspace) -> list[Run]:
    """The runs with an aligned model that this visitor may see, newest first."""
    from workbench.runs.store import list_runs

    seen = (run for run in list_runs(all=True) if run.kind in KINDS and state.may_use(workspace.visitor, run))
    return [run for run in seen if context.usable(run.status())][:RUNS]


def main_run(workspace: Workspace) -> Run:
    """The run that the step is about: the selected one, else the newest alignment, else the newest baseline. Raises
    UserError if there is none."""
    known = sorted(runs_for(workspace), key=lambda run: run.kind == "baseline")
    run = next((one for one in known if one.id == workspace.run), known[0] if known else None)
    if run is None:
        raise UserError("Step 4 needs a finished run: align a model in step 3 first.")
    return run


def same_base(one: Run, other: Run) -> bool:
    """Whether two runs are of the same weights, held in the same precision."""
    first, second = answers.base_key(one), answers.base_key(other)
    weights = "model" if first["model"] and second["model"] else "source"
    return all(first[key] == second[key] for key in (weights, "dtype", "quantization"))


def columns_of(workspace: Workspace, main: Run) -> list[Column]:
    """The visitor's columns; by default base and the run. What is no longer there, or of another base, is left out."""
    kept = workspace.settings.get("compare_columns")
    good = [column for column in kept if _stands(workspace, main, column)] if isinstance(kept, list) else []
    start: list[Column] = [{"kind": "base"}, {"kind": "run", "run": main.id}]
    if len(good) < LEAST:
        good += [column for column in start if column not in good]
    return good[:MOST]


def _stands(workspace: Workspace, main: Run, column: Any) -> bool:
    if not isinstance(column, dict):
        return False
    if column.get("kind") == "base":
        return True
    if column.get("kind") == "prompted":
        return isinstance(column.get("text"), str) and bool(column["text"].strip())
    run = state.run_of(workspace, column.get("run"))
    if run is None or column.get("kind") not in ("run", "steer"):
        return False
    if column["kind"] == "steer":
        return isinstance(column.get("alpha"), (int, float)) and run.config().get("model") == main.config().get("model")
    return context.usable(run.status()) and same_base(run, main)


def changed(workspace: Workspace, main: Run, columns: Sequence[Column], sent: dict[str, Any]) -> list[Column]:
    """The columns after a press on the page: one added or removed, another choice, p+ or alpha. Raises UserError."""
    now, action = [dict(column) for column in columns], sent.get("action")
    if action == "add-column":
        if len(now) >= MOST:
            raise UserError(f"There may be {MOST} columns at most.")
        return [*now, _next_choice(workspace, main, now)]
    place = _place(sent.get("at"), len(now))
    if action == "remove-column":
        if len(now) <= LEAST:
            raise UserError(f"There must be {LEAST} columns at least.")
        del now[place]
    elif action == "choose-column":
        now[place] = _chosen(workspace, main, str(sent.get("value") or ""))
    elif action == "set-text" and now[place]["kind"] == "prompted":
        now[place]["text"] = _text(sent.get("value"))
    elif action == "set-alpha" and now[place]["kind"] == "steer":
        now[place]["alpha"] = _alpha(sent.get("value"), reach(state.run_of(workspace, now[place]["run"]) or main))
    else:
        raise UserError("There is no such column: reload the page.")
    return now


def _place(value: Any, count: int) -> int:
    try:
        place = int(value)
    except (TypeError, ValueError, OverflowError):
        place = -1
    if not 0 <= place < count:
        raise UserError("There is no such column: reload the page.")
    return place


def _text(value: Any) -> str:
    text = str(value or "").strip()
    if not text:
        raise UserError("p+ is empty: write the instruction that the base is to answer under.")
    if len(text) > LONGEST:
        raise UserError(f"p+ may have up to {LONGEST} characters here, not {len(text)}.")
    return text


def _alpha(value: Any, most: float) -> float:
    try:
        alpha = float(value)
    except (TypeError, ValueError):
        alpha = math.nan
    if not -most <= alpha <= most:
        raise UserError(f"Alpha must be a number from {-most:g} to {most:g}.")
    return round(alpha, 3)


def _chosen(workspace: Workspace, main: Run, value: str) -> Column:
    kind, _, run_id = value.partition(":")
    if kind == "base":
        return {"kind": "base"}
    if kind == "prompted":
        return {"kind": "prompted", "text": positive_of(main)}
    if kind == "steer":
        run = steer_source(workspace, main)
        if run is None or run.id != run_id:
            raise UserError("There are no directions to steer along: align, or read the layers in step 2, first.")
        return {"kind": "steer", "run": run.id, "alpha": first_alpha(run)}
    run = compare_runs.finished(workspace.visitor, run_id)
    if not same_base(run, main):
        raise UserError(
            f"{compare_runs.named(run.status())} is of another base model ({run.config().get('model')}) than the aligned run: "
            "only runs of one base, in one precision, answer beside each other."
        )
    return {"kind": "run", "run": run.id}


def _next_choice(workspace: Workspace, main: Run, now: Sequence[Column]) -> Column:
    """What an added column shows first: something that is not there yet."""
    steer = steer_source(workspace, main)
    runs = [run for run in runs_for(workspace) if same_base(run, main)]
    offers: list[Column] = [
        {"kind": "base"},
        {"kind": "run", "run": main.id},
        {"kind": "prompted", "text": positive_of(main)},
    ]
    offers += [{"kind": "steer", "run": steer.id, "alpha": first_alpha(steer)}] if steer else []
    offers += [{"kind": "run", "run": run.id} for run in runs]
    there = {(column["kind"], column.get("run")) for column in now}
    return next((one for one in offers if (one["kind"], one.get("run")) not in there), offers[2])


# -- what they are -----------------------------------------------------------------------------------------------------


def positive_of(run: Run) -> str:
    """The run's own p+."""
    from workbench.rahf.config import RunConfig

    return str(run.config().get("positive") or RunConfig().positive)[:LONGEST]


def steer_source(workspace: Workspace, main: Run) -> Run | None:
    """Where the directions to steer along are: the run's own shift, else what step 2 captured of the same model."""
    if answers.can_steer(main):
        return main
    captured = answers.captured_of(workspace, main)
    return captured if captured is not None and (captured.path / "layers.json").exists() else None


def _run_alpha(run: Run) -> float | None:
    alpha = run.status().get("alpha") or (run.status().get("result") or {}).get("alpha")
    return float(alpha) if isinstance(alpha, (int, float)) and alpha > 0 else None


def first_alpha(run: Run) -> float:
    """The strength that a steering column begins with: the run's own."""
    return round(_run_alpha(run) or 1.0, 2)


def reach(run: Run) -> float:
    """How far the slider of alpha goes, on both sides of 0."""
    return float(max(2, math.ceil(2 * (_run_alpha(run) or 1.0))))


def strength_text(run: Run, alpha: float) -> str:
    """Relative strength at this alpha, from what the run measured at its own: the two are proportional."""
    measured = (run.status().get("result") or {}).get("relative_strength") or {}
    own = _run_alpha(run)
    if not measured or not own:
        return "relative strength not measured"
    strength = sum(measured.values()) / len(measured) / own * abs(alpha)
    zone = ", where answers begin to fall apart" if strength > 0.5 else ""
    return f"relative strength {strength:.2f}{zone}"


def key_of(column: Column) -> str:
    """What a column's chooser has as its value."""
    return f"{column['kind']}:{column['run']}" if column["kind"] in ("run", "steer") else str(column["kind"])


def names(workspace: Workspace, columns: Sequence[Column]) -> list[str]:
    """What the columns are called; two of one name get a number."""
    found = [_name(workspace, column) for column in columns]
    return [
        f"{name} ({found[: at + 1].count(name)})" if found.count(name) > 1 else name for at, name in enumerate(found)
    ]


def _name(workspace: Workspace, column: Column) -> str:
    if column["kind"] == "base":
        return "Base"
    if column["kind"] == "prompted":
        return "Base under p+"
    run = state.run_of(workspace, column["run"])
    if column["kind"] == "steer":
        return f"Base steered, alpha {column['alpha']:g}"
    return compare_runs.named(run.status()) if run else "A run that is gone"


def look_of(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """How columns are told apart: ``who`` gives the hue (base or aligned), ``line`` the style of the line above: solid for
    the first of a hue, then dashed, dotted, double."""
    seen: dict[str, int] = {}
    found = []
    for column in columns:
        who = "base" if column["kind"] in ("base", "prompted") else "aligned"
        place = seen[who] = seen.get(who, -1) + 1
        found.append({"who": who, "line": ("solid", "dashed", "dotted", "double")[place]})
    return found


def choices(workspace: Workspace, main: Run) -> list[dict[str, str]]:
    """What can be chosen for a column."""
    steer = steer_source(workspace, main)
    found = [{"value": "base", "label": "Base"}, {"value": "prompted", "label": "Base under p+"}]
    found += [{"value": f"steer:{steer.id}", "label": "Base steered"}] if steer else []
    for run in runs_for(workspace):
        other = "" if same_base(run, main) else " (another base)"
        found.append({"value": f"run:{run.id}", "label": compare_runs.named(run.status()) + other})
    return found


@dataclass(frozen=True)
class Ready:
    """What answers need, read from disk beside the desk: the base, who answers (a run: its adapter is still to be put beside
    the base), and the axes that tokens are scored along."""

    loaded: LoadedModel
    who: list[Speaker | Run]
    axes: Axes | None = None

    def speakers(self) -> Generator[None, None, list[Speaker]]:
        """Who answers, adapters put beside the base: on the desk only, an adapter a piece. Raises UserError."""
        from workbench.generation import Speaker

        found = []
        for one in self.who:
            found.append(one if isinstance(one, Speaker) else answers.adapter_of(self.loaded, one))
            yield
        return found


def ready(workspace: Workspace, main: Run, columns: Sequence[Column], axes: bool = True) -> Ready:
    """Load what these columns need to answer (with ``axes``, also to be scored). Seconds the first time. Raises UserError."""
    loaded = answers.base_for(main)
    who = [_who(workspace, column) for column in columns]
    return Ready(loaded, who, answers.axes_for(workspace, main) if axes else None)


def _who(workspace: Workspace, column: Column) -> Speaker | Run:
    from workbench.generation import Speaker

    if column["kind"] == "base":
        return Speaker()
    if column["kind"] == "prompted":
        return Speaker(instruction=column["text"])
    run = state.run_of(workspace, column["run"])
    if run is None:
        raise UserError("A run that stands in one of the columns is gone: choose another.")
    if column["kind"] == "steer":
        return Speaker(steering=answers.steering_for(run, column["alpha"]))
    return run
