"""How well each block's states tell chosen from rejected, on pairs the probe never saw.

In sample anything separates once there are more dimensions than pairs, so every figure here is out of fold, and beside
the probe's AUC stands the band of AUCs that the same procedure reaches when chosen and rejected are swapped at random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.progress import QUIET, Progress
from workbench.representations import probe
from workbench.representations.cores import side_by_side
from workbench.representations.folds import Folds, auc_score_interval, make_folds
from workbench.statistics import wilson

if TYPE_CHECKING:
    from workbench.representations.capture import Activations

_BOOTSTRAPS = 1000


@dataclass(frozen=True)
class LayerScore:
    """The held-out scores of one block. AUCs are in 0..1, 0.5 is chance.

    ``probe_auc``: the linear probe's AUC, averaged over folds; ``low``/``high``: 95%, the wider of a bootstrap over
    prompts and Newcombe's score interval. ``null_auc_*``: quantiles of the same figure with chosen and rejected swapped
    at random; ``null_best_p95``: 95% of random swaps reach no higher in any block (what a claim about the best of many
    blocks must beat); ``p_value``: the share of swaps that reach as high in this block.
    ``paired_accuracy``: the share of pairs whose chosen side lies further along the training folds' mean difference,
    with Wilson's 95% interval. ``d_prime``: the distance of the two means of the held-out projections on that direction
    in units of their spread (corrected for few pairs), averaged over folds (negative if they lie the wrong way round);
    ``fisher``: its square, likewise (0 if they lie the wrong way round). ``explained``: the share of the held-out states'
    variance along that direction. ``silhouette``: of the held-out projections, in one dimension, -1..1.
    """

    layer: int
    probe_auc: float
    probe_auc_low: float
    probe_auc_high: float
    null_auc_p025: float
    null_auc_p05: float
    null_auc_mean: float
    null_auc_p95: float
    null_auc_p975: float
    null_best_p95: float
    p_value: float
    paired_accuracy: float
    paired_accuracy_low: float
    paired_accuracy_high: float
    d_prime: float
    fisher: float
    explained: float
    silhouette: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, under the names above."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LayerScore:
        """The score that :meth:`to_dict` wrote."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    @property
    def above_chance(self) -> bool:
        """Whether the block beats what the best block of random swaps reaches."""
        return self.probe_auc > self.null_best_p95


@dataclass(frozen=True)
class Measured:
    """What measuring all blocks gives: ``scores``; ``places`` float32 [L, 2N], every side's place on the preference axis
    (see :func:`held_out_projections`); ``nulls`` [L, P], the AUCs of random swaps; ``prompts``, how many there are."""

    scores: list[LayerScore]
    places: np.ndarray
    nulls: np.ndarray
    prompts: int


def score(acts: Activations, *, groups: Sequence[int] | np.ndarray, **settings: Any) -> list[LayerScore]:
    """Score every block of captured activations; ``groups`` [N] is the same for pairs that share a prompt, the
    ``settings`` are those of :func:`measure`.

    Raises UserError where there are too few prompts to hold any out (see ``make_folds``).
    """
    return measure(acts.chosen, acts.rejected, groups, **settings).scores


def best_score(
    chosen: np.ndarray, rejected: np.ndarray, groups: Sequence[int] | np.ndarray, **settings: Any
) -> tuple[float, float, float, float, float]:
    """The probe's AUC of the best block with its 95% interval, and the band that 95% of random swaps reach in their
    best block: (auc, low, high, null_low, null_high). Arguments as for :func:`measure`."""
    found = measure(chosen, rejected, groups, **settings)
    best = max(found.scores, key=lambda row: row.probe_auc)
    low, high = band(found.nulls.max(0), [0.025, 0.975])
    return best.probe_auc, best.probe_auc_low, best.probe_auc_high, float(low), float(high)


