"""Whether the band of random swaps keeps its word: states that do separate, their labels swapped at random, again and
again. The share of AUCs that lie in their own band of 95% should be 0.95."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from workbench.bench import Measure
from workbench.progress import Progress
from workbench.statistics import wilson

REPEATS, PAIRS, PERMUTATIONS = 400, 60, 200
WIDTHS = (20, 60)  # one for each way of the probe's arithmetic
SHARED = 4  # pairs of one prompt in some data sets


def run(name: str, progress: Progress) -> Measure:
    """``details``: for each setting the share that was covered, with Wilson's 95% interval. Seconds are for all."""
    started = perf_counter()
    details = {}
    for width in WIDTHS:
        for prompts in (PAIRS, PAIRS // SHARED):
            inside = covered(width, prompts, REPEATS, progress)
            low, high = wilson(inside, REPEATS)
            details[f"width {width}, {prompts} prompts"] = {"covered": inside / REPEATS, "low": low, "high": high}
    return Measure(name, perf_counter() - started, details=details | {"repeats": REPEATS, "pairs": PAIRS})


def covered(width: int, prompts: int, repeats: int, progress: Progress) -> int:
    """In how many of the repeats the AUC of swapped labels lies in the band; prompts are swapped as a whole."""
    from workbench.representations import measure

    groups = np.arange(PAIRS) % prompts
    inside = 0
    for repeat in range(repeats):
        if repeat % 20 == 0:
            progress("bench", repeat, repeats, message=f"coverage: width {width}, {prompts} prompts")
        rng = np.random.default_rng(repeat)
        shared = rng.standard_normal((prompts, width))[groups]
        gap = rng.standard_normal(width) * 2 / np.sqrt(width)
        chosen, rejected = (shared + rng.standard_normal((PAIRS, width)) + sign * gap for sign in (0.5, -0.5))
        swap = (rng.random(prompts) < 0.5)[groups][:, None]
        sides = np.where(swap, rejected, chosen), np.where(swap, chosen, rejected)
        first, second = (side[None].astype(np.float32) for side in sides)
        (row,) = measure(first, second, groups, permutations=PERMUTATIONS, seed=repeat + 10_000).scores
        inside += row.null_auc_p025 <= row.probe_auc <= row.null_auc_p975
    return inside
