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
