"""Step 1: the visitor's clean file and the versions before it, for undo and redo.

Every version is a file of its own (``pairs-<n>-<random>.jsonl`` in the visitor's folder, with ``.npz`` beside it, see
:class:`Marks`) that is never changed once it is written. The workspace's record of the pairs names the present version
and, in ``undo`` and ``redo``, the others; so a change is one write of ``workspace.json``, and what it does not name is
deleted afterwards. At most 20 versions and 500 MB are kept.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError
from workbench.ui import state
from workbench.ui.state import Cache, Workspace

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs

MOST_STEPS = 20
MOST_BYTES = 500_000_000  # of the versions that are kept beside the present one
KEPT = ("path", "count", "fingerprint", "edited")  # what of the record belongs to a version
CHANGED, ADDED = 1, 2

_marks = Cache(6)
_coming: set[str] = set()  # files on their way into a workspace, which no tidying up may take for left over


@dataclass(frozen=True)
class Marks:
    """Where the pairs of a version come from: ``rows`` [N] are their row numbers in the source (0: added by hand),
    ``marks`` [N] tell what was done by hand (0 nothing, 1 changed, 2 added), ``cut`` are rows dropped as too long."""

    rows: np.ndarray
    marks: np.ndarray
    cut: np.ndarray

    @classmethod
    def of_rows(cls, rows: np.ndarray) -> Marks:
        """Untouched pairs of these rows."""
        return cls(rows, np.zeros(len(rows), dtype=np.int8), np.empty(0, dtype=np.int64))

    def positions(self, rows: Iterable[int]) -> np.ndarray:
        """Positions of the pairs that were read from these rows of the source."""
        return np.flatnonzero(np.isin(self.rows, np.asarray(list(rows), dtype=np.int64)))

    def without(self, positions: Iterable[int], cut: bool = False) -> Marks:
        """The marks after these positions were removed (``cut``: because they were too long)."""
        gone = np.asarray(list(positions), dtype=np.int64)
        rows = self.rows[gone]
        dropped = np.concatenate([self.cut, rows[rows > 0]]) if cut else self.cut  # added pairs have no row
        return Marks(np.delete(self.rows, gone), np.delete(self.marks, gone), dropped)

    def changed(self, position: int) -> Marks:
        """The marks after the pair at this position was changed; at the end: added."""
        if position == len(self.rows):
            return Marks(np.append(self.rows, 0), np.append(self.marks, np.int8(ADDED)), self.cut)
        marks = self.marks.copy()
        marks[position] = max(marks[position], CHANGED)
        return Marks(self.rows, marks, self.cut)


def marks_of(workspace: Workspace) -> Marks:
    """The marks of the present version."""

    def load() -> Marks:
        pairs = state.load_pairs_of(workspace)
        path = workspace.pairs.get("path")
        try:
            with np.load(Path(path).with_suffix(".npz") if path else "") as kept:
                marks = Marks(kept["rows"], kept["marks"], kept["cut"])
            if len(marks.rows) == len(pairs):
                return marks
        except (OSError, ValueError, KeyError):  # bundled pairs have none, and what they told is lost without them
            pass
        return Marks.of_rows(pairs.numbers)

    return _marks.get(state.pairs_key(workspace), load)


def write(folder: Path, pairs: PreferencePairs, marks: Marks, number: int) -> Path:
    """A new version's two files; the path of the clean file. Raises UserError if the disk does not take them."""
    path = expect(folder / f"pairs-{number}-{secrets.token_hex(4)}.jsonl")
    try:
        pairs.to_jsonl(path, extra=True)
        np.savez(path.with_suffix(".npz"), rows=marks.rows, marks=marks.marks, cut=marks.cut)
    except (OSError, UserError) as error:
        expected(path)
        for made in (path, path.with_suffix(".npz")):
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)
        if isinstance(error, UserError):
            raise UserError(str(error).replace(str(path), "the server's disk")) from error
        raise UserError(
            f"The pairs could not be kept ({error.strerror or error}): free some disk space and try again."
        ) from error
    return path


def expect(path: Path) -> Path:
    """Let nobody tidy this file away before a workspace names it, or :func:`expected` says that none will."""
    _coming.add(str(path))
    return path


