"""What is told before a start: every problem where it is one and only there, and estimates that scale as work does."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_model

from workbench.cli import main
from workbench.pairs import Pair, PreferencePairs, Report, as_messages, load_pairs
from workbench.rahf import facts as facts_module
from workbench.rahf.config import GENERAL, RunConfig
from workbench.rahf.estimate import LIKE, estimate, history_row, write_down
from workbench.rahf.facts import Device, gather, shape_of
from workbench.rahf.preflight import outlook, preflight

ROOT = Path(__file__).parents[1]
ONE_CORE = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ROOMY = Device("cpu", "CPU, 2 cores", 24 * 2**30, 32 * 2**30, 5e10, 2e10, 1e-5)


@pytest.fixture(scope="module")
def demo():
    """Facts of the demo on a machine that is always the same."""
    facts = gather(RunConfig())
    return replace(facts, device=ROOMY, disk_free=50 * 2**30, encode_seconds=1e-3, history=())


@pytest.fixture
def roomy(monkeypatch):
    """The machine that is always the same, also where facts are gathered."""
    monkeypatch.setattr("workbench.rahf.facts.device_of", lambda *_: ROOMY)


def config(**values):
    return RunConfig.from_dict({"device": "cpu", **values})


def told(facts, **values):
    """{field: severity} of the problems with these settings."""
    chosen = config(**values)
    problems = preflight(chosen, facts, estimate(chosen, facts))
    assert all(problem.text.endswith(".") and problem.field in chosen.to_dict() for problem in problems)
    return {problem.field: problem.severity for problem in problems}


# -- problems ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["scit", "dual"])
@pytest.mark.parametrize("pairs", ["demo", "demo/brief", "demo/careful"])
def test_the_demo_s_defaults_raise_no_alarm(method, pairs, roomy):
    found = outlook(config(method=method, pairs=pairs))
    assert found["problems"] == []
    assert 0 < found["seconds_low"] < found["seconds"] < found["seconds_high"]
    assert found["memory_bytes"] < found["free_memory_bytes"] and 0 < found["disk_bytes"] < 10**9


FEW_FREE = replace(ROOMY, free=300 * 2**20)
TIGHT = replace(ROOMY, free=2**30)


@pytest.mark.parametrize(
    ("settings", "facts", "field", "severity"),
    [
        ({}, {"device": FEW_FREE}, "model", "stop"),
        ({}, {"device": TIGHT}, "model", "warn"),
        ({"method": "dual"}, {"device": FEW_FREE}, "model", "stop"),
        ({}, {"disk_free": 2**20}, "model", "stop"),
        ({"instruct_rate": 1e-6}, {}, "instruct_rate", "warn"),
        ({"instruct_steps": 4}, {}, "instruct_steps", "warn"),
        ({"negative": GENERAL.positive.replace("kind", "unkind")}, {}, "negative", "warn"),
        ({"alpha": 5}, {}, "alpha", "warn"),
        ({"relative_strength": 0.7}, {}, "relative_strength", "warn"),
        ({"relative_strength": 1.2}, {}, "relative_strength", "stop"),
        ({"completion_tokens": 12}, {}, "completion_tokens", "warn"),
        ({"prompt_tokens": 12}, {}, "prompt_tokens", "warn"),
        ({}, {"has_template": False}, "model", "note"),
        ({}, {"same_answers": 0.9}, "pairs", "warn"),
        ({}, {"parts": (300, 300, 20)}, "held_out", "warn"),
        ({}, {"parts": (20, 20, 200)}, "pairs", "warn"),
        ({"evaluate_prompts": 3}, {}, "evaluate_prompts", "warn"),
        ({"align_steps": 10**6}, {}, "device", "note"),
        ({}, {"missing_bytes": 15 * 10**9}, "model", "note"),
    ],
)
def test_a_problem_is_told_where_it_is_one(demo, settings, facts, field, severity):
    assert told(demo, method=settings.get("method", "scit")) == {}
    assert told(replace(demo, **facts), **settings).get(field) == severity


def test_what_is_said_to_save_memory_does(demo):
    """A batch goes through the model in parts, so that a smaller one saves only where it is a part by itself."""
    tight = replace(demo, shape=replace(demo.shape, blocks=64), device=FEW_FREE)

    def relief(**values):
        chosen = config(layers="4,6", **values)
        (problem,) = [one for one in preflight(chosen, tight, estimate(chosen, tight)) if "needs about" in one.text]
        return problem.field, problem.text

    def training(**values):
        return estimate(config(layers="4,6", **values), tight).parts["memory"]["training"]

    field, text = relief(instruct_batch=64, align_batch=64)
    assert field == "completion_tokens" and "turn on gradient_checkpointing, or shorten completion_tokens" in text
    assert training(instruct_batch=32, align_batch=32) > 0.75 * training(instruct_batch=64, align_batch=64)
    assert training(gradient_checkpointing=True) < 0.5 * training()
    field, text = relief(instruct_batch=2, align_batch=4)
    assert field == "instruct_batch" and "halve the batches" in text
    assert training(instruct_batch=1, align_batch=2) < 0.75 * training(instruct_batch=2, align_batch=4)


def test_quantisation_needs_its_package(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert told(demo, quantization="4bit")["quantization"] == "stop"
    assert told(demo, optimizer="adamw_8bit")["optimizer"] == "stop"


def test_strength_is_judged_by_an_earlier_run_s_measurement(demo):
    like = {name: getattr(config(), name) for name in LIKE}
    known = replace(demo, history=[{**like, "layers": [4, 6], "strength": 0.4, "ratio": None}])
    assert [told(known, alpha=alpha).get("alpha") for alpha in (0.7, 2.0, 4.0)] == [None, "warn", "stop"]
    assert told(known, alpha=4.0, layers="1,2")["alpha"] == "warn"  # other blocks: nothing is known
    for other in ({"method": "dual"}, {"states": "completion"}, {"instruct_tuning": "full"}, {"positive": "be honest"}):
        assert told(known, alpha=4.0, **other)["alpha"] == "warn"


def test_passes_over_a_file_of_which_the_first_rows_were_read_say_so(tmp_path, monkeypatch):
    pairs_of(60).to_jsonl(tmp_path / "many.jsonl")
    monkeypatch.setattr(facts_module, "LARGE_FILE", 1000)
    monkeypatch.setattr(facts_module, "FIRST_ROWS", 40)

    def notes(**settings):
        found = outlook(config(pairs=str(tmp_path / "many.jsonl"), **settings))["problems"]
        return [item["text"] for item in found if "first rows" in item["text"]]

    assert "(40 pairs)" in notes(instruct_epochs=2)[0] and notes(align_epochs=1) and not notes()
    monkeypatch.setattr(facts_module, "FIRST_ROWS", 61)  # it was read to its end
    facts_module._files._made.clear()
    assert not notes(instruct_epochs=2)


def test_a_short_context_is_told_apart_from_a_limit(demo):
    facts = replace(demo, shape=replace(demo.shape, context=80))
    problems = {problem.field: problem.text for problem in preflight(config(), facts, estimate(config(), facts))}
    assert "reads only 80 tokens" in problems["model"] and "completion_tokens" not in problems


def pairs_of(count, text="answer"):
    rows = [
        Pair(row, as_messages(f"question {row}"), f"good {text} {row}", f"bad {text} {row}") for row in range(count)
    ]
    return PreferencePairs.from_pairs(rows, Report("made", count, count))


@pytest.mark.parametrize(
    ("settings", "count", "field"),
    [({}, 5, "pairs"), ({"layers": "3,11"}, 40, "layers"), ({"model": "no/such/model"}, 40, "model"),
     ({"device": "cuda:99"}, 40, "device"), ({"positive": "be kind " * 200}, 40, "positive")],
)  # fmt: skip
def test_what_the_engine_would_refuse_stops(settings, count, field):
    found = outlook(config(**settings), pairs=pairs_of(count))
    first = found["problems"][0]
    assert (first["severity"], first["field"], found["seconds"]) == ("stop", field, None)


# -- estimates ---------------------------------------------------------------------------------------------------------


def test_estimates_grow_with_the_work(demo):
    def of(facts=demo, **values):
        return estimate(config(layers="4,6", **values), facts)

    base, wide, narrow = of(), of(instruct_batch=32), of(instruct_batch=1, align_batch=2)
    assert wide.parts["memory"]["training"] < 1.3 * base.parts["memory"]["training"]  # a batch goes in parts
    assert narrow.parts["memory"]["training"] < 0.5 * base.parts["memory"]["training"]
    assert 2 < wide.parts["seconds"]["instruct"] / base.parts["seconds"]["instruct"] < 4.5
    assert of(align_steps=400).seconds > base.seconds
    assert of(gradient_checkpointing=True).parts["memory"]["training"] < 0.5 * base.parts["memory"]["training"]
    assert of(gradient_checkpointing=True).seconds > base.seconds
    long = replace(demo, lengths=demo.lengths * 2, shape=replace(demo.shape, context=4096))
    assert of(long).memory_bytes > base.memory_bytes and of(long).seconds > 1.3 * base.seconds
    deep = replace(demo, shape=replace(demo.shape, blocks=32))
    assert 3 < of(deep).parts["memory"]["training"] / base.parts["memory"]["training"] < 4.2
    assert of(deep).seconds > 2 * base.seconds
    slow = replace(demo, device=replace(ROOMY, flops=5e9, bandwidth=2e9, call=1e-4))
    assert 5 < of(slow).seconds / base.seconds < 11
    auto = estimate(config(), demo)
    assert auto.parts["seconds"]["layers"] > 0 and "layers" not in base.parts["seconds"]
    full = of(instruct_tuning="full").parts["memory"]
    assert full["adapters"] + full["optimiser"] > 16 * demo.shape.weights
    assert of(dtype="bfloat16", quantization="4bit").parts["memory"]["weights"] < base.parts["memory"]["weights"]


def test_earlier_runs_set_the_time_right(demo):
    plain = estimate(config(), demo)
    result = {
        "estimated": {"unscaled_seconds": 100.0},
        "relative_strength": {"4": 0.2, "6": 0.4},
        "alpha": 0.6,
        "layers": [4, 6],
    }
    row = history_row(config().to_dict(), result, 150.0)
    assert row["ratio"] == 1.5 and row["strength"] == pytest.approx(0.5)
    taught = estimate(config(), replace(demo, history=[row]))
    assert taught.seconds == pytest.approx(1.5 * plain.seconds, rel=0.01)
    assert taught.seconds_high - taught.seconds_low < plain.seconds_high - plain.seconds_low
    assert estimate(config(model="other/model"), replace(demo, history=[row])).seconds == plain.seconds
    assert history_row(config().to_dict(), result | {"ended": "collapse"}, 9.0)["ratio"] is None


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "opt"])
def test_a_model_s_build_is_told_without_its_weights(family, tmp_path):
    loaded = tiny_model(family)
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    shape = shape_of(str(tmp_path))
    assert shape.weights == pytest.approx(sum(weight.numel() for weight in loaded.model.parameters()), abs=shape.blocks)
    assert (shape.blocks, shape.width) == (loaded.n_blocks, loaded.width)
    assert (shape.active_weights < shape.block_weights) == (family == "mixtral")


def test_the_expectation_is_written_once(tmp_path):
    first = write_down(config(), tmp_path, pairs_of(60))
    kept = (tmp_path / "estimate.json").read_text()
    assert write_down(config(align_steps=9), tmp_path, pairs_of(60)) == first
    assert (tmp_path / "estimate.json").read_text() == kept and set(first) > {"seconds", "memory_bytes"}


# -- the command -------------------------------------------------------------------------------------------------------


def test_plan_prints_problems_and_costs(capfd, tmp_path, monkeypatch, roomy):
    monkeypatch.setenv("RAHF_RUNS", str(tmp_path / "runs"))
    assert main(["plan", "--device", "cpu", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["problems"] == [] and found["seconds"] > 0
    assert main(["plan", "--device", "cpu", "--layers", "99"]) == 2
    seen = capfd.readouterr()
    assert "STOP" in seen.out and "99 is not one of them" in seen.err
    assert not (tmp_path / "runs").exists()
    assert main(["align", "--device", "cpu", "--set", "relative_strength=1.5"]) == 2
    assert "force=true" in capfd.readouterr().err and not (tmp_path / "runs").exists()


def test_the_memory_of_who_started_a_run_is_not_the_runs():
    large = b"1" * 1_200_000_000
    code = "from workbench.rahf.pipeline import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 1e8 < int(done.stdout) < len(large)


def test_a_run_stays_near_what_was_expected(tmp_path):
    """A short run on the demo, in a process of its own: its memory must not hold what the tests have loaded."""
    few = load_pairs("demo").select(range(120)).to_jsonl(tmp_path / "few.jsonl")
    values = {
        "layers": "4,6", "device": "cpu", "instruct_steps": 8, "align_steps": 8, "evaluate_every": 8,
        "alpha": 0.7, "evaluate_prompts": 16, "held_out": 32, "max_new_tokens": 32, "judge": "none", "pairs": few,
    }  # fmt: skip
    options = [item for name, value in values.items() for item in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "workbench", "align", "--json", "--out", str(tmp_path / "run"), *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    places = ONE_CORE | {"RAHF_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=places)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    expected = json.loads((tmp_path / "run" / "estimate.json").read_text())
    assert result["estimated"]["memory_bytes"] == expected["memory_bytes"]
    assert 1 / 1.5 < result["peak_memory_bytes"] / expected["memory_bytes"] < 1.5
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # whatever else the machine does
    assert 1 / 3 < worked / (expected["seconds"] / expected["parts"]["machine"]["busy"]) < 3
