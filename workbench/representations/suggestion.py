"""What the scores of all blocks mean: where preference is readable, and which blocks to align at."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.representations.separability import LayerScore

READABLE = 0.9  # an AUC that is called readable without reserve
# What is weighed against what: this much less AUC (of the two on average) is as bad as a distance that is wrong by a
# whole quarter of the depth, or a middle that lies half the depth away from where it should.
_AUC_STEP = 0.02
# Where the middle of the two should lie. Words alone often make early blocks as readable as any, but aligning later
# ones steers more: in trials blocks 4, 6 and 5, 7 of 8 did better than 3, 5.
_DEPTH = 0.75


@dataclass(frozen=True)
class Suggestion:
    """Blocks to align at, in order, and why, in one sentence."""

    layers: list[int]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def suggest(scores: Sequence[LayerScore]) -> Suggestion:
    """Two blocks near the best held-out AUC and about a quarter of the depth apart (one block where only one is
    readable, or the model has only one).

    Where no block beats chance the best one is still named, and the reason says that nothing is readable. The last
    block is allowed: its raw output, before the final norm, is what is scored and what can be aligned.
    """
    best = max(scores, key=lambda row: row.probe_auc)
    depth = len(scores)
    if not best.above_chance:
        return Suggestion(
            [best.layer],
            f"Nothing is readable: the best held-out AUC, {best.probe_auc:.2f} at block {best.layer}, is within what "
            f"random labels reach ({best.null_best_p95:.2f}), so aligning here is a guess.",
        )
    readable = [row for row in scores if row.above_chance]
    apart = min(2, depth - 1)
    couples = [(a, b) for a, b in itertools.combinations(readable, 2) if b.layer - a.layer >= apart and apart > 0]
    if not couples:
        return Suggestion(
            [best.layer],
            f"Block {best.layer} of {depth} reads preference best (held-out AUC {best.probe_auc:.2f}, chance up to "
            f"{best.null_best_p95:.2f}) and no other block far enough from it reads any.",
        )
    gap = max(2, round(depth / 4))

    def cost(couple: tuple[LayerScore, LayerScore]) -> float:
        a, b = couple
        lost = (best.probe_auc - (a.probe_auc + b.probe_auc) / 2) / _AUC_STEP
        distance = abs(b.layer - a.layer - gap) / gap
        middle = abs((a.layer + b.layer) / 2 - _DEPTH * (depth - 1)) / (depth / 2)
        return lost + distance + middle

    a, b = min(couples, key=cost)
    return Suggestion(
        [a.layer, b.layer],
        f"Blocks {a.layer} and {b.layer} of {depth} read preference with held-out AUC {a.probe_auc:.2f} and "
        f"{b.probe_auc:.2f} (best {best.probe_auc:.2f}, chance up to {best.null_best_p95:.2f}) and lie "
        f"{b.layer - a.layer} apart.",
    )


def finding(scores: Sequence[LayerScore]) -> str:
    """The title of the strip of all blocks: what the scores say, without a full stop.

    Readable means a held-out AUC of 0.9; below that, weakly readable means above what random labels reach.
    """
    if not any(row.above_chance for row in scores):
        return "No block tells chosen from rejected better than chance"
    strong = [row.above_chance and row.probe_auc >= READABLE for row in scores]
    word = "linearly readable"
    if not any(strong):
        strong = [row.above_chance for row in scores]
        word = "weakly readable"
    first = strong.index(True)
    last = next((k for k in range(first, len(strong)) if not strong[k]), len(strong)) - 1
    if last == len(scores) - 1:
        where = f"from block {scores[first].layer} on" if last > first or len(scores) > 1 else "in its only block"
    elif first == last:
        where = f"at block {scores[first].layer}"
    else:
        where = f"at blocks {scores[first].layer} to {scores[last].layer}"
    return f"Preference is {word} {where}"
