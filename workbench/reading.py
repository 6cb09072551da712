"""How a model reads answers that are there already: the log-probability of each token as a speaker would draw it, and
where each token lies along the preference direction of every block. Forward passes only, the answers batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.errors import UserError
from workbench.generation import Sampling, Speaker, prompt_ids, speaking
from workbench.likelihood import token_logps
from workbench.models import LoadedModel, Trunk
from workbench.tokens import Encoded, by_length, collate

if TYPE_CHECKING:
    from workbench.representations.capture import Activations


def as_drawn(
    loaded: LoadedModel, prompts: Sequence, ids: Sequence[Sequence[int]], speaker: Speaker, sampling: Sampling
) -> list[Encoded]:
    """The sequences as they would stand had the speaker drawn these answers: its instruction and the prompt, cut as for an
    answer under ``sampling``, then the answer's own ids [N][T]."""
    found = []
    for first, then in zip(prompt_ids(loaded, prompts, sampling, speaker.instruction), ids, strict=True):
        first = first[-max(1, loaded.context - len(then)) :]
        found.append(Encoded([*first, *then], len(first)))
    return found


@torch.inference_mode()
def token_logprobs(
    loaded: LoadedModel, prompts: Sequence, ids: Sequence[Sequence[int]], speaker: Speaker, sampling: Sampling
) -> list[list[float]]:
    """log pi(token | all before it) of every token of every answer [N][T], nats, at temperature 1 and without top-p, as the
    speaker finds them: its adapter and steering act, its instruction stands before the prompt."""
    items = as_drawn(loaded, prompts, ids, speaker, sampling)
    found: list[list[float]] = [[] for _ in items]
    asked = [row for row, item in enumerate(items) if len(item.ids) > item.start]
    with speaking(loaded, speaker):
        for places in by_length([items[row] for row in asked]):
            rows = [asked[place] for place in places]
            logps, mask = token_logps(loaded.model, [items[row] for row in rows], loaded.boundary.pad_id, loaded.device)
            for row, values, real in zip(rows, logps.cpu(), mask.cpu(), strict=True):
                found[row] = values[real].tolist()
    return found


@dataclass(frozen=True)
class Axes:
    """The preference axis of each captured block: unit ``directions`` [L, d]; ``middle`` and ``half`` [L] put the mean of
    rejected answers at -1 and that of chosen ones at +1. ``back`` is 1 where a token is read from the state that produced
    it, 0 where from the state at it, and ``site`` which outputs of the blocks are read: both as the capture did."""

    directions: np.ndarray
    middle: np.ndarray
    half: np.ndarray
    back: int
    site: str = "block"


def axes_of(acts: Activations) -> Axes:
    """The axes of all blocks of a capture."""
    from workbench.representations.separability import calibrate, preference_direction

    directions = np.stack([preference_direction(acts, layer) for layer in range(acts.n_layers)])
    ways = [calibrate(acts, layer, directions[layer]) for layer in range(acts.n_layers)]
    middle = np.array([(way.chosen + way.rejected) / 2 for way in ways])
    half = np.array([(way.chosen - way.rejected) / 2 for way in ways])
    return Axes(directions, middle, half, 1 if acts.pooling == "predicting" else 0, acts.site)


@torch.inference_mode()
def token_preferences(
    loaded: LoadedModel, prompts: Sequence, ids: Sequence[Sequence[int]], axes: Axes, sampling: Sampling
) -> list[np.ndarray]:
    """Each answer's tokens along every block's axis as the base reads them (no adapter, no instruction), float [L, T] an
    answer: -1 the rejected mean, +1 the chosen mean; 0 for a block whose two means are one."""
    if axes.directions.shape != (loaded.n_blocks, loaded.width):
        raise UserError("The captured states do not fit this model's blocks: capture with this model in step 2.")
    items = as_drawn(loaded, prompts, ids, Speaker(), sampling)
    found = [np.zeros((loaded.n_blocks, 0)) for _ in items]
    asked = [row for row, item in enumerate(items) if len(item.ids) > item.start]
    directions = torch.from_numpy(axes.directions).float().to(loaded.device)
    half = np.where(axes.half > 0, axes.half, 1.0)[:, None]
    base = loaded.model.get_base_model() if hasattr(loaded.model, "get_base_model") else loaded.model
    with speaking(loaded, Speaker()):
        trunk = Trunk(base, loaded.n_blocks, axes.site)
        for places in by_length([items[row] for row in asked]):
            rows = [asked[place] for place in places]
            batch = collate([items[row] for row in rows], loaded.boundary.pad_id, loaded.device)
            along = trunk(
                batch.input_ids,
                batch.attention_mask,
                batch.position_ids,
                collect=range(loaded.n_blocks),
                reduce=lambda block, hidden: hidden.float() @ directions[block].to(hidden.device),
            )
            values = np.stack([along[block].cpu().numpy() for block in range(loaded.n_blocks)])  # [L, rows, T]
            for place, row in enumerate(rows):
                item = items[row]
                part = values[:, place, item.start - axes.back : len(item.ids) - axes.back]
                found[row] = np.where(axes.half[:, None] > 0, (part - axes.middle[:, None]) / half, 0.0)
    return found
