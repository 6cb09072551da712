"""Directions and pictures: calibrated places, principal components, blocks turned onto each other, densities."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.metrics import roc_auc_score
from test_representations import planted

from workbench import representations as rep


def test_projections_are_calibrated():
    acts, _ = planted([2.0])
    direction = rep.preference_direction(acts, 0)
    scale = rep.calibrate(acts, 0, direction)
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-5)
    assert rep.project_on(acts.chosen[0], direction, scale).mean() == pytest.approx(1, abs=1e-3)
    assert rep.project_on(acts.rejected[0], direction, scale).mean() == pytest.approx(-1, abs=1e-3)


def test_held_out_places_show_no_separation_where_there_is_none():
    """In sample, 40 pairs in 200 dimensions separate perfectly on their own mean difference."""
    acts, _ = planted([0.0, 8.0], pairs=40, width=200)
    places = rep.held_out_projections(acts, groups=np.arange(40))
    assert places.shape == (2, 80)
    none, clear = (roc_auc_score(np.repeat([1, 0], 40), row) for row in places)
    assert abs(none - 0.5) < 0.2
    assert clear > 0.95
    direction = rep.preference_direction(acts, 0)
    assert (acts.chosen[0] @ direction > acts.rejected[0] @ direction).mean() > 0.95


@pytest.mark.parametrize(("pairs", "width"), [(200, 24), (30, 200)])
def test_pca_equals_scikit_learn(pairs, width):
    from sklearn.decomposition import PCA

    acts, _ = planted([6.0], pairs=pairs, width=width)
    found = rep.pca(acts)
    both = np.concatenate([acts.chosen[0], acts.rejected[0]])
    reference = PCA(2, svd_solver="full")
    coords = reference.fit_transform(both)
    np.testing.assert_allclose(found.explained[0], reference.explained_variance_ratio_, rtol=1e-4)
    spread = np.sqrt(np.square(both - both.mean(0)).sum(1).mean())
    np.testing.assert_allclose(np.abs(found.coords[0]), np.abs(coords) / spread, atol=2e-3)


def test_pca_within_a_krylov_space_agrees_with_the_exact_one(monkeypatch):
    from workbench.representations import projection

    acts, _ = planted([8.0], pairs=60, width=50, prompt=0.2)
    exact = rep.pca(acts)
    monkeypatch.setattr(projection, "_EXACT_UP_TO", 10)
    quick = rep.pca(acts)
    np.testing.assert_allclose(quick.coords[..., 0], exact.coords[..., 0], atol=1e-2)
    np.testing.assert_allclose(quick.explained, exact.explained, rtol=0.05)


def rotated_blocks(pairs=80, width=12):
    """Three blocks: states, the same states turned, scaled and reflected, and those with some noise."""
    acts, _ = planted([6.0], pairs=pairs, width=width)
    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
    sides = []
    for side in (acts.chosen[0] * np.linspace(2, 0.5, width), acts.rejected[0] * np.linspace(2, 0.5, width)):
        sides.append(np.stack([side, -3 * side @ turn, side + 0.2 * rng.standard_normal(side.shape)]))
    return replace(acts, chosen=sides[0].astype(np.float32), rejected=sides[1].astype(np.float32))


def test_blocks_are_turned_onto_the_block_before():
    acts = rotated_blocks()
    shown = rep.pictures(acts, rep.held_out_projections(acts, groups=np.arange(80)))
    for name, dims in (("pca", 2), ("pca3", 3)):
        coords = getattr(shown, name).coords
        np.testing.assert_allclose(coords[1], coords[0], atol=2e-3)  # in units of the spread: no scale is left
        for layer in (1, 2):
            plain = np.linalg.norm(coords[layer] - coords[layer - 1])
            turn, _ = orthogonal_procrustes(coords[layer], coords[layer - 1])
            np.testing.assert_allclose(turn, np.eye(dims), atol=1e-3)  # there is nothing left to turn
            assert plain < 0.4 * np.linalg.norm(coords[layer])
        assert (coords[0, :80].mean(0) >= coords[0, 80:].mean(0)).all()
    axis = shown.axis3.coords
    np.testing.assert_allclose(axis[1, :, 1:], axis[0, :, 1:], atol=2e-3)
    np.testing.assert_allclose(np.abs(shown.axis.coords[1, :, 1]), np.abs(shown.axis.coords[0, :, 1]), atol=2e-3)


def test_explained_shares_are_those_of_the_turned_axes():
    acts = rotated_blocks()
    frames = rep.frames(acts)
    shown = rep.pictures(acts, rep.held_out_projections(acts, groups=np.arange(80)), axes=frames)
    for name in ("pca", "pca3"):
        found = getattr(shown, name)
        np.testing.assert_allclose(found.explained, np.square(found.coords).mean(1), rtol=1e-4)
    for layer, frame in enumerate(frames):
        both = np.concatenate([acts.chosen[layer], acts.rejected[layer]])
        values = np.linalg.eigvalsh(np.cov(both.T))[::-1]
        assert shown.pca3.explained[layer].sum() == pytest.approx(values[:3].sum() / values.sum(), rel=1e-3)
        along = (both - both.mean(0)) @ frame.difference.numpy()
        assert shown.axis.explained[layer, 0] == pytest.approx(along.var() / both.var(0).sum(), rel=1e-3)
        assert np.abs(frame.beside.numpy().T @ frame.difference.numpy()).max() < 1e-4


def test_components_beside_a_direction_within_a_krylov_space_agree_with_the_exact_ones(monkeypatch):
    from workbench.representations import projection

    acts = rotated_blocks(width=40)
    exact = rep.frames(acts)
    monkeypatch.setattr(projection, "_EXACT_UP_TO", 4)
    for one, other in zip(exact, rep.frames(acts), strict=True):
        for name in ("components", "beside"):
            a, b = getattr(one, name).numpy(), getattr(other, name).numpy()
            kept = np.square(a.T @ b).sum(0)  # how much of each direction lies in the exact ones' span
            np.testing.assert_allclose(kept, 1, atol=0.03)
        assert np.abs(other.beside.numpy().T @ other.difference.numpy()).max() < 1e-4


@pytest.mark.parametrize("outlier", [1, 300])  # what one feature is larger by, as in large models
def test_directions_in_many_dimensions_are_those_of_a_plain_decomposition(outlier):
    """560 x 600 states, too many to be decomposed whole, against numpy's singular vectors in double precision."""
    import torch

    from workbench.representations import projection

    acts, _ = planted([6.0], pairs=280, width=600, prompt=1.0)
    for side in (acts.chosen, acts.rejected):
        side *= np.arange(1, 601, dtype=np.float32) ** -0.5
        side[..., 0] *= outlier
    (frame,) = rep.frames(acts)
    rows = np.concatenate([acts.chosen[0], acts.rejected[0]]).astype(float)
    rows -= rows.mean(0)
    along = frame.difference.numpy().astype(float)
    rest = rows - np.outer(rows @ along, along) / (along @ along)
    for found, truth, dims in ((frame.components, rows, 3), (frame.beside, rest, 2)):
        directions = np.linalg.svd(truth, full_matrices=False)[2][:dims].T
        np.testing.assert_allclose(np.abs(np.sum(found.numpy() * directions, axis=0)), 1, atol=1e-4)
    states, *_ = projection.centred_states(acts, 0)
    kept, basis = projection.reduced(states, 50, seed=0)
    many = states @ projection.principal_directions(kept, 50, basis)
    sizes = np.linalg.svd(rows, compute_uv=False)[:50]
    np.testing.assert_allclose(torch.linalg.vector_norm(many, dim=0), sizes, rtol=1e-3)


def test_the_preference_axis_holds_the_held_out_places_and_a_component_without_them():
    acts, _ = planted([4.0, 4.0], pairs=100)
    places = rep.held_out_projections(acts, groups=np.arange(100))
    axis = rep.pictures(acts, places).axis
    assert axis.coords.shape == (2, 200, 2)
    np.testing.assert_array_equal(axis.coords[..., 0], places)
    second = axis.coords[0, :, 1]
    assert abs(second[:100].mean() - second[100:].mean()) < 1e-3  # the means differ along the axis only


def test_densities_are_densities():
    acts, _ = planted([0.0, 3.0], pairs=300)
    curves = rep.densities(rep.held_out_projections(acts, groups=np.arange(300)))
    assert [curve["layer"] for curve in curves] == [0, 1]
    for curve in curves:
        assert len(curve["x"]) == len(curve["chosen"]) == len(curve["rejected"]) == 48
        for side in ("chosen", "rejected"):
            assert np.trapezoid(curve[side], curve["x"]) == pytest.approx(1, abs=0.06)
    peak = {side: curves[1]["x"][int(np.argmax(curves[1][side]))] for side in ("chosen", "rejected")}
    assert peak["chosen"] > 0.5 > -0.5 > peak["rejected"]
