"""Whether a model can be worked with, found by trying it on a few tokens: no list of families would stay complete.

What is needed: states that depend on earlier tokens only and not on padding, one of hidden_size a token after every
block, and a cache from which an answer is continued. Attention gives all of it; of the recurrent families, those do
that keep attention in some blocks.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import UserError

READ = 6  # tokens of the trial
PADS = 2
ALLOWED = {torch.float32: 5e-3, torch.float64: 5e-3}  # relative difference of equal states; other types round more
ROUNDED = 0.2


@torch.no_grad()
def check_decoder(model: nn.Module, blocks: list[nn.Module], width: int, name: str) -> None:
    """Raise UserError, in a sentence that says why, for a model that the workbench would get wrong.

    ``width`` is the size of its states. Three passes over at most three rows of six tokens; leaves nothing behind.
    """
    was_training = model.training
    model.eval()
    try:
        why = _reads(model, blocks, width) or _goes_on(model)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, AssertionError) as error:
        why = f"could not read a few tokens ({' '.join(str(error).split())[:120]})"
    finally:
        model.train(was_training)
    if why:
        raise UserError(f"{name} ({type(model).__name__}) {why}: choose a causal language model with attention.")


def _reads(model: nn.Module, blocks: list[nn.Module], width: int) -> str | None:
    """What is wrong with the states: rows of the same tokens, with others after them, and with padding before them."""
    ids = _tokens(model)
    other = torch.cat([ids[: READ - PADS], ids[-PADS:].flip(0) + 1])
    padded = torch.cat([ids[:1].expand(PADS), ids[: READ - PADS]])
    mask = torch.ones(3, READ, dtype=torch.long, device=ids.device)
    mask[2, :PADS] = 0
    states: list[Any] = [None] * len(blocks)

    def keep(index: int):
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            states[index] = output[0] if isinstance(output, (tuple, list)) else output

        return hook

    hooks = [block.register_forward_hook(keep(index)) for index, block in enumerate(blocks)]
    try:
        _call(model, torch.stack([ids, other, padded]), mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if any(not isinstance(state, Tensor) or state.shape != (3, READ, width) for state in states):
        return f"hands on something else than one state of {width} numbers a token from block to block"
    last, kept = states[-1], READ - PADS
    if _differ(last[1, :kept], last[0, :kept]):
        return "reads text in both directions"
    if _differ(last[2, PADS:], last[0, :kept]):
        return "takes padding for text, so that an answer would depend on what is beside it"
    return None


def _goes_on(model: nn.Module) -> str | None:
    """What is wrong with the cache: the last token's logits in one pass, and in a second pass after the others."""
    ids = _tokens(model)[None]
    mask = torch.ones_like(ids)
    whole = _call(model, ids, mask, use_cache=False).logits[:, -1]
    why = "keeps no cache from which an answer could be continued"
    try:
        cache = _call(model, ids[:, :-1], mask[:, :-1], use_cache=True).past_key_values
        if cache is None:
            return why
        after = _call(model, ids[:, -1:], mask, use_cache=True, past_key_values=cache, first=READ - 1).logits[:, -1]
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
        return why
    return why if _differ(after, whole) else None


def _tokens(model: nn.Module) -> Tensor:
    table = model.get_input_embeddings().weight
    return (torch.arange(READ, device=table.device) * 7 + 11) % max(1, table.shape[0] - 1)


def _call(model: nn.Module, ids: Tensor, mask: Tensor, first: int = 0, **more: Any) -> Any:
    inputs = {"input_ids": ids, "attention_mask": mask, **more}
    if "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, first:]
    return model(**inputs)


def _differ(one: Tensor, other: Tensor) -> bool:
    """Whether two lists of states differ by more than rounding, in the median (a router of experts may tip over)."""
    gap = (one - other).float().norm(dim=-1) / other.float().norm(dim=-1).clamp(min=1e-20)
    return not float(gap.median()) <= ALLOWED.get(one.dtype, ROUNDED)
