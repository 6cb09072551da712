"""Scoring blocks against scikit-learn's LogisticRegressionCV, fitted once for each block and fold.

Like is compared with like: the held-out AUC of the true labels alone. What a capture really does beside it (200 random
swaps, bootstraps, places on the axis) is timed as well: ``seconds``.
"""

from __future__ import annotations

import warnings
from time import perf_counter

import numpy as np

from workbench.bench import Measure
from workbench.progress import Progress

PAIRS, BLOCKS, WIDTH = 600, 8, 128
COMPARED = 2  # blocks that the naive way scores; the others cost it as much


def run(progress: Progress) -> Measure:
    """``seconds`` is for everything on all blocks; ``speedup_over_naive`` is of the AUC of one block and fold."""
    from workbench.representations import held_out_auc, make_folds, measure

    chosen, rejected = states()
    groups = np.arange(PAIRS)
    held = make_folds(groups)
    folds = list(held)
    taken: dict[str, list[float]] = {"everything": [], "alone": [], "naive": []}
    values: dict[tuple[int, int], float] = {}

    def timed(name: str, work, *arguments):
        started = perf_counter()
        result = work(*arguments)
        taken[name].append(perf_counter() - started)
        return result

    def all_alone() -> list[float]:
        return [held_out_auc(c, r, held) for c, r in zip(chosen, rejected, strict=True)]

    measure(chosen, rejected, groups)
    cells = [(block, number) for block in range(COMPARED) for number in range(len(folds))]
    for turn, (block, number) in enumerate(cells):
        progress("bench", turn, len(cells), message="scores: LogisticRegressionCV and ours in turn")
        values[block, number] = timed("naive", logistic_auc, chosen[block], rejected[block], *folds[number])
        ours = timed("alone", all_alone)
        if turn % 2 == 0:
            timed("everything", measure, chosen, rejected, groups)
    progress("bench", len(cells), len(cells))
    sizes = [len(out) for _, out in folds]
    truth = [np.average([values[block, k] for k in range(len(folds))], weights=sizes) for block in range(COMPARED)]
    median = {name: float(np.median(seconds)) for name, seconds in taken.items()}
    fits = BLOCKS * len(folds)
    return Measure(
        name="scores",
        seconds=median["everything"],
        speedup_over_naive=median["naive"] / (median["alone"] / fits),
        details={
            "pairs": PAIRS,
            "blocks": BLOCKS,
            "width": WIDTH,
            "seconds_per_fit": median["alone"] / fits,
            "naive_seconds_per_fit": median["naive"],
            "speedup_with_200_swaps": median["naive"] / (median["everything"] / fits),
            "largest_auc_difference": float(max(abs(a - b) for a, b in zip(ours, truth, strict=False))),
        },
    )


def states(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random states as blocks have them: correlated features with a long-tailed spectrum, something that both sides
    share of their prompt, and a mean difference that is neither hidden nor obvious: float32 [L, N, d], both sides."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, WIDTH + 1) ** -0.75
    turns = np.linalg.qr(rng.standard_normal((BLOCKS, WIDTH, WIDTH)))[0]
    shape = (BLOCKS, PAIRS, WIDTH)
    shared = rng.standard_normal(shape)
    gap = rng.standard_normal((BLOCKS, 1, WIDTH)) * 0.1
    return tuple(
        (((shared + rng.standard_normal(shape) + sign * gap) * scales) @ turns).astype(np.float32) for sign in (1, -1)
    )


def logistic_auc(chosen: np.ndarray, rejected: np.ndarray, train: np.ndarray, out: np.ndarray) -> float:
    """The held-out AUC of scikit-learn's logistic regression with its own choice of strength, on one fold."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sides = np.concatenate([chosen[train], rejected[train]])
    labels = np.repeat([1, 0], len(train))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(StandardScaler(), LogisticRegressionCV(cv=5, max_iter=1000)).fit(sides, labels)
    said = model.decision_function(np.concatenate([chosen[out], rejected[out]]))
    return float(roc_auc_score(np.repeat([1, 0], len(out)), said))
