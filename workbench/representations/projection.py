"""Pictures of the states: principal components, the preference axis, UMAP, and smoothed densities. None is evidence.

Coordinates are in units of a block's spread (the root mean square distance of its states from their mean), because
raw states grow by orders of magnitude along the depth and a slider over blocks would show little else.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.progress import QUIET, Progress

if TYPE_CHECKING:
    from workbench.representations.capture import Activations

_EXACT_UP_TO = 1024  # a larger decomposition is done by subspace iteration
_SAME_COMPONENT = 0.3  # neighbouring blocks whose coordinates correlate less show different things
_UMAP_LOCK = threading.Lock()  # numba's compiled code behind UMAP must not run in two threads


@dataclass(frozen=True)
class Projection:
    """``coords`` float32 [L, 2N, dims], chosen sides first; ``explained`` float32 [L, dims], each axis's share of the
    block's variance."""

    coords: np.ndarray
    explained: np.ndarray


def pca(acts: Activations, dims: int = 2, *, seed: int = 0, progress: Progress = QUIET) -> Projection:
    """The first principal components of every block (fewer where there are fewer; the rest is 0).

    Neighbouring blocks are aligned by sign only, never rotated, so that component 1 is component 1 everywhere; a
    stretch of blocks that belong together has its chosen mean on the positive side.
    """
    coords, shares = [], []
    for layer in range(acts.n_layers):
        progress("project", layer, acts.n_layers)
        centred, spread = _centred(acts, layer)
        directions = _principal(centred, dims, seed)
        found = (centred @ directions).numpy() / spread
        found = np.pad(found, ((0, 0), (0, dims - found.shape[1])))
        coords.append(found)
        shares.append((found.astype(np.float64) ** 2).mean(0))
    progress("project", acts.n_layers, acts.n_layers)
    return Projection(_align_signs(np.stack(coords)), np.stack(shares).astype(np.float32))


def preference_axis(acts: Activations, held_out: np.ndarray, *, seed: int = 0) -> Projection:
    """The preference axis against the first principal component orthogonal to it, [L, 2N, 2].

    ``held_out`` [L, 2N] are the places on the axis from ``held_out_projections`` (every point from a direction fitted
    without it: -1 the rejected mean, +1 the chosen mean), used as they are. The second coordinate is in units of the
    block's spread. ``explained`` are the shares of variance along the mean difference and along that component.
    """
    second, shares = [], []
    for layer in range(acts.n_layers):
        centred, spread = _centred(acts, layer)
        difference = centred[: len(acts)].mean(0) - centred[len(acts) :].mean(0)
        direction = difference / difference.norm().clamp(min=1e-30)
        along = centred @ direction
        rest = centred - along[:, None] * direction
        other = (rest @ _principal(rest, 1, seed)).numpy() / spread
        second.append(other if other.shape[1] else np.zeros((len(rest), 1), dtype=np.float32))
        shares.append([float(along.square().mean()) / spread**2, float((second[-1] ** 2).mean())])
    coords = np.concatenate([held_out[:, :, None], _align_signs(np.stack(second))], axis=2)
    return Projection(coords.astype(np.float32), np.array(shares, dtype=np.float32))


def umap_layer(
    acts: Activations, layer: int, seed: int = 0, *, neighbors: int = 15, min_dist: float = 0.1
) -> np.ndarray:
    """A UMAP of one block's states from their first 50 principal components: float32 [2N, 2], the same for the same
    seed. Takes seconds; callers keep the result. One runs at a time, whoever asks."""
    centred, spread = _centred(acts, layer)
    reduced = (centred @ _principal(centred, 50, seed)).numpy() / spread
    neighbors = max(2, min(neighbors, len(reduced) - 1))
    with _UMAP_LOCK:
        import umap

        settings = {"n_neighbors": neighbors, "min_dist": min_dist, "random_state": seed, "n_jobs": 1}
        init = "spectral" if len(reduced) > 20 else "random"  # the spectral start needs more points than eigenvectors
        return umap.UMAP(n_components=2, init=init, **settings).fit_transform(reduced).astype(np.float32)