def expected(path: Path | str) -> None:
    """The file has arrived in a workspace, or never will."""
    _coming.discard(str(path))


def is_coming(path: Path) -> bool:
    """Whether another tab is about to put this file into the workspace."""
    return str(path) in _coming


def commit(workspace: Workspace, changed: PreferencePairs, marks: Marks, what: str) -> Workspace:
    """Make ``changed`` the visitor's pairs, with a way back called ``what`` ("Removed pair 5").

    Call it while holding the visitor's lock, with the workspace read under it.
    """
    if not len(changed):
        raise UserError("Not a single pair would be left: load others instead.")
    record, changed = workspace.pairs, numbered(changed)
    number = int(record.get("edited") or 0) + 1
    path = write(workspace.folder, changed, marks, number)
    present = {"path": str(path), "count": len(changed), "fingerprint": changed.fingerprint, "edited": number}
    undo = [*(record.get("undo") or []), {key: record.get(key) for key in KEPT} | {"what": what}]
    workspace = _put(workspace, record | present | {"undo": _bounded(undo), "redo": []})
    state.remember_pairs(workspace, changed)
    return workspace


def step(workspace: Workspace, way: str) -> Workspace:
    """Go one version back (``way`` "undo") or forward ("redo"). Raises UserError if there is none. Hold the lock."""
    record = workspace.pairs or {}
    back = "redo" if way == "undo" else "undo"
    kept = list(record.get(way) or [])
    if not kept:
        raise UserError("There is nothing to undo." if way == "undo" else "There is nothing to do again.")
    other = kept.pop()
    if other["path"] and not Path(other["path"]).is_file():
        raise UserError("That version is no longer on the server's disk: it cannot be brought back.")
    here = {key: record.get(key) for key in KEPT} | {"what": other["what"]}
    there = {key: other[key] for key in KEPT}
    return _put(workspace, record | there | {way: kept, back: [*(record.get(back) or []), here]})


def numbered(pairs: PreferencePairs) -> PreferencePairs:
    """The same pairs with the row numbers 1 to N, as the clean file has them; those of a large set only in ``numbers``,
    not in what its rows say."""
    from workbench.pairs import PreferencePairs
    from workbench.pairs.store import in_memory

    numbers = np.arange(1, len(pairs) + 1)
    if pairs.dataset.cache_files:
        same = pairs.select(range(len(pairs)))
        same._numbers = numbers
        return same
    import pyarrow as pa

    table = pairs.dataset.with_format("arrow")[:]
    table = table.set_column(0, table.schema.field("id"), pa.array(numbers))
    made = PreferencePairs(in_memory(table), pairs.report, pairs.name, pairs.source)
    return made.remember(ids=numbers, keys=pairs.prompt_hashes)


def last_step(record: dict[str, Any], way: str) -> str:
    """What the next undo or redo is about; empty if there is none."""
    kept = record.get(way) or []
    return str(kept[-1]["what"]) if kept else ""


def _bounded(undo: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest versions within the bounds."""
    kept, size = [], 0
    for entry in reversed(undo[-MOST_STEPS:]):
        with contextlib.suppress(OSError):
            size += Path(entry["path"]).stat().st_size if entry["path"] else 0
        if size > MOST_BYTES:
            break
        kept.append(entry)
    return kept[::-1]


def _put(workspace: Workspace, record: dict[str, Any]) -> Workspace:
    changed = state.change(workspace.visitor, pairs=record)
    tidy(changed)
    return changed


def tidy(workspace: Workspace) -> None:
    """Delete versions that neither the workspace nor one of the visitor's runs names."""
    record = workspace.pairs or {}
    named = {entry.get("path") for entry in (record, *(record.get("undo") or []), *(record.get("redo") or []))}
    _coming.difference_update(path for path in named if path)
    for run in state.runs_of(workspace.visitor):
        with contextlib.suppress(UserError, OSError, KeyError):
            named.add(str(run.config()["pairs"]))
    for path in workspace.folder.glob("pairs*.jsonl"):
        if str(path) not in named and not is_coming(path):
            for gone in (path, path.with_suffix(".npz")):
                with contextlib.suppress(OSError):
                    gone.unlink(missing_ok=True)
