"""Capturing: pooled in the hook and batched by length, against the usual way (the whole model with all hidden states,
16 padded sequences at a time), and against the floor of bare passes over batches sorted by length with nothing read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.bench import Measure, interleaved
from workbench.bench.synthetic import llama, peak_bytes, sequences
from workbench.progress import Progress

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs import PreferencePairs
    from workbench.tokens import Encoded

PAIRS, SAMPLE = 256, {"cuda": 256, "cpu": 16}  # a CPU takes a part of them, of the same lengths
SHORTEST, LONGEST = 45, 340  # tokens of a sequence
TOGETHER, REPEATS = 16, 3


def run(name: str, progress: Progress, blocks: int, width: int) -> Measure:
    """Every block of a Llama of that size."""
    import torch

    from workbench.representations.capture import capture

    loaded = llama(blocks, width)
    count = SAMPLE.get(loaded.device.type, PAIRS)
    pairs, encoded = made(count)
    kept = {}

    def ours() -> None:
        kept["ours"] = capture(loaded, pairs, encoded=encoded)

    @torch.inference_mode()
    def naive() -> None:
        kept["naive"] = naively(loaded, encoded)

    seconds = interleaved(
        {"ours": ours, "floor": lambda: floor(loaded, encoded), "naive": naive}, REPEATS, progress, "bench"
    )
    pooled = np.concatenate([kept["ours"].chosen, kept["ours"].rejected], axis=1)[:-1]  # the naive last one is normed
    memory = {"ours": peak_bytes(ours), "floor": peak_bytes(lambda: floor(loaded, encoded)), "naive": peak_bytes(naive)}
    tokens = sum(len(item.ids) for item in encoded)
    return Measure(
        name=name,
        seconds=seconds["ours"],
        over_floor=seconds["ours"] / seconds["floor"],
        speedup_over_naive=seconds["naive"] / seconds["ours"],
        memory_over_naive=memory["ours"] / memory["naive"] if memory["naive"] else None,
        tokens_per_second=tokens / seconds["ours"],
        goals={"over_floor": 1.05, "speedup_over_naive": 2.0},
        details={
            "model": loaded.name,
            "pairs": count,
            "tokens": tokens,
            "bytes": memory | {"result": pooled.nbytes},
            "largest_difference": float(np.abs(pooled - kept["naive"][:-1]).max()),
        },
    )


def made(count: int, shortest: int = SHORTEST, longest: int = LONGEST) -> tuple[PreferencePairs, list[Encoded]]:
    """Pairs of these lengths: a third of a sequence is its prompt. The texts only number them."""
    from workbench.pairs import Pair, PreferencePairs

    lengths = np.random.default_rng(0).integers(shortest, longest + 1, 2 * count).tolist()
    encoded = sequences([(length // 3, length - length // 3) for length in lengths])
    texts = [Pair(n + 1, [], f"chosen {n}", f"rejected {n}") for n in range(count)]
    return PreferencePairs.from_pairs(texts), encoded


def floor(loaded: LoadedModel, encoded: Sequence[Encoded]) -> None:
    """The same batches through the bare blocks."""
    import torch

    from workbench.models import Trunk
    from workbench.tokens import by_length, collate

    trunk = Trunk(loaded.model, loaded.n_blocks)
    with torch.inference_mode():
        for rows in by_length(encoded):
            batch = collate([encoded[k] for k in rows], loaded.boundary.pad_id, loaded.device)
            trunk(batch.input_ids, batch.attention_mask, batch.position_ids)


def naively(loaded: LoadedModel, encoded: Sequence[Encoded]) -> np.ndarray:
    """The mean over every response's states, float32 [L, S, d], from all hidden states of padded batches."""
    import torch

    means = []
    for first in range(0, len(encoded), TOGETHER):
        some = encoded[first : first + TOGETHER]
        ids = torch.zeros(len(some), LONGEST, dtype=torch.long)
        mask, wanted = torch.zeros_like(ids), torch.zeros(len(some), LONGEST)
        for row, item in enumerate(some):
            ids[row, : len(item.ids)] = torch.tensor(item.ids)
            mask[row, : len(item.ids)] = 1
            wanted[row, item.start : len(item.ids)] = 1
        inputs = {"input_ids": ids.to(loaded.device), "attention_mask": mask.to(loaded.device)}
        hidden = torch.stack(loaded.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[1:])
        weights = (wanted / wanted.sum(1, keepdim=True)).to(loaded.device)
        means.append(torch.einsum("lbtd,bt->lbd", hidden.float(), weights).cpu())
    return torch.cat(means, dim=1).numpy()