def densities(held_out: np.ndarray, points: int = 48) -> list[dict[str, Any]]:
    """Smoothed densities of the held-out places [L, 2N] on the preference axis, for a strip of small curves.

    One dict per block: ``x`` (``points`` places, the block's own range, without the outermost 0.5% on either side),
    ``chosen`` and ``rejected`` (densities per unit of the axis). Gaussian kernels, Silverman's bandwidth.
    """
    curves = []
    count = held_out.shape[1] // 2
    for layer, row in enumerate(np.asarray(held_out, dtype=np.float64)):
        low, high = np.quantile(row, [0.005, 0.995])
        bandwidths = [_bandwidth(row[:count]), _bandwidth(row[count:])]
        margin = max(2 * max(bandwidths), 1e-3)
        x = np.linspace(low - margin, high + margin, points)
        chosen, rejected = (
            _smooth(side, x, width) for side, width in zip((row[:count], row[count:]), bandwidths, strict=True)
        )
        curves.append({"layer": layer, "x": _short(x), "chosen": _short(chosen), "rejected": _short(rejected)})
    return curves


def _bandwidth(values: np.ndarray) -> float:
    quarter, three = np.quantile(values, [0.25, 0.75])
    spread = min(values.std(), (three - quarter) / 1.349) or values.std()
    return max(0.9 * spread * len(values) ** -0.2, 1e-3)


def _smooth(values: np.ndarray, x: np.ndarray, width: float) -> np.ndarray:
    kernels = np.exp(-0.5 * ((x[:, None] - values) / width) ** 2)
    return kernels.sum(1) / (len(values) * width * np.sqrt(2 * np.pi))


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _centred(acts: Activations, layer: int) -> tuple[Tensor, float]:
    """Both sides of one block around their common mean, [2N, d], and their root mean square distance from it."""
    states = torch.from_numpy(np.concatenate([acts.chosen[layer], acts.rejected[layer]]))
    mean = states.mean(0)
    centred = states - mean
    spread = float(centred.square().sum(1).mean().sqrt())
    if spread <= 1e-6 * float(mean.norm()):  # rounding only: a picture of it would look like a finding
        return torch.zeros_like(centred), 1.0
    return centred, spread if spread > 0 else 1.0


def _principal(centred: Tensor, dims: int, seed: int) -> Tensor:
    """The first principal directions of centred rows [n, d], as columns [d, min(dims, rank)]."""
    rows, width = centred.shape
    if min(rows, width) <= _EXACT_UP_TO:
        dual = width > rows
        gram = centred @ centred.T if dual else centred.T @ centred
        values, vectors = torch.linalg.eigh(gram.double())
        values, vectors = values.flip(0)[:dims], vectors.flip(1)[:, :dims]
        keep = values > values[0].clamp(min=1e-30) * 1e-7
        values, vectors = values[keep].float(), vectors[:, keep].float()
        return centred.T @ (vectors / values.sqrt()) if dual else vectors
    start = torch.randn(width, dims + 10, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(start).Q
    for _ in range(6):
        basis = torch.linalg.qr(centred.T @ (centred @ basis)).Q
    _, values, right = torch.linalg.svd(centred @ basis, full_matrices=False)
    keep = values[:dims] > values[0].clamp(min=1e-30) * 1e-3
    return basis @ right[:dims][keep].T


def _align_signs(coords: np.ndarray) -> np.ndarray:
    """Flip axes so that nothing jumps from block to block, coords [L, 2N, dims].

    Each block's axis follows the block before it as long as the two correlate; each such stretch is then turned as a
    whole so that the chosen side lies further up, summed over the stretch.
    """
    flipped = coords.copy()
    count = coords.shape[1] // 2
    for axis in range(coords.shape[2]):
        values = flipped[:, :, axis]  # a view: flipping it flips the result
        stretch = [0]
        for layer in range(1, len(values) + 1):
            alike = _correlation(values[layer - 1], values[layer]) if layer < len(values) else 0.0
            if abs(alike) < _SAME_COMPONENT:
                gaps = values[stretch, :count].mean(1) - values[stretch, count:].mean(1)
                if gaps.sum() < 0:
                    values[stretch] *= -1
                stretch = []
            elif alike < 0:
                values[layer] *= -1
            stretch.append(layer)
    return flipped.astype(np.float32)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0
