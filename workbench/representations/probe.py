"""The held-out probe of one block: ridge regression on standardised features, for every fold and for all permutations
of the labels at once, in closed form.

Chosen is +1 and rejected -1, as many of each in every fold, so ridge regression has the direction of a linear
discriminant with a shrunk covariance. Everything costly depends on the features only; labels enter through matrix
products, and a permutation (chosen and rejected swapped within pairs) is one more column of them. Each feature's scale
is that of all states, which needs no label; mean, weights and ridge strength come from the training pairs alone.

Two ways to the same numbers. With few dimensions: an eigen-decomposition of each fold's covariance, which is that of all
pairs less what the fold adds. With many: one inverse of the states' inner products for all
folds, since what a ridge fit without some rows says of those rows follows from the inverse's own block of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.representations.folds import Folds

# Ridge strengths in units of the mean eigenvalue of the training features: from nearly none to the mean difference.
STRENGTHS = (1e-3, 0.03, 0.3, 3.0, 30.0)
_DUAL_STRENGTHS = (0.03, 1.0, 30.0)  # with many dimensions finer steps changed nothing but the time
_DOUBLE_UP_TO = 1024  # larger decompositions run in single precision


@dataclass
class HeldOut:
    """Scores of one held-out fold: ``pairs`` [n] which they are; ``chosen`` and ``rejected`` [n, S], one column per
    labelling (the first is the true one), each side under its unswapped name; ``strength`` [S], the ridge strength that
    was used, in units of the mean eigenvalue."""

    pairs: Tensor
    chosen: Tensor
    rejected: Tensor
    strength: Tensor


def held_out_scores(chosen: Tensor, rejected: Tensor, held: Folds, signs: Tensor) -> Iterator[HeldOut]:
    """Train on each fold's training pairs and score those it holds out.

    chosen, rejected: [N, d]; signs: [N, S] of +1 (as it is) and -1 (swapped).
    """
    order = torch.argsort(torch.from_numpy(held.of_pair), stable=True).to(chosen.device)
    sizes = torch.bincount(torch.from_numpy(held.of_pair), minlength=held.count).tolist()
    both = _standardised(chosen, rejected, order)
    if torch.equal(both[: len(order)], both[len(order) :]):  # exactly nothing to tell, not rounding
        return _nothing(both, order, sizes, signs.shape[1])
    fit = _dual if _prefers_dual(both.shape[1], len(both)) else _primal
    return fit(both, order, sizes, signs[order].to(both.dtype))


def _nothing(both: Tensor, order: Tensor, sizes: list[int], labellings: int) -> Iterator[HeldOut]:
    for out, _ in _slices(sizes):
        scores = both.new_zeros(out.stop - out.start, labellings)
        yield HeldOut(order[out], scores, scores, both.new_zeros(labellings))


def _prefers_dual(width: int, rows: int) -> bool:
    """Whether inverting the inner products of all states is cheaper than decomposing each fold's covariance."""
    return rows <= 2.4 * width  # where the two take equally long, by trial on one core


def _standardised(chosen: Tensor, rejected: Tensor, order: Tensor) -> Tensor:
    """Both sides in that order, [2N, d], with mean 0 and variance 1 in every feature; constant features are 0."""
    both = chosen.new_empty(2 * len(order), chosen.shape[1])
    torch.index_select(chosen, 0, order, out=both[: len(order)])
    torch.index_select(rejected, 0, order, out=both[len(order) :])
    mean = both.mean(0)
    both -= mean
    # in stretches, whose squares need no new memory
    spread = (sum(rows.square().sum(0) for rows in both.split(128)) / len(both)).sqrt()
    # a feature that only varies by rounding is constant: dividing by its spread would blow rounding up into a signal
    constant = spread <= 1e-6 * mean.abs()
    scale = torch.where(constant, torch.zeros_like(spread), 1 / spread.clamp(min=torch.finfo(spread.dtype).tiny))
    return both.mul_(scale)


def _slices(sizes: list[int]) -> Iterator[tuple[slice, Tensor]]:
    """Each fold's stretch of the ordered pairs, and which pairs stay for training, as 1.0 and 0.0."""
    first = 0
    for size in sizes:
        stays = torch.ones(sum(sizes))
        stays[first : first + size] = 0
        yield slice(first, first + size), stays
        first += size


# -- few dimensions ----------------------------------------------------------------------------------------------------


