"""Steering without training: the mean difference of the states of chosen and rejected answers is added to blocks' outputs.

How strongly is found as RAHF finds its alpha (``rahf.calibrate``): a ladder of strengths on prompts of the training pairs,
the middle of those that move as many answers as the best, none that makes answers drift. There is no instructed model to
say which answers lean to chosen, so the base's own states do: those whose mean state lies beyond halfway to the chosen mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.generation import Answer, Sampling, Steering, generate
from workbench.judges import ProbeJudge
from workbench.pairs import PreferencePairs
from workbench.rahf.calibrate import LADDER, WITHOUT_GAIN, climbed, told
from workbench.rahf.patterns import choose_alpha, short_alpha
from workbench.rahf.pipeline import MOST_SCORED, Bench
from workbench.representations import calibrate, preference_direction
from workbench.representations.capture import Activations, capture

LEANING_IS = (
    "The share of answers whose mean state in the unsteered base lies nearer to that of the chosen than to that of the "
    "rejected training answers."
)


@dataclass(frozen=True)
class Direction:
    """What is added at alpha 1, {block: [d]}, and its length as a share of the states' own, {block: share}."""

    vectors: dict[int, torch.Tensor]
    unit: dict[int, float]


def direction_of(acts: Activations, layers: tuple[int, ...]) -> Direction:
    """The difference of the two means at these blocks."""
    vectors, unit = {}, {}
    for layer in layers:
        along = preference_direction(acts, layer)
        ends = calibrate(acts, layer, along)
        vectors[layer] = torch.from_numpy(along) * (ends.chosen - ends.rejected)
        lengths = np.linalg.norm(np.concatenate([acts.chosen[layer], acts.rejected[layer]]), axis=-1)
        unit[layer] = float(vectors[layer].norm()) / max(float(lengths.mean()), 1e-9)
    return Direction(vectors, unit)


def find(bench: Bench, layers: tuple[int, ...]) -> tuple[Steering, dict[str, Any]]:
    """The steering to use, and the calibration that found its alpha (as ``rahf.calibrate.calibrate`` returns it).

    Directions come from the training pairs, strengths are tried on prompts of the part for steps 2 and 3. Raises Stopped.
    """
    training = bench.pairs.without(bench.split.held_out.dataset["id"])
    if len(training) > MOST_SCORED:
        training = training.select(range(MOST_SCORED))
    bench.progress("capture", message="Reading the states of the pairs")
    found = direction_of(capture(bench.loaded, training, limits=bench.limits), layers)
    mean = sum(found.unit.values()) / len(found.unit)
    alphas = sorted({short_alpha(share / max(mean, 1e-9)) for share in LADDER})
    some = bench.split.fit.select(range(min(bench.config.calibration_prompts, len(bench.split.fit))))
    rungs = _climb(bench, some, found, [0.0, *alphas], ProbeJudge(bench.loaded, training, max(layers)))
    usual = choose_alpha(found.unit, WITHOUT_GAIN, max(alphas))
    chosen = told(rungs, mean, bench.config.drift_limit, usual, LEANING_IS)
    alpha, reason = chosen["chosen"], chosen["reason"]
    chosen["relative_strength"] = {layer: round(alpha * share, 4) for layer, share in found.unit.items()}
    bench.progress("calibrate", len(some), len(some), reason, calibration=chosen)
    return Steering(found.vectors, alpha), chosen


def _climb(bench: Bench, pairs: PreferencePairs, found: Direction, alphas: list[float], probe: ProbeJudge):
    sampling = Sampling(max_new_tokens=bench.config.max_new_tokens, seed=bench.config.seed)
    prompts = [pair.prompt for pair in pairs]
    answers: list[list[Answer]] = []
    for number, alpha in enumerate(alphas):
        bench.progress("calibrate", number, len(alphas), message=f"Trying alpha {alpha:.3g}")
        answers.append(generate(bench.loaded, prompts, sampling, steering=Steering(found.vectors, alpha)))
    leans = np.stack([probe.scores(prompts, [answer.text for answer in given]) > probe.halfway for given in answers])
    return climbed(bench.loaded, list(pairs), alphas, answers, leans, bench.limits, sampling)
