"""Step 4: other methods on the pairs and budget of the run chosen above, one at a time or all of them as a study."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from workbench.baselines import METHODS, NAMES
from workbench.errors import UserError
from workbench.ui import align_view, compare_plot, compare_runs, compare_table, context, quota, state
from workbench.ui.starting import start_run

ALL = ("prompt", "steering", "sft", "hir", "dpo", "scit", "dual")
ABOUT = {
    "sft": "fine-tuning on chosen answers",
    "hir": "fine-tuning on both, told which is which",
    "dpo": "direct preference optimisation",
    "steering": "the mean difference added, no training",
}
MOST_SEEDS = 5
NO_TRL = "DPO needs the package trl"


def panel(workspace: state.Workspace, run: Any) -> tuple[dict[str, Any], bool]:
    """What the view ``compare-baselines`` draws, and whether anything is at work."""
    same = _like(run.status())
    mine = [one for one in _runs(workspace.visitor, ("baseline", "study")) if _like(one.status()) == same]
    trained = [_line(one) for one in mine if one.kind == "baseline"]
    open_now = [line for line in trained if line["state"] != "finished"][:6]
    study = next((one for one in mine if one.kind == "study"), None)
    told = _study(study)
    done = {line["method"] for line in trained if line["state"] == "finished"}
    busy = told["busy"] or any(line["state"] in align_view.LIVE for line in trained)
    return {
        "methods": [
            {
                "value": method,
                "label": f"{NAMES[method]} again" if method in done else f"{_verb(method)} {NAMES[method]}",
                "about": ABOUT[method],
                "off": _why_not(method),
            }
            for method in METHODS
        ],
        "runs": open_now,
        "study": told | {"methods": [{"value": method, "label": NAMES[method]} for method in ALL], "most": MOST_SEEDS},
    }, busy


def _runs(visitor: str, kinds: tuple[str, ...]) -> list[Any]:
    from workbench.runs.store import list_runs

    return [run for run in list_runs(all=True) if run.kind in kinds and state.may_use(visitor, run)]


def _like(status: dict[str, Any]) -> tuple[Any, Any]:
    return status.get("model"), status.get("pairs")


def _verb(method: str) -> str:
    return "Find" if method == "steering" else "Train"


def _why_not(method: str) -> str:
    return NO_TRL if method == "dpo" and find_spec("trl") is None else ""


def _line(run: Any) -> dict[str, Any]:
    """A baseline's run: how far it is, and what can be done."""
    status = run.status()
    live = status["state"] in align_view.LIVE
    bar = compare_table.bar(status) if live else None
    act = {"label": "Stop", "act": "stop-run"} if live else {"label": "Go on", "act": "go-on"}
    text = bar["text"] if bar else str(status.get("error") or "Stopped.")
    if status["state"] == "queued":
        text = "Waits for the device"
    name = compare_runs.named(status)
    line = {"run": run.id, "method": status.get("method"), "name": name, "state": status["state"], "text": text}
    return line | {"share": bar["share"] if bar else None, "act": act}


def _study(run: Any) -> dict[str, Any]:
    if run is None:
        return {"busy": False, "run": None, "bar": None, "wrong": None, "finding": [], "plot": None}
    status = run.status()
    busy = status["state"] in align_view.LIVE
    result = status.get("result") or {}
    pooled = [row for row in result.get("pooled") or [] if row.get("win_rate") is not None]
    points = [
        row | {"name": NAMES.get(row["method"], row["method"]), "color": _colour(row["method"])}
        for row in pooled
        if row.get("kl_from_base") is not None
    ]
    bar = compare_table.bar(status) if busy else None
    if bar and status.get("message"):
        bar["text"] = str(status["message"])
    plot = compare_plot.frontier(points)
    return {
        "busy": busy,
        "run": run.id,
        "bar": bar,
        "wrong": None
        if busy or status["state"] == "finished"
        else str(status.get("error") or "The study was stopped."),
        "finding": [str(text) for text in result.get("finding") or []],
        "setting": result.get("setting"),
        "plot": plot,
        "seconds": status.get("seconds") if status["state"] == "finished" else None,
    }


def _colour(method: str) -> str:
    return "base" if method == "base" else "aligned" if method in ("scit", "dual") else "ink"


# -- presses -----------------------------------------------------------------------------------------------------------


def press(visitor: str, sent: dict[str, Any], run: Any) -> None:
    """Start, stop or go on with a baseline or a study. Raises UserError."""
    from workbench.runs import worker

    action = sent.get("action")
    if action == "baseline":
        _start(visitor, "baseline", _baseline_of(run, str(sent.get("method"))), quota.size_of(run.path))
    elif action == "study":
        config = _study_of(run, sent)
        _start(visitor, "study", config, len(config["methods"]) * config["seeds"] * quota.size_of(run.path))
    elif action in ("stop-run", "go-on"):
        other = state.run_of(state.open_workspace(visitor), str(sent.get("run") or ""))
        if other is None or other.kind not in ("baseline", "study"):
            raise UserError("There is no such run; it may have been deleted.")
        if action == "stop-run":
            worker.stop_soon(other)
        else:
            quota.need(visitor)
            state.forget_models()
            worker.resume(other)


def _start(visitor: str, kind: str, config: dict[str, Any], coming: int) -> None:
    """Submit a run that will write some ``coming`` bytes: each method about as many as the run it is held against."""
    with state.lock_of(visitor):  # two presses, one run
        alive = [
            one for one in _runs(visitor, (kind,)) if one.owner == visitor and one.status()["state"] in context.LIVE
        ]
        if kind == "study" and alive:
            raise UserError("A study is at work already: wait for it, or stop it.")
        if any(one.status().get("method") == config.get("method") for one in alive):
            raise UserError("This baseline is at work already.")
        start_run(visitor, kind, config, coming)


def _baseline_of(run: Any, method: str) -> dict[str, Any]:
    from workbench.baselines.config import BaselineConfig

    if method not in METHODS:
        raise UserError(f"There is no such baseline: choose one of {', '.join(NAMES[name] for name in METHODS)}.")
    if why := _why_not(method):
        raise UserError(f"{why}, which is not installed here: pip install trl, or choose another method.")
    return BaselineConfig.from_dict(run.config() | {"method": method}).to_dict()


def _study_of(run: Any, sent: dict[str, Any]) -> dict[str, Any]:
    from workbench.baselines.config import BaselineConfig
    from workbench.runs.studying import Plan

    wanted = sent.get("methods") if isinstance(sent.get("methods"), list) else []
    methods = [method for method in ALL if method in wanted]
    try:
        seeds = int(sent.get("seeds"))
    except (TypeError, ValueError):
        seeds = 0
    if len(methods) < 2 or not 1 <= seeds <= MOST_SEEDS:
        raise UserError(f"A study takes at least two methods, and 1 to {MOST_SEEDS} seeds each.")
    every = BaselineConfig.from_dict(run.config() | {"method": "sft"}).to_dict()
    usual, apart = BaselineConfig().to_dict(), ("model", "pairs", "seed", "method")
    config = {
        "model": every["model"],
        "pairs": every["pairs"],
        "methods": methods,
        "seeds": seeds,
        "seed": every["seed"],
    }
    config |= {"test": None, "limit": None, "device": every["device"], "doc": None}
    config["settings"] = {key: value for key, value in every.items() if value != usual[key] and key not in apart}
    Plan.of(config)
    return config
