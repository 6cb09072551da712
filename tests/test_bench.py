"""The benches measure what they say: same AUC, same states, same losses, and ratios that a busy machine does not change
much. Goals are for idle machines and the stated work: here it is only small."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from workbench import bench
from workbench.bench import capture, compare, coverage, page, scores, step1, step3, synthetic
from workbench.cli import main
from workbench.errors import UserError
from workbench.progress import QUIET

KEYS = {"name", "over_floor", "speedup_over_naive", "memory_over_naive", "seconds", "tokens_per_second"}


def test_scores_are_many_times_faster_than_the_naive_way_and_agree(monkeypatch):
    for name, value in (("PAIRS", 600), ("BLOCKS", 8), ("WIDTH", 128), ("REPEATS", 1)):
        monkeypatch.setattr(scores, name, value)
    found = scores.run("scores", QUIET)
    # of one timing each it is 19 to 30 at this size: the goal of 20 is the benchmark's
    assert found.details["speedup_of_the_auc_alone"] >= 8
    assert found.details["largest_auc_difference"] < 0.01
    assert found.memory_over_naive is found.over_floor is found.tokens_per_second is None


def test_capture_keeps_little_and_gives_the_same_states(monkeypatch):
    monkeypatch.setattr(capture, "SAMPLE", {"cpu": 10, "cuda": 10})
    monkeypatch.setattr(capture, "REPEATS", 1)
    found = capture.run("capture", QUIET, blocks=3, width=64)
    assert found.details["largest_difference"] < 1e-4
    assert found.tokens_per_second > 0 and found.over_floor > 0.3


@pytest.mark.parametrize("method", ["scit", "dual"])
def test_step_3_does_what_the_naive_way_does(monkeypatch, method):
    small(monkeypatch, step3)
    found = step3.run("step3", QUIET, method=method)
    losses = found.details["losses"]
    assert losses["ours"] == pytest.approx(losses["naive"], rel=1e-4)  # of the same batch, before any step
    weights = found.details["weight_bytes"]
    assert weights["naive"] == (2 if method == "scit" else 3) * weights["ours"]
    assert found.details["speedup_with_known_targets"] > 1 and found.speedup_over_naive > 1
    assert found.details["target_blocks"] == [2]


def test_step_1_does_what_the_naive_way_does(monkeypatch):
    small(monkeypatch, step1)
    found = step1.run("step1_scit", QUIET)
    assert found.details["losses"]["ours"] == pytest.approx(found.details["losses"]["naive"], rel=1e-4)
    assert found.speedup_over_naive > 1


def small(monkeypatch, module):
    for name, value in (("BLOCKS", 4), ("WIDTH", 64), ("BATCH", 2), ("STEPS", 2), ("REPEATS", 1)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(step3, "BATCH", 2)
    monkeypatch.setattr(step3, "BLOCKS", 4)
    monkeypatch.setattr(step3, "WIDTH", 64)


def test_compare_answers_to_the_end_on_both_sides(monkeypatch):
    for name, value in (("BLOCKS", 3), ("WIDTH", 64), ("TOKENS", 6), ("REPEATS", 1)):
        monkeypatch.setattr(compare, name, value)
    found = compare.run("compare_16", QUIET, prompts=5)
    assert found.details["tokens_of_an_answer"] == [6, 6]
    assert found.goals["over_floor"] in (1.15, 1.6) and found.over_floor > 0.5


def test_the_page_starts_and_serves_many_at_once(monkeypatch):
    monkeypatch.setattr(page, "REPEATS", 1)
    monkeypatch.setattr(page, "VISITORS", 4)
    found = page.run("page_start", QUIET)
    assert found.seconds > 0.5 and found.over_floor == pytest.approx(found.seconds / found.details["hello_seconds"])
    assert found.details["together_over_in_turn"] < 3


def test_a_page_that_does_not_start_is_told():
    with pytest.raises(UserError, match="did not start"), page.serving(["-c", "raise SystemExit(3)"]):
        pass


def test_lengths_are_those_of_real_feedback():
    prompts, responses = np.array(synthetic.feedback_lengths(4000)).T
    assert np.median(prompts) == pytest.approx(100, rel=0.1) and prompts.max() == 256
    assert np.median(responses) == pytest.approx(250, rel=0.1) and responses.max() == 512


def test_the_peak_is_that_of_the_work_and_not_of_what_came_before():
    def take(megabytes):
        np.ones(megabytes * 2**17).sum()

    take(400)
    found = synthetic.peak_bytes(lambda: take(100))
    assert found is None or 95e6 < found < 150e6


def test_a_goal_is_reached_from_its_own_side():
    goals = {"over_floor": 1.2, "speedup_over_naive": 2.0, "memory_over_naive": 0.5}
    found = bench.Measure("x", 1.0, over_floor=1.1, speedup_over_naive=1.9, goals=goals)
    assert found.missed == ["speedup_over_naive", "memory_over_naive"]  # what was not measured is not reached
    assert bench.Measure("x", 1.0, over_floor=1.3, speedup_over_naive=2.1, goals=goals).missed[0] == "over_floor"


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
    found = coverage.run("coverage", QUIET)
    settings = [(width, prompts) for width in coverage.WIDTHS for prompts in (60, 15)]
    assert [(shape, prompts) for shape, prompts, *_ in asked[::12]] == [((1, 60, w), p) for w, p in settings]
    assert len(asked) == 48 and len({seed for *_, seed in asked}) == 12
    for width, prompts in settings:
        row = found.details[f"width {width}, {prompts} prompts"]
        assert row["covered"] == 0.25 and row["low"] < 0.25 < row["high"]


def test_swapped_labels_mostly_lie_in_their_band():
    assert 8 <= coverage.covered(20, 60, 12, QUIET) <= 12  # 11.4 expected


def test_the_command_prints_measures_and_refuses_unknown_names(monkeypatch, capfd):
    def made(name, progress):
        return bench.Measure(name, 0.5, speedup_over_naive=30.0, goals={"speedup_over_naive": 20, "seconds": 0.1})

    monkeypatch.setattr(scores, "run", made)
    assert main(["bench", "scores", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)["measures"]
    assert set(row) >= KEYS
    assert (row["name"], row["memory_over_naive"], row["missed"]) == ("scores", None, ["seconds"])
    assert main(["bench", "scores"]) == 0
    told = capfd.readouterr().out
    assert "speedup_over_naive at least 20: 30, reached" in told and "seconds at most 0.1: 0.5, missed" in told
    assert main(["bench", "nonsense"]) == 2
    assert "choose among capture, " in capfd.readouterr().err
    with pytest.raises(UserError, match="no bench 'x'"):
        bench.run(["x"])
