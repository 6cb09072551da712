"""Step 1: adding, changing, swapping and removing pairs by hand; every change has a way back (see pairs_history)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import pairs_history, state
from workbench.ui.pairs_data import MOST_TEXT, SIDES, position_of
from workbench.ui.pairs_history import Marks
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs

STALE = "The pairs were changed meanwhile, perhaps in another tab: look at them again, then repeat this."
Change = Callable[["PreferencePairs", Marks], tuple["PreferencePairs", Marks, int]]


def _edit(visitor: str, version: Any, what: str, change: Change) -> int:
    """Put the changed pairs in the place of the visitor's; bundled pairs become the visitor's own copy.

    ``version`` is the fingerprint of the pairs that the visitor saw (None: whatever there is now): ids are row numbers
    of the clean file, so after another change they mean other pairs. ``change`` also gives the position of the pair it
    is about; the result is the id of that pair from now on. Scores and picks stay: step 2 says that they are of before.
    """
    with state.lock_of(visitor):
        workspace = _same(visitor, version)
        pairs = state.load_pairs_of(workspace)
        changed, marks, position = change(pairs, pairs_history.marks_of(workspace))
        workspace = pairs_history.commit(workspace, changed, marks, what)
    numbers = state.load_pairs_of(workspace).numbers
    return int(numbers[min(position, len(numbers) - 1)])


def _same(visitor: str, version: Any) -> Workspace:
    workspace = state.open_workspace(visitor)
    if not workspace.pairs:
        raise UserError("There are no pairs yet: load some in step 1.")
    if version is not None and version != workspace.pairs["fingerprint"]:
        raise UserError(STALE)
    return workspace


def add_pair(visitor: str, prompt: Any, chosen: Any, rejected: Any, version: Any = None) -> int:
    """A new pair at the end; its id."""
    from workbench.pairs import Pair, as_messages

    texts = texts_of(prompt, chosen, rejected)
    new = Pair(0, as_messages(texts["prompt"]), texts["chosen"], texts["rejected"])

    def change(pairs: PreferencePairs, marks: Marks) -> tuple[PreferencePairs, Marks, int]:
        return pairs.with_pair(new), marks.changed(len(pairs)), len(pairs)

    return _edit(visitor, version, "added a pair", change)


def change_pair(visitor: str, pair_id: Any, prompt: Any, chosen: Any, rejected: Any, version: Any = None) -> int:
    """Other texts for a pair; its id. A prompt of several turns must keep its text."""
    from workbench.pairs import Pair, as_messages, prompt_text

    texts = texts_of(prompt, chosen, rejected)

    def change(pairs: PreferencePairs, marks: Marks) -> tuple[PreferencePairs, Marks, int]:
        position = position_of(pairs, pair_id)
        turns = pairs[position].prompt
        if _lines(texts["prompt"]) != _lines(prompt_text(turns)):
            if len(turns) != 1:
                raise UserError(
                    "A prompt of several turns cannot be edited here: change it in the file, and load that."
                )
            turns = as_messages(texts["prompt"])
        made = pairs.with_pair(Pair(pair_id, turns, texts["chosen"], texts["rejected"]))
        return made, marks.changed(position), position

    return _edit(visitor, version, f"changed pair {pair_id}", change)


def swap_pair(visitor: str, pair_id: Any, version: Any = None) -> int:
    """Chosen becomes rejected and the other way round; the pair's id."""

    def change(pairs: PreferencePairs, marks: Marks) -> tuple[PreferencePairs, Marks, int]:
        position = position_of(pairs, pair_id)
        swapped = replace(pairs[position].swapped(), id=pair_id)
        return pairs.with_pair(swapped), marks.changed(position), position

    return _edit(visitor, version, f"swapped the sides of pair {pair_id}", change)


def remove_pairs(
    visitor: str, ids: Any, version: Any = None, what: str = "", at_least: int = 1, too_long: bool = False
) -> int:
    """Take pairs out; how many there were. Raises UserError if fewer than ``at_least`` would be left."""
    wanted = {int(number) for number in ids if _is_id(number)} if isinstance(ids, Sequence) else set()
    gone: list[int] = []

    def change(pairs: PreferencePairs, marks: Marks) -> tuple[PreferencePairs, Marks, int]:
        gone[:] = pairs.positions(sorted(wanted)).tolist()
        if not gone:
            raise UserError("None of these pairs is there any more.")
        if len(pairs) - len(gone) < at_least:
            raise UserError(
                "Not a single pair would be left: load others instead of removing all."
                if at_least == 1
                else f"At least {at_least} pairs must stay: drop fewer, or load others in step 1."
            )
        left = pairs.without(wanted)
        return left, marks.without(gone, cut=too_long), 0

    many = f"removed {len(wanted):,} pairs" if len(wanted) != 1 else f"removed pair {next(iter(wanted))}"
    _edit(visitor, version, what or many, change)
    return len(gone)


def _is_id(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 < value < 2**62


def step(visitor: str, way: str, version: Any = None) -> str:
    """Undo or redo; what it was about. A tab that saw another ``version`` than there is now may mean another change:
    it is refused, unless that version is one that the same way just left (two quick presses)."""
    with state.lock_of(visitor):
        workspace = state.open_workspace(visitor)
        record = workspace.pairs or {}
        left = {entry.get("fingerprint") for entry in record.get("redo" if way == "undo" else "undo") or []}
        if version not in (None, record.get("fingerprint"), *left):
            raise UserError(STALE)
        about = pairs_history.last_step(record, way)
        pairs_history.step(workspace, way)
    return about


def texts_of(prompt: Any, chosen: Any, rejected: Any) -> dict[str, str]:
    """The editor's three texts, checked. Raises UserError for one that is empty, too long, or for equal answers."""
    texts = dict(zip(SIDES, (prompt, chosen, rejected), strict=True))
    for side, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f"The {side} {'text' if side == 'prompt' else 'answer'} is empty: write it, or remove the pair."
            )
        if len(text) > MOST_TEXT:
            raise UserError(f"The {side} text is longer than 2 million characters: shorten it.")
    if chosen.strip() == rejected.strip():
        raise UserError("Chosen and rejected are identical: a pair needs two different answers.")
    return texts


def _lines(text: str) -> str:
    """The text as a browser's field gives it back: every line ends the same way."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
