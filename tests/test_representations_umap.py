"""UMAP, in a file of its own: its compiler alone takes ten seconds."""

import itertools

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from workbench import representations as rep
from workbench.errors import UserError
from workbench.progress import Progress


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


def test_blocks_laid_out_together_agree_better_than_one_by_one():
    """Slowly changing blocks of several groups: a point's way from block to block, once each picture is turned onto the
    one before."""
    rng = np.random.default_rng(1)
    first = 6 * np.repeat(rng.standard_normal((6, 12)), 10, axis=0) + rng.standard_normal((60, 12))
    blocks = [first.astype(np.float32)]
    for _ in range(2):
        blocks.append(blocks[-1] + 0.3 * rng.standard_normal(first.shape).astype(np.float32))
    states = np.stack(blocks)
    many = rep.Activations(states[:, :30], states[:, 30:], np.arange(30), np.ones((30, 2), dtype=np.int64))

    def ways(pictures):
        lengths = []
        for before, now in itertools.pairwise(pictures):
            before, now = before - before.mean(0), now - now.mean(0)
            turn, _ = orthogonal_procrustes(now, before)
            lengths.append(np.linalg.norm(now @ turn - before, axis=1).mean() / np.linalg.norm(before, axis=1).mean())
        return np.array(lengths)

    events = []
    together = rep.umap_aligned(many, seed=3, progress=Progress(events.append))
    assert together.shape == (3, 60, 2)
    assert np.square(together).sum(2).mean() == pytest.approx(1, abs=1e-4)
    apart = np.stack([rep.umap_layer(many, layer, seed=3) for layer in range(3)])
    assert ways(together).sum() < 0.6 * ways(apart).sum()
    plain = np.linalg.norm(np.diff(together, axis=0), axis=2).mean(1) / np.linalg.norm(together[:-1], axis=2).mean(1)
    assert plain.sum() < ways(apart).sum()  # even without turning anything
    assert {event.stage for event in events} == {"umap"}
    assert (events[0].step, events[-1].step, events[-1].total) == (0, 6, 6)
    np.testing.assert_array_equal(rep.umap_aligned(many, [0, 1, 2], seed=3), together)


def test_few_points_and_single_blocks_are_laid_out_too(acts):
    few = rep.Activations(acts.chosen[:, :4], acts.rejected[:, :4], acts.pair_ids[:4], acts.lengths[:4])
    assert np.isfinite(rep.umap_aligned(few)).all()
    assert rep.umap_aligned(acts).shape == (1, 60, 2)
    with pytest.raises(UserError, match="no block"):
        rep.umap_aligned(acts, [])
