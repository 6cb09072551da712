"""Step 1's table: which pairs a visitor asks for, and one page of them. No widgets.

The browser's view keeps what is asked for (search text, filters, order, page) and sends all of it with every question;
an answer repeats the question's ``tab`` and ``seq``, so that the view knows whether it is the newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.errors import UserError
from workbench.ui import pairs_data, pairs_history, pairs_lengths, state
from workbench.ui.state import Cache, Workspace

PER_PAGE = 10
SHORT = 400  # characters of a text that the table gets; the editor gets all of it
SPLITS = ("all", "train", "held_out")
SHOWS = ("all", "near", "edited", "long")
SORTS = ("row", "longest", "shortest", "chosen_longer", "rejected_longer")

SIDES = ("instruct", "fit", "held_out")
HELD = SIDES.index("held_out")

_found = Cache(24)


@dataclass(frozen=True)
class Wanted:
    """What the table is asked for: a search text, the part of the split, a selection, the order."""

    query: str = ""
    split: str = "all"
    show: str = "all"
    sort: str = "row"

    @classmethod
    def of(cls, sent: dict[str, Any]) -> Wanted:
        """What the page sent; anything that is no such wish counts as the default."""
        query = sent.get("query")
        query = " ".join(query.split())[:400] if isinstance(query, str) else ""
        known = {"split": SPLITS, "show": SHOWS, "sort": SORTS}
        return cls(query, **{k: sent[k] if sent.get(k) in values else values[0] for k, values in known.items()})


def answer(workspace: Workspace, sent: dict[str, Any]) -> dict[str, Any]:
    """The table's value that answers a question ``sent`` by the page."""
    number = sent.get("page")
    return _value(workspace, Wanted.of(sent), number if type(number) is int else 0) | asked(sent)


def opened(workspace: Workspace, sent: dict[str, Any]) -> dict[str, Any]:
    """The editor's value that answers the question for a pair: {"kind": "gone"} if it is not there."""
    try:
        return one_pair(workspace, sent.get("pair")) | asked(sent)
    except UserError:
        return {"kind": "gone"} | asked(sent)


def asked(sent: dict[str, Any]) -> dict[str, Any]:
    """Which question this was, to be repeated in the answer."""
    return {"tab": str(sent.get("tab"))[:40], "seq": sent.get("seq") if type(sent.get("seq")) is int else -1}


def fresh(workspace: Workspace) -> dict[str, Any]:
    """The table's value for nobody's question: the first page of everything. A view that wants something else asks."""
    return _value(workspace, Wanted(), 0) | {"tab": None, "seq": None}


def matching(workspace: Workspace, wanted: Wanted) -> np.ndarray:
    """Positions [n] of the pairs that fit, in the wanted order. Kept, so that turning pages costs nothing."""
    counted = wanted.show == "long" and pairs_lengths.lengths_known(workspace) is not None
    key = (state.pairs_key(workspace), pairs_data.seed_of(workspace), workspace.model_source, wanted, counted)

    def look() -> np.ndarray:
        pairs = state.load_pairs_of(workspace)
        found = np.asarray(pairs.search(wanted.query), dtype=np.int64)
        if wanted.split != "all":
            found = found[_in_split(workspace, wanted.split)[found]]
        if wanted.show != "all":
            chosen = np.zeros(len(pairs), dtype=bool)
            chosen[positions(workspace, wanted.show)] = True
            found = found[chosen[found]]
        return found if wanted.sort == "row" else found[np.argsort(_rank(workspace, wanted.sort)[found], kind="stable")]

    return _found.get(key, look)


def ids_found(visitor: str, sent: dict[str, Any]) -> list[int]:
    """The ids of all pairs that a page found. Raises UserError if they are not as many as it said."""
    from workbench.ui.pairs_edit import STALE

    workspace = state.open_workspace(visitor)
    wanted = sent.get("want")
    found = matching(workspace, Wanted.of(wanted if isinstance(wanted, dict) else {}))
    if len(found) != sent.get("count"):
        raise UserError(STALE)
    return state.load_pairs_of(workspace).numbers[found].tolist()


