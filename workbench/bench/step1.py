"""Step 1 of SCIT, against the way of the reference: three passes (supervised, matching, mismatching) through the whole
model over sequences padded to the longest that is allowed, with the head at every position and all three graphs kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.bench import Measure, interleaved
from workbench.bench.step3 import PROMPT, RESPONSE, with_lead
from workbench.bench.synthetic import INSTRUCTION, GivenIds, feedback_lengths, fixed, llama, peak_bytes, sequences
from workbench.progress import QUIET, Progress

if TYPE_CHECKING:
    import torch

    from workbench.models import LoadedModel
    from workbench.rahf.config import RunConfig
    from workbench.tokens import Encoded

BLOCKS, WIDTH = 8, 512
BATCH, STEPS, REPEATS = 2, 6, 3  # pairs a batch
Sides = tuple["Encoded", "Encoded", "Encoded", "Encoded"]  # chosen under p+ and p-, rejected under p- and p+


def run(name: str, progress: Progress) -> Measure:
    """Pairs a second, and the memory of a step beyond the weights."""
    from workbench.rahf.config import RunConfig

    config = RunConfig(method="scit", instruct_batch=BATCH, instruct_rate=1e-4)
    pairs = made(BATCH * STEPS)
    loaded = llama(BLOCKS, WIDTH)
    naive = Naive(config)
    losses = {}

    def ours(some: Sequence[Sides] = pairs) -> None:
        losses["ours"] = instruct_once(loaded, some, config)["loss_first"]

    def theirs() -> None:
        losses["naive"] = naive.step(pairs[:BATCH])

    seconds = interleaved({"ours": ours, "naive": theirs}, REPEATS, progress, "bench")
    memory = {"ours": peak_bytes(ours), "naive": peak_bytes(theirs)}
    ours(pairs[:BATCH])  # the losses of the same batch
    each = {"ours": seconds["ours"] / len(pairs), "naive": seconds["naive"] / BATCH}
    return Measure(
        name=name,
        seconds=seconds["ours"],
        speedup_over_naive=each["naive"] / each["ours"],
        memory_over_naive=memory["ours"] / memory["naive"] if memory["naive"] else None,
        tokens_per_second=sum(len(side.ids) for sides in pairs for side in sides) / seconds["ours"],
        goals={"speedup_over_naive": 2.5},
        details={
            "model": loaded.name,
            "batch": BATCH,
            "pairs_per_second": 1 / each["ours"],
            "naive_pairs_per_second": 1 / each["naive"],
            "step_bytes": memory,
            "losses": losses,
        },
    )


def made(count: int) -> list[Sides]:
    """Pairs as step 1 reads them: two responses to one prompt, each under the instruction that fits it and the other."""
    from workbench.tokens import Encoded

    lengths = feedback_lengths(2 * count, seed=1)
    prompts = [prompt for prompt, _ in lengths[:count]]
    asked = sequences([(prompt, 0) for prompt in prompts], seed=1)
    answers = sequences([(0, response) for _, response in lengths], seed=2)
    result = []
    for place, prompt in enumerate(asked):
        chosen, rejected = (
            Encoded(prompt.ids + answer.ids, len(prompt.ids)) for answer in (answers[place], answers[count + place])
        )
        (chosen_plus, rejected_plus), (chosen_minus, rejected_minus) = (
            with_lead([chosen, rejected], seed) for seed in (1, 2)
        )
        result.append((chosen_plus, chosen_minus, rejected_minus, rejected_plus))
    return result


def instruct_once(loaded: LoadedModel, pairs: Sequence[Sides], config: RunConfig) -> dict:
    """Step 1 as a run does it: see ``workbench.rahf.instruct.instruct``."""
    from workbench.pairs import Pair
    from workbench.rahf.instruct import instruct
    from workbench.tokens import Limits

    plus, minus = config.positive, config.negative
    given = {}
    for place, sides in enumerate(pairs):
        keys = (("chosen", plus), ("chosen", minus), ("rejected", minus), ("rejected", plus))
        given |= {(f"{side} {place}", told): ids for (side, told), ids in zip(keys, sides, strict=True)}
    names = [Pair(place + 1, [], f"chosen {place}", f"rejected {place}") for place in range(len(pairs))]
    config = replace(config, instruct_steps=len(pairs) // BATCH)
    real, loaded.boundary = loaded.boundary, GivenIds(given)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return instruct(loaded, names, config, "instructed", Limits(), Path(folder), QUIET)
        finally:
            loaded.boundary, loaded.model = real, loaded.model.unload()


class Naive:
    """The plain way, with the same adapter."""

    def __init__(self, config: RunConfig) -> None:
        import torch

        from workbench.rahf.adapters import activate, add_adapter

        self.loaded, self.smoothing = llama(BLOCKS, WIDTH), config.label_smoothing
        add_adapter(self.loaded, "instructed", config, BLOCKS, config.seed)
        activate(self.loaded, ["instructed"], train="instructed")
        trained = [parameter for parameter in self.loaded.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-9)

    def step(self, pairs: Sequence[Sides]) -> float:
        """One optimiser step over these pairs, two examples of each; returns the loss."""
        from torch.nn.functional import logsigmoid

        fits = [side for chosen, _, rejected, _ in pairs for side in (chosen, rejected)]
        other = [side for _, chosen, _, rejected in pairs for side in (chosen, rejected)]
        supervised, match, mismatch = self.scores(fits), self.scores(fits), self.scores(other)
        gap = match - mismatch
        contrast = (1 - self.smoothing) * logsigmoid(gap) + self.smoothing * logsigmoid(-gap)
        loss = (-supervised - contrast).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    def scores(self, items: Sequence[Encoded]) -> torch.Tensor:
        """The mean log-probability of every response, [B]."""
        width = PROMPT + INSTRUCTION
        batch = fixed(items, width, RESPONSE, self.loaded.device)
        logits = self.loaded.model(**batch, use_cache=False).logits[:, :-1].float()
        logps = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        mask = batch["attention_mask"][:, 1:].clone()
        mask[:, : width - 1] = 0
        return (logps * mask).sum(1) / mask.sum(1)
