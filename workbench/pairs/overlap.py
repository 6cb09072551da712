"""Prompts that stand in two sets of pairs, the same or nearly: what is trained on must not be tested on."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.pairs.core import PreferencePairs
from workbench.pairs.hints import BY_WORDS, prompt_runs
from workbench.pairs.messages import prompt_text
from workbench.pairs.similar import Groups, Words, digest, letters
from workbench.pairs.splitting import HELD

EXAMPLES = 20


def overlap(pairs: PreferencePairs, seed: int = 0) -> dict[str, Any]:
    """Prompts that both training and held-out pairs of a split have.

    The same ones (but for case and spacing) are none, because a split keeps them together; nearly the same are counted.
    Gives back what :func:`compare_sets` does, the training pairs being the first set, the held-out ones the second.
    Raises UserError if there are too few pairs to split.
    """
    held = pairs.side_codes(seed) == HELD
    found = _compare(pairs, held)
    return found | {"sentence": _sentence(found, "held-out pairs", "training pairs")}


def compare_sets(first: PreferencePairs, second: PreferencePairs) -> dict[str, Any]:
    """Prompts that two sets (a training and a test file) share.

    ``first``, ``second``: how many pairs they have; ``exact``: pairs of the second whose prompt stands in the first but
    for case and spacing; ``near``: further ones whose prompt differs in case, spaces, signs and digits only, or shares
    most of its words in their order (of up to 20,000 different prompts; ``by`` says "words" or "letters"); ``pairs``:
    both together; ``share`` of the second set; ``examples``: row numbers {first, second}, 20 at most; ``sentence``.
    """
    found = _compare(first, None, second)
    return found | {"sentence": _sentence(found, f"pairs of {second.name}", first.name)}


def _compare(pairs: PreferencePairs, held: np.ndarray | None, others: PreferencePairs | None = None) -> dict[str, Any]:
    """The same for one set whose second part is ``held`` [N], or for two sets."""
    sets = [pairs] if others is None else [pairs, others]
    keys = np.concatenate([item.prompt_hashes for item in sets])
    ids = np.concatenate([item.numbers for item in sets])
    if held is None:
        held = np.arange(len(keys)) >= len(pairs)
    # The training pairs first, so that of several alike one of them is what the others are compared with.
    order = np.argsort(held, kind="stable")
    _, firsts, which = np.unique(keys[order], axis=0, return_index=True, return_inverse=True)
    firsts, which = order[firsts], _back(which.reshape(-1), order)
    prompts, by = _groups(sets, keys, firsts, held)
    in_training = np.zeros(len(firsts), dtype=bool)
    in_training[which[~held]] = True
    exact = held & in_training[which]
    near_training = np.zeros(len(firsts), dtype=bool)
    near_training[prompts[which[~held]]] = True
    near = held & ~exact & near_training[prompts[which]]
    examples = []
    for row in np.flatnonzero(exact | near)[:EXAMPLES]:
        same = which == which[row] if exact[row] else prompts[which] == prompts[which[row]]
        examples.append({"first": int(ids[np.flatnonzero(same & ~held)[0]]), "second": int(ids[row])})
    second, shared = int(held.sum()), int(exact.sum() + near.sum())
    return {
        "first": int((~held).sum()),
        "second": second,
        "exact": int(exact.sum()),
        "near": int(near.sum()),
        "pairs": shared,
        "share": shared / second if second else 0.0,
        "examples": examples,
        "by": by,
    }


def _back(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Values in the order before they were put into ``order``."""
    out = np.empty_like(values)
    out[order] = values
    return out


def _groups(
    sets: list[PreferencePairs], keys: np.ndarray, firsts: np.ndarray, held: np.ndarray
) -> tuple[np.ndarray, str]:
    """For every different prompt (``firsts``: where it stands first) the number of its group of nearly the same ones,
    and by what they were compared."""
    by_words = len(firsts) <= BY_WORDS
    place = dict(zip(firsts.tolist(), range(len(firsts)), strict=True))
    marks = np.zeros(len(firsts), dtype="<u8")
    texts: dict[int, str] = {}
    prompts = (prompt for item in sets for batch in item.batches("prompt") for prompt in batch.column(0).to_pylist())
    for row, prompt in enumerate(prompts):
        if (index := place.get(row)) is not None:
            text = prompt_text(prompt)
            plain = letters(text)
            marks[index] = int.from_bytes(digest(plain, size=8) if plain else keys[row].tobytes()[:8], "little")
            if by_words:
                texts[index] = text
    groups = Groups(len(firsts))
    for run in prompt_runs(keys[firsts], marks):
        groups.join(run)
    if by_words:
        words, ordered = Words(), sorted(texts, key=lambda index: (held[firsts[index]], firsts[index]))
        for index in ordered:
            words.add(texts[index])
        for first, second in words.alike():
            groups.join((ordered[first], ordered[second]))
    roots = np.array([groups.root(index) for index in range(len(firsts))], dtype=np.int64)
    return roots, "words" if by_words else "letters"


def _sentence(found: dict[str, Any], second: str, first: str) -> str:
    count = found["pairs"]
    if not count:
        return f"No prompt of the {found['second']:,} {second} stands in {first}."
    words = {"exact": "the same", "near": "nearly the same"}
    parts = [f"{found[name]:,} {word}" for name, word in words.items() if found[name]]
    return (
        f"{count:,} of the {found['second']:,} {second} have a prompt that {first} have too ({' and '.join(parts)}): what "
        "is measured on them is partly remembered."
    )