def positions(workspace: Workspace, show: str) -> np.ndarray:
    """Positions of the pairs of a selection: "near" (near-duplicates), "edited" (by hand), "long" (would be cut)."""
    if show == "edited":
        return np.flatnonzero(pairs_history.marks_of(workspace).marks)
    if show == "near":
        return pairs_history.marks_of(workspace).positions(near_duplicates(workspace))
    known = pairs_lengths.lengths_known(workspace)
    return state.load_pairs_of(workspace).positions(known["too_long"]) if known else np.empty(0, dtype=np.int64)


def near_duplicates(workspace: Workspace) -> list[int]:
    """Rows of the source in groups of pairs that are nearly the same."""
    hints = (workspace.pairs["report"].get("hints") or {}).get("near_duplicates") or {}
    return [row for group in hints.get("groups") or [] for row in group]


def _in_split(workspace: Workspace, split: str) -> np.ndarray:
    pairs = state.load_pairs_of(workspace)
    try:
        held = pairs.side_codes(pairs_data.seed_of(workspace)) == HELD
    except UserError:  # too few to split: in neither part
        return np.zeros(len(pairs), dtype=bool)
    return held if split == "held_out" else ~held


def _rank(workspace: Workspace, sort: str) -> np.ndarray:
    _, chosen, rejected = pairs_lengths.characters_of(workspace).T
    by = {
        "longest": -chosen,
        "shortest": chosen,
        "chosen_longer": rejected - chosen,
        "rejected_longer": chosen - rejected,
    }
    return by[sort]


def _value(workspace: Workspace, wanted: Wanted, number: int) -> dict[str, Any]:
    pairs, record = state.load_pairs_of(workspace), workspace.pairs
    found = matching(workspace, wanted)
    number = min(max(0, number), max(0, (len(found) - 1) // PER_PAGE))
    here = found[number * PER_PAGE : (number + 1) * PER_PAGE]
    return {
        "set": str(record.get("taken") or record["source"]),
        "version": str(record["fingerprint"]),
        "want": asdict(wanted),
        "page": number,
        "per": PER_PAGE,
        "total": len(found),
        "everything": len(pairs),
        "rows": pairs_lengths.with_tokens(workspace, _rows(workspace, here)),
        "counts": {name: len(positions(workspace, name)) for name in SHOWS[1:]},
        "undo": pairs_history.last_step(record, "undo"),
        "redo": pairs_history.last_step(record, "redo"),
    }


def _rows(workspace: Workspace, here: Sequence[int]) -> list[dict[str, Any]]:
    from workbench.pairs import prompt_text

    pairs = state.load_pairs_of(workspace)
    try:
        sides = pairs_data.codes_of(workspace)
    except UserError:
        sides = None
    marks = pairs_history.marks_of(workspace).marks
    rows = []
    for position in map(int, here):
        pair = pairs[position]
        texts = {"prompt": prompt_text(pair.prompt), "chosen": pair.chosen, "rejected": pair.rejected}
        short = {side: text if len(text) <= SHORT else text[:SHORT] + " …" for side, text in texts.items()}
        about = {
            "id": int(pairs.numbers[position]),
            "split": SIDES[sides[position]] if sides is not None else "",
            "edited": bool(marks[position]),
        }
        rows.append(short | about)
    return rows


def one_pair(workspace: Workspace, pair_id: Any) -> dict[str, Any]:
    """The editor's value for the pair with this id, texts whole. Raises UserError for an id that is none."""
    from workbench.pairs import prompt_text

    pairs = state.load_pairs_of(workspace)
    position = pairs_data.position_of(pairs, pair_id)
    pair = pairs[position]
    try:
        split = SIDES[pairs_data.codes_of(workspace)[position]]
    except UserError:  # too few to split
        split = ""
    return {
        "kind": "pair",
        "version": str(workspace.pairs["fingerprint"]),
        "id": int(pairs.numbers[position]),
        "prompt": prompt_text(pair.prompt),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "split": split,
        "turns": len(pair.prompt),
    }
