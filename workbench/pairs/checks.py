"""What makes a row a pair, and what is worth saying about many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from workbench.errors import UserError
from workbench.pairs.core import Pair
from workbench.pairs.lengths import (
    bin_counts,
    bin_edges,
    cut_rows,
    drop_too_long,
    length_auc,
    percentiles,
    token_lengths,
    token_report,
)
from workbench.pairs.messages import Unfit, clean_completion, prompt_of, text_of
from workbench.pairs.similar import runs
from workbench.pairs.splitting import MIN_PAIRS

REASONS = {
    "broken line": "A line that cannot be read",
    "not text": "Something else than text (a number, null, or broken characters)",
    "empty": "Empty prompt or answer",
    "identical": "Chosen and rejected are identical",
    "duplicate": "Same pair a second time",
    "contradiction": "The same two answers preferred both ways",
    "prompt not shared": "Chosen and rejected do not answer the same prompt",
    "no answer": "Does not end with an answer",
    "no preference": "Does not say which answer is better",
    "unknown role": "A turn of an unknown speaker",
    "too long": "Longer than the model reads",
}
LONG = 20_000  # characters; more than most models read at once
MANY_DROPPED = 0.5
FEW = 100


def sound(pair: Pair) -> Pair:
    """The pair with cleaned answers. Raises Unfit where it is empty or its sides are equal."""
    pair = replace(pair, chosen=clean_completion(pair.chosen), rejected=clean_completion(pair.rejected))
    if not pair.prompt or not pair.prompt[-1]["content"].strip() or not pair.chosen or not pair.rejected:
        raise Unfit("empty")
    if pair.chosen == pair.rejected:
        raise Unfit("identical")
    return pair


def _key(pair: Pair) -> tuple:
    return tuple((m["role"], m["content"]) for m in pair.prompt), pair.chosen, pair.rejected


def check_pair(pair: Pair, others: Iterable[Pair] = ()) -> Pair:
    """A pair made by hand, cleaned. Raises UserError if reading would drop it beside the ``others``."""
    try:
        pair = Pair(pair.id, prompt_of(pair.prompt), text_of(pair.chosen), text_of(pair.rejected))
        pair = sound(pair)
        key = _key(pair)
        for other in others:
            if key[1:] in (_key(other)[1:], _key(other.swapped())[1:]) and key[0] == _key(other)[0]:
                raise Unfit("duplicate" if key == _key(other) else "contradiction")
    except Unfit as unfit:
        cure = {
            "empty": "The prompt or an answer is empty: fill in all three texts.",
            "identical": "Chosen and rejected are identical: change one of them.",
            "duplicate": "This pair is there already: change it, or leave it out.",
            "contradiction": "Another pair prefers these answers the other way round: change or remove one of them.",
        }
        raise UserError(
            cure.get(unfit.reason, f"This is no pair: {REASONS[unfit.reason].lower()}. Use plain text for all three.")
        ) from unfit
    return pair


def describe_dropped(dropped: dict[str, list[int]], numbers: int = 3) -> str:
    """ "7 identical (rows 3, 9, 20, ...), 1 empty (row 4)", the commonest reason first."""
    parts = []
    for reason, rows in sorted(dropped.items(), key=lambda item: -len(item[1])):
        named = ", ".join(map(str, rows[:numbers])) + (", ..." if len(rows) > numbers else "")
        parts.append(f"{len(rows)} {reason} ({'row' if len(rows) == 1 else 'rows'} {named})")
    return ", ".join(parts)


def find_warnings(read: int, ids: np.ndarray, sizes: np.ndarray, keys: np.ndarray) -> list[str]:
    """Sentences about kept pairs that are usable but worth knowing about.

    ``ids`` [N] are their row numbers, ``sizes`` [N, 3] the characters of prompt, chosen and rejected, ``keys`` [N, 2]
    hashes that are equal where a split takes two prompts for the same.
    """
    found, count = [], len(ids)
    if read - count > MANY_DROPPED * read:
        found.append(f"Only {count} of {read} rows could be used: look at why the others were dropped.")
    if count < MIN_PAIRS:
        found.append(f"Scores and training need at least {MIN_PAIRS} pairs; there {_are(count)}.")
    elif count < FEW:
        found.append(f"Only {count} pairs: every score will have a wide interval; a few hundred are better.")
    for name, lengths, end in (("prompt", sizes[:, 0], "beginning"), ("answer", sizes[:, 1:].max(axis=1), "end")):
        longest = int(lengths.argmax())
        if lengths[longest] > LONG:
            found.append(
                f"The longest {name} has {lengths[longest]:,} characters (row {ids[longest]}): a model that reads less "
                f"loses its {end}."
            )
    repeated = [len(run) for run in runs(keys)]
    if repeated:
        found.append(
            f"{sum(repeated)} pairs share their prompt with another pair ({len(repeated)} prompts): a split keeps them "
            "together."
        )
    return found


def both_ways(ids: np.ndarray, prompts: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> list[int]:
    """Row numbers of pairs whose chosen text is what another pair rejects for the same prompt. Hashes, uint64 [N]."""
    with np.errstate(over="ignore"):
        mixed = prompts * np.uint64(0x9E3779B97F4A7C15)
    chosen, rejected = mixed ^ chosen, mixed ^ rejected
    against = np.isin(chosen, rejected) | np.isin(rejected, chosen)
    return ids[against].tolist()


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


__all__ = [
    "REASONS",
    "bin_counts",
    "bin_edges",
    "both_ways",
    "check_pair",
    "cut_rows",
    "describe_dropped",
    "drop_too_long",
    "find_warnings",
    "length_auc",
    "percentiles",
    "sound",
    "token_lengths",
    "token_report",
]
