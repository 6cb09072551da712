"""Step 2's captures: which one is on view, which there are, and starting new ones.

Captures are kept per pooling and site in ``settings["layers_runs"]``, so that going back to what was captured shows it
at once; captures of an aligned model in ``settings["layers_moves"]``.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import layers_data, quota, state
from workbench.ui.layers_scores import POOLINGS, SITES
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.runs.store import Run

LIVE = ("queued", "running")
LOOSE = 4  # captures kept although no choice leads to them: an undo may lead there again
YOUNG = 3600  # seconds


def site_of(workspace: Workspace) -> str:
    """Where in the blocks the visitor reads."""
    site = workspace.settings.get("layers_site")
    return site if isinstance(site, str) and site in SITES else "block"


def pooling_of(workspace: Workspace) -> str:
    """How the visitor pools."""
    return workspace.pooling if workspace.pooling in POOLINGS else "mean"


def key_of(pooling: str, site: str) -> str:
    """What a capture is kept under."""
    return pooling if site == "block" else f"{pooling}-{site}"


def run_for(workspace: Workspace, pooling: str, site: str) -> Run | None:
    """The newest capture of this model, these pairs (edits aside), pooling and site, if it still exists."""
    return _kept(workspace, (workspace.settings.get("layers_runs") or {}).get(key_of(pooling, site)))


def current_run(workspace: Workspace) -> Run | None:
    """The capture on view, in whatever state."""
    return run_for(workspace, pooling_of(workspace), site_of(workspace))


def finished_run(visitor: str) -> Run:
    """The capture on view. Raises UserError if it has no scores (yet)."""
    run = current_run(state.open_workspace(visitor))
    if run is None or run.state != "finished":
        raise UserError("There are no scores yet: capture all blocks first.")
    return run


def is_captured(workspace: Workspace, pooling: str, site: str) -> bool:
    """Whether the scores of this choice are there already."""
    run = run_for(workspace, pooling, site)
    return run is not None and run.state == "finished"


def start_capture(visitor: str) -> None:
    """Begin a capture in a process of its own, unless one of the same choice is under way. Raises UserError."""
    workspace = state.open_workspace(visitor)
    run = current_run(workspace)
    if run is not None and run.active():
        return
    quota.need(visitor)  # before the pairs are copied
    run = begin(visitor, config_of(workspace))
    entry = entry_of(workspace, run)
    key = key_of(pooling_of(workspace), site_of(workspace))

    def changes(now: Workspace) -> dict[str, Any]:
        runs = dict(now.settings.get("layers_runs") or {}) | {key: entry}
        return {"separability_run": run.id, "settings": now.settings | {"layers_runs": runs}}

    state.update(visitor, changes)


def begin(visitor: str, config: dict[str, Any]) -> Run:
    """A separability run of the visitor's, at work. Raises UserError."""
    from workbench.runs import store, worker

    quota.need(visitor)
    run = store.create("separability", config, owner=visitor)
    worker.spawn(run)
    tidy(visitor)
    return run


def tidy(visitor: str) -> None:
    """Delete the visitor's captures that no choice leads to any more, but for the newest, and the copies of pairs that
    no run names. What is young stays: another tab may be about to name it."""
    from workbench.runs import store

    workspace = state.open_workspace(visitor)
    kept = [workspace.settings.get(name) or {} for name in ("layers_runs", "layers_moves")]
    named = {entry["run"] for entries in kept for entry in entries.values()} | {workspace.separability_run}
    mine = store.list_runs(owner=visitor, all=True)
    loose = [run for run in mine if run.kind == "separability" and run.id not in named]
    for run in [run for run in loose[LOOSE:] if not run.active()]:
        with contextlib.suppress(UserError):  # something works on it again
            run.delete()
    used = set()
    for run in mine:
        with contextlib.suppress(UserError):  # deleted just now, or its settings are damaged
            used.add(str(run.config().get("pairs")))
    for copy in workspace.folder.glob("captured-*.jsonl"):
        with contextlib.suppress(OSError):
            if str(copy) not in used and time.time() - copy.stat().st_mtime > YOUNG:
                copy.unlink()


def stop(run: Run | None) -> None:
    """Ask a run to stop, without waiting for it."""
    from workbench.runs import worker

    if run is not None and run.active():
        worker.stop_soon(run)


