"""What the benches work on: random Llamas of a stated size, and token ids with the lengths of real pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from workbench.models import LoadedModel
    from workbench.tokens import Encoded

VOCABULARY = 32_000
INSTRUCTION = 80  # tokens of p+ and of p-


def llama(blocks: int, width: int, seed: int = 0) -> LoadedModel:
    """A random Llama with heads of 64 and a head of its own, on the GPU in bfloat16 if there is one. (Its tokenizer is
    the demo's and only lends its padding.)"""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from workbench.models import DEMO_MODEL, pick_device, pick_dtype, wrap_model

    device = pick_device("auto")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=round(width * 8 / 3 / 32) * 32,
        num_hidden_layers=blocks,
        num_attention_heads=width // 64,
        max_position_embeddings=2048,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(device, pick_dtype("auto", device)).eval()
    loaded = wrap_model(model, AutoTokenizer.from_pretrained(DEMO_MODEL), f"Llama {blocks} x {width}")
    loaded.context = config.max_position_embeddings  # not the tokenizer's
    return loaded


def feedback_lengths(count: int, seed: int = 0) -> list[tuple[int, int]]:
    """(prompt, response) tokens as in UltraFeedback: log-normal, medians 100 (at most 256) and 250 (at most 512)."""
    rng = np.random.default_rng(seed)
    prompts = np.exp(rng.normal(np.log(100), 0.8, count)).clip(16, 256)
    responses = np.exp(rng.normal(np.log(250), 0.7, count)).clip(16, 512)
    return [(int(prompt), int(response)) for prompt, response in zip(prompts, responses, strict=True)]


def sequences(lengths: list[tuple[int, int]], lead: int = 0, seed: int = 0) -> list[Encoded]:
    """Random ids of these (prompt, response) lengths. ``lead`` tokens, the same ones everywhere, stand before the rest,
    which does not depend on them."""
    from workbench.tokens import Encoded

    first = np.random.default_rng(10_000 + lead + seed).integers(8, VOCABULARY, lead).tolist()
    rng = np.random.default_rng(seed)
    return [
        Encoded(first + rng.integers(8, VOCABULARY, prompt + response).tolist(), lead + prompt)
        for prompt, response in lengths
    ]


def fixed(items: Sequence[Encoded], prompt: int, response: int, device: Any) -> dict[str, torch.Tensor]:
    """Inputs of one width, however short the sequences: prompts padded on the left to ``prompt`` tokens and responses on
    the right to ``response``, so that responses begin in one column."""
    import torch

    ids = torch.zeros(len(items), prompt + response, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, item in enumerate(items):
        span = slice(prompt - item.start, prompt - item.start + len(item.ids))
        ids[row, span] = torch.tensor(item.ids)
        mask[row, span] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    named = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return {name: tensor.to(device) for name, tensor in named.items()}


class GivenIds:
    """In the place of a model's boundary: texts are names of sequences whose ids are given, by (text, instruction), and
    no answer ends."""

    pad_id, eos_ids, end_ids = 0, frozenset(), ()

    def __init__(self, given: Mapping[tuple[str, str | None], Encoded]) -> None:
        self.given = given

    def encode(self, prompt: Any, completion: str, instruction: str | None = None, limits: Any = None) -> Encoded:
        """The sequence that the completion names; it was drawn within the limits."""
        return self.given[completion, instruction]

    def prompt_ids(self, prompt: str, instruction: str | None = None, limit: int = 0) -> list[int]:
        """The ids of the sequence that the prompt names."""
        return self.given[prompt, instruction].ids

    def decode(self, ids: Sequence[int]) -> str:
        """The ids, in words."""
        return " ".join(map(str, ids))


def lively(model: Any, adapter: str, seed: int = 0) -> None:
    """Give an adapter, which a new one is not, an effect: as large as training makes it, drawn at random."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if f"lora_B.{adapter}." in name:
            drawn = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.data.copy_(drawn)


def peak_bytes(work: Callable[[], Any]) -> int | None:
    """The most memory that ``work`` takes beyond what stands in memory before; None where that cannot be told."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    try:
        _give_back()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        before = _resident("VmRSS")
        work()
        return _resident("VmHWM") - before
    except (OSError, StopIteration):  # not Linux
        return None


def _give_back() -> None:
    """Freed memory that the allocator holds back would be used again unseen."""
    import contextlib
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _resident(field: str) -> int:
    with open("/proc/self/status") as lines:
        return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024