def _primal(both: Tensor, order: Tensor, sizes: list[int], labels: Tensor) -> Iterator[HeldOut]:
    """By the eigenvectors of each fold's covariance; both: [2N, d] ordered by fold, labels: [N, S]."""
    c, r = both[: len(labels)], both[len(labels) :]
    kind = torch.float64 if c.shape[1] <= _DOUBLE_UP_TO and c.device.type != "mps" else c.dtype
    whole = both.T @ both
    difference = c - r  # so that sides that are equal give weights of exactly zero, not of rounding
    pull = difference.T @ labels
    sums = c.sum(0) + r.sum(0)
    for out, stays in _slices(sizes):
        stays = stays.to(c)
        count = 2 * (len(c) - (out.stop - out.start))
        mean = (sums - c[out].sum(0) - r[out].sum(0)) / count
        covariance = whole - c[out].T @ c[out] - r[out].T @ r[out] - count * torch.outer(mean, mean)
        values, vectors = torch.linalg.eigh(covariance.to(kind))
        keep = values > values[-1].clamp(min=1e-30) * (1e-7 if kind == torch.float64 else 1e-6)
        values, vectors = values[keep].to(c.dtype), vectors[:, keep].to(c.dtype)
        along = vectors.T @ (pull - difference[out].T @ labels[out])
        offset = mean @ vectors
        coords = c @ vectors - offset, r @ vectors - offset
        unit = (values.sum() / max(1, min(count, c.shape[1]))).clamp(min=1e-12)
        yield _best_primal(coords, values, unit, along, labels, out, stays, order)


def _best_primal(
    coords: tuple[Tensor, Tensor],
    values: Tensor,
    unit: Tensor,
    along: Tensor,
    labels: Tensor,
    out: slice,
    stays: Tensor,
    order: Tensor,
) -> HeldOut:
    c, r = coords
    best = _Best(labels.shape[1], c)
    one = torch.ones((), dtype=c.dtype, device=c.device)
    constant = 1 / (2 * stays.sum())  # the intercept's share of the hat matrix
    shrinks = 1 / (values[:, None] + torch.tensor(STRENGTHS).to(c) * unit)  # [r, strengths]
    h_cc, h_rr, h_cr = ((a * b) @ shrinks + constant for a, b in ((c, c), (r, r), (c, r)))
    size = ((1 - h_cc) * (1 - h_rr) - h_cr**2).clamp(min=1e-6)
    for k, strength in enumerate(STRENGTHS):
        weights = along * shrinks[:, k, None]
        said_c, said_r = c @ weights, r @ weights
        inverse = (part[:, k] / size[:, k] * stays for part in (1 - h_rr, 1 - h_cc, h_cr))
        # residuals times label: what is missing to +1 on the chosen side, and to -1 on the rejected one
        fitness = _fitness(
            torch.addcmul(one, labels, said_c, value=-1), torch.addcmul(one, labels, said_r), *inverse, 2 * stays.sum()
        )
        best.offer(strength, fitness, said_c[out], said_r[out])
    return HeldOut(order[out], best.chosen, best.rejected, best.strength)


# -- many dimensions ---------------------------------------------------------------------------------------------------


def _dual(both: Tensor, order: Tensor, sizes: list[int], labels: Tensor) -> Iterator[HeldOut]:
    """By the inverse G of the states' inner products (bordered by the intercept): without the rows F of a fold, the
    residuals of F are G_FF^-1 (G y)_F, and the inverse itself becomes G - G_:F G_FF^-1 G_F:."""
    count = len(labels)
    kind = torch.float64 if 2 * count <= _DOUBLE_UP_TO and both.device.type != "mps" else both.dtype
    gram = _inner_products(both).to(kind)
    unit = (gram.diagonal().sum() / min(both.shape)).clamp(min=1e-12)
    try:
        best = _best_dual(gram, unit, sizes, labels)
    except torch.linalg.LinAlgError:  # rounding left a block that is not positive definite
        best = _best_dual(_inner_products(both).double(), unit.double(), sizes, labels)
    for one, (out, _) in zip(best, _slices(sizes), strict=True):
        scores = (side.to(both.dtype) for side in (one.chosen, one.rejected))
        yield HeldOut(order[out], *scores, one.strength)


def _best_dual(gram: Tensor, unit: Tensor, sizes: list[int], labels: Tensor) -> list[_Best]:
    """The best fit without each fold. The diagonal of ``gram`` is not kept."""
    labels, count = labels.T.contiguous().to(gram.dtype), len(labels)  # a row each: what is fast to multiply
    best = [_Best(len(labels), gram) for _ in sizes]
    for before, strength in itertools.pairwise((0.0, *_DUAL_STRENGTHS)):
        gram.diagonal().add_((strength - before) * unit)
        inverse = _bordered_inverse(gram)
        pulled = labels @ (inverse[:count] - inverse[count:])  # G y, [S, 2N]
        for one, (out, _) in zip(best, _slices(sizes), strict=True):
            one.offer(strength, *_without(inverse, pulled, labels, out))
    return best


