"""Pictures of the states: principal components, the preference axis, and smoothed densities. None is evidence.

Coordinates are in units of a block's spread (the root mean square distance of its states from their mean), because
raw states grow by orders of magnitude along the depth and a slider over blocks would show little else.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.progress import QUIET, Progress
from workbench.representations.cores import side_by_side

if TYPE_CHECKING:
    from workbench.representations.capture import Activations

_EXACT_UP_TO = 512  # a larger decomposition is done within a Krylov space
_ROUNDS = 3


@dataclass(frozen=True)
class Projection:
    """``coords`` float32 [L, 2N, dims], chosen sides first; ``explained`` float32 [L, dims], each axis's share of the
    block's variance."""

    coords: np.ndarray
    explained: np.ndarray


@dataclass(frozen=True)
class Frame:
    """The axes of one block's pictures, so that other states can be drawn in them: the block's ``mean`` [d], its
    ``spread`` (root mean square distance from the mean), the unit mean ``difference`` [d], and the principal
    ``components`` [d, 3] and those ``beside`` the difference [d, 2] (fewer columns where there are fewer)."""

    mean: Tensor
    spread: float
    difference: Tensor
    components: Tensor
    beside: Tensor

    def coordinates(self, states: np.ndarray) -> np.ndarray:
        """States [n, d] in units of the spread: [n, 6], unrotated, along three principal components, the two beside the
        difference, and the difference."""
        axes = torch.zeros(len(self.mean), 16)  # sixteen are faster to multiply with than six
        axes[:, : self.components.shape[1]] = self.components
        axes[:, 3 : 3 + self.beside.shape[1]] = self.beside
        axes[:, 5] = self.difference
        return ((torch.from_numpy(states) @ axes - self.mean @ axes) / self.spread)[:, :6].numpy()


def frames(acts: Activations, *, seed: int = 0, progress: Progress = QUIET) -> list[Frame]:
    """The axes of every block's pictures, from its own states."""

    def one(layer: int) -> Frame:
        centred, mean, spread = centred_states(acts, layer)
        difference = centred[: len(acts)].mean(0) - centred[len(acts) :].mean(0)
        difference = difference / difference.norm().clamp(min=1e-30)
        rows, basis = reduced(centred, 3, seed, difference)
        components = principal_directions(rows, 3, basis)
        return Frame(mean, spread, difference, components, principal_directions(rows, 2, basis, difference))

    found = []
    progress("project", 0, acts.n_layers)
    with closing(side_by_side(one, acts.n_layers)) as ready:
        for frame in ready:
            found.append(frame)
            progress("project", len(found), acts.n_layers)
    return found


@dataclass(frozen=True)
class Pictures:
    """All blocks' coordinates, two- and three-dimensional: principal components, and the preference axis against what
    is orthogonal to it. ``turns`` are the rotations that were applied, by picture, [L, k, k]."""

    pca: Projection
    pca3: Projection
    axis: Projection
    axis3: Projection
    turns: dict[str, np.ndarray]


def pictures(
    acts: Activations,
    held_out: np.ndarray,
    *,
    seed: int = 0,
    progress: Progress = QUIET,
    axes: list[Frame] | None = None,
) -> Pictures:
    """The coordinates of every block, each turned onto the block before (orthogonal Procrustes), so that a point moves
    no more from block to block than the states do.

    PCA: the first two (three) components; within their plane (space) the turned axes are no longer the components one
    by one, and ``explained`` is that of the turned ones. Preference axis: ``held_out`` [L, 2N], the places from
    ``held_out_projections`` (every point from a direction fitted without it: -1 the rejected mean, +1 the chosen mean),
    are the first coordinate as they are; the others are components orthogonal to the mean difference, turned among
    themselves. All but the places are in units of the block's spread.
    """
    axes = axes or frames(acts, seed=seed, progress=progress)
    found = _coordinates(acts, axes)
    raw, beside = found[:, :, :3], found[:, :, 3:5]
    along = np.square(found[:, :, 5], dtype=np.float64).mean(1)
    turns = {
        "pca": turned(raw[:, :, :2]),
        "pca3": turned(raw),
        "axis": turned(beside[:, :, :1]),
        "axis3": turned(beside),
    }
    return Pictures(
        pca=_projection(raw[:, :, :2] @ turns["pca"]),
        pca3=_projection(raw @ turns["pca3"]),
        axis=_projection(beside[:, :, :1] @ turns["axis"], held_out, along),
        axis3=_projection(beside @ turns["axis3"], held_out, along),
        turns=turns,
    )


