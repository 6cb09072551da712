"""Held-out scores: planted directions, chance, independent implementations, grouping, suggestions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics import roc_auc_score, silhouette_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from workbench import representations as rep
from workbench.errors import Stopped, UserError
from workbench.progress import Progress
from workbench.representations.folds import auc_score_interval
from workbench.statistics import wilson


def planted(deltas, pairs=600, width=32, seed=0, prompt=0.0):
    """Activations with unit noise and a mean difference of ``deltas[l]`` along a random direction of each block;
    ``prompt`` is the spread of what both sides of a pair share."""
    rng = np.random.default_rng(seed)
    shape = (len(deltas), pairs, width)
    shared = prompt * rng.standard_normal(shape)
    chosen, rejected = (shared + rng.standard_normal(shape) for _ in range(2))
    directions = rng.standard_normal((len(deltas), width))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shift = np.array(deltas)[:, None, None] / 2 * directions[:, None]
    acts = rep.Activations(
        (chosen + shift).astype(np.float32),
        (rejected - shift).astype(np.float32),
        np.arange(pairs),
        np.ones((pairs, 2), dtype=np.int64),
        cut=np.zeros((pairs, 2), dtype=bool),
    )
    return acts, directions


def normal(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def out_of_fold(make, acts, layer, folds):
    """The mean AUC over folds of a scikit-learn classifier on standardised features."""
    values = []
    for train, out in folds:
        x = np.concatenate([acts.chosen[layer][train], acts.rejected[layer][train]])
        new = np.concatenate([acts.chosen[layer][out], acts.rejected[layer][out]])
        model = make_pipeline(StandardScaler(), make()).fit(x, np.repeat([1, -1], len(train)))
        values.append(roc_auc_score(np.repeat([1, 0], len(out)), model.decision_function(new)))
    return np.mean(values)


# -- scores ------------------------------------------------------------------------------------------------------------


def test_planted_directions_are_found_with_the_analytic_auc():
    deltas = [0.0, 0.0, 1.0, 2.0, 3.0]
    acts, directions = planted(deltas, pairs=2000)
    scores = rep.score(acts, groups=np.arange(2000), permutations=40)
    for row, delta in zip(scores, deltas, strict=True):
        truth = normal(delta / math.sqrt(2))
        assert row.probe_auc == pytest.approx(truth, abs=0.02)
        assert row.probe_auc_low - 0.02 <= truth <= row.probe_auc_high + 0.02
        assert row.paired_accuracy == pytest.approx(truth, abs=0.03)  # the sides are independent here
        assert row.fisher == pytest.approx(delta**2, rel=0.15, abs=0.02)
        assert row.d_prime == pytest.approx(delta, abs=0.12)
        assert row.explained == pytest.approx((1 + delta**2 / 4) / (32 + delta**2 / 4), rel=0.1)
        assert row.above_chance == (delta > 0)
    for layer in (3, 4):
        assert rep.preference_direction(acts, layer) @ directions[layer] > 0.99


@pytest.mark.parametrize("width", [20, 60])  # fewer and more dimensions than states that are trained on
def test_the_band_is_chance_and_covers_shuffled_labels(width):
    """Separable states whose labels are swapped at random, again and again: 95% of the AUCs lie in the band of 95%."""
    acts, _ = planted([2.0], pairs=60, width=width, prompt=1.0)
    inside, repeats = 0, 60
    for seed in range(repeats):
        swap = np.random.default_rng(seed).random(60) < 0.5
        sides = np.where(swap[:, None], (acts.rejected, acts.chosen), (acts.chosen, acts.rejected))
        (row,) = rep.measure(*sides, np.arange(60), permutations=100, seed=seed + 1000).scores
        assert row.null_auc_p025 <= row.null_auc_p05 < 0.5 < row.null_auc_p95 <= row.null_auc_p975
        assert row.null_auc_mean == pytest.approx(0.5, abs=0.03)
        inside += row.null_auc_p025 <= row.probe_auc <= row.null_auc_p975
    assert inside >= 53  # 57 expected of 60; fewer than 53 would be a chance of 1 in 100


def test_shuffled_labels_of_separable_states_read_chance():
    acts, _ = planted([3.0], pairs=300)
    swap = np.random.default_rng(5).random(300) < 0.5
    mixed = replace(
        acts,
        chosen=np.where(swap[:, None], acts.rejected, acts.chosen),
        rejected=np.where(swap[:, None], acts.chosen, acts.rejected),
    )
    (row,) = rep.score(mixed, groups=np.arange(300))
    assert row.null_auc_p025 <= row.probe_auc <= row.null_auc_p975


@pytest.mark.parametrize(("pairs", "width", "delta"), [(300, 32, 1.0), (200, 300, 4.0)])
def test_the_probe_equals_independent_classifiers(pairs, width, delta):
    acts, _ = planted([delta], pairs=pairs, width=width, prompt=1.5)
    groups = np.arange(pairs)
    (row,) = rep.score(acts, groups=groups, permutations=20)
    folds = rep.make_folds(groups)
    ridge = out_of_fold(lambda: RidgeClassifierCV(np.logspace(-1, 5, 13)), acts, 0, folds)
    logistic = out_of_fold(lambda: LogisticRegression(C=0.01, max_iter=500), acts, 0, folds)
    assert row.probe_auc == pytest.approx(max(ridge, logistic), abs=0.02)


def standardised(acts):
    """Both sides of the first block with the mean and spread of all its states, float64 [2, N, d]."""
    both = np.stack([acts.chosen[0], acts.rejected[0]]).astype(float)
    return (both - both.mean((0, 1))) / both.std((0, 1))


def unit(z, train):
    """What a ridge strength of 1 is: the mean eigenvalue of the training states, or of all where there are many
    dimensions."""
    if 2.4 * z.shape[2] >= 2 * z.shape[1]:
        return np.square(z).sum() / min(2 * z.shape[1], z.shape[2])
    return np.square(z[:, train] - z[:, train].mean((0, 1))).sum() / min(2 * len(train), z.shape[2])


def plain_ridge(x, y, new, penalty):
    """Weights by numpy's solver around the training mean, and what they say of ``new``."""
    centre = x.mean(0)
    z = x - centre
    return (new - centre) @ np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ y)


