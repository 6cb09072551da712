"""The value of the view ``layers`` in every state of a capture: before, while and after it, failed or stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.ui import layers_data, layers_drop, layers_runs, layers_scores, layers_tokens, state
from workbench.ui import layers_view as lv
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.runs.store import Run

SEEN = {  # what is kept of how the visitor looks at the picture: what may stand there
    "layer": lambda value: type(value) is int and 0 <= value < 1000,
    "projection": lambda value: value in ("pca", "umap", "axis"),
    "dims": lambda value: value in (2, 3) and type(value) is int,
    "colour": lambda value: isinstance(value, str) and len(value) <= 200,
    "grid": lambda value: type(value) is bool,
    "plain": lambda value: type(value) is bool,
    "moved_axes": lambda value: value in ("axis", "pca"),
    "lines": lambda value: type(value) is bool,
}


def seen_from(sent: dict[str, Any]) -> dict[str, Any]:
    """Of what a page sent, that which may be kept."""
    return {key: sent[key] for key, allowed in SEEN.items() if key in sent and allowed(sent[key])}


def reading_of(workspace: Workspace) -> dict[str, Any]:
    """What is read, and what could be."""
    return layers_scores.reading(
        layers_runs.pooling_of(workspace),
        layers_runs.site_of(workspace),
        lambda pooling, site: layers_runs.is_captured(workspace, pooling, site),
    )


def unready(workspace: Workspace, status: dict[str, Any] | None) -> dict[str, Any]:
    """The view before, during or instead of scores."""
    state_now = status["state"] if status else None
    blocks = workspace.model.get("blocks")
    common = {"reading": reading_of(workspace), "blocks_ahead": blocks or 8}
    if workspace.pairs is None:
        return {**common, "phase": "none", "title": "Layers", "lead": "Load pairs in step 1 first."}
    again = {"label": "Capture again", "action": "capture", "primary": True, "icon": "again"}
    if state_now in layers_runs.LIVE:
        stop = {"label": "Stop", "action": "stop", "icon": "stop", "off": bool(status.get("stopping"))}
        return {
            **common,
            "phase": "running",
            "title": f"Capturing all {blocks} blocks" if blocks else "Capturing all blocks",
            "lead": "It goes on when this page is closed; any tab finds it again.",
            "progress": lv.progress(status, blocks),
            "actions": [stop],
        }
    if state_now in ("failed", "interrupted"):
        return {
            **common,
            "phase": "failed",
            "title": "The capture did not finish",
            "lead": "Your pairs, model and picks are kept.",
            "note": {
                "kind": "err",
                "strong": "It ended before all blocks were scored.",
                "text": status.get("error") or "",
            },
            "progress": lv.progress(status, blocks) if "stage" in status else None,
            "actions": [again],
        }
    if state_now == "stopped":
        return {
            **common,
            "phase": "stopped",
            "title": "The capture was stopped",
            "lead": "Nothing was scored; your pairs, model and picks are kept. Capturing again starts anew.",
            "progress": lv.progress(status, blocks),
            "actions": [again],
        }
    return {
        **common,
        "phase": "before",
        "title": "See in which blocks the model tells chosen from rejected",
        "lead": "Every answer is read once by the model; a linear probe then scores each block on pairs it never saw.",
        "work": lv.work_estimate(workspace.pairs["count"], blocks, layers_runs.seconds_per_pair(workspace)),
        "actions": [{"label": "Capture all blocks", "action": "capture", "primary": True, "id": "rw-capture"}],
    }


def with_choices(workspace: Workspace, run: Run, ready: dict[str, Any]) -> dict[str, Any]:
    """The finished view with what the visitor chose, and a remark if the pairs changed since."""
    seen = seen_from(workspace.settings.get("layers_view") or {})
    default = next((i for i, block in enumerate(ready["blocks"]) if block["suggested"]), 0)
    return {
        **ready,
        "reading": reading_of(workspace),
        "unasked": layers_tokens.unasked(workspace),
        "picked": sorted(workspace.picked or []),
        **{"layer": default, "projection": "pca", **seen},
        "note": _changed_since(workspace, run),
    }


def _changed_since(workspace: Workspace, run: Run) -> dict[str, Any] | None:
    found = layers_data.scores(run)
    if workspace.pairs.get("fingerprint") == found.get("pairs_fingerprint"):
        return None
    fewer = found.get("pairs", 0) - workspace.pairs["count"]
    strong = pairs_word(fewer) + " fewer than when this was measured." if fewer > 0 else "The pairs were edited since."
    again = [{"label": "Capture again", "action": "capture", "icon": "again"}]
    if layers_drop.can_undo(workspace):
        again.append({"label": "Undo the drop", "action": "undo", "ghost": True})
    return {"kind": "warn", "strong": strong, "text": "Scores and picture are of before.", "actions": again}


def settle(workspace: Workspace, run: Run, ready: dict[str, Any]) -> Workspace:
    """Once a capture is finished: take its suggestion if nothing (or nothing possible) was picked before."""
    known = {block["l"] for block in ready["blocks"]}

    def changes(now: Workspace) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if now.picked is None or not set(now.picked) <= known:
            found["picked"] = ready["suggested"]
        if now.separability_run != run.id:
            found["separability_run"] = run.id
        if now.settings.get("layers_shown") != run.id:
            found["settings"] = now.settings | {"layers_shown": run.id}
        return found

    # Not from ``workspace``: making the picture takes seconds, in which another tab may have chosen something.
    return state.update(workspace.visitor, changes) if changes(workspace) else workspace


def pairs_word(count: int) -> str:
    """``1 pair``, ``2,000 pairs``."""
    return f"{count:,} pair" if count == 1 else f"{count:,} pairs"
