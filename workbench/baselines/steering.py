"""Steering without training: the mean difference of the states of chosen and rejected answers is added to blocks' outputs.

How strongly is found as RAHF finds its alpha (``rahf.calibrate``): a ladder of strengths on prompts of the training pairs,
the middle of those that move as many answers as the best, none that makes answers drift. A rung means the same for both: a
share of the mean length of single states, token by token (their mean over an answer is much shorter than they are, and a
share of that would end the ladder early). There is no instructed model to say which answers lean to chosen, so the base's
own states do: those whose mean state lies beyond halfway to the chosen mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.generation import Answer, Sampling, Steering, generate
from workbench.judges import ProbeJudge
from workbench.models import Trunk
from workbench.pairs import PreferencePairs
from workbench.rahf.calibrate import LADDER, WITHOUT_GAIN, climbed, told
from workbench.rahf.patterns import choose_alpha, selected, short_alpha
from workbench.rahf.pipeline import MOST_SCORED, Bench
from workbench.representations import calibrate, preference_direction
from workbench.representations.capture import Activations, capture, encode_pairs
from workbench.tokens import by_length, collate

MOST_MEASURED = 128  # pairs that suffice to tell how long states are
READ_TOGETHER = 8192  # tokens a batch

LEANING_IS = (
    "The share of answers whose mean state in the unsteered base lies nearer to that of the chosen than to that of the "
    "rejected training answers."
)


@dataclass(frozen=True)
class Direction:
    """What is added at alpha 1, {block: [d]}, and its length as a share of the states' own, {block: share}."""

    vectors: dict[int, torch.Tensor]
    unit: dict[int, float]


def direction_of(acts: Activations, lengths: dict[int, float]) -> Direction:
    """The difference of the two means at these blocks; ``lengths`` of their states as :func:`lengths_of` measures them."""
    vectors, unit = {}, {}
    for layer, length in lengths.items():
        along = preference_direction(acts, layer)
        ends = calibrate(acts, layer, along)
        vectors[layer] = torch.from_numpy(along) * (ends.chosen - ends.rejected)
        unit[layer] = float(vectors[layer].norm()) / max(length, 1e-9)
    return Direction(vectors, unit)


@torch.inference_mode()
def lengths_of(bench: Bench, pairs: PreferencePairs, layers: tuple[int, ...]) -> dict[int, float]:
    """The mean length of the base's states at these blocks, over the tokens that RAHF's step 2 would read (``states``)."""
    encoded = encode_pairs(bench.loaded, pairs, bench.limits)
    trunk = Trunk(bench.loaded.model, max(layers) + 1)
    total, count = dict.fromkeys(layers, 0.0), 0
    for rows in by_length(encoded, READ_TOGETHER):
        batch = collate([encoded[row] for row in rows], bench.loaded.boundary.pad_id, bench.loaded.device)
        mask = selected(batch, bench.config.states)
        args = (batch.input_ids, batch.attention_mask, batch.position_ids)
        found = trunk(*args, collect=layers, reduce=lambda block, hidden: hidden.float().norm(dim=-1))
        for layer in layers:
            total[layer] += float(found[layer][mask.to(found[layer].device)].double().sum())
        count += int(mask.sum())
    return {layer: total[layer] / count for layer in layers}


def find(bench: Bench, layers: tuple[int, ...]) -> tuple[Steering, dict[str, Any]]:
    """The steering to use, and the calibration that found its alpha (as ``rahf.calibrate.calibrate`` returns it).

    Directions come from the training pairs, strengths are tried on prompts of the part for steps 2 and 3. Raises Stopped.
    """
    training = bench.pairs.without(bench.split.held_out.dataset["id"])
    if len(training) > MOST_SCORED:
        training = training.select(range(MOST_SCORED))
    bench.progress("capture", message="Reading the states of the pairs")
    sample = training.select(range(min(len(training), MOST_MEASURED)))
    lengths = lengths_of(bench, sample, layers)
    found = direction_of(capture(bench.loaded, training, limits=bench.limits), lengths)
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
