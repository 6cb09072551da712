"""How pairs are dealt to step 1, to steps 2 and 3, and to what is never trained on."""

from __future__ import annotations

import hashlib

import numpy as np

from workbench.errors import UserError

MIN_PAIRS = 8
MIN_PROMPTS = 3
HELD_OUT = 200  # pairs: an interval of +-5 points on a share, and minutes to answer them all on a laptop
SIDES = ("instruct", "fit", "held_out")
HELD = SIDES.index("held_out")


def lot(seed: int, key: str) -> bytes:
    """16 bytes by whose order a split deals prompts with these keys: the same on every machine."""
    return hashlib.sha256(f"{seed}\n{key}".encode()).digest()[:16]


def held_out_count(count: int, prompts: int, held_out: float | int | None) -> int:
    """How many of ``count`` pairs with so many different ``prompts`` are held out (None: a third, at most 200; a whole
    number: that many; a fraction: that share). Raises UserError where there are too few, or nothing would be left."""
    if count < MIN_PAIRS:
        raise UserError(
            f"Training and testing apart needs at least {MIN_PAIRS} pairs, but there "
            f"{'is' if count == 1 else 'are'} {count}: add pairs."
        )
    if prompts < MIN_PROMPTS:
        raise UserError(
            f"Training and testing apart needs at least {MIN_PROMPTS} different prompts, but the {count} pairs "
            f"have {prompts}: add pairs with other prompts."
        )
    if held_out is None:
        return min(HELD_OUT, round(count / 3))
    wanted = held_out if isinstance(held_out, int) and not isinstance(held_out, bool) else count * held_out
    if not 1 <= wanted <= count - 2:  # false for nan too
        raise UserError(
            f"{held_out} of {count} pairs cannot be held out: choose a number from 1 to {count - 2}, "
            "or a share between 0 and 1."
        )
    return round(wanted)


def deal(groups: np.ndarray, lots: np.ndarray, target: int, share: float = 0.5) -> np.ndarray:
    """Every pair's place in SIDES, int8 [N]: ``target`` pairs held out at most, ``share`` of the rest for step 1,
    groups whole. Which pairs are held out does not depend on ``share``.

    ``groups`` [N] numbers the pairs' prompts from 0; ``lots``, uint64 [groups, 2], says in which order they are dealt.
    """
    sizes = np.bincount(groups).tolist()
    order = np.lexsort((lots[:, 1], lots[:, 0])).tolist()
    side_of = np.full(len(sizes), -1, dtype=np.int8)
    held, rest = 0, []
    for position, group in enumerate(order):
        left_for_training = len(rest) + len(order) - position - 1
        if held + sizes[group] <= target and left_for_training >= 2:
            held += sizes[group]
            side_of[group] = HELD
        else:
            rest.append(group)
    if not held:  # every prompt has more pairs than may be held out: take the smallest
        smallest = min(rest, key=lambda group: sizes[group])
        rest.remove(smallest)
        side_of[smallest] = HELD
    dealt = [0, 0]
    for group in rest:
        side = int(dealt[0] * (1 - share) > dealt[1] * share)
        dealt[side] += sizes[group]
        side_of[group] = side
    return side_of[groups]
