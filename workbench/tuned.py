"""Whole sets of a model's weights that take turns in the one model: full fine-tunings beside an untouched base.

A set holds every parameter of the base: embeddings, blocks, norms and head (where weights are tied, the one that is
shared). Putting a set in place only points the parameters at other memory, so it costs nothing and works for every
family; adapters that wrap the model's layers meanwhile do not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightSets:
    """The base's weights and named sets beside them; one of all these is in place."""

    def __init__(self, model: nn.Module) -> None:
        """``model`` is the base, its weights in place as they were loaded; weights of adapters in it are passed over."""
        self._parameters = {
            name.replace(".base_layer.", "."): parameter
            for name, parameter in model.named_parameters()
            if ".lora_" not in name
        }
        self._base = {name: parameter.data for name, parameter in self._parameters.items()}
        self._sets: dict[str, dict[str, Tensor]] = {}
        self.active: str | None = None

    def __contains__(self, name: object) -> bool:
        return name in self._sets

    def add(self, name: str, dtype: torch.dtype | None = None) -> None:
        """A new set, equal to the base, in its precision or another one. One of that name is replaced."""
        self.use(None)
        self._sets[name] = {key: tensor.to(dtype or tensor.dtype, copy=True) for key, tensor in self._base.items()}

    def use(self, name: str | None) -> None:
        """Put a set in place (None: the base). Gradients of what was there are dropped."""
        if name == self.active:
            return
        tensors = self._base if name is None else self._sets[name]
        for key, parameter in self._parameters.items():
            parameter.grad = None
            parameter.data = tensors[key]
        self.active = name

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """The set in place for as long as the context lasts, then the one before."""
        before = self.active
        self.use(name)
        try:
            yield
        finally:
            self.use(before)

    def settle(self, name: str) -> None:
        """Round a set to the base's precision: what it was trained in is needed no more."""
        active = self.active
        self.use(None)
        self._sets[name] = {key: tensor.to(self._base[key].dtype) for key, tensor in self._sets[name].items()}
        self.use(active)

    def state(self, name: str) -> dict[str, Tensor]:
        """A set's tensors by the names that the base model gives them; not copies."""
        return dict(self._sets[name])

    @torch.no_grad()
    def fill(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Give a set these values, in its own precision. Raises ValueError for other names or shapes."""
        own = self._sets[name]
        if {key: tensor.shape for key, tensor in own.items()} != {key: t.shape for key, t in tensors.items()}:
            raise ValueError("the weights are those of another model")
        for key, tensor in tensors.items():
            own[key].copy_(tensor)
