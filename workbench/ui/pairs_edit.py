"""Step 1: adding, changing, swapping and removing pairs by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import state
from workbench.ui.pairs_data import MOST_TEXT, SIDES, keep, let_go, position_of

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs


def _edit(visitor: str, change: Callable[[PreferencePairs], tuple[PreferencePairs, int]]) -> int:
    """Put the changed pairs in the place of the visitor's; bundled pairs become the visitor's own copy.

    ``change`` also gives the position of the pair it is about; the result is the id of that pair from now on (ids are
    row numbers of the clean file).
    """
    with state.lock_of(visitor):
        workspace = state.open_workspace(visitor)
        changed, position = change(state.load_pairs_of(workspace))
        if not len(changed):
            raise UserError("This is the last pair: load others instead of removing it.")
        path = keep(visitor, changed)
        record = workspace.pairs | {
            "path": str(path),
            "count": len(changed),
            "fingerprint": changed.fingerprint,
            "edited": workspace.pairs["edited"] + 1,
        }
        ids = state.load_pairs_of(let_go(visitor, pairs=record)).ids
    return ids[min(position, len(ids) - 1)]


def add_pair(visitor: str, prompt: Any, chosen: Any, rejected: Any) -> int:
    """A new pair at the end; its id."""
    from workbench.pairs import Pair, as_messages

    texts = texts_of(prompt, chosen, rejected)
    new = Pair(0, as_messages(texts["prompt"]), texts["chosen"], texts["rejected"])
    return _edit(visitor, lambda pairs: (pairs.with_pair(new), len(pairs)))


def change_pair(visitor: str, pair_id: Any, prompt: Any, chosen: Any, rejected: Any) -> int:
    """Other texts for a pair; its id. A prompt of several turns must keep its text."""
    from workbench.pairs import Pair, as_messages, prompt_text

    texts = texts_of(prompt, chosen, rejected)

    def change(pairs: PreferencePairs) -> tuple[PreferencePairs, int]:
        position = position_of(pairs, pair_id)
        turns = pairs[position].prompt
        if texts["prompt"] != prompt_text(turns):
            if len(turns) != 1:
                raise UserError(
                    "A prompt of several turns cannot be edited here: change it in the file, and load that."
                )
            turns = as_messages(texts["prompt"])
        return pairs.with_pair(Pair(pair_id, turns, texts["chosen"], texts["rejected"])), position

    return _edit(visitor, change)


def swap_pair(visitor: str, pair_id: Any) -> int:
    """Chosen becomes rejected and the other way round; the pair's id."""

    def change(pairs: PreferencePairs) -> tuple[PreferencePairs, int]:
        position = position_of(pairs, pair_id)
        return pairs.with_pair(pairs[position].swapped()), position

    return _edit(visitor, change)


def remove_pair(visitor: str, pair_id: Any) -> None:
    """Take a pair out."""
    _edit(visitor, lambda pairs: (pairs.without([pairs.ids[position_of(pairs, pair_id)]]), 0))


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