def measure(
    chosen: np.ndarray,
    rejected: np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    folds: int = 5,
    permutations: int = 200,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress = QUIET,
) -> Measured:
    """Score every block of plain arrays, chosen and rejected float [L, N, d]; ``groups`` [N] is the same for pairs that
    share a prompt. Random draws are the same in every layer. Blocks are worked on side by side on as many cores as
    torch has threads.

    Raises UserError where there are too few prompts to hold any out (see ``make_folds``).
    """
    if permutations < 20:
        raise UserError(f"A band of random swaps needs at least 20 permutations, not {permutations}.")
    held = make_folds(groups, folds, seed)
    rng = np.random.default_rng(seed)
    signs = torch.from_numpy(_swaps(held.groups, permutations, rng)).to(device)
    weights = torch.from_numpy(_resamples(held.groups, rng)).to(device)

    def one(layer: int) -> tuple[np.ndarray, np.ndarray, dict[str, float], np.ndarray]:
        c, r = (torch.from_numpy(np.ascontiguousarray(side[layer])).to(device) for side in (chosen, rejected))
        values, boot = _probe_aucs(c, r, held, signs, weights)
        return values, boot, *_along_difference(c, r, held)

    rows = []
    progress("score", 0, len(chosen))
    with closing(side_by_side(one, len(chosen), device)) as found:  # a stop ends the others too
        for row in found:
            rows.append(row)
            progress("score", len(rows), len(chosen))
    nulls = np.stack([values[1:] for values, *_ in rows])
    best = float(band(nulls.max(0), 0.95))
    prompts = int(held.groups.max()) + 1
    scores = [
        _layer_score(layer, float(values[0]), boot, rest, nulls[layer], best, prompts)
        for layer, (values, boot, rest, _) in enumerate(rows)
    ]
    places = np.stack([row[3].reshape(-1) for row in rows]).astype(np.float32)
    return Measured(scores, places, nulls, prompts)


def held_out_auc(chosen: np.ndarray, rejected: np.ndarray, held: Folds) -> float:
    """The probe's held-out AUC of one block alone, without band or interval: chosen, rejected float32 [N, d]."""
    c, r = torch.from_numpy(chosen), torch.from_numpy(rejected)
    values = [
        (float(probe.auc(fold.chosen, fold.rejected)[0]), len(fold.pairs))
        for fold in probe.held_out_scores(c, r, held, torch.ones(len(c), 1))
    ]
    return sum(value * count for value, count in values) / len(c)


def _swaps(groups: np.ndarray, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """[N, 1 + P] of +-1: the true labels, then random swaps. Pairs of one prompt are swapped together, because they
    may share a text; labelling that text both ways would make the band too narrow."""
    signs = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(groups.max() + 1, permutations))[groups]
    return np.concatenate([np.ones((len(groups), 1), dtype=np.float32), signs], axis=1)


def _resamples(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[B, N]: how often each pair is drawn when prompts are drawn with replacement."""
    count = int(groups.max()) + 1
    draws = rng.integers(0, count, size=(_BOOTSTRAPS, count))
    cells = (np.arange(_BOOTSTRAPS)[:, None] * count + draws).ravel()
    times = np.bincount(cells, minlength=_BOOTSTRAPS * count).reshape(_BOOTSTRAPS, count)
    return times.astype(np.float32)[:, groups]


def _probe_aucs(
    chosen: Tensor, rejected: Tensor, held: Folds, signs: Tensor, weights: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The probe's AUC averaged over folds: for each labelling [1 + P], and for the true one in each bootstrap [B].

    Averaging per-fold AUCs, instead of pooling scores of different probes, needs no common scale, and a random swap
    of the held-out pairs then turns AUC into 1 - AUC: the band is centred on 0.5 exactly.
    """
    total = torch.zeros(signs.shape[1], dtype=torch.float64, device=chosen.device)
    drawn = torch.zeros(len(weights), dtype=torch.float64, device=chosen.device)
    drawn_pairs = torch.zeros_like(drawn)
    for fold in probe.held_out_scores(chosen, rejected, held, signs):
        out = fold.pairs
        swapped = signs[out] < 0
        as_chosen = torch.where(swapped, fold.rejected, fold.chosen)
        as_rejected = torch.where(swapped, fold.chosen, fold.rejected)
        total += probe.auc(as_chosen, as_rejected) * len(out)
        wins = torch.sign(fold.chosen[:, :1] - fold.rejected[:, 0]) / 2 + 0.5
        times = weights[:, out]
        pairs = times.sum(1)
        drawn += ((times @ wins) * times).sum(1) / pairs.clamp(min=1)
        drawn_pairs += pairs
    return (total / len(chosen)).cpu().numpy(), (drawn / drawn_pairs).cpu().numpy()


def _along_difference(chosen: Tensor, rejected: Tensor, held: Folds) -> tuple[dict[str, float], np.ndarray]:
    """Paired accuracy, d', Fisher ratio, explained variance and silhouette of the held-out projections on the mean
    difference, and those projections, [2, N]."""
    places, explained = _project_held_out(chosen, rejected, held)
    c, r = places
    hits = float((c > r).sum() + 0.5 * (c == r).sum())
    low, high = wilson(hits, len(c))
    distances, sizes = [], []
    for _, out in held:
        if len(out) < 2:  # a single pair has no spread of its own
            continue
        spread = (c[out].var(ddof=1) + r[out].var(ddof=1)) / 2
        if spread > 0:
            distances.append(_unbiased(2 * len(out) - 2) * (c[out].mean() - r[out].mean()) / np.sqrt(spread))
            sizes.append(len(out))
    distances = np.array(distances)
    average = lambda values: float(np.average(values, weights=sizes)) if sizes else 0.0  # noqa: E731
    found = {
        "paired_accuracy": hits / len(c),
        "paired_accuracy_low": low,
        "paired_accuracy_high": high,
        "d_prime": average(distances),
        "fisher": max(0.0, average(distances * np.abs(distances))),
        "explained": explained,
        "silhouette": _silhouette(c, r),
    }
    return found, places


def _unbiased(freedom: int) -> float:
    """What a distance in units of a spread with so many degrees of freedom is too large by (Hedges 1981): few pairs give
    a spread that is often too small, and with ten pairs in five folds d' would be twice what it is."""
    return math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)


