"""Deleting with a way back: a deleted run lies in a bin beside the runs until it is emptied, days later."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from workbench.errors import UserError
from workbench.runs import files, store
from workbench.runs.store import Run

DAYS = 7.0  # that a deleted run can be taken back
MARK = "deleted.json"
GONE = "That run is no longer in the bin: deleted runs are kept for a week."


def bin_root() -> Path:
    """The folder of deleted runs."""
    return store.runs_root() / "bin"


def throw_away(run: Run) -> None:
    """Put the run (or the link to it, where its folder lies elsewhere) into the bin. Raises ``UserError`` while
    something works on it, or if the disk refuses; ``FileNotFoundError`` if it is there no more."""
    with run.at_rest():
        try:
            files.write_json(run.path / MARK, {"at": time.time()} | files.moment())
            bin_root().mkdir(exist_ok=True, mode=0o700)
            os.rename(store.runs_root() / run.id, bin_root() / run.id)
        except FileNotFoundError:
            raise
        except OSError as error:
            (run.path / MARK).unlink(missing_ok=True)
            raise UserError(f"Run {run.id} could not be deleted ({error.strerror or error}).") from error
        run.clear_stop()


def restore(run_id: str, owner: str | None = None) -> Run:
    """Take a run out of the bin; it is as it was. With ``owner``, others' runs are as good as none. ``UserError``."""
    gone = UserError(GONE)
    if not isinstance(run_id, str) or not store.ID.fullmatch(run_id):
        raise gone
    run = store.read_run(bin_root() / run_id)
    if run is None or run.id != run_id or (owner is not None and run.owner != owner):
        raise gone
    try:
        os.rename(bin_root() / run_id, store.runs_root() / run_id)
    except OSError as error:
        raise UserError(f"Run {run_id} could not be taken back ({error.strerror or error}).") from error
    (run.path / MARK).unlink(missing_ok=True)
    return store.open_run(run_id)


def thrown_away(owner: str | None = None) -> list[Run]:
    """The runs in the bin (of one owner), the last made first."""
    try:
        names = [name for name in os.listdir(bin_root()) if store.ID.fullmatch(name)]
    except OSError:
        return []
    runs = [run for name in names if (run := store.read_run(bin_root() / name)) and run.id == name]
    runs = [run for run in runs if owner is None or run.owner == owner]
    return sorted(runs, key=lambda run: (run.serial, run.created), reverse=True)


def empty_bin(days: float = DAYS) -> int:
    """Remove for good what was deleted more than ``days`` ago; returns how many runs.

    Only what both the clock and, since the machine's start, the time passed say is old: a clock that was set forward
    empties nothing at once.
    """
    removed = 0
    for run in thrown_away():
        mark = files.read_json(run.path / MARK) or {}
        at = mark.get("at") if isinstance(mark.get("at"), (int, float)) else time.time()
        if min(time.time() - at, files.seconds_since(mark)) < days * 86400:
            continue
        remove(run)
        removed += 1
    return removed


def remove(run: Run) -> None:
    """Remove a run that lies in the bin for good."""
    shutil.rmtree(run.path, ignore_errors=True)
    link = bin_root() / run.id
    if link.is_symlink():
        link.unlink()
