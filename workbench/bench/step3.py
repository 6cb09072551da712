"""Step 3, against the way of the reference: all blocks and the head over sequences padded to the longest that is
allowed, every hidden state kept, four passes one after another; and against five bare passes over the target blocks'
depth: three for the targets, one forward and one backward.

Every answer is met once, so that no target is there already; what a pass takes where they are (runs meet most answers
several times) stands beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.bench import Measure, interleaved
from workbench.bench.synthetic import INSTRUCTION, feedback_lengths, fixed, lively, llama, peak_bytes, sequences
from workbench.progress import QUIET, Progress

if TYPE_CHECKING:
    import torch

    from workbench.models import LoadedModel
    from workbench.rahf.config import RunConfig
    from workbench.rahf.patterns import Example, Patterns
    from workbench.tokens import Encoded

BLOCKS, WIDTH = 8, 512
BATCH, STEPS, REPEATS = 4, 8, 3
PROMPT, RESPONSE = 256, 512  # tokens that the naive way pads to
ALPHA = 0.5
GOALS = {
    "scit": {"over_floor": 1.25, "speedup_over_naive": 6.0, "memory_over_naive": 1 / 3},
    "dual": {"over_floor": 1.25, "speedup_over_naive": 5.0, "memory_over_naive": 1 / 3},
}


def run(name: str, progress: Progress, method: str) -> Measure:
    """Examples a second, and the memory of a step beyond the weights."""
    from workbench.rahf.config import RunConfig
    from workbench.rahf.patterns import Patterns

    config = RunConfig(method=method, align_batch=BATCH, align_steps=STEPS, align_rate=1e-4)
    layers = range(-(-BLOCKS // 3), -(-2 * BLOCKS // 3), 2)  # every other block of the middle third
    loaded = prepared(llama(BLOCKS, WIDTH), config)
    examples = made(config, feedback_lengths(BATCH * STEPS))
    naive = Naive(config, layers)
    few = examples[:BATCH]  # what the naive way computes does not depend on the lengths: one batch tells of all
    losses = {}

    def ours(some: Sequence[Example] = examples) -> None:
        losses["ours"] = align(loaded, some, config, layers)["loss_first"]

    def theirs() -> None:
        losses["naive"] = naive.step(few)

    known = Patterns(loaded, examples, config, layers)
    known.get(range(len(examples)))
    floor = Floor(loaded, examples, max(layers) + 1)
    ways = {"ours": ours, "known": lambda: fitted(loaded, known, config), "five floors": floor, "naive": theirs}
    seconds = interleaved(ways, REPEATS, progress, "bench")
    memory = {"ours": peak_bytes(ours), "naive": peak_bytes(theirs)}
    ours(few)  # the losses of the same batch
    each = {"ours": seconds["ours"] / len(examples), "naive": seconds["naive"] / BATCH}
    tokens = sum(len(item.ids) for example in examples for item in (example.bare, example.plus, example.minus))
    return Measure(
        name=name,
        seconds=seconds["ours"],
        over_floor=seconds["ours"] / seconds["five floors"],
        speedup_over_naive=each["naive"] / each["ours"],
        memory_over_naive=memory["ours"] / memory["naive"] if memory["naive"] else None,
        tokens_per_second=tokens / seconds["ours"],
        goals=GOALS[method],
        details={
            "model": loaded.name,
            "target_blocks": list(layers),
            "batch": BATCH,
            "examples_per_second": 1 / each["ours"],
            "naive_examples_per_second": 1 / each["naive"],
            "speedup_with_known_targets": each["naive"] * len(examples) / seconds["known"],
            "five_floors_seconds": seconds["five floors"],
            "step_bytes": memory,
            "weight_bytes": {"ours": weight_bytes([loaded.model]), "naive": naive.weight_bytes},
            "losses": losses,
        },
    )


def made(config: RunConfig, lengths: list[tuple[int, int]]) -> list[Example]:
    """Examples of these (prompt, response) lengths, as ``make_examples`` gives them."""
    from workbench.rahf.patterns import Example

    bare = sequences(lengths)
    if config.method == "dual":
        return [Example(one, one, one) for one in bare]
    plus, minus = (with_lead(bare, seed) for seed in (1, 2))
    return [Example(*three) for three in zip(bare, plus, minus, strict=True)]


def with_lead(items: Sequence[Encoded], seed: int) -> list[Encoded]:
    """The same sequences after an instruction."""
    from workbench.tokens import Encoded

    (lead,) = sequences([(INSTRUCTION, 0)], seed=10_000 + seed)
    return [Encoded(lead.ids + item.ids, INSTRUCTION + item.start) for item in items]


def prepared(loaded: LoadedModel, config: RunConfig) -> LoadedModel:
    """With step 1's adapters in it."""
    from workbench.rahf.adapters import add_adapter

    for seed, adapter in enumerate(config.instructed_adapters):
        add_adapter(loaded, adapter, config, loaded.n_blocks, seed)
        lively(loaded.model, adapter, seed)
    return loaded


