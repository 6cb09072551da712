"""UMAPs of the states: pictures that keep neighbours together. Slow, seeded, and one at a time.

Each from the first 50 principal components. Blocks that are to be compared are embedded together (AlignedUMAP, see
McInnes et al.): one by one, or each begun where the block before ended, the same points lie elsewhere in every block.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError
from workbench.progress import QUIET, Progress
from workbench.representations.projection import centred_states, principal_directions, reduced

if TYPE_CHECKING:
    from workbench.representations.capture import Activations

_UMAP_LOCK = threading.Lock()  # numba's compiled code behind UMAP must not run in two threads
_EPOCHS = 100  # of the alignment; 200 take half as long again and neither neighbours nor agreement gain
_FEWEST = 24  # points; fewer are laid out by their first two components, since UMAP's start needs more


def umap_layer(
    acts: Activations, layer: int, seed: int = 0, *, neighbors: int = 15, min_dist: float = 0.1
) -> np.ndarray:
    """A UMAP of one block's states from their first 50 principal components: float32 [2N, 2], the same for the same
    seed. Takes seconds; callers keep the result. One runs at a time, whoever asks."""
    reduced = _reduced(acts, layer, seed)
    neighbors = max(2, min(neighbors, len(reduced) - 1))
    with _UMAP_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
) -> np.ndarray:
    """UMAPs of several blocks that agree with each other: float32 [L, 2N, 2], for ``layers`` in their order (None: all),
    the same for the same seed. All in one coordinate system, centred, with a root mean square distance of 1.

    The embeddings of neighbouring blocks are optimised together, so that a point stays near where it was. Takes about
    4 seconds a block for 1,200 points. Progress comes in the stage "umap" (a stop there ends it); one runs at a time.

    Raises UserError if there is no block to lay out.
    """
    layers = list(range(acts.n_layers)) if layers is None else list(layers)
    if not layers:
        raise UserError("There is no block to lay out: name at least one.")
    data = [_reduced(acts, layer, seed) for layer in layers]
    if len(data[0]) < _FEWEST:
        return _one_scale(np.stack([states[:, :2] for states in data]))
    if len(layers) == 1:
        progress("umap", 0, 1)
        return _one_scale(umap_layer(acts, layers[0], seed, neighbors=neighbors)[None])
    same = {k: k for k in range(len(data[0]))}
    relations = [dict(same) for _ in data[1:]]
    with _UMAP_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap

        mapper = umap.AlignedUMAP(n_neighbors=neighbors, min_dist=0.1, n_epochs=_EPOCHS, random_state=seed)
        mapper.transform_seed = seed  # what its common optimisation is seeded by
        with _watched(len(layers), progress):
            mapper.fit(data, relations=relations)
    return _one_scale(np.stack([np.asarray(embedding) for embedding in mapper.embeddings_]))


@contextmanager
def _watched(blocks: int, progress: Progress) -> Iterator[None]:
    """Report the loops within umap-learn, which it counts with tqdm: one for each block, then the common one. The steps
    of the common loop together count as much as those of all the others."""
    from umap import layouts

    bar = layouts.tqdm
    begun = [0]
    progress("umap", 0, 2 * blocks)

    def counted(items: Iterable[Any], *args: Any, **named: Any) -> Iterator[Any]:
        number, items = begun[0], list(items)
        begun[0] += 1
        for done, item in enumerate(items):
            yield item
            if number < blocks:
                continue
            step = blocks + (done + 1) * blocks // len(items)
            if step > blocks + done * blocks // len(items):
                progress("umap", min(step, 2 * blocks), 2 * blocks)
        if number < blocks:
            progress("umap", number + 1, 2 * blocks)

    layouts.tqdm = counted
    try:
        yield
    finally:
        layouts.tqdm = bar


def _one_scale(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [L, n, 2] around their common middle at one common scale; a point that UMAP could not connect to any
    other lies in the middle."""
    found = embeddings.astype(np.float64)
    found -= np.nanmean(found, axis=(0, 1)) if np.isfinite(found).any() else 0.0
    found = np.nan_to_num(found)
    size = np.sqrt(np.square(found).sum(2).mean())
    return (found / (size if size > 0 else 1.0)).astype(np.float32)


def _reduced(acts: Activations, layer: int, seed: int) -> np.ndarray:
    """A block's states as their first 50 principal components in units of the block's spread, [2N, 2 to 50]."""
    states, _, spread = centred_states(acts, layer)
    rows, basis = reduced(states, 50, seed)
    found = (states @ principal_directions(rows, 50, basis)).numpy() / spread
    return np.pad(found, ((0, 0), (0, max(0, 2 - found.shape[1]))))
