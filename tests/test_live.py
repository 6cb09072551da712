"""What one sees while step 3 works: the figures of a look, when answers count as fallen apart, and what is kept then."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny import PAIRS, tiny_model

from workbench.errors import Stopped, UserError
from workbench.progress import Progress
from workbench.rahf import align as align_module
from workbench.rahf import instruct as instruct_module
from workbench.rahf import pipeline
from workbench.rahf.adapters import adapter_state
from workbench.rahf.align import reached
from workbench.rahf.collapse import Guard
from workbench.rahf.config import RunConfig
from workbench.statistics import wilson

QUICK = {
    "instruct_steps": 2, "align_steps": 10, "instruct_batch": 4, "align_batch": 4, "evaluate_every": 2, "alpha": 0.5,
    "checkpoint_every": 3, "evaluate_prompts": 4, "max_new_tokens": 3, "force": True, "device": "cpu", "judge": "none",
    "positive": "be kind", "negative": "be lazy", "layers": (0,), "prompt_tokens": 32, "completion_tokens": 16,
}  # fmt: skip
SHARES = ("preference_accuracy", "coherence", "kl_from_base")


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """A saved tiny model and a file of pairs."""
    folder = tmp_path_factory.mktemp("material")
    loaded = tiny_model(layers=2, width=16)
    loaded.model.save_pretrained(folder / "model")
    loaded.tokenizer.save_pretrained(folder / "model")
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in PAIRS[:16]))
    return {"model": str(folder / "model"), "pairs": str(folder / "pairs.jsonl")}


def run(folder, where, emit=None, stopping=None, **settings):
    return pipeline.align(RunConfig.from_dict({**QUICK, **where, **settings}), folder, Progress(emit, stopping))


def saved(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def coherent(share, prompts=64):
    low, high = wilson(share * prompts, prompts)
    return {"coherence": share, "coherence_low": low, "coherence_high": high, "base_coherence": 0.95}


@pytest.mark.parametrize(
    ("shares", "ends_at", "kept"),
    [
        ([0.94, 0.95, 0.9, 0.93], None, 4),
        ([0.94, 0.3, 0.94, 0.3, 0.9], None, 5),  # one unlucky look ends nothing
        ([0.94, 0.3, 0.28, 0.9], 3, 1),
        ([0.94, 0.92, 0.02], 3, 2),  # far gone: at once
        ([0.94, 0.92, 0.3], 3, 2),  # the last look has none after it
        ([0.94, 0.6, 0.6, 0.6], None, 1),  # half as coherent is not sound, but not fallen apart either
        ([0.3, 0.3], 2, 0),
    ],
)
def test_what_counts_as_a_collapse_and_which_adapter_is_kept(shares, ends_at, kept):
    guard, said = Guard(), None
    for step, share in enumerate(shares, 1):
        said = guard.look(step, coherent(share), step == len(shares), lambda step=step: {"a": torch.tensor([step])})
        if said:
            break
    assert (step if said else None) == ends_at and guard.sound == kept
    assert not kept or int(guard.weights["a"]) == kept
    assert not said or (f"step {ends_at}" in said and "No look before" in said) is (kept == 0)


def test_few_prompts_do_not_prove_a_collapse_that_is_not_there():
    guard = Guard()
    for step in range(1, 6):
        assert guard.look(step, coherent(0.5, prompts=4), False, dict) is None
    assert Guard().look(1, coherent(0.0) | {"base_coherence": 0.0}, False, dict) is None  # nothing to fall from


def test_reached_is_the_length_of_the_move_over_the_length_of_the_state():
    foundation = torch.tensor([[[3.0, 4.0], [0.0, 5.0]]])
    moved = foundation + torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    assert reached(moved, foundation).tolist() == pytest.approx([(1 + 2) / 2 / 5])


@pytest.fixture
def falling(monkeypatch):
    """Looks that find answers sound up to step ``sound[0]`` and fallen apart afterwards; and the weights seen at each."""
    seen, sound, now, measured, fitted = {}, [4], [0], pipeline.measure, pipeline.fit

    def measure(loaded, name, speaker, *rest):
        found = measured(loaded, name, speaker, *rest)
        if speaker.adapter is not None:
            seen.setdefault(now[0], adapter_state(loaded, "aligned"))
        share = coherent(0.94 if speaker.adapter is None or now[0] <= sound[0] else 0.3)
        figures = found.figures | {name: value for name, value in share.items() if name != "base_coherence"}
        return replace(found, figures=figures)

    def fit(*given):
        def at(step, adapter):
            now[0] = step
            return given[-1](step, adapter)

        return fitted(*given[:-1], at)

    monkeypatch.setattr(pipeline, "measure", measure)
    monkeypatch.setattr(pipeline, "fit", fit)
    return seen, sound


def test_a_run_whose_answers_fall_apart_ends_with_its_last_sound_adapter(where, tmp_path, falling):
    events = []
    result = run(tmp_path / "whole", where, events.append)
    assert (result["ended"], result["steps"], result["steps_done"]) == ("collapse", 4, 8)
    assert "Answers fell apart by step 8" in result["collapse"] and "step 4" in result["collapse"]
    kept, wanted = saved(tmp_path / "whole"), falling[0][4]
    assert all(torch.equal(kept[name], tensor) for name, tensor in wanted.items())
    told = [event for event in events if event.metrics.get("collapsed")]
    assert [event.step for event in told] == [8] and told[0].metrics["collapsed"] == result["collapse"]
    looks = [event for event in events if event.stage == "align" and "coherence" in event.metrics]
    assert [event.step for event in looks] == [0, 2, 4, 6, 8]
    for event in looks:
        told = event.metrics
        assert all(told[f"{name}_low"] <= told[name] <= told[f"{name}_high"] for name in SHARES)
        assert told["mean_tokens"] > 0 and told["base_mean_tokens"] > 0 and len(told["samples"]) == 4
        assert "base_coherence" in told and "memory_bytes" in told
    assert (
        looks[0].metrics["kl_from_base"] == 0
        and looks[0].metrics["mean_tokens"] == looks[0].metrics["base_mean_tokens"]
    )
    steps = [event.metrics for event in events if event.stage == "align" and "loss" in event.metrics]
    assert len(steps) == 8 and all({"fit", "reached", "grad_norm", "learning_rate"} <= set(step) for step in steps)

    for broken in (5, 8):  # a stop between the looks that found it, and in the last of them
        asked = []

        def emit(event, asked=asked, broken=broken):
            if event.stage == "align" and event.step == broken:
                asked.append(True)

        folder = tmp_path / f"stopped-{broken}"
        try:
            run(folder, where, emit, lambda asked=asked: bool(asked))
        except Stopped:
            again = run(folder, where)
        else:
            again = json.loads((folder / "result.json").read_text())
        assert {name: again[name] for name in ("ended", "steps", "collapse", "loss_last")} == {
            name: result[name] for name in ("ended", "steps", "collapse", "loss_last")
        }
        assert all(torch.equal(kept[name], tensor) for name, tensor in saved(folder).items())


def test_a_collapse_that_is_not_to_end_the_run_does_not(where, tmp_path, falling):
    result = run(tmp_path / "run", where, stop_on_collapse=False)
    assert (result["ended"], result["collapse"], result["steps"]) == ("steps", None, 10)


def test_without_a_sound_look_the_run_fails_with_a_sentence_and_does_so_again(where, tmp_path, falling):
    falling[1][0] = 0
    for _ in range(2):
        with pytest.raises(UserError, match=r"No look before found answers sound.*lower alpha"):
            run(tmp_path / "run", where)
    assert not (tmp_path / "run" / "adapter").exists()


@pytest.mark.parametrize("stops", [True, False])  # what was sound is kept though looks are to end nothing
def test_a_loss_that_is_no_number_ends_step_3_with_what_was_sound(where, tmp_path, monkeypatch, stops):
    loss, calls, events = align_module.align_loss, [], []

    def broken(*tensors):
        calls.append(1)
        value, left = loss(*tensors)
        return (value * math.nan, left * math.nan) if len(calls) >= 5 else (value, left)

    monkeypatch.setattr(align_module, "align_loss", broken)
    result = run(tmp_path / "run", where, events.append, stop_on_collapse=stops)
    assert (result["ended"], result["steps"], result["loss_last"]) == ("collapse", 4, None)
    assert "no number any more at step 5" in result["collapse"]
    assert all(tensor.isfinite().all() for tensor in saved(tmp_path / "run").values())
    assert [event.step for event in events if event.metrics.get("collapsed")] == [5]


@pytest.mark.parametrize(("method", "force"), [("scit", True), ("dual", False)])
def test_a_loss_that_is_no_number_ends_step_1_with_its_cause(where, tmp_path, monkeypatch, method, force):
    name = "couple_logps" if method == "scit" else "mean_logps"
    scores = getattr(instruct_module, name)
    calls = []

    def broken(*given):
        calls.append(1)
        return scores(*given) * (math.nan if len(calls) >= 2 else 1)

    monkeypatch.setattr(instruct_module, name, broken)
    for _ in range(2):  # and resumed it says so again
        with pytest.raises(UserError, match=r"loss of step 1 is no number any more at step \d.*lower learning rate"):
            run(tmp_path / "run", where, method=method, force=force)


def test_the_check_of_step_1_shows_both_sides_and_is_told_before_it_stops_a_run(where, tmp_path, monkeypatch):
    judge, events = pipeline.judge_step1, []
    monkeypatch.setattr(pipeline, "judge_step1", lambda *given: judge(*given) | {"separation_low": 0.41})
    with pytest.raises(UserError, match="Step 1 taught the model no preference"):
        run(tmp_path / "run", where, events.append, force=False)
    told = [event.metrics for event in events if event.stage == "check" and "separation" in event.metrics]
    assert len(told) == 1 and told[0]["margin_gap_low"] <= told[0]["margin_gap"] <= told[0]["margin_gap_high"]
    assert len(told[0]["sides"]) == 2 and set(told[0]["sides"][0]) == {"prompt", "plus", "minus"}