def align(loaded: LoadedModel, examples: Sequence[Example], config: RunConfig, layers: Sequence[int]) -> dict[str, Any]:
    """Step 3 as a run does it, with targets that are not known yet."""
    from workbench.rahf.patterns import Patterns

    return fitted(loaded, Patterns(loaded, examples, config, layers), config)


def fitted(loaded: LoadedModel, patterns: Patterns, config: RunConfig) -> dict[str, Any]:
    """One pass over the examples: see ``workbench.rahf.align.fit``. The adapter is thrown away."""
    from dataclasses import replace

    from workbench.rahf.adapters import activate
    from workbench.rahf.align import ALIGNED, fit

    config = replace(config, align_steps=len(patterns.examples) // config.align_batch)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return fit(loaded, patterns, ALPHA, config, Path(folder), QUIET)
        finally:
            activate(loaded, config.instructed_adapters[:1])  # peft would choose one itself, and say so
            loaded.model.delete_adapter(ALIGNED)


class Floor:
    """Five passes through the target blocks' depth over batches sorted by length, nothing kept: the three targets', and
    of the backward pass that it costs a forward one (the weights are frozen)."""

    def __init__(self, loaded: LoadedModel, examples: Sequence[Example], depth: int) -> None:
        from workbench.models import Trunk
        from workbench.rahf.adapters import activate

        self.loaded, self.examples = loaded, examples
        activate(loaded, [])
        self.trunk = Trunk(loaded.model.get_base_model(), depth)

    def __call__(self) -> None:
        from workbench.rahf.adapters import activate

        activate(self.loaded, [])
        for side, times in (("bare", 3), ("plus", 1), ("minus", 1)):
            for _ in range(times):
                self.once([getattr(example, side) for example in self.examples])

    def once(self, items: Sequence[Encoded]) -> None:
        import torch

        from workbench.tokens import by_length, collate

        with torch.inference_mode():
            for rows in by_length(items, 2048):
                batch = collate([items[row] for row in rows], self.loaded.boundary.pad_id, self.loaded.device)
                self.trunk(batch.input_ids, batch.attention_mask, batch.position_ids)


class Naive:
    """The plain way: whole models side by side, an adapter on one of them, and four full passes over padded batches."""

    def __init__(self, config: RunConfig, layers: Sequence[int]) -> None:
        import torch

        from workbench.rahf.adapters import activate, add_adapter

        self.layers = list(layers)
        self.lead = INSTRUCTION if config.method == "scit" else 0
        self.instructed = []
        for adapter in config.instructed_adapters:
            one = prepared(llama(BLOCKS, WIDTH), config)
            self.instructed.append(one.model.merge_and_unload(adapter_names=[adapter]))
        self.aligned = llama(BLOCKS, WIDTH)
        add_adapter(self.aligned, "aligned", config, max(layers) + 1, config.seed + 1)
        activate(self.aligned, ["aligned"], train="aligned")
        trained = [parameter for parameter in self.aligned.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-9)
        self.weight_bytes = weight_bytes([*self.instructed, self.aligned.model])

    def step(self, examples: Sequence[Example]) -> float:
        """One optimiser step over these examples; returns the loss."""
        import torch

        first, last = self.instructed[0], self.instructed[-1]
        model = self.aligned.model
        with torch.no_grad():
            plus = self.states(first, [example.plus for example in examples], PROMPT + self.lead)
            minus = self.states(last, [example.minus for example in examples], PROMPT + self.lead)
            with model.disable_adapter():
                bare = self.states(model, [example.bare for example in examples], PROMPT)
        states = self.states(model, [example.bare for example in examples], PROMPT)
        mask = self.response_mask(examples)
        distances = [
            torch.linalg.vector_norm((h - (h0 + ALPHA * (p - m))).float()[mask], dim=-1)
            for h, h0, p, m in zip(states, bare, plus, minus, strict=True)
        ]
        loss = torch.stack(distances).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    def states(self, model: Any, items: Sequence[Encoded], width: int) -> list[torch.Tensor]:
        """The states that predict the response at the target blocks, [B, RESPONSE, d] each."""
        batch = fixed(items, width, RESPONSE, self.aligned.device)
        output = model(**batch, output_hidden_states=True, use_cache=False)
        return [output.hidden_states[layer + 1][:, width - 1 : -1] for layer in self.layers]

    def response_mask(self, examples: Sequence[Example]) -> torch.Tensor:
        import torch

        counts = torch.tensor([len(example.bare.ids) - example.bare.start for example in examples])
        return (torch.arange(RESPONSE)[None] < counts[:, None]).to(self.aligned.device)


def weight_bytes(models: Sequence[Any]) -> int:
    """What these models' base weights take."""
    return sum(
        p.numel() * p.element_size() for model in models for n, p in model.named_parameters() if "lora_" not in n
    )
