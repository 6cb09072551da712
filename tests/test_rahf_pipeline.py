"""The whole of RAHF on a tiny model: it learns, stops, resumes to the same result, and its adapter is a plain one."""

import json
import os
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import FAMILIES, PAIRS, saved, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM

from workbench.errors import Stopped, UserError
from workbench.pairs import Pair, PreferencePairs, as_messages
from workbench.progress import Progress
from workbench.rahf.calibrate import STEEPEST
from workbench.rahf.checkpoints import last_checkpoint, prune, seal
from workbench.rahf.config import RunConfig
from workbench.rahf.pipeline import align

QUICK = {
    "instruct_steps": 6, "align_steps": 6, "instruct_batch": 4, "align_batch": 4, "evaluate_every": 3,
    "checkpoint_every": 2, "evaluate_prompts": 4, "max_new_tokens": 6, "calibration_prompts": 4, "force": True, "device": "cpu",
    "positive": "be kind", "negative": "be a lazy dog", "layers": (0, 1), "prompt_tokens": 64, "completion_tokens": 32,
}  # fmt: skip


@pytest.fixture
def material(tmp_path):
    """A saved tiny model and a file of pairs."""

    def make(family="llama", **settings):
        return saved(tmp_path, tiny_model(family, **settings))

    return make


def run(folder, emit=None, stopping=None, **settings):
    return align(RunConfig.from_dict({**QUICK, **settings}), folder, Progress(emit, stopping))


@pytest.mark.parametrize("method", ["scit", "dual"])
@pytest.mark.parametrize("foundation", ["base", "instructed"])
def test_the_adapter_is_a_plain_one_and_makes_the_fitted_states(material, tmp_path, method, foundation):
    where = material()
    events = []
    result = run(tmp_path / "run", events.append, method=method, foundation=foundation, **where)
    assert result["method"] == method
    assert set(result["relative_strength"]) == {"0", "1"}
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(where["model"]), tmp_path / "run" / "adapter"
    )
    base = AutoModelForCausalLM.from_pretrained(where["model"])
    ids = torch.arange(10, 30)[None]
    assert float((plain(ids).logits - base(ids).logits).abs().max()) > 1e-5
    names = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    blocks = {int(name.split(".layers.")[1].split(".")[0]) for name in names}
    assert blocks == ({0, 1} if foundation == "base" else {0, 1, 2})  # no block that no gradient reaches
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert str(tmp_path) not in json.dumps(config)
    stages = {event.stage for event in events}
    assert {"load", "instruct", "check", "patterns", "align", "evaluate"} <= stages
    losses = [event.metrics["loss"] for event in events if event.stage == "align" and "loss" in event.metrics]
    assert len(losses) == 6


def test_training_brings_the_states_to_their_targets(material, tmp_path):
    events = []
    run(
        tmp_path / "run",
        events.append,
        method="dual",
        align_steps=60,
        instruct_steps=20,
        evaluate_every=60,
        **material(),
    )
    fits = [event.metrics["fit"] for event in events if "fit" in event.metrics]
    first, last = (sum(fit.values()) / len(fit) for fit in (fits[0], fits[-1]))
    assert first == pytest.approx(1.0, abs=0.05)  # an adapter without effect is one whole shift away
    assert last < 0.8


@pytest.mark.parametrize(("family", "saving"), [("gpt2", False), ("gpt2", True), ("opt", False)])
def test_a_base_with_dropout_of_its_own_is_fitted_without_it(material, tmp_path, family, saving):
    events = []
    settings = {"align_steps": 1, "instruct_steps": 20, "alpha": 0.5, "gradient_checkpointing": saving}
    run(tmp_path / "run", events.append, method="dual", **settings, **material(family))
    first = next(event.metrics["fit"] for event in events if "fit" in event.metrics)
    assert list(first.values()) == pytest.approx([1.0, 1.0], abs=1e-3)  # an adapter without effect moves nothing


def test_the_same_settings_give_the_same_adapter(material, tmp_path):
    where = material()
    for name in ("one", "two"):
        run(tmp_path / name, **where)
    one, two = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("stage", ["instruct", "align"])
