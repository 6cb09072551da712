"""How likely a model finds completions: per-token log-probabilities under whatever adapters are active."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.cache import keeps_all, rows_of
from workbench.models import LoadedModel
from workbench.tokens import Encoded, by_length, collate

Couple = tuple[Encoded, Encoded]  # two completions of the same prompt
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
    return _logps(logits, targets) * mask, mask


def _logps(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax of logits [B, K, V] at the targets [B, K], float32. In rows: along another axis than the last it takes
    four times as long."""
    flat = logits.flatten(0, 1).float()
    return -nn.functional.cross_entropy(flat, targets.flatten(), reduction="none").view(targets.shape)


def mean_logps(model: nn.Module, batch: Sequence[Encoded], pad_id: int, device) -> Tensor:
    """s = the mean of log pi over the completion's tokens (rahf.md, step 1), float32 [B]; padding never counts."""
    logps, mask = token_logps(model, batch, pad_id, device)
    return logps.sum(1) / mask.sum(1).clamp(min=1)


def _in_batches(items: Sequence[Encoded], score: Callable[[list[int]], Tensor]) -> Tensor:
    batches = by_length(items)
    found = torch.cat([score(rows) for rows in batches])
    places = torch.tensor([row for rows in batches for row in rows], device=found.device)
    return found[places.argsort()]


def couple_logps(model: nn.Module, couples: Sequence[Couple], pad_id: int, device) -> Tensor:
    """:func:`mean_logps` of both completions of a prompt, [B, 2], where the prompt is read once: its keys and values
    serve both, and gradients reach them from both. Completions of about one length are read together, so that none is
    padded far. Only where :func:`prompts_serve_both`."""
    asked = [Encoded(first.ids[: first.start - 1], first.start - 1) for first, _ in couples]
    answers = [Encoded(item.ids[item.start - 1 :], 1) for couple in couples for item in couple]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes = inspect.signature(base.forward).parameters

    def read(ids: Tensor, mask: Tensor, positions: Tensor, **more: Any) -> Any:
        if "position_ids" in takes:
            more["position_ids"] = positions
        return model(input_ids=ids, attention_mask=mask, use_cache=True, **more)

    before = collate(asked, pad_id, device, side="left")
    few = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    cache = read(before.input_ids, before.attention_mask, before.position_ids, **few).past_key_values

    def read_on(rows: list[int]) -> Tensor:
        after = collate([answers[row] for row in rows], pad_id, device)
        owners = torch.tensor([row // 2 for row in rows], device=device)
        seen = before.attention_mask[owners]
        mask, positions = torch.cat([seen, after.attention_mask], 1), seen.sum(1, keepdim=True) + after.position_ids
        logits = read(after.input_ids, mask, positions, past_key_values=rows_of(cache, owners)).logits[:, :-1]
        own = after.completion_mask[:, 1:]
        return (_logps(logits, after.input_ids[:, 1:]) * own).sum(1) / own.sum(1).clamp(min=1)

    return _in_batches(answers, read_on).view(-1, 2)


def prompts_serve_both(loaded: LoadedModel) -> bool:
    """Whether :func:`couple_logps` gives what reading every sequence whole gives, and its gradients: tried on two short
    prompts. Not where a cache forgets (windows, recurrent states), which short prompts would not show, nor where blocks
    are computed again for their gradients and keep nothing. Leaves the model in evaluation mode."""
    if any(getattr(module, "gradient_checkpointing", False) for module in loaded.model.modules()):
        return False
    model, pad_id, device = loaded.model.eval(), loaded.boundary.pad_id, loaded.device
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(int(model.config.get_text_config(decoder=True).vocab_size), (128,), generator=draw).tolist()
    couples = [
        tuple(Encoded(ids[first : first + 9] + ids[end - size : end], 9) for size, end in ((3, 40), (90, 128)))
        for first in (0, 4)
    ]  # one answer so much longer than the other that they are read apart
    couples[1] = tuple(Encoded(item.ids[5:], 4) for item in couples[1])  # another length: the padding is tried too
    trained = [weight for weight in model.parameters() if weight.requires_grad][:8]
    try:
        with torch.no_grad():
            one = torch.tensor([couples[0][0].ids], device=device)
            if not keeps_all(model(input_ids=one, use_cache=True).past_key_values):
                return False
        together = couple_logps(model, couples, pad_id, device)
        apart = mean_logps(model, [item for couple in couples for item in couple], pad_id, device).view(-1, 2)
        slopes = [_slopes(scores, trained) for scores in (together, apart)]
    except torch.OutOfMemoryError:
        raise
    except Exception:  # what caches of some families cannot do comes as errors of many kinds
        return False
    near = 1e-3 if loaded.dtype == torch.float32 else 0.05
    return all(
        float((found - usual).detach().norm()) <= near * max(1e-2, float(usual.detach().norm()))
        for found, usual in zip((together, *slopes[0]), (apart, *slopes[1]), strict=True)
    )


def _slopes(scores: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(scores.sum(), weights, allow_unused=True, materialize_grads=True)


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