def _project_held_out(chosen: Tensor, rejected: Tensor, held: Folds) -> tuple[np.ndarray, float]:
    """Projections of the held-out sides on the training folds' mean difference, [2, N], calibrated on the training
    folds so that their rejected mean is -1 and their chosen mean +1 (0 where a block has no difference at all), and the
    share of the held-out variance that lies along those directions."""
    axes = difference_axes(chosen, rejected, held)
    raw = chosen.new_zeros(2, len(chosen))
    total, part = 0.0, 0.0
    for direction, (_, out) in zip(axes.directions, held, strict=True):
        index = torch.from_numpy(out).to(chosen.device)
        states = torch.cat([chosen[index], rejected[index]])
        along = states @ direction
        raw[:, index] = along.view(2, -1)
        states -= states.mean(0)
        total += float(torch.linalg.vecdot(states, states).double().sum())
        part += float((along.double() - along.double().mean()).square().sum())
    return axes.place(raw, held.of_pair).cpu().numpy(), part / total if total > 0 else 0.0


def _one_hot(held: Folds, like: Tensor) -> Tensor:
    """[folds, N] of 1 where the fold holds the pair out, else 0."""
    found = torch.zeros(held.count, len(held.of_pair), dtype=like.dtype)
    found[torch.from_numpy(held.of_pair), torch.arange(len(held.of_pair))] = 1
    return found.to(like.device)


@dataclass(frozen=True)
class Axes:
    """The mean difference of every fold's training pairs: unit ``directions`` [F, d], and where along each the middle
    of the two means lies and how far away each mean is from it, float64 [F]."""

    directions: Tensor
    middles: Tensor
    halves: Tensor

    def place(self, raw: Sequence[Tensor], of_pair: np.ndarray) -> Tensor:
        """Projections [N] of the sides, each on its own fold's direction, as places on the axis, float64 [sides, N]."""
        fold = torch.from_numpy(of_pair).to(self.middles.device)
        half = self.halves[fold]
        places = (torch.stack([side.double() for side in raw]) - self.middles[fold]) / half.clamp(min=1e-300)
        return torch.where(half > 0, places, torch.zeros_like(places))


def difference_axes(chosen: Tensor, rejected: Tensor, held: Folds) -> Axes:
    """The preference axis of one block as each fold's training pairs have it."""
    one_hot = _one_hot(held, chosen)
    size = one_hot.sum(1, keepdim=True)
    folds = (one_hot @ side for side in (chosen, rejected))
    up, down = ((fold.sum(0) - fold) / (len(chosen) - size) for fold in folds)
    difference = up - down
    length = difference.norm(dim=1, keepdim=True)
    directions = torch.where(length > 0, difference / length.clamp(min=1e-30), difference)
    middles = ((up + down) / 2 * directions).double().sum(1)
    return Axes(directions, middles, length[:, 0].double() / 2)


