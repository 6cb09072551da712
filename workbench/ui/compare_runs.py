"""Which runs step 4 compares, and what was measured of them on held-out pairs."""

from __future__ import annotations

from typing import Any

from workbench.errors import UserError
from workbench.ui import align_view, compare_table, context, state


def named(status: dict[str, Any]) -> str:
    """A run in words: method, blocks, alpha."""
    blocks = [block for block in status.get("layers") or [] if isinstance(block, int)]
    alpha = status.get("alpha")
    where = f", block{'s' if len(blocks) > 1 else ''} {align_view.blocks_text(blocks)}" if blocks else ""
    strength = f", alpha {alpha:.3g}" if isinstance(alpha, (int, float)) else ""
    method = str(status.get("method") or "run")
    if status.get("title"):
        return str(status["title"])
    if status.get("partial"):
        strength += f", stopped at step {status['partial']['steps']} of {status['partial']['of']}"
    return f"{method.upper() if method in ('scit', 'dpo', 'sft') else method.capitalize()}{where}{strength}"


def finished(visitor: str, run_id: Any) -> Any:
    """The finished run with this id, if the visitor may see it. Raises UserError."""
    run = state.run_of(state.open_workspace(visitor), str(run_id or ""))
    if run is None or not context.usable(run.status()):
        raise UserError("Choose a finished run to compare with.")
    return run


def judging_of(workspace: state.Workspace) -> Any:
    """The visitor's latest evaluation, or None."""
    name = workspace.settings.get("evaluation")
    return state.run_of(workspace, name) if name else None


def evaluated(workspace: state.Workspace, run_id: str) -> list[dict[str, Any]]:
    """The numbers of an evaluation made on the page, base first; empty if there is none."""
    name = (workspace.settings.get("evaluations") or {}).get(run_id)
    run = state.run_of(workspace, name) if name else None
    return align_view.rows_of(run.status().get("result") or {}) if run else []


def table_of(workspace: state.Workspace, run: Any) -> tuple[dict[str, Any], bool]:
    """The held-out table, and whether an evaluation is at work."""
    rows = []
    for one in state.runs_of(workspace.visitor)[:12]:
        status = one.status()
        if context.usable(status):
            found = align_view.rows_of(status.get("result") or {}) or evaluated(workspace, one.id)
            row = {"run": one.id, "name": named(status), "pairs": status.get("pairs")}
            rows.append(row | ({"base": found[0], "aligned": found[-1]} if len(found) > 1 else {}))
    judging = judging_of(workspace)
    status = judging.status() if judging else None
    if status and status["state"] in align_view.LIVE:
        total = status.get("total") or 0
        text = f"{align_view.DOING.get(status.get('stage') or '', 'Starting')}" + (
            f", {status['step']} of {total}" if total else ""
        )
        bar = {"share": round(100 * status["step"] / total, 1) if total else 0, "text": text}
        return compare_table.heldout(rows, run.id, {"label": "Stop", "act": "stop"}, bar), True
    lacking = any(row["run"] == run.id and "aligned" not in row for row in rows)
    act = {"label": "Evaluate on held-out pairs", "act": "evaluate"} if lacking else None
    table = compare_table.heldout(rows, run.id, act)
    if status and status["state"] in ("failed", "interrupted") and lacking:
        table["sub"] = str(status.get("error") or table["sub"])
    return table, False