def _inner_products(rows: Tensor, parts: int = 5) -> Tensor:
    """rows @ rows.T, of which each half is computed once (nearly: stretch by stretch of rows)."""
    count = len(rows)
    if count * rows.shape[1] < 1 << 20:
        return rows @ rows.T
    found = rows.new_empty(count, count)
    step = -(-count // parts)
    for first in range(0, count, step):
        last = min(first + step, count)
        torch.mm(rows[first:last], rows[first:].T, out=found[first:last, first:])
        found[last:, first:last] = found[first:last, last:].T
    return found


def _bordered_inverse(shifted: Tensor) -> Tensor:
    """The inverse, and from it what an intercept that is not penalised takes away."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(shifted))
    sums = inverse.sum(1)
    return inverse.addr_(sums, sums / -sums.sum())


def _without(inverse: Tensor, pulled: Tensor, labels: Tensor, out: slice) -> tuple[Tensor, Tensor, Tensor]:
    """The fitness of the fit without the fold, judged on its training pairs, and its scores of both sides of the fold;
    pulled: [S, 2N], labels: [S, N]."""
    labellings, count = labels.shape
    both = 2 * (out.stop - out.start)

    def others(values: Tensor) -> Tensor:
        return torch.cat([values[..., : out.start], values[..., out.stop :]], dim=-1)

    fold, pulled = inverse.view(2, count, 2, count)[:, out], pulled.view(labellings, 2, count)
    factor = torch.linalg.cholesky(fold[..., out].reshape(both, both))
    gone = torch.linalg.solve_triangular(factor.mT, others(fold).view(both, -1).mT, upper=True, left=False).mT
    half = torch.linalg.solve_triangular(factor.mT, pulled[..., out].reshape(-1, both), upper=True, left=False)
    residuals = torch.linalg.solve_triangular(factor, half, upper=False, left=False).view(labellings, 2, -1)
    left = torch.addmm(others(pulled).view(labellings, -1), half, gone, alpha=-1)  # G y without the fold
    said = labels[:, None, out] * labels.new_tensor([[1], [-1]]) - residuals
    left, gone, labels = left.view(labellings, 2, -1), gone.view(both, 2, -1), others(labels)
    g_cc, g_rr = others(inverse.diagonal().view(2, count)) - torch.linalg.vecdot(gone, gone, dim=0)
    g_cr = others(inverse[:count, count:].diagonal()) - torch.linalg.vecdot(gone[:, 0], gone[:, 1], dim=0)
    size = (g_cc * g_rr - g_cr**2).clamp(min=1e-30)
    missing = ((labels * left[:, 0]).T, (-labels * left[:, 1]).T)
    fitness = _fitness(*missing, g_rr / size, g_cc / size, -g_cr / size, 2 * labels.shape[1])
    return fitness, said[:, 0].T, said[:, 1].T


# -- the ridge strength ------------------------------------------------------------------------------------------------


class _Best:
    """The scores at the best ridge strength so far, for each labelling."""

    def __init__(self, labellings: int, like: Tensor) -> None:
        self.fitness = torch.full((labellings,), -torch.inf, device=like.device, dtype=like.dtype)
        self.strength = torch.zeros(labellings, device=like.device)
        self.chosen = self.rejected = torch.zeros(())

    def offer(self, strength: float, fitness: Tensor, chosen: Tensor, rejected: Tensor) -> None:
        better = fitness > self.fitness
        first = self.chosen.ndim == 0
        self.chosen = chosen if first else torch.where(better, chosen, self.chosen)
        self.rejected = rejected if first else torch.where(better, rejected, self.rejected)
        self.strength = torch.where(better, torch.full_like(self.strength, strength), self.strength)
        self.fitness = torch.maximum(self.fitness, fitness)


def _fitness(miss_c: Tensor, miss_r: Tensor, p: Tensor, r: Tensor, q: Tensor, count: Tensor | int) -> Tensor:
    """How good a ridge strength is for each labelling, [S], on ``count`` training sides.

    Judged by leaving out one training pair at a time, both sides together, in closed form: were the pair absent, its
    sides would miss their labels by p miss_c - q miss_r and r miss_r - q miss_c (``miss`` [N, S] times label; p, q, r
    [N], the inverse of the pair's own 2 x 2 block, 0 for pairs that do not count). Best is what separates most: the
    highest ratio of the mean of label x prediction, 1 less what it misses by, to its root mean square (which, unlike
    the squared error, does not mind the overall scale of the predictions).
    """
    first = (p - q) @ miss_c + (r - q) @ miss_r
    second = (p**2 + q**2) @ miss_c.square() + (r**2 + q**2) @ miss_r.square() - 2 * (q * (p + r)) @ (miss_c * miss_r)
    return (count - first) / (count - 2 * first + second).clamp(min=1e-30).sqrt()


def auc(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The share of (chosen, rejected) combinations where chosen scores higher, ties half: [n, S], [m, S] -> [S]."""
    ordered = rejected.T.contiguous().sort(dim=1).values
    asked = chosen.T.contiguous()
    below = not_above = torch.searchsorted(ordered, asked)
    if bool((ordered.gather(1, below.clamp(max=ordered.shape[1] - 1)) == asked).any()):  # ties
        not_above = torch.searchsorted(ordered, asked, right=True)
    return (below + not_above).double().mean(1) / (2 * rejected.shape[0])