@pytest.mark.parametrize("width", [10, 60, 120])  # by covariances, and by inner products
def test_ridge_scores_equal_a_plain_solution(width):
    """Every fold's scores, for the true and for swapped labels, against numpy with the strength that was chosen."""
    import torch

    from workbench.representations import probe

    acts, _ = planted([1.0], pairs=50, width=width, prompt=1.0)
    c, r = (torch.from_numpy(side[0]) for side in (acts.chosen, acts.rejected))
    signs = torch.ones(50, 3)
    signs[::3, 1] = signs[::2, 2] = -1
    held = rep.make_folds(np.arange(50))
    z = standardised(acts)
    seen = []
    for fold in probe.held_out_scores(c, r, held, signs):
        out = fold.pairs.numpy()
        train = np.setdiff1d(np.arange(50), out)
        seen.extend(out)
        for column in range(3):
            y = signs[train, column].numpy()
            for side, said in ((0, fold.chosen), (1, fold.rejected)):
                x, y2 = np.concatenate([z[0, train], z[1, train]]), np.concatenate([y, -y])
                truth = plain_ridge(x, y2, z[side, out], float(fold.strength[column]) * unit(z, train))
                np.testing.assert_allclose(said[:, column].numpy(), truth, rtol=1e-3, atol=2e-4)
    assert sorted(seen) == list(range(50))


