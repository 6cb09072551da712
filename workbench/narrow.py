"""Faster products of few rows with large matrices on a CPU: what writing answers token by token is made of.

For few rows the usual call (rows times the transposed weights) is far from what the memory and the cores could do. For one
to five rows the same product the other way round (weights times the transposed rows) reads the weights at nearly the
memory's speed; for more, oneDNN, which torch has on board and uses for other types, takes about two thirds of the time. It
is the same sum, added up in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

TURNED_ROWS = 5  # above, oneDNN is faster
MOST_ROWS = 192  # above, the usual call is about as fast


class Narrow(TorchFunctionMode):
    """Within this context ``linear`` goes a faster way where there is one: float32 on a CPU, few rows, no gradient. Only
    one pass of one token belongs into it: every other call of torch costs a little more here."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is functional.linear and not kwargs and (way := faster(args[0], args[1])):
            return way(*args)
        return func(*args, **(kwargs or {}))


def faster(rows: Tensor, weight: Tensor) -> Callable[..., Tensor] | None:
    """What computes ``linear(rows, weight)`` faster than the usual call, if anything does."""
    count = rows.numel() // max(1, rows.shape[-1])
    if (
        not 1 <= count <= MOST_ROWS
        or weight.dim() != 2
        or min(weight.shape) < 32  # the thin matrices of an adapter
        or not rows.dtype == weight.dtype == torch.float32
        or rows.device.type != "cpu"
        or torch.is_grad_enabled()
    ):
        return None
    return turned if count <= TURNED_ROWS else by_onednn if ONEDNN and weight.is_contiguous() else None


def by_onednn(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``linear(rows, weight, bias)``."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def turned(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``linear(rows, weight, bias)``, for rows [..., in] and weight [out, in]."""
    flat = rows.reshape(-1, rows.shape[-1])
    count = len(flat)
    if count == 1:
        flat = flat.expand(2, -1).contiguous()  # of one row the library would make a product that is slower than of two
    product = torch.mm(weight, flat.t())[:, :count].t().contiguous()
    if bias is not None:
        product += bias
    return product.view(*rows.shape[:-1], -1)


def _works() -> bool:
    """Whether this torch has the product of oneDNN, which is not among what it promises to keep."""
    rows, weight = torch.ones(2, 32), torch.ones(3, 32)
    try:
        return torch.equal(by_onednn(rows, weight), torch.full((2, 3), 32.0))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


ONEDNN = _works()
