"""Which adapters, or which full fine-tuning, act in a model: for a while, on whole batches or on rows of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby

import torch
from torch import nn

from workbench.models import LoadedModel

BASE = "__base__"  # the name under which the model without adapters answers


def adapted(model: nn.Module) -> list[nn.Module]:
    """The layers of a model that have adapters."""
    if "lora_A" in model._modules:  # the matrices within are not gone through: this is asked at every token
        return [model, *adapted(model.base_layer)]
    return [layer for child in model.children() for layer in adapted(child)]


@contextmanager
def acting(loaded: LoadedModel, names: set[str], layers: Sequence[nn.Module] | None = None) -> Iterator[None]:
    """These adapters, or this full fine-tuning (none: the bare base), for as long as the context lasts; then what was
    before, also if that was disabled adapters (peft's own context would leave them enabled). Costs nothing where they
    act already. ``layers`` saves looking for them again (see :func:`adapted`)."""
    full = {name for name in names if loaded.tuned is not None and name in loaded.tuned}
    with (
        loaded.tuned.using(next(iter(full), None)) if loaded.tuned else nullcontext(),
        _adapting(adapted(loaded.model) if layers is None else layers, names - full),
    ):
        yield


@contextmanager
def _adapting(layers: Sequence[nn.Module], names: set[str]) -> Iterator[None]:
    _need(layers, names)
    before = (set() if layers[0].disable_adapters else set(layers[0].active_adapters)) if layers else names
    if before == names:
        yield
        return
    active = list(layers[0].active_adapters)
    try:
        for layer in layers:
            layer.enable_adapters(bool(names))
            if names:
                layer.set_adapter(sorted(names), inference_mode=True)
        yield
    finally:
        for layer in layers:
            layer.set_adapter(active, inference_mode=True)
            layer.enable_adapters(bool(before))


def _need(layers: Sequence[nn.Module], names: set[str]) -> None:
    if missing := names.difference(*(layer.lora_A for layer in layers)):
        raise KeyError(f"no adapter {sorted(missing)} in the model")  # the base would answer in its place


@contextmanager
def on_own_rows(layers: Sequence[nn.Module], adapters: Sequence[str]) -> Iterator[None]:
    """While no adapter acts (see :func:`acting`), each acts on the rows of a batch that are named after it alone, ``BASE``
    on none.

    What an adapter adds is computed from its own rows and added to theirs in place. (peft's own mixed batches take such
    rows out and put them back in every layer, which took longer than the layers themselves.) Only where
    :func:`rows_stay_apart`, without gradients.
    """
    _need(layers, set(adapters) - {BASE})
    runs = []  # (adapter, its rows one after the other)
    for name, places in groupby(range(len(adapters)), key=lambda row: adapters[row]):
        first, *others = places
        if name != BASE:
            runs.append((name, slice(first, first + 1 + len(others))))

    def add(layer, args, output):
        for name, rows in runs:
            if name in layer.lora_A:
                inner, outer = layer.lora_A[name], layer.lora_B[name]
                added = outer(inner(args[0][rows].to(inner.weight.dtype)))
                output[rows].add_(added.to(output.dtype), alpha=layer.scaling[name])

    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def rows_stay_apart(loaded: LoadedModel) -> bool:
    """Whether every layer with an adapter gets its input as [rows, positions, width]: watched in a pass of two rows of
    three tokens, since OPT and several mixtures of experts make one axis of the first two. (And whether all adapters are
    plain: what others add depends on more than their input.)"""
    shaped = []

    def watch(module, args, output):
        shaped.append(bool(args) and args[0].dim() == 3 and args[0].shape[:2] == (2, 3))

    hooks = [module.register_forward_hook(watch) for module in adapted(loaded.model)]
    ids = torch.zeros(2, 3, dtype=torch.long, device=loaded.device)
    try:
        with torch.inference_mode():
            loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return all(shaped) and not any(layer.lora_variant for layer in adapted(loaded.model))
