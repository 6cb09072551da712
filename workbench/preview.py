"""What a perfect fit of step 3 would answer, before anything is fitted: the shift is computed anew at every token.

Step 3 of RAHF (arXiv 2312.15997, section 3.4) fits an adapter until its states are h + alpha v, where v is the difference of
the two instructed states on the same tokens. Here v is no mean over examples: both sides of step 1 read along as the answer
is drawn, and what they differ by is added to the foundation's state at one block, the deepest that step 3 fits; what stands
in earlier ones is overwritten by it. So the answers show what a strength does to the model, at the price of three passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench import processes
from workbench.errors import UserError
from workbench.generation import BASE, Answer, Lane, Sampling, append_tokens, lanes_of, luck_of, pick, prompt_ids
from workbench.models import LoadedModel


@dataclass(frozen=True)
class Reader:
    """Who reads a prompt and its answer: the base or it with an adapter, under an instruction or none."""

    adapter: str | None = None
    instruction: str | None = None


@dataclass(frozen=True)
class Shift:
    """The states of ``plus`` less those of ``minus`` at the output of ``block``, to be added to those of ``bare``.

    ``first``: whether the state that chooses an answer's first token is shifted too (not if the states at the answer's
    own tokens are what step 3 fits).
    """

    block: int
    plus: Reader
    minus: Reader
    bare: Reader = Reader()
    first: bool = True


@dataclass(frozen=True)
class Preview:
    """Answers as far as they are drawn, one a row, and ``margin`` [rows]: the sum over each answer's tokens (its end
    counted) of log pi_plus - log pi_minus, nats."""

    answers: list[Answer]
    margin: Tensor


@torch.inference_mode()
def preview(
    loaded: LoadedModel,
    prompts: Sequence,
    alphas: Sequence[float],
    shift: Shift,
    sampling: Sampling,
    streams: Sequence[int] | None = None,
) -> Iterator[Preview]:
    """Answer each prompt with the shift added ``alphas[row]`` times; yields after every token (the same lists, growing).

    Rows with equal ``streams`` (by default their place) are drawn with the same luck; at alpha 0 the answers are those of
    ``bare`` alone. Raises UserError for sampling settings out of range or a block that the model has not.
    """
    if not 0 <= shift.block < loaded.n_blocks:
        raise UserError(f"The model has blocks 0 to {loaded.n_blocks - 1}: {shift.block} is not one of them.")
    lanes = [_lane(loaded, prompts, sampling, reader) for reader in (shift.plus, shift.minus, shift.bare)]
    widest = max(lane.input_ids.shape[1] for lane in lanes)
    longest = max(1, min(sampling.max_new_tokens, loaded.context - widest))
    places = range(len(prompts)) if streams is None else streams
    luck = torch.stack([luck_of(sampling.seed, place, longest) for place in places]).to(loaded.device)
    scale = torch.tensor(list(alphas), dtype=torch.float32, device=loaded.device)[:, None]
    now = Preview([Answer(loaded.boundary.decode) for _ in prompts], torch.zeros(len(prompts), dtype=torch.float64))
    for step in range(longest):
        drawn, sides = _step(loaded, lanes, shift, scale, step, luck[:, step], sampling)
        open_rows = torch.tensor([not answer.done for answer in now.answers])
        now.margin.add_(torch.where(open_rows, sides, 0.0))
        append_tokens(loaded.boundary, now.answers, drawn.tolist())
        for lane in lanes:
            lane.advance(drawn)
        yield now
        if all(answer.done for answer in now.answers):
            return


def _lane(loaded: LoadedModel, prompts: Sequence, sampling: Sampling, reader: Reader) -> Lane:
    ids = prompt_ids(loaded, prompts, sampling, reader.instruction)
    return lanes_of(loaded, ids, [reader.adapter or BASE] * len(ids), [None] * len(ids), sampling.max_new_tokens)[0]


def _step(
    loaded: LoadedModel,
    lanes: Sequence[Lane],
    shift: Shift,
    scale: Tensor,
    step: int,
    luck: Tensor,
    sampling: Sampling,
) -> tuple[Tensor, Tensor]:
    """One more token of every row: the tokens [rows], and log pi_plus - log pi_minus of each, float64 [rows]."""
    block, states = loaded.blocks[shift.block], []

    def read(hidden: Tensor) -> Tensor:
        states.append(hidden[:, -1].float())
        return hidden

    def move(hidden: Tensor) -> Tensor:
        moved = hidden.clone()
        moved[:, -1] = (moved[:, -1].float() + scale * (states[0] - states[1])).to(hidden.dtype)
        return moved

    with _on_output(block, read):
        logps = [torch.log_softmax(lane.forward(loaded)[:, -1].float(), dim=-1) for lane in lanes[:2]]
    if step or shift.first:
        with _on_output(block, move):
            logits = lanes[2].forward(loaded)
    else:
        logits = lanes[2].forward(loaded)
    drawn = processes.in_step(pick(logits[:, -1].float(), luck, sampling))
    plus, minus = (logp.gather(1, drawn[:, None])[:, 0].double() for logp in logps)
    return drawn, (plus - minus).cpu()


@contextmanager
def _on_output(block: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The block's hidden states [rows, T, d] go through ``change`` for as long as the context lasts."""

    def hook(module, args, output):
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    handle = block.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
