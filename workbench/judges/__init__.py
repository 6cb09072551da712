"""Who says which answer is better: oracles, probes, reward models, endpoints and people, one a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.judges.base import Judge, ScoringJudge, beats
from workbench.judges.oracle import DISPREFERRED, NEITHER, PREFERRED, RuleJudge, oracle_of
from workbench.judges.probe import ProbeJudge

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs import PreferencePairs

__all__ = [
    "DISPREFERRED",
    "NEITHER",
    "PREFERRED",
    "Judge",
    "ProbeJudge",
    "RuleJudge",
    "ScoringJudge",
    "beats",
    "choose_judge",
    "oracle_of",
]


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
