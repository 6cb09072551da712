"""The benches measure what they say: same AUC, same states, and ratios that a busy machine does not change much."""

import json

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


def test_coverage_counts_repeats(monkeypatch):
    monkeypatch.setattr(coverage, "REPEATS", 12)
    monkeypatch.setattr(coverage, "WIDTHS", (20,))
    found = coverage.run(QUIET)
    for prompts in (60, 15):
        row = found.details[f"width 20, {prompts} prompts"]
        assert row["low"] <= row["covered"] <= row["high"]
        assert row["covered"] >= 0.6


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