def test_stopped_and_resumed_equals_uninterrupted(material, tmp_path, stage):
    where = material()
    run(tmp_path / "whole", **where)
    asked = []

    def emit(event):
        if event.stage == stage and event.step == 3:
            asked.append(True)

    with pytest.raises(Stopped):
        run(tmp_path / "parts", emit, lambda: bool(asked), **where)
    assert last_checkpoint(tmp_path / "parts" / "checkpoints" / ("instructed" if stage == "instruct" else "aligned"))
    run(tmp_path / "parts", **where)
    whole, parts = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    for step in (2, 4, 6, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").write_bytes(bytes(1000))
        if step != 8:  # killed before it was sealed
            seal(tmp_path / f"checkpoint-{step}", {"step": step})
    (tmp_path / "checkpoint-4" / "optimizer.pt").write_bytes(bytes(999) + b"x")  # the disk changed a byte
    (tmp_path / "checkpoint-6" / "sealed.json").write_text('{"files": {"optim')
    assert last_checkpoint(tmp_path).path == tmp_path / "checkpoint-2"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_the_newest_checkpoints_are_kept_whatever_the_clock_says(tmp_path):
    for age, step in enumerate((10, 9, 2)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "a").touch()
        seal(tmp_path / f"checkpoint-{step}", {})
        os.utime(tmp_path / f"checkpoint-{step}", (age * 1000, age * 1000))
    prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_step_1_that_learned_nothing_stops_the_run_with_a_sentence(material, tmp_path):
    with pytest.raises(UserError, match="Step 1 taught the model no preference"):
        run(tmp_path / "run", force=False, instruct_rate=1e-9, instruct_steps=1, **material())


@pytest.mark.parametrize("layers", [1, 2])
def test_models_with_one_and_two_blocks_choose_their_own_layers(material, tmp_path, layers):
    result = run(tmp_path / "run", layers=None, **material(layers=layers))
    assert set(result["layers"]) <= set(range(layers))


def test_a_context_of_64_cuts_and_says_so(material, tmp_path):
    where = material(context=64)
    long = [{**pair, "prompt": "a lazy dog. " * 60 + pair["prompt"]} for pair in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in long))
    events = []
    run(tmp_path / "run", events.append, **where)
    assert any("are cut" in event.message for event in events)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "llama"])
def test_every_family_trains_end_to_end(material, tmp_path, family):
    small = {"instruct_steps": 2, "align_steps": 2, "evaluate_every": 2}
    result = run(tmp_path / "run", method="dual", **small, **material(family))
    assert result["loss_last"] is not None


def test_without_template_pad_or_bos(material, tmp_path):
    shutil.rmtree(tmp_path / "model", ignore_errors=True)
    run(tmp_path / "run", **material(tokenizer=tiny_tokenizer(chat=False, pad=False)))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"layers": (7,)}, "blocks 0 to 2"),
        ({"pairs": "nowhere.jsonl"}, "nowhere"),
        ({"model": "no/where"}, "no/where"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(material, tmp_path, bad, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path / "run", **{**material(), **bad})


@pytest.mark.parametrize(
    "bad",
    [
        {"alpha": float("nan")}, {"alpha": -1}, {"layers": "x"}, {"layers": (-1,)}, {"method": "magic"}, {"align_steps": 0},
        {"align_rate": "fast"}, {"seed": 1.5}, {"states": ""}, {"unknown": 1}, {"force": "perhaps"},
        {"positive": "same", "negative": "same"}, {"model": None}, {"lora_dropout": float("inf")},
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(bad):
    with pytest.raises(UserError) as caught:
        RunConfig.from_dict(bad)
    assert "\n" not in str(caught.value)


def test_a_small_set_is_split_the_same_way_for_training_and_for_showing():
    rows = [Pair(i, as_messages(f"question {i}"), "good", "bad") for i in range(30)]
    split = RunConfig().split(PreferencePairs.from_pairs(rows))
    assert len(split.held_out) == 10  # a third, though held_out says up to 200
    assert len(split.instruct) + len(split.fit) == 20


def test_a_relative_strength_that_was_set_is_the_one_that_is_fitted(material, tmp_path):
    where, events = material(), []
    small = {"align_steps": 1, "evaluate_every": 1}
    result = run(tmp_path / "run", relative_strength=0.3, **small, **where)
    strength = result["relative_strength"].values()
    assert result["alpha"] > 0.75 and sum(strength) / len(strength) == pytest.approx(0.3, rel=0.01)
    # what step 1 did not teach no alpha brings back, and the run says so
    untaught = {"method": "dual", "instruct_steps": 1, "instruct_rate": 1e-9, "relative_strength": 0.3}
    result = run(tmp_path / "untaught", events.append, **untaught, **small, **where)
    said = [event.message for event in events if event.stage == "patterns" and event.message]
    assert result["alpha"] == STEEPEST and "not by the 0.3 aimed at" in said[-1]


def test_odd_settings_files_are_one_sentence(tmp_path):
    path = tmp_path / "odd.yaml"
    huge = "0x" + "f" * 9000
    odd = ["1: 2\nfoo: 3", "pairs: 2026-99-99", "seed: " + "9" * 399]
    for text in odd + [f"{name}: {huge}" for name in ("seed", "model", "force")] + [f"layers: [{huge}]"]:
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            RunConfig.from_yaml(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    path.write_text("relative_strength: auto\ninstruct_warmup: auto\nlayers: auto\nalpha: auto")
    assert RunConfig.from_yaml(path) == RunConfig()


def test_settings_survive_yaml(tmp_path):
    config = RunConfig.from_dict({"layers": "3,1", "alpha": "0.7", "seed": "4"})
    config.to_yaml(tmp_path / "config.yaml")
    assert RunConfig.from_yaml(tmp_path / "config.yaml") == config
    assert config.layers == (1, 3)