@pytest.mark.parametrize("width", [12, 40, 90])
def test_leaving_a_pair_out_in_closed_form_equals_refitting(width):
    """The strength chosen by the formula is the one chosen by really refitting without each training pair."""
    import torch

    from workbench.representations import probe

    agreed = 0
    for seed in range(3):
        acts, _ = planted([1.2], pairs=30, width=width, seed=seed, prompt=1.0)
        c, r = (torch.from_numpy(side[0]) for side in (acts.chosen, acts.rejected))
        z = standardised(acts)
        strengths = probe.STRENGTHS if width < 20 else probe._DUAL_STRENGTHS
        for fold in probe.held_out_scores(c, r, rep.make_folds(np.arange(30)), torch.ones(30, 1)):
            train = np.setdiff1d(np.arange(30), fold.pairs.numpy())
            ratios = []
            for strength in strengths:
                good = []
                for pair in train:
                    rest = train[train != pair]
                    x, y = np.concatenate([z[0, rest], z[1, rest]]), np.repeat([1.0, -1.0], len(rest))
                    said = plain_ridge(x, y, z[:, pair], strength * unit(z, train))
                    good.extend([said[0], -said[1]])
                ratios.append(np.sum(good) / np.sqrt(np.square(good).sum()))
            chosen = np.argmin(np.abs(np.array(strengths) - float(fold.strength[0])))
            assert ratios[chosen] == pytest.approx(max(ratios), rel=1e-3)
            agreed += int(chosen == np.argmax(ratios))
    assert agreed >= 14  # of 15; two strengths may tie


def test_auc_equals_scikit_learn_with_ties():
    import torch

    from workbench.representations import probe

    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(0, 6, (40, 3)).astype(np.float32), rng.integers(0, 5, (30, 3)).astype(np.float32)
    mine = probe.auc(torch.from_numpy(chosen), torch.from_numpy(rejected))
    for column in range(3):
        truth = roc_auc_score(np.repeat([1, 0], [40, 30]), np.concatenate([chosen[:, column], rejected[:, column]]))
        assert float(mine[column]) == pytest.approx(truth)


def test_silhouette_equals_scikit_learn():
    from workbench.representations.separability import _silhouette

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(40) + 1, rng.standard_normal(40)
    truth = silhouette_score(np.concatenate([a, b])[:, None], np.repeat([1, 0], 40))
    assert _silhouette(a, b) == pytest.approx(truth)


@pytest.mark.parametrize(("pairs", "width"), [(40, 300), (620, 600)])
def test_hard_numbers_are_scored_too(pairs, width):
    """Copies of a few texts, one feature a million times larger than the rest, one constant, one for a single pair."""
    acts, _ = planted([0.0], pairs=pairs, width=width)
    for side in (acts.chosen, acts.rejected):
        side[0, 5:] = side[0, np.arange(5, pairs) % 5]
        side[0, :, 0] *= 1e6
        side[0, :, 1] = 7.0
        side[0, 3, 2] = 1e4
    found = rep.measure(acts.chosen, acts.rejected, np.arange(pairs) % 5, permutations=20)
    assert np.isfinite(found.nulls).all() and np.isfinite(found.places).all()
    assert 0 <= found.scores[0].probe_auc_low <= found.scores[0].probe_auc <= found.scores[0].probe_auc_high <= 1
    assert np.isfinite(rep.pictures(acts, found.places).pca3.coords).all()


def test_a_block_that_rounding_spoils_is_fitted_in_double_precision(monkeypatch):
    from workbench.representations import probe

    acts, _ = planted([2.0], pairs=60, width=80)
    monkeypatch.setattr(probe, "_DOUBLE_UP_TO", 0)
    plain = rep.score(acts, groups=np.arange(60), permutations=20)
    fit, kinds = probe._best_dual, []

    def spoilt(gram, *args):
        kinds.append(str(gram.dtype))
        if len(kinds) == 1:
            raise probe.torch.linalg.LinAlgError("not positive definite")
        return fit(gram, *args)

    monkeypatch.setattr(probe, "_best_dual", spoilt)
    (again,) = rep.score(acts, groups=np.arange(60), permutations=20)
    assert kinds == ["torch.float32", "torch.float64"]
    assert again.probe_auc == pytest.approx(plain[0].probe_auc, abs=2e-3)


def test_identical_sides_read_exactly_chance():
    acts, _ = planted([0.0], pairs=30)
    acts.rejected = acts.chosen.copy()
    (row,) = rep.score(acts, groups=np.arange(30), permutations=20)
    assert row.probe_auc == row.paired_accuracy == 0.5
    assert row.null_auc_p05 == row.null_auc_p95 == 0.5
    assert row.fisher == 0.0


