"""Step 2: leaving measured pairs out of the visitor's pairs, taking that back, and finding a pair in step 1 again.

Scores and picks stay, as scores of before: a lasso of three outliers should not cost the capture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import layers_data, pairs_history, state
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs
    from workbench.runs.store import Run

DROPPED = "Dropped"  # how a step that can be undone here begins


def edited(workspace: Workspace) -> PreferencePairs | None:
    """The visitor's pairs if they were edited, else None."""
    return state.load_pairs_of(workspace) if workspace.pairs and workspace.pairs.get("edited") else None


def drop(visitor: str, run: Run, ids: Any) -> tuple[int, Workspace]:
    """Leave out the pairs with these measured ids; how many that were. Raises UserError if none is left to drop, too
    few would stay, or the disk refuses."""
    from workbench.pairs.core import MIN_PAIRS

    with state.lock_of(visitor):
        workspace = state.open_workspace(visitor)
        pairs = state.load_pairs_of(workspace)
        gone = set(layers_data.ids_now(run, ids, pairs))
        if not gone:
            raise UserError("These pairs are dropped already.")
        if len(pairs) - len(gone) < MIN_PAIRS:
            raise UserError(f"At least {MIN_PAIRS} pairs must stay: drop fewer, or load others in step 1.")
        positions = [row for row, id_ in enumerate(pairs.ids) if id_ in gone]
        marks = pairs_history.marks_of(workspace).without(positions)
        what = f"{DROPPED} {len(gone):,} pair{'s' if len(gone) > 1 else ''} in step 2"
        return len(gone), pairs_history.commit(workspace, pairs.without(sorted(gone)), marks, what)


def can_undo(workspace: Workspace) -> bool:
    """Whether the last change of the pairs was a drop in this step."""
    return pairs_history.last_step(workspace.pairs or {}, "undo").startswith(DROPPED)


def undo(visitor: str) -> Workspace:
    """Take the last drop back. Raises UserError if the last change was something else."""
    with state.lock_of(visitor):
        workspace = state.open_workspace(visitor)
        if not can_undo(workspace):
            raise UserError("The last change of the pairs was not a drop: undo it in step 1.")
        return pairs_history.step(workspace, "undo")


def now_of(visitor: str, run: Run, id_: Any) -> int:
    """The id in the visitor's pairs of a measured pair. Raises UserError if it is no longer among them."""
    found = layers_data.ids_now(run, [id_], state.load_pairs_of(state.open_workspace(visitor)))
    if not found:
        raise UserError("This pair is no longer among your pairs: it was dropped or changed since the capture.")
    return found[0]
