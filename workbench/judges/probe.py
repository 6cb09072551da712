"""The base model's own sense of what is preferred, as a judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.judges.base import ScoringJudge
from workbench.pairs import Pair, PreferencePairs, Report, as_messages

if TYPE_CHECKING:
    from workbench.models import LoadedModel


class ProbeJudge(ScoringJudge):
    """The base model's own preference direction as a judge: an answer's mean state, projected on the difference of the
    means of chosen and rejected training answers at one block.

    It was made from the same pairs that the run trains on, so it is called that, and it is no independent witness.
    """

    about = "Trained on the same pairs as the runs, from the base's own states: no independent witness."

    def __init__(self, loaded: LoadedModel, pairs: PreferencePairs, layer: int) -> None:
        from workbench.representations.capture import capture

        self.name = f"a probe at block {layer}, trained on the same pairs"
        self._loaded, self._layer = loaded, layer
        states = capture(loaded, pairs)
        means = states.chosen[layer].mean(0), states.rejected[layer].mean(0)
        self._direction = (means[0] - means[1]) / max(float(np.linalg.norm(means[0] - means[1])), 1e-12)
        self.halfway = float((means[0] + means[1]) @ self._direction) / 2  # answers that score above it lean to chosen

    def scores(self, prompts: Sequence, answers: Sequence[str]) -> np.ndarray:
        from workbench.representations.capture import capture

        # An answer without a single token has no state; it is scored as a lone full stop.
        rows = [
            Pair(number, as_messages(prompt), answer.strip() or ".", answer.strip() or ".")
            for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        ]
        states = capture(self._loaded, PreferencePairs.from_pairs(rows, Report("answers", len(rows), len(rows))))
        return (states.chosen[self._layer] @ self._direction).astype(np.float64)
