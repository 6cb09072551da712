"""Which pairs are held out together, and the intervals of what was measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import UserError
from workbench.statistics import Z95

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs

MIN_PROMPTS = 4


@dataclass(frozen=True)
class Folds:
    """``of_pair`` [N] says in which of ``count`` folds a pair is held out; ``groups`` [N] counts prompts from 0.

    Both sides of a pair, and all pairs that share a prompt, are always held out together.
    """

    of_pair: np.ndarray
    groups: np.ndarray
    count: int

    def __iter__(self):
        """(training pairs, held-out pairs) of each fold, as index arrays."""
        for fold in range(self.count):
            out = self.of_pair == fold
            yield np.flatnonzero(~out), np.flatnonzero(out)


def prompt_groups(pairs: PreferencePairs) -> np.ndarray:
    """One number per pair, the same for pairs with the same prompt (letter case and spacing do not count, as in the
    split of the pairs): int64 [N], counted from 0."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in pairs.prompt_keys], dtype=np.int64)


def make_folds(groups: Sequence[int] | np.ndarray, folds: int = 5, seed: int = 0) -> Folds:
    """Deal the prompts at random into folds of about equally many pairs.

    With fewer prompts than ``folds`` there are fewer folds (one prompt each). Raises UserError below four prompts:
    nothing can be held out honestly then.
    """
    names, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(names) < MIN_PROMPTS:
        raise UserError(
            f"Separability is measured on prompts the probe never saw and needs at least {MIN_PROMPTS} different "
            f"prompts, but these pairs have {len(names)}: add pairs with other prompts."
        )
    if folds < 2:
        raise UserError(f"Separability needs at least 2 folds, not {folds}.")
    count = min(folds, len(names))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]  # large prompts first, so that folds come out even
    load, home = np.zeros(count), np.zeros(len(names), dtype=np.int64)
    for group in order:
        home[group] = int(load.argmin())
        load[home[group]] += sizes[group]
    return Folds(home[index], index.astype(np.int64), count)


def auc_score_interval(auc: float, n: int) -> tuple[float, float]:
    """A 95% score interval of an AUC of n against n (Newcombe 2006: Hanley and McNeil's variance, solved for the AUC).

    A bootstrap of perfectly separated scores has no width at all; this interval still has one, of about 2 / n.
    """

    def too_far(candidate: float) -> bool:
        spread = 1 + (n - 1) * ((1 - candidate) / (2 - candidate) + candidate / (1 + candidate))
        return (auc - candidate) ** 2 > Z95**2 * candidate * (1 - candidate) * spread / (n * n)

    def edge(outside: float) -> float:
        if not too_far(outside):
            return outside
        inside = auc
        for _ in range(40):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if too_far(middle) else (middle, outside)
        return inside

    return edge(0.0), edge(1.0)
