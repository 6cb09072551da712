"""Keys and values of what was read, kept with room for the tokens to come.

transformers' own cache copies all keys and values into new memory at every token. Of what it keeps, the plain layers
(those that keep everything) are held here in memory with room behind them, where the next token's are written. Layers of
any other kind (a window, a recurrent state) stay what the model made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

ROOM = 128  # positions; the most that are held in vain
MOST_BYTES = 8e9  # of keys and values of answers that are written together, unless one alone takes more


def bytes_a_token(cache: Any) -> float:
    """What a model's cache of one row keeps of each token that it has read: the keys and values of all layers that have
    such."""
    layers = [layer for layer in getattr(cache, "layers", ()) if isinstance(getattr(layer, "keys", None), Tensor)]
    kept = [states for layer in layers for states in (layer.keys, layer.values)]
    return sum(states.nbytes / max(1, states.shape[-2]) for states in kept)


def rows_together(most: int, tokens: float, a_token: float) -> int:
    """How many answers are written together: ``most``, or fewer where sequences of so many ``tokens``, ``a_token`` bytes
    of keys and values each, would take more than ``MOST_BYTES``; at least one."""
    return max(1, min(most, int(MOST_BYTES / (max(1.0, tokens) * max(1.0, a_token)))))


class RoomyLayer(DynamicLayer):
    """The plain layer, appended to in place: ``keys`` and ``values`` [rows, heads, positions, width] are views of the
    first positions of what is held. Where that is full it is copied to memory with room for ``room`` positions more."""

    def __init__(self, keys: Tensor, values: Tensor, filled: int, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.held, self.room = (keys, values), room
        self._show(filled)

    def _show(self, filled: int) -> None:
        self.keys, self.values = (held[:, :, :filled] for held in self.held)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append, and return all keys and values."""
        before = self.keys.shape[-2]
        after = before + key_states.shape[-2]
        if after > self.held[0].shape[-2]:
            self.held = tuple(_longer(held, before, after + self.room - 1) for held in self.held)
        for held, new in zip(self.held, (key_states, value_states), strict=True):
            held[:, :, before:after] = new
        self._show(after)
        return self.keys, self.values


def _longer(held: Tensor, filled: int, length: int) -> Tensor:
    longer = held.new_empty(*held.shape[:2], length, held.shape[-1])
    longer[:, :, :filled] = held[:, :, :filled]
    return longer


def keeps_all(cache: Any) -> bool:
    """Whether every layer of a model's cache is a plain one."""
    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def rows_of(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """Another cache, of these rows [n] of one that keeps all and stays as it is; gradients reach that one."""
    chosen = copy(cache)
    chosen.layers = [copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows)
    return chosen


def with_room(cache: Any, room: int) -> Any:
    """A cache that a model made in its first pass, its plain layers (if it has any) with room to come."""
    for place, layer in enumerate(cache.layers if isinstance(cache, Cache) else ()):
        if type(layer) is DynamicLayer and layer.is_initialized:
            cache.layers[place] = RoomyLayer(layer.keys, layer.values, layer.keys.shape[-2], room)
    return cache


def joined(parts: Sequence[tuple[Sequence[int], DynamicCache]], room: int) -> DynamicCache:
    """One cache of the rows of several, each given with the numbers of its rows, padded on the left to the longest and
    with ``room``. Only for caches that keep all; they are used up."""
    first = parts[0][1]
    for place in range(len(first.layers)):
        layers = [(rows, cache.layers[place]) for rows, cache in parts]
        keys, values = (
            _together([(rows, getattr(layer, name)) for rows, layer in layers], room) for name in ("keys", "values")
        )
        for _, cache in parts:
            cache.layers[place] = None
        first.layers[place] = RoomyLayer(keys, values, keys.shape[-2] - room, room)
    return first


def _together(parts: Sequence[tuple[Sequence[int], Tensor]], room: int) -> Tensor:
    count, width = sum(len(rows) for rows, _ in parts), max(kept.shape[-2] for _, kept in parts)
    _, heads, _, size = parts[0][1].shape
    held = parts[0][1].new_empty(count, heads, width + room, size)
    for rows, kept in parts:
        padding = width - kept.shape[-2]
        held[rows, :, :padding] = 0  # masks hide it, but could not hide what is no number
        held[rows, :, padding:width] = kept
    return held
