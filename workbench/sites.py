"""Inside a block: which module's output is what attention adds to the residual stream, and which is what the MLP adds.

Decided by arithmetic and not by names. In a probe of a few tokens, a block's output is its input plus two outputs of
modules within it (whatever factors the family puts before them); those two are looked for among all modules of the
block. The one that lies in a part which mixes positions is the attention, the other the MLP. So the output of a norm
after the attention counts where a family has one (it is that which is added), a mixture of experts counts as a whole,
and a block whose parts run side by side is no exception. A state-space mixer (Mamba) mixes positions: it is found as
the attention; such blocks have no MLP.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import UserError
from workbench.models import Trunk, find_blocks

SITES = {
    "block": "what a block hands on: the residual stream after it",
    "attention": "what a block's attention (or state-space mixer) adds to the residual stream",
    "mlp": "what a block's MLP (or its experts together) adds to the residual stream",
}
_PROBE = 8  # tokens
_EXACT = {torch.float32: 1e-3, torch.float64: 1e-3}  # the largest relative error of the sum; other types round more
_ROUNDED = 0.1


@dataclass
class _Call:
    """One module's call in the probe: its path in the block, what it took, and its output as [T, d]."""

    path: str
    args: tuple
    named: dict[str, Any]
    output: Tensor | None


def check_site(site: str) -> None:
    """Raise UserError for a site that there is not."""
    if site not in SITES:
        raise UserError(f"There is no site {site!r}: choose one of {', '.join(SITES)}.")


@torch.no_grad()
def site_modules(model: nn.Module, site: str, depth: int | None = None) -> list[nn.Module]:
    """One module per block (of the first ``depth``) whose output is the site's: the block itself, or a part of it.

    Raises UserError for an unknown site, and where a block has no such part or its structure does not tell.
    """
    check_site(site)
    blocks = list(find_blocks(model)[2])[:depth]
    if site == "block":
        return blocks
    was_training = model.training
    model.eval()
    try:
        calls = _block_calls(model, blocks)
        found, hint = [], None
        for block, (args, named) in zip(blocks, calls, strict=True):
            parts = _parts(block, args, named, hint)
            hint = parts or hint
            if parts is None:
                raise UserError(_sentence(model, site, "could not be told from its structure"))
            if site not in parts:
                raise UserError(_sentence(model, site, "do not exist in every block"))
            found.append(block.get_submodule(parts[site]))
    finally:
        model.train(was_training)
    return found


def _sentence(model: nn.Module, site: str, what: str) -> str:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    name = "attention" if site == "attention" else "MLP"
    return f"The {name} outputs of a {type(base).__name__} {what}: choose the site block."


def _block_calls(model: nn.Module, blocks: list[nn.Module]) -> list[tuple[tuple, dict[str, Any]]]:
    """What every block is called with in a pass of a few tokens."""
    trunk = Trunk(model, len(blocks))
    seen: dict[int, tuple[tuple, dict[str, Any]]] = {}

    def keep(index: int):
        def hook(module: nn.Module, args: tuple, named: dict[str, Any]) -> None:
            seen[index] = (_copies(args), {name: _copies(value) for name, value in named.items()})

        return hook

    hooks = [block.register_forward_pre_hook(keep(k), with_kwargs=True) for k, block in enumerate(blocks)]
    try:
        device = next(model.parameters()).device
        vocabulary = model.get_input_embeddings().weight.shape[0]
        ids = (torch.arange(_PROBE, device=device)[None] * 7 + 11) % vocabulary
        trunk(ids, torch.ones_like(ids))
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[k] for k in range(len(blocks))]


def _copies(value: Any) -> Any:
    """Tensors copied (some blocks add in place), everything else as it is."""
    if isinstance(value, Tensor):
        return value.clone()
    return tuple(_copies(item) for item in value) if type(value) is tuple else value


def _parts(block: nn.Module, args: tuple, named: dict, hint: dict[str, str] | None) -> dict[str, str] | None:
    """The paths of the attention and the MLP in one block, as {site: path}; None where no sum fits.

    ``hint`` is what another block had: tried first, because most models repeat one block.
    """
    start = _hidden(args, named)
    end, calls = _watch(block, args, named, start.shape)
    allowed = _EXACT.get(start.dtype, _ROUNDED)
    once = {call.path: call for call in calls if call.output is not None}
    if hint and all(path in once for path in hint.values()):
        chosen = tuple(once[path] for path in hint.values())
        if _sum(start, end, chosen).error < allowed:
            return dict(hint)
    candidates = [call for call in once.values() if float(call.output.norm()) > 0]
    for count in (1, 2):  # one part is enough for a block that only mixes; more parts always fit at least as well
        sums = [_sum(start, end, parts) for parts in itertools.combinations(candidates, count)]
        fitting = [found for found in sums if found.error < allowed and found.keeps_input]
        if fitting:
            best = min(found.error for found in fitting)
            close = [found for found in fitting if found.error <= max(2 * best, allowed / 100)]
            return _named(block, args, named, min(close, key=lambda found: found.oddity).parts, calls)
    return None


def _hidden(args: tuple, named: dict) -> Tensor:
    if args and isinstance(args[0], Tensor):
        return args[0]
    return next((named[name] for name in ("hidden_states", "x") if name in named), None) if named else None


