"""Who says which answer is better. Every judge has a ``name`` that says what it is, to stand beside its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from workbench.errors import UserError
from workbench.pairs import Pair, PreferencePairs, Report, as_messages, demo_values, prompt_text
from workbench.pairs.sources import ASSETS

if TYPE_CHECKING:
    from workbench.models import LoadedModel

PREFERRED, DISPREFERRED, NEITHER = "preferred", "dispreferred", "neither"


class Judge(Protocol):
    """Scores answers to prompts: the higher, the more preferred. Only the order of scores counts."""

    name: str

    def scores(self, prompts: Sequence, answers: Sequence[str]) -> np.ndarray:
        """float64 [N]."""
        ...


class RuleJudge:
    """An oracle written down as rules: regular expressions for whole answers, and right facts per prompt.

    ``oracle.json`` holds name, preferred and dispreferred (lists of expressions, matched against the whole answer) and
    facts (prompt text to expressions one of which a right answer contains; or null). Raises UserError if it does not.
    """

    def __init__(self, path: Path) -> None:
        try:
            rules = json.loads(path.read_text(encoding="utf-8"))
            self.name = f"the oracle of {rules['name']}"
            self._preferred = re.compile("|".join(f"(?:{rule})" for rule in rules["preferred"]), re.DOTALL)
            self._dispreferred = re.compile("|".join(f"(?:{rule})" for rule in rules["dispreferred"]), re.DOTALL)
            self._facts = {
                text: [re.compile(rule) for rule in expressions] for text, expressions in (rules["facts"] or {}).items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, re.error) as error:
            raise UserError(f"The oracle {path.name} could not be read ({str(error)[:100]}).") from error

    @property
    def has_facts(self) -> bool:
        return bool(self._facts)

    def labels(self, answers: Sequence[str]) -> list[str]:
        """preferred, dispreferred or neither for each answer."""
        return [self._label(answer.strip()) for answer in answers]

    def _label(self, answer: str) -> str:
        if self._preferred.fullmatch(answer):
            return PREFERRED
        return DISPREFERRED if self._dispreferred.fullmatch(answer) else NEITHER

    def facts_right(self, prompts: Sequence, answers: Sequence[str]) -> list[bool | None]:
        """Whether an answer states its prompt's fact; None where no fact is known."""
        right: list[bool | None] = []
        for prompt, answer in zip(prompts, answers, strict=True):
            rules = self._facts.get(prompt_text(prompt))
            right.append(any(rule.search(answer) for rule in rules) if rules else None)
        return right

    def scores(self, prompts: Sequence, answers: Sequence[str]) -> np.ndarray:
        worth = {PREFERRED: 1.0, NEITHER: 0.0, DISPREFERRED: -1.0}
        return np.array([worth[label] for label in self.labels(answers)])


class ProbeJudge:
    """The base model's own preference direction as a judge: an answer's mean state, projected on the difference of the
    means of chosen and rejected training answers at one block.

    It was made from the same pairs that the run trains on, so it is called that, and it is no independent witness.
    """

    def __init__(self, loaded: LoadedModel, pairs: PreferencePairs, layer: int) -> None:
        from workbench.representations.capture import capture

        self.name = f"a probe at block {layer}, trained on the same pairs"
        self._loaded, self._layer = loaded, layer
        states = capture(loaded, pairs)
        difference = states.chosen[layer].mean(0) - states.rejected[layer].mean(0)
        self._direction = difference / max(float(np.linalg.norm(difference)), 1e-12)

    def scores(self, prompts: Sequence, answers: Sequence[str]) -> np.ndarray:
        from workbench.representations.capture import capture

        # An answer without a single token has no state; it is scored as a lone full stop.
        rows = [
            Pair(number, as_messages(prompt), answer.strip() or ".", answer.strip() or ".")
            for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        ]
        states = capture(self._loaded, PreferencePairs.from_pairs(rows, Report("answers", len(rows), len(rows))))
        return (states.chosen[self._layer] @ self._direction).astype(np.float64)


def oracle_of(source: str) -> RuleJudge | None:
    """The oracle that comes with bundled pairs ("demo", "demo/NAME", with a split or not), or None for other sources."""
    name = source.partition(":")[0]
    values = demo_values() if name == "demo" or name.startswith("demo/") else []
    for value in values:
        path = ASSETS / value.name / "oracle.json"
        if name in (f"demo/{value.name}", *(["demo"] if value.default else [])) and path.exists():
            return RuleJudge(path)
    return None


def choose_judge(
    judge: str, source: str, loaded: LoadedModel, training: PreferencePairs | None, layer: int | None
) -> Judge | None:
    """The judge of that name: "auto" (the pairs' own oracle, else a probe), "probe", "none", or a bundled value such as
    ``demo/brief``. The model's adapters must be off for a probe. Raises UserError for any other name."""
    if judge == "none":
        return None
    if judge not in ("auto", "probe"):
        if found := oracle_of(judge):
            return found
        raise UserError(f"There is no judge {judge[:60]!r}: choose auto, probe, none or a bundled value such as demo.")
    if judge == "auto" and (found := oracle_of(source)):
        return found
    if training is None or layer is None:
        return None
    return ProbeJudge(loaded, training, layer)
