"""The benches measure what they say: same AUC, same states, and ratios that a busy machine does not change much."""

import json
from types import SimpleNamespace

import pytest

from workbench import bench
from workbench.bench import capture, coverage, scores
from workbench.cli import main
from workbench.errors import UserError
from workbench.progress import QUIET

KEYS = {"name", "over_floor", "speedup_over_naive", "memory_over_naive", "seconds", "tokens_per_second"}


def test_scores_are_many_times_faster_than_the_naive_way_and_agree(monkeypatch):
    monkeypatch.setattr(scores, "COMPARED", 1)
    found = scores.run(QUIET)
    assert found.speedup_over_naive >= 20
    assert found.details["largest_auc_difference"] < 0.01
    assert found.memory_over_naive is found.over_floor is found.tokens_per_second is None


def test_capture_keeps_little_and_gives_the_same_states(monkeypatch):
    monkeypatch.setattr(capture, "PAIRS", 8)
    monkeypatch.setattr(capture, "REPEATS", 1)
    found = capture.run(QUIET)
    assert found.details["largest_difference"] < 1e-4
    assert found.memory_over_naive < 0.2
    assert found.tokens_per_second > 0 and found.over_floor > 0.3


def test_coverage_counts_the_repeats_that_lie_in_their_band(monkeypatch):
    """What is measured is given: repeat n lies above, in or below its band, so that a quarter is covered."""
    asked = []

    def measure(chosen, rejected, groups, permutations, seed):
        asked.append((chosen.shape, len(set(groups)), permutations, seed))
        auc = (0.4, 0.39, 0.61, 0.9)[len(asked) % 4]  # one is on the edge, which counts as within
        row = SimpleNamespace(null_auc_p025=0.4, probe_auc=auc, null_auc_p975=0.6)
        return SimpleNamespace(scores=[row])

    monkeypatch.setattr("workbench.representations.measure", measure)
    monkeypatch.setattr(coverage, "REPEATS", 12)
    found = coverage.run(QUIET)
    settings = [(width, prompts) for width in coverage.WIDTHS for prompts in (60, 15)]
    assert [(shape, prompts) for shape, prompts, *_ in asked[::12]] == [((1, 60, w), p) for w, p in settings]
    assert len(asked) == 48 and len({seed for *_, seed in asked}) == 12
    for width, prompts in settings:
        row = found.details[f"width {width}, {prompts} prompts"]
        assert row["covered"] == 0.25 and row["low"] < 0.25 < row["high"]


def test_swapped_labels_mostly_lie_in_their_band():
    assert 8 <= coverage.covered(20, 60, 12, QUIET) <= 12  # 11.4 expected


def test_the_command_prints_measures_and_refuses_unknown_names(monkeypatch, capfd):
    monkeypatch.setattr(scores, "run", lambda progress: bench.Measure("scores", 0.5, speedup_over_naive=30.0))
    assert main(["bench", "scores", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)["measures"]
    assert set(row) >= KEYS
    assert (row["name"], row["memory_over_naive"]) == ("scores", None)
    assert main(["bench", "scores"]) == 0
    assert "scores" in capfd.readouterr().out
    assert main(["bench", "nonsense"]) == 2
    assert "choose among scores, capture" in capfd.readouterr().err
    with pytest.raises(UserError, match="no bench 'x'"):
        bench.run(["x"])
