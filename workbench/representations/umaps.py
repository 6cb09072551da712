"""UMAPs of the states: pictures that keep neighbours together. Slow, seeded, and one at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.progress import QUIET, Progress
from workbench.representations.projection import centred_states, principal_directions

if TYPE_CHECKING:
    from workbench.representations.capture import Activations

_ALIGNED_EPOCHS = 80  # 200 take three times as long; neighbourhoods are kept as well to one in a hundred
_UMAP_LOCK = threading.Lock()  # numba's compiled code behind UMAP must not run in two threads


def umap_layer(
    acts: Activations, layer: int, seed: int = 0, *, neighbors: int = 15, min_dist: float = 0.1
) -> np.ndarray:
    """A UMAP of one block's states from their first 50 principal components: float32 [2N, 2], the same for the same
    seed. Takes seconds; callers keep the result. One runs at a time, whoever asks."""
    reduced = _reduced(acts, layer, seed)
    neighbors = max(2, min(neighbors, len(reduced) - 1))
    with _UMAP_LOCK:
        import umap

        settings = {"n_neighbors": neighbors, "min_dist": min_dist, "random_state": seed, "n_jobs": 1}
        init = "spectral" if len(reduced) > 20 else "random"  # the spectral start needs more points than eigenvectors
        return umap.UMAP(n_components=2, init=init, **settings).fit_transform(reduced).astype(np.float32)


def umap_aligned(
    acts: Activations,
    layers: Sequence[int] | None = None,
    seed: int = 0,
    progress: Progress = QUIET,
    *,
    neighbors: int = 15,
    min_dist: float = 0.1,
) -> np.ndarray:
    """UMAPs of several blocks that agree with each other: float32 [L, 2N, 2], for ``layers`` in their order (None: all).

    Neighbouring blocks' embeddings are optimised together so that a point stays near where it was (AlignedUMAP). The
    blocks join one after another, and ``progress`` hears of each: fitting all at once takes four times as long, says
    nothing meanwhile, and gives pictures that agree no better.
    """
    layers = list(range(acts.n_layers)) if layers is None else list(layers)
    data = [_reduced(acts, layer, seed) for layer in layers]
    progress("umap", 0, len(layers))
    if len(layers) == 1:
        return umap_layer(acts, layers[0], seed, neighbors=neighbors, min_dist=min_dist)[None]
    same = {k: k for k in range(len(data[0]))}
    with _UMAP_LOCK:
        import umap

        few = max(2, min(neighbors, len(data[0]) - 1))
        mapper = umap.AlignedUMAP(n_neighbors=few, min_dist=min_dist, random_state=seed, n_epochs=_ALIGNED_EPOCHS)
        mapper.fit(data[:2], relations=[same])
        for done, block in enumerate(data[2:], start=2):
            progress("umap", done, len(layers))
            mapper.update(block, relations=same)
    progress("umap", len(layers), len(layers))
    return np.stack(mapper.embeddings_).astype(np.float32)


def _reduced(acts: Activations, layer: int, seed: int) -> np.ndarray:
    """A block's states as their first 50 principal components in units of the block's spread, [2N, at most 50]."""
    states, _, spread = centred_states(acts, layer)
    return (states @ principal_directions(states, 50, seed)).numpy() / spread