def test_blocks_side_by_side_on_several_cores_give_the_same():
    import torch

    acts, _ = planted([0.0, 1.0, 2.0], pairs=40)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(rep.measure(acts.chosen, acts.rejected, np.arange(40), permutations=20))
            assert torch.get_num_threads() == threads
        for work in (rep.frames, lambda acts, progress: rep.score(acts, groups=range(40), progress=progress)):
            events = []
            with pytest.raises(Stopped):  # asked to stop once the first block is done
                work(acts, progress=Progress(events.append, stopping=lambda events=events: len(events) == 2))
            assert events[-1].step == 1
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [row.layer for row in found[1].scores] == [0, 1, 2]
    for one, two in zip(found[0].scores, found[1].scores, strict=True):
        assert one.probe_auc == pytest.approx(two.probe_auc, abs=2e-3)
    np.testing.assert_allclose(found[0].places, found[1].places, atol=1e-4)


def test_places_and_the_share_along_them_equal_a_plain_computation():
    """Fold by fold in double precision, with prompts of several pairs and a mean far from 0."""
    acts, _ = planted([2.0], pairs=90, width=40, prompt=1.0)
    chosen, rejected = (side[0] + np.float32(5) for side in (acts.chosen, acts.rejected))
    groups = np.random.default_rng(0).integers(0, 40, 90)
    found = rep.measure(chosen[None], rejected[None], groups, permutations=20)
    places, along, total = np.zeros((2, 90)), 0.0, 0.0
    for train, out in rep.make_folds(groups):
        up, down = (side[train].astype(float).mean(0) for side in (chosen, rejected))
        direction = (up - down) / np.linalg.norm(up - down)
        for row, side in enumerate((chosen, rejected)):
            half = (up - down) @ direction / 2
            places[row, out] = ((side[out] - (up + down) / 2) @ direction) / half
        states = np.concatenate([chosen[out], rejected[out]]).astype(float)
        along += (states @ direction).var() * len(states)
        total += states.var(0).sum() * len(states)
    np.testing.assert_allclose(found.places[0], places.reshape(-1), atol=1e-4)
    assert found.scores[0].explained == pytest.approx(along / total, rel=1e-4)


def test_resamples_draw_prompts_with_replacement():
    from workbench.representations.separability import _resamples

    groups = np.array([0, 0, 1, 2, 2, 3])
    times = _resamples(groups, np.random.default_rng(4))
    draws = np.random.default_rng(4).integers(0, 4, size=(1000, 4))
    for row in (0, 1, 999):
        assert times[row].tolist() == [(draws[row] == group).sum() for group in groups]


