"""What a probe can tell without the model: if length or the words alone separate the sides, so will every block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.progress import QUIET, Progress
from workbench.representations.folds import auc_score_interval
from workbench.representations.separability import LayerScore, measure
from workbench.tokens import Encoded


@dataclass(frozen=True)
class Control:
    """The same held-out probe on something that is not the model's states: its AUC, 95% interval and the band that 95%
    of random swaps lie in. ``pairs`` is how many pairs it was measured on; ``rival`` the best block's {auc, low, high}
    on the same pairs where those are fewer than all."""

    name: str
    auc: float
    low: float
    high: float
    null_low: float
    null_high: float
    pairs: int = 0
    rival: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @property
    def above_chance(self) -> bool:
        return self.auc > self.null_high


def control_of(name: str, row: LayerScore, pairs: int) -> Control:
    """A control from the score of its features."""
    return Control(
        name, row.probe_auc, row.probe_auc_low, row.probe_auc_high, row.null_auc_p025, row.null_auc_p975, pairs
    )


def measure_controls(
    encoded: Sequence[Encoded],
    *,
    groups: Sequence[int] | np.ndarray,
    folds: int = 5,
    permutations: int = 200,
    seed: int = 0,
    words: int = 1000,
    progress: Progress = QUIET,
) -> list[Control]:
    """The probe on three kinds of features, from the sequences of ``encode_pairs`` (chosen sides first, 2N):

    "length" (number of completion tokens), "words" (square roots of the counts of the ``words`` tokens found in most
    completions) and "prompt" (the same of the prompt: equal on both sides, so 0.5 unless the measurement leaks).
    """
    completions = [item.ids[item.start :] for item in encoded]
    lengths = np.array([[len(ids)] for ids in completions], dtype=np.float32)
    kinds = {
        "length": lengths,
        "words": _counts(completions, words),
        "prompt": _counts([item.ids[: item.start] for item in encoded], words),
    }
    half = len(encoded) // 2
    found = []
    for name, features in kinds.items():
        progress("score", len(found), len(kinds), message=f"control: {name}")
        settings = {"folds": folds, "permutations": permutations, "seed": seed}
        (row,) = measure(features[None, :half], features[None, half:], groups, **settings).scores
        found.append(control_of(name, row, half))
    return found


def _counts(texts: Sequence[Sequence[int]], words: int) -> np.ndarray:
    """Square roots of token counts, float32 [S, at most ``words``]: roots, so that one repeated token is not all."""
    found_in = Counter(token for ids in texts for token in set(ids))
    column = {token: k for k, (token, _) in enumerate(found_in.most_common(words))}
    counts = np.zeros((len(texts), max(1, len(column))), dtype=np.float32)
    for row, ids in enumerate(texts):
        for token, times in Counter(ids).items():
            if token in column:
                counts[row, column[token]] = times
    return np.sqrt(counts)


def length_auc(lengths: np.ndarray) -> dict[str, float]:
    """How well length alone, longer taken as chosen, tells the sides: ``lengths`` [N, 2] (chosen, rejected) ->
    {value, low, high} with Newcombe's 95% interval. Nothing is fitted; below 0.5, chosen is the shorter side."""
    chosen, ordered = np.asarray(lengths[:, 0]), np.sort(lengths[:, 1])
    below, not_above = np.searchsorted(ordered, chosen), np.searchsorted(ordered, chosen, side="right")
    value = float((below + not_above).mean() / (2 * len(ordered)))
    low, high = auc_score_interval(value, len(ordered))
    return {"value": value, "low": low, "high": high}
