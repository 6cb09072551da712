"""Intervals for shares and means, and a number rounded so that it stays on the safe side."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054


def wilson(wins: float, count: int) -> tuple[float, float]:
    """The 95% Wilson interval of a share; (0, 1) when nothing was counted. ``wins`` may hold halves for ties."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = wins / count, Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def rounded_down(value: float, digits: int = 2) -> float:
    """A positive number to so many digits, never above itself: 1.39 is 1.3, 0.0278 is 0.027."""
    unit = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    return float(f"{math.floor(value / unit * (1 + 1e-12)) * unit:.{digits}g}")


def share(outcomes: Sequence[float], groups: Sequence[int]) -> tuple[float, float]:
    """The 95% Wilson interval of the mean of ``outcomes`` [N] (0 to 1 each). Those of one group (the same prompt) count
    as one observation together, which is exact where every group has one and on the safe side elsewhere."""
    count = len(set(map(int, groups)))
    return wilson(sum(map(float, outcomes)) / max(1, len(outcomes)) * count, count)


def bootstrap(
    values: Sequence[float], groups: Sequence[int] | None = None, repeats: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95% percentile interval of the mean, resampling the values; (mean, mean) for a single value. Values of one
    group (``groups`` [N]: the same number for answers to one prompt) are drawn together."""
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        return math.nan, math.nan
    counts = np.ones(len(data))
    if groups is not None:
        _, places = np.unique(np.asarray(groups), return_inverse=True)
        if places.max() + 1 < len(data):
            data, counts = np.bincount(places, data), np.bincount(places).astype(float)
    draws = np.random.default_rng(seed).integers(0, len(data), (repeats, len(data)))
    low, high = np.percentile(data[draws].sum(1) / counts[draws].sum(1), [2.5, 97.5])
    return float(low), float(high)


def distinct(
    answers: Sequence[Sequence[int]], groups: Sequence[int] | None = None, size: int = 2
) -> tuple[float | None, float | None, float | None]:
    """Distinct-n (Li et al. 2016): the different runs of ``size`` tokens in all answers, as a share of all such runs, with
    its 95% interval; None where there is none.

    The interval is that of the jackknife over answers (over groups of them, where ``groups`` [N] says which belong to one
    prompt): resampled answers would repeat themselves, and so the bootstrap calls every model less diverse than it is.
    """
    owner: dict[tuple[int, ...], int | None] = {}  # whose a run of tokens is; None: of several
    totals: dict[int, int] = {}
    for group, ids in zip(groups if groups is not None else range(len(answers)), answers, strict=True):
        for at in range(len(ids) - size + 1):
            run = tuple(ids[at : at + size])
            owner[run] = group if owner.get(run, group) == group else None
            totals[group] = totals.get(group, 0) + 1
    if not totals:
        return None, None, None
    every, value = sum(totals.values()), len(owner) / sum(totals.values())
    if len(totals) < 2:
        return value, None, None
    own = dict.fromkeys(totals, 0)
    for group in owner.values():
        if group is not None:
            own[group] += 1
    without = [(len(owner) - own[group]) / (every - total) for group, total in totals.items()]
    middle = sum(without) / len(without)
    spread = (len(without) - 1) / len(without) * sum((one - middle) ** 2 for one in without)
    half = Z95 * math.sqrt(spread)
    return value, max(0.0, value - half), min(1.0, value + half)


def length_controlled(
    outcomes: Sequence[float], longer: Sequence[float], groups: Sequence[int] | None = None
) -> tuple[float, float, float]:
    """The win rate that would be expected of answers as long as those they are held against, with its 95% interval.

    ``outcomes`` [N]: 1 won, 0.5 tie, 0 lost; ``longer`` [N]: by how many tokens each answer is the longer one; ``groups``
    [N] as for :func:`share`. A logistic
    regression of the outcomes on tanh(longer / its standard deviation), the slope with a standard normal prior; the rate is
    its value at 0, the interval by the delta method. As in length-controlled AlpacaEval (Dubois et al. 2024), without
    its terms for the difficulty of single prompts.
    """
    import numpy as np

    won, more = np.asarray(outcomes, dtype=np.float64), np.asarray(longer, dtype=np.float64)
    groups = range(len(won)) if groups is None else groups
    if len(won) == 0 or (won == won[0]).all() or not more.any():  # nothing for length to explain
        return float(won.mean()) if len(won) else math.nan, *share(won, groups)
    design = np.stack([np.ones(len(won)), np.tanh(more / more.std() if more.std() else np.sign(more))], axis=1)
    prior, weights = np.diag([1e-6, 1.0]), np.zeros(2)
    for _ in range(100):
        expected = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (won - expected) - prior @ weights
        bend = design.T @ (design * (expected * (1 - expected))[:, None]) + prior
        step = np.linalg.solve(bend, slope)
        weights += step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    wide = Z95 * math.sqrt(float(np.linalg.inv(bend)[0, 0]) * len(won) / len(set(map(int, groups))))
    rate, low, high = (1 / (1 + math.exp(-(weights[0] + by))) for by in (0.0, -wide, wide))
    return rate, low, high
