"""The oracle that comes with bundled pairs: rules for whole answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workbench.errors import UserError
from workbench.judges.base import ScoringJudge
from workbench.pairs import demo_values, prompt_text
from workbench.pairs.sources import ASSETS

PREFERRED, DISPREFERRED, NEITHER = "preferred", "dispreferred", "neither"


class RuleJudge(ScoringJudge):
    """An oracle written down as rules: regular expressions for whole answers, and right facts per prompt.

    ``oracle.json`` holds name, preferred and dispreferred (lists of expressions, matched against the whole answer) and
    facts (prompt text to expressions one of which a right answer contains; or null). Raises UserError if it does not.
    """

    about = "Rules written with the bundled pairs: it knows for certain what they prefer, and nothing else."

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
        """A broken answer is worse than a whole one of the wrong form: else a model would win by falling apart."""
        worth = {PREFERRED: 1.0, DISPREFERRED: 0.0, NEITHER: -1.0}
        return np.array([worth[label] for label in self.labels(answers)])


def oracle_of(source: str) -> RuleJudge | None:
    """The oracle that comes with bundled pairs ("demo", "demo/NAME", with a split or not), or None for other sources."""
    name = source.partition(":")[0]
    values = demo_values() if name == "demo" or name.startswith("demo/") else []
    for value in values:
        path = ASSETS / value.name / "oracle.json"
        if name in (f"demo/{value.name}", *(["demo"] if value.default else [])) and path.exists():
            return RuleJudge(path)
    return None
