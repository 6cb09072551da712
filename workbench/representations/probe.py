"""The held-out probe of one block: ridge regression on standardised features, for the true labels and for all
permutations of them at once.

Chosen is +1 and rejected -1, as many of each in every fold, so ridge regression has the direction of a linear
discriminant with a shrunk covariance. Everything costly (one eigen-decomposition per fold) depends on the features
only; labels enter through one matrix product, and a permutation (chosen and rejected swapped within pairs) is one more
column of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Ridge strengths in units of the mean eigenvalue of the training features: from nearly none to the mean difference.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_DOUBLE_UP_TO = 1024  # larger decompositions run in single precision


@dataclass
class HeldOut:
    """Scores of one held-out fold: ``chosen`` and ``rejected`` [n, S], one column per labelling (the first is the true
    one), each side under its unswapped name; ``strength`` [S], the index of the ridge strength that was used."""

    chosen: Tensor
    rejected: Tensor
    strength: Tensor


def fit_and_score(chosen: Tensor, rejected: Tensor, train: Tensor, out: Tensor, signs: Tensor) -> HeldOut:
    """Train on the pairs ``train``, score the pairs ``out``.

    chosen, rejected: [N, d]; train, out: indices; signs: [N, S] of +1 (as it is) and -1 (swapped). Only training pairs
    decide the standardisation and, for each labelling on its own, the ridge strength.
    """
    (c_train, r_train), (c_out, r_out) = _standardise(chosen, rejected, train, out)
    labels = signs[train].to(c_train.dtype)
    # from the differences, so that sides that are equal give weights of exactly zero, not of rounding
    pull = (c_train - r_train).T @ labels  # [d, S]: X^T y
    basis, along = _Basis.of(torch.cat([c_train, r_train]), torch.cat([c_out, r_out]), pull)
    strength = _choose(basis, along, labels)
    weights = along / (basis.values[:, None] + basis.strengths[strength][None])
    scores = basis.out @ weights
    return HeldOut(scores[: len(out)], scores[len(out) :], strength)


def _standardise(chosen: Tensor, rejected: Tensor, train: Tensor, out: Tensor):
    c_train, r_train = chosen[train], rejected[train]
    both = torch.cat([c_train, r_train])
    mean, spread = both.mean(0), both.std(0, correction=0)
    # a feature that only varies by rounding is constant: dividing by its spread would blow rounding up into a signal
    constant = spread <= 1e-6 * both.abs().amax(0)
    scale = torch.where(constant, torch.zeros_like(spread), 1 / spread.clamp(min=torch.finfo(spread.dtype).tiny))
    change = lambda side: (side - mean) * scale  # noqa: E731
    return (change(c_train), change(r_train)), (change(chosen[out]), change(rejected[out]))


@dataclass
class _Basis:
    """Features in the eigenbasis of the training features: ``train`` [2n, r], ``out`` [2m, r], ``values`` [r] the
    eigenvalues, ``strengths`` the ridge penalties to choose from. Nothing is lost: r is the rank."""

    train: Tensor
    out: Tensor
    values: Tensor
    strengths: Tensor

    @classmethod
    def of(cls, train: Tensor, out: Tensor, pull: Tensor) -> tuple[_Basis, Tensor]:
        """The basis, and ``pull`` [d, S] in it, [r, S]."""
        rows, width = train.shape
        dual = width > rows
        gram = train @ train.T if dual else train.T @ train
        small = len(gram) <= _DOUBLE_UP_TO and gram.device.type != "mps"
        values, vectors = torch.linalg.eigh(gram.double() if small else gram)
        keep = values > values[-1].clamp(min=1e-30) * (1e-7 if small else 1e-6)
        values, vectors = values[keep].to(train.dtype), vectors[:, keep].to(train.dtype)
        if dual:
            root = values.sqrt()
            coords, out_coords = vectors * root, (out @ train.T) @ (vectors / root)
            along = (vectors / root).T @ (train @ pull)
        else:
            coords, out_coords, along = train @ vectors, out @ vectors, vectors.T @ pull
        mean_value = values.sum() / max(1, min(rows, width))
        strengths = torch.tensor(STRENGTHS, device=train.device, dtype=train.dtype) * mean_value.clamp(min=1e-12)
        return cls(coords, out_coords, values, strengths), along


def _choose(basis: _Basis, along: Tensor, labels: Tensor) -> Tensor:
    """The index of the best ridge strength for each labelling, [S].

    Judged by leaving out one training pair at a time, both sides together, in closed form: with H the hat matrix of
    the ridge fit and e the residuals of a pair, the residuals had the pair been absent are (I - H_pair)^-1 e. Best is
    what separates most: the highest ratio of the mean of label x prediction to its root mean square (which, unlike
    the squared error, does not mind the overall scale of the predictions).
    """
    half = len(labels)
    c, r = basis.train[:half], basis.train[half:]
    best = torch.full((along.shape[1],), -torch.inf, device=along.device, dtype=along.dtype)
    index = torch.zeros(along.shape[1], dtype=torch.long, device=along.device)
    for k, strength in enumerate(basis.strengths):
        shrink = 1 / (basis.values + strength)
        constant = 1 / (2 * half)  # the intercept's share of the hat matrix
        h_cc, h_rr, h_cr = ((a * b) @ shrink + constant for a, b in ((c, c), (r, r), (c, r)))
        weights = along * shrink[:, None]
        e_c = torch.addmm(labels, c, weights, alpha=-1)
        e_r = torch.addmm(labels, r, weights, beta=-1, alpha=-1)
        size = ((1 - h_cc) * (1 - h_rr) - h_cr**2).clamp(min=1e-6)
        left_c = ((1 - h_rr) / size)[:, None] * e_c + (h_cr / size)[:, None] * e_r
        left_r = ((1 - h_cc) / size)[:, None] * e_r + (h_cr / size)[:, None] * e_c
        good_c, good_r = 1 - labels * left_c, 1 + labels * left_r  # label x prediction of the left-out pair
        total = good_c.sum(0) + good_r.sum(0)
        power = good_c.square().sum(0) + good_r.square().sum(0)
        ratio = total / power.clamp(min=1e-30).sqrt()
        index = torch.where(ratio > best, torch.full_like(index, k), index)
        best = torch.maximum(best, ratio)
    return index


def auc(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The share of (chosen, rejected) combinations where chosen scores higher, ties half: [n, S], [m, S] -> [S]."""
    ordered = rejected.T.contiguous().sort(dim=1).values
    asked = chosen.T.contiguous()
    below = torch.searchsorted(ordered, asked)
    not_above = torch.searchsorted(ordered, asked, right=True)
    return (below + not_above).double().mean(1) / (2 * rejected.shape[0])
