"""How much of the disk one visitor may fill: pairs, captures, runs and exports together. What lies in the visitor's bin
goes first where room is needed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.ui import charts, state

if TYPE_CHECKING:
    from workbench.runs.store import Run

PUBLIC = 4 * 10**9  # bytes of a visitor where strangers may come; at home the disk is the limit


def most() -> int | None:
    """The bytes that a visitor may fill: RAHF_QUOTA, or ``PUBLIC`` on a page that strangers can reach. None: no limit.

    Whoever owns the machine has none.
    """
    if state.owner_mode():
        return None
    try:
        given = int(float(os.environ.get("RAHF_QUOTA", "")))
    except (ValueError, OverflowError):
        given = 0
    return given if given > 0 else PUBLIC if state.public() else None


def used(visitor: str) -> int:
    """The bytes of the visitor's workspace and runs, those in the bin left out; a run that waits or works counts with
    all that it was said to take, or twenty small ones in the queue would fill what one may."""
    from workbench.runs import store

    workspace = state.open_workspace(visitor)
    return size_of(workspace.folder) + sum(map(_grown, store.list_runs(owner=visitor, all=True)))


def expect(run: Run, coming: int) -> None:
    """Remember that a run, before it starts, is said to take ``coming`` bytes."""
    run.write_status(expected_bytes=int(coming))


def _grown(run: Run) -> int:
    status = run.status()
    coming = status.get("expected_bytes") if status["state"] in ("queued", "running") else None
    return max(size_of(run.path), coming if isinstance(coming, int) else 0)


def room(visitor: str) -> int | None:
    """The bytes that the visitor may still fill; None where there is no limit."""
    limit = most()
    return None if limit is None else max(0, limit - used(visitor))


def need(visitor: str, coming: int = 0) -> None:
    """Make sure that ``coming`` bytes more, and anything at all, may be written for the visitor.

    Empties the visitor's bin, the first deleted first, as far as that is needed. Raises UserError if it is not enough.
    """
    limit = most()
    if limit is None:
        return
    full = used(visitor)
    if full + coming > limit or full >= limit:
        raise UserError(
            f"Your pairs and runs take {charts.amount(full)} of the {charts.amount(limit)} that each visitor has here"
            + (f", and this would add {charts.amount(coming)}" if coming else "")
            + ": delete runs in step 3, or bring fewer pairs."
        )
    _clear_bin(visitor, limit - full - coming)


def _clear_bin(visitor: str, left: int) -> None:
    """Remove the visitor's deleted runs for good until they fit into ``left`` bytes, the oldest first."""
    from workbench.runs import bin

    kept = 0
    for run in bin.thrown_away(visitor):  # the last made first
        kept += size_of(run.path)
        if kept > left:
            bin.remove(run)


def bytes_of(path: Path) -> int:
    """The bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def size_of(folder: Path) -> int:
    """The bytes of the files in a folder and those in it; what goes away meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