def config_of(workspace: Workspace) -> dict[str, Any]:
    """The settings of a capture of what the visitor has chosen."""
    device = workspace.settings.get("device")
    return {
        "model": workspace.model_source,
        "pairs": layers_data.snapshot(workspace),
        "pooling": pooling_of(workspace),
        "site": site_of(workspace),
        "local": state.folders_allowed(),
        **({"device": device} if device else {}),
    }


def entry_of(workspace: Workspace, run: Run) -> dict[str, str]:
    """What is remembered of a run: its id, and of which pairs and model it is."""
    pairs = workspace.pairs
    return {
        "run": run.id,
        "pairs": pairs["source"],
        "name": pairs["name"],
        "taken": _taken(workspace),
        "model": workspace.model_source,
    }


def _taken(workspace: Workspace) -> str:
    """When a file was taken in: another one of the same name is something else. A bundled set is always the same."""
    return "" if workspace.pairs.get("kind") == "bundled" else str(workspace.pairs.get("taken") or "")


def _kept(workspace: Workspace, entry: dict[str, Any] | None) -> Run | None:
    pairs = workspace.pairs
    if not entry or not pairs:
        return None
    same = (entry["pairs"], entry["name"], entry.get("taken", ""), entry["model"])
    if same != (pairs["source"], pairs["name"], _taken(workspace), workspace.model_source):
        return None
    return state.run_of(workspace, entry["run"])


def seconds_per_pair(workspace: Workspace) -> float | None:
    """Seconds a pair took when this visitor captured this model before; None if never."""
    for entry in (workspace.settings.get("layers_runs") or {}).values():
        run = state.run_of(workspace, entry["run"]) if entry["model"] == workspace.model_source else None
        if run is not None and run.state == "finished":
            try:
                found = layers_data.scores(run)
                return float(run.status()["seconds"]) / max(1, int(found["pairs"]))
            except (UserError, KeyError, ValueError, TypeError):
                continue
    return None


# -- captures of aligned models ----------------------------------------------------------------------------------------


def alignments(workspace: Workspace) -> list[Run]:
    """The finished alignments of the visitor's model, newest first."""
    found = []
    for run in state.runs_of(workspace.visitor)[:60]:
        if run.state != "finished":
            continue
        try:
            same = run.config().get("model", "demo") == workspace.model_source
        except UserError:
            continue
        if same and (run.adapter / "adapter_model.safetensors").exists():
            found.append(run)
    return found


def alignment_of(workspace: Workspace, among: list[Run]) -> Run | None:
    """The alignment that is looked at: the one chosen here, else the selected run, else the newest."""
    by_id = {run.id: run for run in among}
    for wanted in (workspace.settings.get("layers_moved_by"), workspace.run):
        if wanted in by_id:
            return by_id[wanted]
    return among[0] if among else None


def moved_run(workspace: Workspace, alignment: Run | None) -> Run | None:
    """The capture of this alignment for the pooling and site on view, in whatever state."""
    if alignment is None:
        return None
    return _kept(workspace, (workspace.settings.get("layers_moves") or {}).get(_moved_key(workspace, alignment)))


def start_moved(visitor: str) -> None:
    """Begin to capture the aligned model, unless that is under way. Raises UserError."""
    workspace = state.open_workspace(visitor)
    alignment = alignment_of(workspace, alignments(workspace))
    if alignment is None:
        raise UserError("There is no finished run of this model: align it in step 3 first.")
    run = moved_run(workspace, alignment)
    if run is not None and run.active():
        return
    # The control with random weights says nothing about what was moved: it is left out.
    run = begin(visitor, config_of(workspace) | {"run": alignment.id, "untrained": False})
    entry, key = entry_of(workspace, run), _moved_key(workspace, alignment)

    def changes(now: Workspace) -> dict[str, Any]:
        moves = dict(now.settings.get("layers_moves") or {}) | {key: entry}
        return {"settings": now.settings | {"layers_moves": moves, "layers_moved_by": alignment.id}}

    state.update(visitor, changes)


def _moved_key(workspace: Workspace, alignment: Run) -> str:
    return f"{alignment.id}/{key_of(pooling_of(workspace), site_of(workspace))}"