def _watch(block: nn.Module, args: tuple, named: dict, shape: torch.Size) -> tuple[Tensor, list[_Call]]:
    """The block's output and the calls of all modules in it, outermost first, those called once and not more."""
    calls: dict[str, list[_Call]] = {}

    def keep(path: str):
        def hook(module: nn.Module, taken: tuple, taken_named: dict, output: Any) -> None:
            out = output[0] if isinstance(output, (tuple, list)) else output
            fits = isinstance(out, Tensor) and out.shape[-1] == shape[-1] and out.numel() == shape.numel()
            kept = out.detach().reshape(-1, shape[-1]).float().clone() if fits else None
            inputs = _copies(taken), {name: _copies(value) for name, value in taken_named.items()}
            calls.setdefault(path, []).append(_Call(path, *inputs, kept))

        return hook

    hooks = [
        module.register_forward_hook(keep(path), with_kwargs=True) for path, module in block.named_modules() if path
    ]
    try:
        output = block(*_copies(args), **{name: _copies(value) for name, value in named.items()})
    finally:
        for hook in hooks:
            hook.remove()
    output = output[0] if isinstance(output, (tuple, list)) else output
    order = [path for path, _ in block.named_modules() if path in calls]
    once = [calls[path][0] for path in sorted(order, key=lambda path: path.count(".")) if len(calls[path]) == 1]
    return output.reshape(-1, shape[-1]).float(), once


@dataclass
class _Sum:
    """A weighted sum of a block's input and some parts' outputs; ``error``: the median over tokens of the size of what
    it misses, in units of what the block adds."""

    parts: tuple[_Call, ...]
    weights: list[float]
    error: float

    @property
    def keeps_input(self) -> bool:
        """Whether the block's input is in it: a part that adds the input itself is no part that is added."""
        return abs(self.weights[0]) > 0.05

    @property
    def oddity(self) -> tuple[float, int]:
        """How far the weights are from 1, then how deep the parts lie: the plainest of equal sums is meant."""
        return round(sum(abs(math.log(max(abs(w), 1e-9))) for w in self.weights), 2), sum(
            call.path.count(".") for call in self.parts
        )


def _sum(start: Tensor, end: Tensor, parts: tuple[_Call, ...]) -> _Sum:
    """The best weights for these parts, and how well they do."""
    columns = [start.reshape(end.shape).float(), *(part.output for part in parts)]
    scale = (end - columns[0]).norm(dim=1, keepdim=True).clamp(min=1e-20)  # so that no single token decides
    table = torch.stack([(column / scale).flatten() for column in columns], dim=1).double().cpu()
    wanted = (end / scale).flatten().double().cpu()
    weights = torch.linalg.lstsq(table, wanted[:, None], driver="gelsd").solution[:, 0]
    rest = (wanted - table @ weights).reshape(end.shape)
    return _Sum(parts, weights.tolist(), float(rest.norm(dim=1).median()))


def _named(
    block: nn.Module, args: tuple, named: dict, chosen: tuple[_Call, ...], calls: list[_Call]
) -> dict[str, str] | None:
    """Which of the parts is the attention: the one that lies in what mixes positions, or comes of it alone (a norm or
    dropout after it): when all that mixes is silenced, it is the same at every token."""
    mixers = [path for path, _ in block.named_children() if _mixes(block, path, calls)]
    mixing = [call for call in chosen if call.path.split(".")[0] in mixers]
    if not mixing:
        silent = {call.path: call.output for call in _silenced(block, args, named, mixers)}
        mixing = [
            call
            for call in chosen
            if (output := silent.get(call.path)) is not None
            and float((output - output[:1]).norm()) <= 1e-4 * float(call.output.norm())
        ]
    if len(mixing) != 1:
        return None
    rest = [call for call in chosen if call is not mixing[0]]
    return {"attention": mixing[0].path, **({"mlp": rest[0].path} if rest else {})}


def _silenced(block: nn.Module, args: tuple, named: dict, mixers: list[str]) -> list[_Call]:
    """The calls in the block while these children put out zeros."""

    def silence(module: nn.Module, taken: tuple, output: Any) -> Any:
        if isinstance(output, tuple):
            return (torch.zeros_like(output[0]), *output[1:])
        return torch.zeros_like(output)

    hooks = [block.get_submodule(path).register_forward_hook(silence) for path in mixers]
    try:
        return _watch(block, args, named, _hidden(args, named).shape)[1]
    finally:
        for hook in hooks:
            hook.remove()


def _mixes(block: nn.Module, child: str, calls: list[_Call]) -> bool:
    """Whether a change of the first token changes what the child makes of the later ones."""
    call = next((call for call in calls if call.path == child), None)
    if call is None or not any(isinstance(value, Tensor) for value in (*call.args[:1], *call.named.values())):
        return False
    module = block.get_submodule(child)

    def later(change: float) -> Tensor:
        args, named = _copies(call.args), {name: _copies(value) for name, value in call.named.items()}
        hidden = _hidden(args, named)
        first = hidden.reshape(-1, hidden.shape[-1])  # a view: the change reaches what the module takes
        slope = torch.linspace(-1, 1, first.shape[1], device=first.device)
        first[0] += (change * first.float().std() * slope).to(first.dtype)
        output = module(*args, **named)
        output = output[0] if isinstance(output, (tuple, list)) else output
        return output.reshape(-1, output.shape[-1])[1:].float()

    plain = later(0.0)
    return bool((later(1.0) - plain).norm() > 1e-4 * plain.norm())
