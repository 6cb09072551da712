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


def bootstrap(values: Sequence[float], repeats: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the mean, resampling the values; (mean, mean) for a single value."""
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(0, len(data), (repeats, len(data)))
    low, high = np.percentile(data[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)


def length_controlled(outcomes: Sequence[float], longer: Sequence[float]) -> tuple[float, float, float]:
    """The win rate that would be expected of answers as long as those they are held against, with its 95% interval.

    ``outcomes`` [N]: 1 won, 0.5 tie, 0 lost; ``longer`` [N]: by how many tokens each answer is the longer one. A logistic
    regression of the outcomes on tanh(longer / its standard deviation), the slope with a standard normal prior; the rate is
    its value at 0, the interval by the delta method. As in length-controlled AlpacaEval (Dubois et al. 2024), without
    its terms for the difficulty of single prompts.
    """
    import numpy as np

    won, more = np.asarray(outcomes, dtype=np.float64), np.asarray(longer, dtype=np.float64)
    if len(won) == 0 or (won == won[0]).all() or not more.any():  # nothing for length to explain
        share = float(won.mean()) if len(won) else math.nan
        return share, *wilson(float(won.sum()), len(won))
    design = np.stack([np.ones(len(won)), np.tanh(more / more.std() if more.std() else np.sign(more))], axis=1)
    prior, weights = np.diag([1e-6, 1.0]), np.zeros(2)
    for _ in range(100):
        share = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (won - share) - prior @ weights
        bend = design.T @ (design * (share * (1 - share))[:, None]) + prior
        step = np.linalg.solve(bend, slope)
        weights += step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    wide = Z95 * math.sqrt(float(np.linalg.inv(bend)[0, 0]))
    rate, low, high = (1 / (1 + math.exp(-(weights[0] + by))) for by in (0.0, -wide, wide))
    return rate, low, high