def _coordinates(acts: Activations, axes: list[Frame]) -> np.ndarray:
    """All blocks' states along their own axes, [L, 2N, 6] (see :meth:`Frame.coordinates`)."""

    def one(layer: int) -> np.ndarray:
        return np.concatenate([axes[layer].coordinates(side[layer]) for side in (acts.chosen, acts.rejected)])

    return np.stack(list(side_by_side(one, acts.n_layers)))


def _projection(coords: np.ndarray, first: np.ndarray | None = None, along: np.ndarray | None = None) -> Projection:
    explained = np.square(coords, dtype=np.float64).mean(1)
    if first is not None:
        coords = np.concatenate([first[:, :, None], coords], axis=2)
        explained = np.concatenate([along[:, None], explained], axis=1)
    return Projection(coords.astype(np.float32), explained.astype(np.float32))


def turned(coords: np.ndarray) -> np.ndarray:
    """The rotation (or reflection) of every block's coordinates that brings them closest to the block before, in turn:
    coords [L, n, k] -> [L, k, k], applied by ``coords @ turns``. The first block has its chosen half, which is the
    first half of the rows, on the positive side of every axis."""
    count = coords.shape[1] // 2
    gap = coords[0, :count].mean(0) - coords[0, count:].mean(0)
    turns = [np.diag(np.where(gap < 0, -1.0, 1.0))]
    before = coords[0] @ turns[0]
    for block in coords[1:]:
        left, sizes, right = np.linalg.svd(block.T.astype(np.float64) @ before)
        turns.append(left @ right if sizes.any() else np.eye(coords.shape[2]))
        before = block @ turns[-1]
    return np.stack(turns)


def pca(acts: Activations, dims: int = 2, *, seed: int = 0, progress: Progress = QUIET) -> Projection:
    """The first ``dims`` (at most 3) principal components of every block, turned onto the block before."""
    raw = _coordinates(acts, frames(acts, seed=seed, progress=progress))[:, :, :dims]
    return _projection(raw @ turned(raw))


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


def centred_states(acts: Activations, layer: int) -> tuple[Tensor, Tensor, float]:
    """Both sides of one block around their common mean, [2N, d], that mean, and their root mean square distance from
    it."""
    centred = torch.from_numpy(np.concatenate([acts.chosen[layer], acts.rejected[layer]]))
    mean = centred.mean(0)
    centred -= mean
    spread = float(torch.linalg.vecdot(centred, centred).mean().sqrt())
    if spread <= 1e-6 * float(mean.norm()):  # rounding only: a picture of it would look like a finding
        return torch.zeros_like(centred), mean, 1.0
    return centred, mean, spread if spread > 0 else 1.0


def reduced(centred: Tensor, dims: int, seed: int, held: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Rows [n, d] in far fewer dimensions that hold their first ``dims`` principal directions, those of what is left
    without the vector ``held`` [d] (if one is given) too: coordinates, float64 [n, k], and the orthonormal ``basis``
    [d, k] that they are in. Rows that are few or short come back as they are, and no basis.

    The basis spans a Krylov space that begins with random vectors and ``held``: without ``held``, rows' products keep
    to the same space, so that one pass over the rows serves both kinds of directions.
    """
    if min(centred.shape) <= _EXACT_UP_TO:
        return centred, None
    columns = 16 * (1 + dims // 16)  # in sixteens, which products of a few columns are fast with
    start = torch.randn(centred.shape[1], columns, generator=torch.Generator().manual_seed(seed))
    if held is not None:
        start[:, 0] = held
    blocks = [torch.linalg.qr(start).Q]
    for _ in range(_ROUNDS):
        blocks.append(torch.linalg.qr(((centred @ blocks[-1]).T @ centred).T).Q)
    basis = torch.linalg.qr(torch.cat(blocks, dim=1)).Q
    return (centred @ basis).double(), basis


def principal_directions(rows: Tensor, dims: int, basis: Tensor | None = None, without: Tensor | None = None) -> Tensor:
    """The first principal directions of what :func:`reduced` gave of centred rows, as columns [d, min(dims, rank)]; of
    what is left of the rows when the unit vector ``without`` [d] is taken out of them, if one is given."""
    if without is not None:
        inside = without if basis is None else (basis.T @ without).to(rows)
        rows = rows - torch.outer(rows @ inside, inside)
    dual = rows.shape[1] > len(rows)
    gram = rows @ rows.T if dual else rows.T @ rows
    values, vectors = torch.linalg.eigh(gram.double())
    values, vectors = values.flip(0)[:dims], vectors.flip(1)[:, :dims]
    keep = values > values[0].clamp(min=1e-30) * 1e-7
    values, vectors = values[keep].float(), vectors[:, keep].float()
    found = rows.T @ (vectors / values.sqrt()) if dual else vectors
    return found if basis is None else basis @ found
