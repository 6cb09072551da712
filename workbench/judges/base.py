"""What a judge is. Every judge has a ``name`` that says what it is, to stand beside its numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class Judge(ABC):
    """Says of two answers to a prompt which is better. ``name`` says who it is, ``about`` in a sentence how far to trust
    it."""

    name: str
    about: str

    @abstractmethod
    def outcomes(self, prompts: Sequence, ours: Sequence[str], theirs: Sequence[str]) -> np.ndarray:
        """float64 [N]: 1 where our answer is the better one, 0 where theirs is, 0.5 for a tie."""


class ScoringJudge(Judge):
    """A judge that looks at one answer at a time: the higher its score, the more preferred. Only their order counts."""

    @abstractmethod
    def scores(self, prompts: Sequence, answers: Sequence[str]) -> np.ndarray:
        """float64 [N]."""

    def outcomes(self, prompts: Sequence, ours: Sequence[str], theirs: Sequence[str]) -> np.ndarray:
        return beats(self.scores(prompts, ours), self.scores(prompts, theirs), ours, theirs)


def beats(ours: np.ndarray, theirs: np.ndarray, answers: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Scores as outcomes, float64 [N]: 1 where ours is higher, 0.5 where they, or the answers themselves, are equal (the
    same answer in another batch may score otherwise in the last digits)."""
    same = (ours == theirs) | np.array([one == other for one, other in zip(answers, others, strict=True)], bool)
    return np.where(same, 0.5, (ours > theirs).astype(float))
