"""UMAP, in a file of its own: its compiler alone takes ten seconds."""

import numpy as np
import pytest

from workbench import representations as rep


@pytest.fixture(scope="module")
def acts():
    rng = np.random.default_rng(0)
    states = rng.standard_normal((2, 1, 30, 80)).astype(np.float32)
    states[0] += 2
    return rep.Activations(states[0], states[1], np.arange(30), np.ones((30, 2), dtype=np.int64))


def test_umap_is_seeded_and_keeps_far_groups_apart(acts):
    first, again = (rep.umap_layer(acts, 0, seed=3) for _ in range(2))
    assert first.shape == (60, 2)
    np.testing.assert_array_equal(first, again)
    near = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e9 * np.eye(60)
    same_side = (near.argmin(1) < 30) == (np.arange(60) < 30)
    assert same_side.mean() > 0.9


def test_umap_of_very_few_points(acts):
    few = rep.Activations(acts.chosen[:, :4], acts.rejected[:, :4], acts.pair_ids[:4], acts.lengths[:4])
    found = rep.umap_layer(few, 0)
    assert found.shape == (8, 2)
    assert np.isfinite(found).all()
