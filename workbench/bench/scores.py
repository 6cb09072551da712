"""Everything that is measured and drawn of captured states (scores, bands of 200 random swaps, bootstraps, places on the
axis, PCA), against scikit-learn's usual way to the bare scores: a LogisticRegressionCV for each block and fold, and a PCA.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from workbench.bench import Measure
from workbench.progress import Progress

PAIRS, BLOCKS, WIDTH = 1000, 32, 4096
REPEATS = 2
COMPARED = 1  # blocks that the naive way scores: all others cost it as much


def run(name: str, progress: Progress) -> Measure:
    """``seconds`` is for all blocks. ``speedup_over_naive`` compares that with the naive way's time for all blocks and
    folds, told from those that it did; ``details`` has the like of the held-out AUC alone."""
    from workbench.representations import held_out_auc, make_folds

    chosen, rejected = states()
    groups = np.arange(PAIRS)
    held = make_folds(groups)
    folds = list(held)
    taken: dict[str, list[float]] = {"everything": [], "alone": [], "fit": [], "pca": []}
    ours, naive = {}, {}

    def timed(key: str, work: Callable, *arguments: Any) -> Any:
        progress("bench", sum(map(len, taken.values())), 2 * REPEATS + 2 * COMPARED, message=f"scores: {key}")
        started = perf_counter()
        result = work(*arguments)
        taken[key].append(perf_counter() - started)
        return result

    for _ in range(REPEATS):
        timed("everything", everything, chosen, rejected, groups)
    for block in range(COMPARED):
        ours[block] = timed("alone", held_out_auc, chosen[block], rejected[block], held)
        # our own AUC is a mean over folds, so that the naive way must do all of them where it is to be compared
        aucs = [timed("fit", logistic_auc, chosen[block], rejected[block], *fold) for fold in folds]
        naive[block] = np.average(aucs, weights=[len(out) for _, out in folds])
        timed("pca", plain_pca, np.concatenate([chosen[block], rejected[block]]))
    median = {key: float(np.median(seconds)) for key, seconds in taken.items()}
    usual = BLOCKS * (len(folds) * median["fit"] + median["pca"])
    return Measure(
        name=name,
        seconds=median["everything"],
        speedup_over_naive=usual / median["everything"],
        goals={"speedup_over_naive": 20.0, "seconds": 15.0},
        details={
            "pairs": PAIRS,
            "blocks": BLOCKS,
            "width": WIDTH,
            "naive_seconds": usual,
            "seconds_per_fit": median["alone"] / len(folds),
            "naive_seconds_per_fit": median["fit"],
            "speedup_of_the_auc_alone": median["fit"] * len(folds) / median["alone"],
            "largest_auc_difference": max(abs(ours[block] - naive[block]) for block in ours),
        },
    )


def states(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random states as blocks have them: correlated features with a long-tailed spectrum, something that both sides
    share of their prompt, and a mean difference that is neither hidden nor obvious: float32 [L, N, d], both sides."""
    from scipy.fft import dct

    rng = np.random.default_rng(seed)
    scales = np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.75
    sides = np.empty((2, BLOCKS, PAIRS, WIDTH), dtype=np.float32)
    for block in range(BLOCKS):
        shared = rng.standard_normal((PAIRS, WIDTH), dtype=np.float32)
        gap = rng.standard_normal(WIDTH, dtype=np.float32) * 0.1
        signs = rng.choice(np.array([-1, 1], dtype=np.float32), WIDTH)
        for side, sign in enumerate((1, -1)):
            own = shared + rng.standard_normal((PAIRS, WIDTH), dtype=np.float32) + sign * gap
            sides[side, block] = dct(own * scales * signs, axis=1, norm="ortho")  # a turn: no feature stands alone
    return sides[0], sides[1]


def everything(chosen: np.ndarray, rejected: np.ndarray, groups: np.ndarray) -> None:
    """What a capture does once the states are there."""
    from workbench.representations import measure
    from workbench.representations.capture import Activations
    from workbench.representations.projection import frames, pictures

    count = len(groups)
    acts = Activations(chosen, rejected, np.arange(count), np.ones((count, 2), dtype=np.int64))
    pictures(acts, measure(chosen, rejected, groups).places, axes=frames(acts))


def plain_pca(rows: np.ndarray) -> np.ndarray:
    """The first three components' coordinates, as scikit-learn gives them."""
    from sklearn.decomposition import PCA

    return PCA(3).fit_transform(rows)


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
