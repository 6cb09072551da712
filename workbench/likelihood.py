"""How likely a model finds completions: per-token log-probabilities under whatever adapters are active."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from workbench.models import LoadedModel
from workbench.tokens import Encoded, by_length, collate

SCORED_TOKENS, SCORED_NUMBERS = 8192, 2**28  # at once, and of their logits


def completion_logits(model: nn.Module, batch: Sequence[Encoded], pad_id: int, device) -> tuple[Tensor, Tensor, Tensor]:
    """Logits for the completions' tokens only: ``(logits [B, K, V], targets [B, K], mask [B, K])``, K the longest one.

    Padding is on the left, so the predicting states are the last columns and the head runs over nothing else.
    """
    longest = max(len(item.ids) - item.start for item in batch)
    padded = collate(batch, pad_id, device, side="left")
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes = inspect.signature(base.forward).parameters
    inputs = {"input_ids": padded.input_ids, "attention_mask": padded.attention_mask, "use_cache": False}
    if "position_ids" in takes:
        inputs["position_ids"] = padded.position_ids
    if "logits_to_keep" in takes:
        inputs["logits_to_keep"] = longest + 1
    logits = model(**inputs).logits[:, -longest - 1 : -1]
    return logits, padded.input_ids[:, -longest:], padded.completion_mask[:, -longest:]


def token_logps(model: nn.Module, batch: Sequence[Encoded], pad_id: int, device) -> tuple[Tensor, Tensor]:
    """log pi(token | everything before it) of every completion token: ``([B, K] float32, mask [B, K])``; 0 off mask."""
    logits, targets, mask = completion_logits(model, batch, pad_id, device)
    logps = -nn.functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
    return logps * mask, mask


def mean_logps(model: nn.Module, batch: Sequence[Encoded], pad_id: int, device) -> Tensor:
    """s = the mean of log pi over the completion's tokens (rahf.md, step 1), float32 [B]; padding never counts."""
    logps, mask = token_logps(model, batch, pad_id, device)
    return logps.sum(1) / mask.sum(1).clamp(min=1)


def scored_tokens(vocabulary: int) -> int:
    """How many tokens are scored at once: every one may have logits over the whole vocabulary, in several copies."""
    return max(256, min(SCORED_TOKENS, SCORED_NUMBERS // vocabulary))


@torch.inference_mode()
def score_completions(
    loaded: LoadedModel, items: Sequence[Encoded], on_batch: Callable[[int], None] | None = None
) -> Tensor:
    """Mean log-probability of each completion under the active adapters, float32 [N] in the order given."""
    result = torch.empty(len(items))
    vocabulary = int(loaded.model.config.get_text_config(decoder=True).vocab_size)
    for done, rows in enumerate(by_length(items, scored_tokens(vocabulary))):
        scores = mean_logps(loaded.model, [items[i] for i in rows], loaded.boundary.pad_id, loaded.device)
        result[rows] = scores.cpu()
        if on_batch:
            on_batch(done)
    return result
