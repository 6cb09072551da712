"""Which runs step 4 holds against each other, and what was measured of them on held-out pairs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.runs.names import named
from workbench.ui import align_view, context, state

__all__ = ["Held", "finished", "judges_for", "named", "read", "visible"]
KINDS = ("align", "baseline")
MOST = 24  # runs in the table


def finished(visitor: str, run_id: Any) -> Any:
    """The finished run with this id, if the visitor may see it. Raises UserError."""
    run = state.run_of(state.open_workspace(visitor), str(run_id or ""))
    if run is None or not context.usable(run.status()):
        raise UserError("Choose a finished run to compare with.")
    return run


def visible(visitor: str) -> list[Any]:
    """The alignments and baselines that the visitor may see, newest first."""
    from workbench.runs.store import list_runs

    return [run for run in list_runs(all=True) if run.kind in KINDS and state.may_use(visitor, run)]


@dataclass
class Held:
    """What the table shows. ``rows``: {run, name, kind, model, pairs, base, aligned, judged (whether the numbers are those of
    the evaluation shown)}; ``result`` is that evaluation's, {} without one; ``picked`` the ids that are ticked."""

    selected: str
    rows: list[dict[str, Any]]
    picked: list[str]
    result: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] | None = None  # of the evaluation at work, or that failed last

    @property
    def busy(self) -> bool:
        return bool(self.status) and self.status["state"] in align_view.LIVE


def read(workspace: state.Workspace, run: Any) -> Held:
    """The table of held-out numbers around the run that was chosen above, from the folders of the runs."""
    latest = _evaluation(workspace, "evaluation")
    status = latest.status() if latest else None
    told = latest if status and status["state"] == "finished" else _evaluation(workspace, "evaluated")
    result = (told.status().get("result") or {}) if told else {}
    models = [row for row in result.get("models") or [] if isinstance(row, dict)]
    judged = {row["run"]: row for row in models[1:] if row.get("run")}
    model, rows = run.status().get("model"), []
    for one in visible(workspace.visitor):
        now = one.status()
        if not context.usable(now) or (len(rows) >= MOST and one.id not in (run.id, *judged)):
            continue
        own = align_view.rows_of(now.get("result") or {})
        base, aligned = (models[0], judged[one.id]) if one.id in judged else own if len(own) > 1 else (None, None)
        row = {"run": one.id, "name": named(now), "kind": one.kind, "pairs": now.get("pairs"), "base": base}
        rows.append(row | {"aligned": aligned, "judged": one.id in judged, "same": now.get("model") == model})
    rows.sort(key=lambda row: row["run"] != run.id)
    fit = [row["run"] for row in rows if row["same"]]
    kept = workspace.settings.get("heldout") or {}
    wanted = kept.get("picked") if isinstance(kept.get("picked"), list) else list(judged)
    picked = [name for name in fit if name in wanted] or [run.id]
    return Held(run.id, rows, picked, result, status if status and status["state"] != "finished" else None)


def _evaluation(workspace: state.Workspace, key: str) -> Any:
    name = workspace.settings.get(key)
    found = state.run_of(workspace, name) if isinstance(name, str) else None
    return found if found and found.kind == "evaluate" else None


def judges_for(source: str) -> list[dict[str, Any]]:
    """The judges that may be chosen here for these pairs: {value, label, asks (what it has to be told, or "")}.

    On a page for strangers no address is taken from them, or the server could be made to ask any machine it can reach: an
    endpoint is offered there only if the owner fixed one in RAHF_JUDGE_URL (URL#MODEL).
    """
    from workbench.judges import oracle_of

    oracle = oracle_of(source)
    found = [{"value": "auto", "label": f"Oracle ({oracle.name})"}] if oracle else []
    found += [
        {"value": "probe", "label": "Probe, trained on the same pairs"},
        {"value": "votes", "label": "People’s votes"},
        {"value": "reward", "label": "Reward model", "asks": "Hub id" if state.public() else "Folder or Hub id"},
    ]
    if fixed := os.environ.get("RAHF_JUDGE_URL", ""):
        found.append({"value": "fixed", "label": f"Endpoint: {fixed.partition('#')[2] or 'model'}"})
    if not state.public() or state.owner_mode():
        found.append({"value": "endpoint", "label": "OpenAI-compatible endpoint", "asks": "https://host/v1#model"})
    return [
        {"asks": ""} | one for one in [*found, {"value": "none", "label": "Nobody: only likelihoods and divergence"}]
    ]


def judge_of(sent: dict[str, Any], source: str) -> dict[str, Any]:
    """What was chosen, as settings of an evaluation. Raises UserError for what is not offered here, or lacks its name."""
    offered = {one["value"]: one for one in judges_for(source)}
    value, where = str(sent.get("judge") or ""), str(sent.get("where") or "").strip()[:500]
    if value not in offered:
        raise UserError("Choose one of the judges that are offered.")
    if offered[value]["asks"] and not where:
        raise UserError(f"This judge has to be named: {offered[value]['asks']}.")
    if value == "reward":
        from workbench.models import HUB_ID

        if state.public() and not state.owner_mode() and (Path(where).exists() or not HUB_ID.fullmatch(where)):
            raise UserError("Give the reward model as a Hub id such as org/name.")
        return {"judge": f"reward:{where}"}
    if value in ("endpoint", "fixed"):
        address = where if value == "endpoint" else os.environ["RAHF_JUDGE_URL"]
        return {"judge": f"endpoint:{address}", "judge_price": _price(sent.get("price"))}
    return {"judge": value}


def _price(text: Any) -> list[float] | None:
    """Two prices as they were typed; the owner's (RAHF_JUDGE_PRICE) where none were. Raises UserError."""
    text = str(text or "").strip() or os.environ.get("RAHF_JUDGE_PRICE", "")
    if not text:
        return None
    try:
        into, out = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        into = -1.0
        out = -1.0
    if not (0 <= into < 1e6 and 0 <= out < 1e6):
        raise UserError("Give two prices, of a million tokens read and of a million written, such as 0.15 0.6.")
    return [into, out]