def _silhouette(chosen: np.ndarray, rejected: np.ndarray) -> float:
    """The mean silhouette of two groups of numbers, exactly, by sorting: distances in one dimension are differences."""

    def distance_sums(points: np.ndarray, to: np.ndarray) -> np.ndarray:
        ordered = np.sort(to)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        below = np.searchsorted(ordered, points)
        return points * below - sums[below] + (sums[-1] - sums[below]) - points * (len(to) - below)

    values = []
    for own, other in ((chosen, rejected), (rejected, chosen)):
        inside = distance_sums(own, own) / max(1, len(own) - 1)
        outside = distance_sums(own, other) / len(other)
        largest = np.maximum(inside, outside)
        values.append(np.where(largest > 0, (outside - inside) / np.where(largest > 0, largest, 1), 0.0))
    return float(np.concatenate(values).mean())


def band(null: np.ndarray, shares: float | Sequence[float]) -> np.ndarray:
    """Quantiles of random swaps, such that one more random swap lies below each with just that probability (numpy's
    usual ones are too narrow for it: 94% of 200 instead of 95%)."""
    return np.quantile(null, shares, method="weibull")


def _layer_score(
    layer: int, value: float, boot: np.ndarray, rest: dict[str, float], null: np.ndarray, best: float, effective: int
) -> LayerScore:
    low, high = _interval(value, boot, effective)
    quantiles = band(null, [0.025, 0.05, 0.95, 0.975])
    return LayerScore(
        layer=layer,
        probe_auc=float(value),
        probe_auc_low=low,
        probe_auc_high=high,
        null_auc_p025=float(quantiles[0]),
        null_auc_p05=float(quantiles[1]),
        null_auc_mean=float(null.mean()),
        null_auc_p95=float(quantiles[2]),
        null_auc_p975=float(quantiles[3]),
        null_best_p95=best,
        p_value=float((1 + (null >= value).sum()) / (1 + len(null))),
        **rest,
    )


def _interval(value: float, boot: np.ndarray, effective: int) -> tuple[float, float]:
    low, high = np.quantile(boot[np.isfinite(boot)], [0.025, 0.975])
    wide_low, wide_high = auc_score_interval(value, effective)
    return min(float(low), wide_low), max(float(high), wide_high)


# -- the preference direction --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """Where the two means lie along a direction, in the block's own units."""

    chosen: float
    rejected: float


def preference_direction(acts: Activations, layer: int) -> np.ndarray:
    """The mean difference chosen - rejected of one block, unit length, float32 [d] (zeros if there is no difference).

    Not a principal component of the differences: centring them would remove exactly this mean.
    """
    difference = acts.chosen[layer].mean(0, dtype=np.float64) - acts.rejected[layer].mean(0, dtype=np.float64)
    length = np.linalg.norm(difference)
    return (difference / length if length > 0 else difference).astype(np.float32)


def calibrate(acts: Activations, layer: int, direction: np.ndarray) -> Calibration:
    """The projections of the chosen and of the rejected mean of one block on ``direction`` [d]."""
    up, down = (float((side[layer] @ direction).mean(dtype=np.float64)) for side in (acts.chosen, acts.rejected))
    return Calibration(up, down)


def project_on(states: np.ndarray, direction: np.ndarray, calibration: Calibration) -> np.ndarray:
    """States [..., d] along ``direction`` [d], -1 at the rejected mean and +1 at the chosen mean: [...]."""
    half = (calibration.chosen - calibration.rejected) / 2
    if half == 0:
        return np.zeros(np.shape(states)[:-1], dtype=np.float32)
    return ((states @ direction - (calibration.chosen + calibration.rejected) / 2) / half).astype(np.float32)


def held_out_projections(
    acts: Activations, *, groups: Sequence[int] | np.ndarray, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Every side's place on the preference axis of a direction fitted without it: float32 [L, 2N], chosen sides first,
    -1 at the training folds' rejected mean and +1 at their chosen mean. Same folds as :func:`score` with the seed."""
    held = make_folds(groups, folds, seed)
    rows = [
        _project_held_out(torch.from_numpy(c), torch.from_numpy(r), held)[0].reshape(-1)
        for c, r in zip(acts.chosen, acts.rejected, strict=True)
    ]
    return np.stack(rows).astype(np.float32)