def test_repeatable_and_seeded():
    acts, _ = planted([1.0], pairs=60)
    first, again, other = (rep.score(acts, groups=np.arange(60), permutations=20, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


# -- grouping ----------------------------------------------------------------------------------------------------------


def test_prompts_never_straddle_folds_and_folds_are_even():
    groups = np.random.default_rng(0).integers(0, 40, 200)
    folds = rep.make_folds(groups, 5, seed=3)
    for train, out in folds:
        assert not set(groups[train]) & set(groups[out])
        assert len(out) == pytest.approx(40, abs=6)
    assert sorted(np.concatenate([out for _, out in folds])) == list(range(200))


def test_copies_of_a_pair_do_not_leak_into_its_own_score():
    acts, _ = planted([0.0], pairs=40, width=60)
    copies = np.repeat(np.arange(40), 5)
    many = replace(
        acts,
        chosen=acts.chosen[:, copies],
        rejected=acts.rejected[:, copies],
        pair_ids=copies,
        lengths=acts.lengths[copies],
    )
    (leaking,) = rep.score(many, groups=np.arange(200), permutations=20)
    (honest,) = rep.score(many, groups=copies, permutations=40)
    assert leaking.probe_auc > 0.95  # what grouping prevents
    assert honest.null_auc_p025 <= honest.probe_auc <= honest.null_auc_p975


def test_few_prompts_mean_fewer_folds_wide_intervals_or_a_clear_refusal():
    acts, _ = planted([50.0], pairs=4)
    (row,) = rep.score(acts, groups=np.arange(4), permutations=20)
    assert row.probe_auc == 1.0
    assert row.probe_auc_low < 0.6  # a bootstrap would claim certainty
    with pytest.raises(UserError, match="at least 4 different prompts, but these pairs have 3"):
        rep.score(acts, groups=np.array([0, 1, 2, 2]), permutations=20)
    with pytest.raises(UserError, match="at least 20 permutations"):
        rep.score(acts, groups=np.arange(4), permutations=5)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10)[0] == 0.0
    low, high = auc_score_interval(1.0, 600)
    assert 0.99 < low < 1.0 == high
    rng, truth, inside = np.random.default_rng(0), normal(1.5 / math.sqrt(2)), 0
    for _ in range(200):
        a, b = rng.standard_normal(50) + 1.5, rng.standard_normal(50)
        low, high = auc_score_interval((a[:, None] > b).mean(), 50)
        inside += low <= truth <= high
    assert inside >= 184


# -- what the scores mean ----------------------------------------------------------------------------------------------


def rows(*aucs, band=0.55):
    acts, _ = planted([0.0], pairs=8)
    (blank,) = rep.score(acts, groups=np.arange(8), permutations=20)
    return [replace(blank, layer=k, probe_auc=value, null_best_p95=band) for k, value in enumerate(aucs)]


@pytest.mark.parametrize(
    ("aucs", "layers"),
    [
        ((0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.985), [5, 7]),
        ((0.6, 0.9, 0.93, 0.97, 0.96, 0.98, 0.9, 0.85), [3, 5]),
        ((1.0,) * 8, [4, 6]),
        ((1.0, 1.0, 0.99, 0.99, 0.99, 0.99, 0.99, 0.98), [4, 6]),
        ((1.0,) * 32, [19, 27]),
        ((0.9,), [0]),
        ((0.8, 0.9), [0, 1]),
        ((0.5, 0.9), [1]),
        ((0.5, 0.51), [1]),
    ],
)
def test_suggested_blocks(aucs, layers):
    suggestion = rep.suggest(rows(*aucs))
    assert suggestion.layers == layers
    assert ("Nothing is readable" in suggestion.reason) == (max(aucs) < 0.55)
    assert suggestion.reason.endswith(".")


@pytest.mark.parametrize(
    ("aucs", "sentence"),
    [
        ((0.5, 0.7, 0.85, 0.91, 0.93), "Preference is linearly readable from block 3 on"),
        ((0.5, 0.7, 0.95, 0.91, 0.6), "Preference is linearly readable at blocks 2 to 3"),
        ((0.5, 0.52, 0.7, 0.71), "Preference is weakly readable from block 2 on"),
        ((0.5, 0.52), "No block tells chosen from rejected better than chance"),
        ((0.95,), "Preference is linearly readable in its only block"),
        ((0.5, 0.95, 0.6), "Preference is linearly readable at block 1"),
    ],
)
def test_the_finding(aucs, sentence):
    assert rep.finding(rows(*aucs)) == sentence


def test_length_auc():
    lengths = np.array([[5, 3], [6, 2], [4, 4]])
    truth = roc_auc_score([1, 1, 1, 0, 0, 0], [5, 6, 4, 3, 2, 4])
    found = rep.length_auc(lengths)
    assert found["value"] == pytest.approx(truth)
    assert found["low"] < truth < found["high"]


# -- extremes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [0.0, 3.7])
def test_states_that_never_vary_are_no_error(constant):
    acts, _ = planted([0.0], pairs=20)
    acts.chosen[:], acts.rejected[:] = constant, constant
    (row,) = rep.score(acts, groups=np.arange(20), permutations=20)
    assert row.probe_auc == 0.5
    assert not rep.pca(acts).coords.any()
    rep.densities(rep.held_out_projections(acts, groups=np.arange(20)))


@pytest.mark.parametrize("count", [10, 20, 200])
def test_d_prime_of_few_pairs_is_that_of_many(count):
    import torch

    from workbench.representations.separability import _along_difference

    rng, held, found = np.random.default_rng(3), rep.make_folds(np.arange(count)), []
    for _ in range(400):
        chosen, rejected = (torch.from_numpy(rng.normal(place, 1, (count, 1))) for place in (4.0, 0.0))
        found.append(_along_difference(chosen, rejected, held)[0]["d_prime"])
    assert np.mean(found) == pytest.approx(4, abs=0.5 if count == 10 else 0.15)
