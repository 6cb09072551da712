"""Settings act: each one that is set changes what it says it changes, and nothing else."""

import importlib.util
import json
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import FAMILIES, PAIRS, saved, tiny_model
from transformers import AutoModelForCausalLM

from workbench.errors import Stopped, UserError
from workbench.export import export
from workbench.generation import Sampling, compare, generate
from workbench.models import load_model, wrap_model
from workbench.pairs import Pair, PreferencePairs, as_messages
from workbench.progress import QUIET, Progress
from workbench.rahf import training
from workbench.rahf.adapters import activate, load_adapter
from workbench.rahf.config import RunConfig
from workbench.rahf.instruct import instruct
from workbench.rahf.pipeline import align, keep_partial
from workbench.rahf.presets import PRESETS, preset_values
from workbench.tokens import Limits

QUICK = {
    "method": "dual", "instruct_steps": 2, "align_steps": 2, "instruct_batch": 4, "align_batch": 4, "evaluate_every": 9,
    "checkpoint_every": 50, "evaluate_prompts": 2, "max_new_tokens": 4, "held_out": 4, "force": True, "device": "cpu",
    "positive": "be kind", "negative": "be a lazy dog", "layers": (0, 1), "alpha": 0.5, "prompt_tokens": 64,
    "completion_tokens": 32,
}  # fmt: skip
PACKAGE = importlib.util.find_spec("bitsandbytes") is not None


@pytest.fixture
def where(tmp_path):
    """A saved tiny model and a file of pairs."""

    def make(family="llama", **settings):
        return saved(tmp_path, tiny_model(family, **settings))

    return make


def run(folder, emit=None, stopping=None, **settings):
    return align(RunConfig.from_dict({**QUICK, **settings}), folder, Progress(emit, stopping))


def weights(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def differ(one, two):
    return any(not torch.equal(one[key], two[key]) for key in one)


# -- optimiser, steps, course ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "stage", "examples", "steps"),
    [
        ({}, "instruct", 100, 80),
        ({"instruct_epochs": 2, "instruct_batch": 8}, "instruct", 100, 26),  # 13 batches a pass, the last smaller
        ({"instruct_epochs": 2, "instruct_batch": 8, "accumulation": 4}, "instruct", 100, 8),
        ({"instruct_epochs": 0.1, "instruct_batch": 1}, "instruct", 100, 10),
        ({"instruct_epochs": 0.01}, "instruct", 1, 1),
        ({"align_epochs": 3, "align_batch": 16}, "align", 33, 9),
    ],
)
def test_steps_are_as_many_as_the_passes_take(settings, stage, examples, steps):
    assert RunConfig.from_dict(settings).steps_of(stage, examples) == steps


def test_a_run_of_epochs_counts_its_real_steps_everywhere(where, tmp_path):
    events = []
    settings = {"instruct_epochs": 1, "align_epochs": 0.5, "checkpoint_every": 1, **where()}
    result = run(tmp_path / "run", events.append, **settings)
    parts = result["pairs"]
    config = RunConfig.from_dict({**QUICK, **settings})
    one = config.steps_of("instruct", parts["instruct"])
    three = config.steps_of("align", config.answers_of(parts["fit"]))
    assert one == -(-parts["instruct"] // 4) and three == -(-(2 * parts["fit"] // 4) // 2)
    assert (result["instructed"]["steps"], result["steps"]) == (2 * one, three)
    for stage, total in (("instruct", 2 * one), ("align", three)):  # of Dual's two models together
        steps = [event.step for event in events if event.stage == stage and event.step]
        assert steps == sorted(steps) and steps[-1] == total
        assert {event.total for event in events if event.stage == stage and event.step} == {total}
    assert keep_partial(config, tmp_path / "run") == {"steps": three, "of": three}


def test_what_is_kept_of_a_run_of_epochs_says_of_how_many_steps(where, tmp_path):
    settings = {"align_epochs": 1, "checkpoint_every": 1, **where()}
    asked = []

    def emit(event):
        if event.stage == "align" and event.step == 2:
            asked.append(True)

    with pytest.raises(Stopped):
        run(tmp_path / "run", emit, lambda: bool(asked), **settings)
    kept = keep_partial(RunConfig.from_dict({**QUICK, **settings}), tmp_path / "run")
    assert kept["steps"] < kept["of"] == 5  # 10 pairs, both answers, in batches of 4


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        ("adamw", "AdamW"),
        ("adafactor", "Adafactor"),
        pytest.param("adamw_8bit", "AdamW", marks=pytest.mark.skipif(not PACKAGE, reason="bitsandbytes is optional")),
    ],
)
def test_the_optimiser_that_was_asked_for_trains(where, tmp_path, monkeypatch, optimizer, kind):
    seen = []
    made = training.StageTrainer.create_optimizer

    def watch(self, *args, **kwargs):
        found = made(self, *args, **kwargs)
        optimizer = found or self.optimizer
        seen.append((type(optimizer).__module__, type(optimizer).__name__, optimizer.param_groups[0]["weight_decay"]))
        return found

    monkeypatch.setattr(training.StageTrainer, "create_optimizer", watch)
    run(tmp_path / "run", optimizer=optimizer, weight_decay=0.25, **where())
    assert {name for _, name, _ in seen} == {kind}
    assert ("bitsandbytes" in seen[0][0]) == (optimizer == "adamw_8bit")
    assert {decay for *_, decay in seen} == {0.25}


@pytest.mark.parametrize("setting", [{"optimizer": "adamw_8bit"}, {"quantization": "4bit"}])
def test_a_missing_package_is_one_sentence(where, tmp_path, monkeypatch, setting):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="pip install bitsandbytes") as caught:
        run(tmp_path / "run", **setting, **where())
    assert "\n" not in str(caught.value)


def test_gradients_are_shortened_to_the_length_that_was_set(where, tmp_path):
    """With plain AdamW a scale of all gradients changes nothing but what epsilon does: a tiny length shows it."""
    material = where()
    run(tmp_path / "one", **material)
    run(tmp_path / "two", max_grad_norm=1e-6, **material)
    assert differ(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_each_step_has_its_own_course(tmp_path):
    config = RunConfig.from_dict(
        {"schedule": "constant", "warmup": 0, "instruct_schedule": "cosine", "instruct_warmup": 0.1,
         "instruct_steps": 100, "align_steps": 50, "max_grad_norm": 2, "weight_decay": 0.1}
    )  # fmt: skip
    device = torch.device("cpu")
    one = training.arguments(config, "instruct", 10, tmp_path, device)
    three = training.arguments(config, "align", 10, tmp_path, device)
    assert (one.lr_scheduler_type.value, one.warmup_steps, one.max_steps) == ("cosine", 10, 100)
    assert (three.lr_scheduler_type.value, three.warmup_steps, three.max_steps) == ("constant_with_warmup", 0, 50)
    assert {one.max_grad_norm, three.max_grad_norm} == {2.0} and {one.weight_decay, three.weight_decay} == {0.1}
    same = RunConfig.from_dict({"schedule": "linear", "warmup": 0.2})
    assert same.course("instruct") == same.course("align") == ("linear", 0.2)


# -- the split ---------------------------------------------------------------------------------------------------------


def test_the_share_of_step_1_moves_training_pairs_only():
    pairs = PreferencePairs.from_pairs([Pair(i, as_messages(f"question {i}"), "good", "bad") for i in range(120)])
    parts = {share: RunConfig(step1_share=share, held_out=20).split(pairs) for share in (0.05, 0.25, 0.5, 0.95)}
    assert {share: len(split.instruct) for share, split in parts.items()} == {0.05: 5, 0.25: 25, 0.5: 50, 0.95: 95}
    assert len({tuple(split.held_out.dataset["id"]) for split in parts.values()}) == 1
    assert all(len(split.instruct) + len(split.fit) + len(split.held_out) == 120 for split in parts.values())
    default = pairs.split(0, 20)
    assert default.instruct.dataset["id"] == parts[0.5].instruct.dataset["id"]
    assert default.fit.dataset["id"] == parts[0.5].fit.dataset["id"]


def test_answers_may_be_shorter_in_step_3_than_in_step_1():
    from workbench.rahf.patterns import make_examples
    from workbench.tokens import Limits

    loaded = tiny_model()
    pairs = PreferencePairs.from_pairs([Pair(0, as_messages("what is it?"), "it is a good answer " * 9, "no")])
    config = RunConfig(response="chosen", align_completion_tokens=5)
    (short,) = make_examples(loaded, pairs, config, Limits(64, 64))
    (whole,) = make_examples(loaded, pairs, RunConfig(response="chosen"), Limits(64, 64))
    assert len(short.bare.ids) - short.bare.start == 5 < len(whole.bare.ids) - whole.bare.start


# -- step 1 on all weights ---------------------------------------------------------------------------------------------


def logits_of(loaded):
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        return loaded.model(input_ids=ids).logits


def some_pairs():
    return PreferencePairs.from_pairs(
        [Pair(i, as_messages(p["prompt"]), p["chosen"], p["rejected"]) for i, p in enumerate(PAIRS)]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_full_tuning_trains_every_weight_and_leaves_the_base_alone(family, tmp_path):
    loaded = tiny_model(family, layers=2, tie_word_embeddings=family in ("llama", "gpt2", "gemma"))
    before = logits_of(loaded)
    settings = {**QUICK, "instruct_tuning": "full", "instruct_rate": 0.01, "gradient_checkpointing": family == "qwen3"}
    config = RunConfig.from_dict(settings)
    for side in ("chosen", "rejected"):
        instruct(loaded, some_pairs(), config, side, Limits(64, 32), tmp_path / side, QUIET)
    assert torch.equal(logits_of(loaded), before)
    sets = [loaded.tuned.state(side) for side in ("chosen", "rejected")]
    base = dict(loaded.model.named_parameters())
    assert set(sets[0]) == set(base)
    still = {name for name in base if torch.equal(sets[0][name], base[name])}
    assert all("expert" in name for name in still), still  # an expert that no token came to has nothing to learn from
    activate(loaded, ["chosen"])
    chosen = logits_of(loaded)
    activate(loaded, ["rejected"])
    assert not torch.equal(chosen, before) and not torch.equal(chosen, logits_of(loaded))
    activate(loaded, [])
    assert torch.equal(logits_of(loaded), before)
    assert not any(weight.requires_grad or weight.grad is not None for weight in loaded.model.parameters())


@pytest.mark.parametrize("method", ["scit", "dual"])
def test_full_tuning_makes_a_plain_adapter_and_resumes_bit_for_bit(where, tmp_path, method):
    settings = {
        "instruct_tuning": "full", "instruct_rate": 1e-3, "instruct_steps": 4, "align_steps": 3, "checkpoint_every": 2,
        "method": method, "align_rate": 0.01, **where(),
    }  # fmt: skip
    run(tmp_path / "whole", **settings)
    for stage, step in (("instruct", 3), ("align", 1)):
        asked = []

        def emit(event, stage=stage, step=step, asked=asked):
            if event.stage == stage and event.step == step:
                asked.append(True)

        with pytest.raises(Stopped):
            run(tmp_path / "parts", emit, lambda asked=asked: bool(asked), **settings)
    result = run(tmp_path / "parts", **settings)
    assert not differ(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    base = AutoModelForCausalLM.from_pretrained(settings["model"])
    ids = torch.arange(10, 30)[None]
    before = base(ids).logits.detach()
    plain = PeftModel.from_pretrained(base, tmp_path / "whole" / "adapter")
    assert float((plain(ids).logits - before).abs().max()) > 1e-5
    assert (
        result["model_fingerprint"] == json.loads((tmp_path / "whole" / "result.json").read_text())["model_fingerprint"]
    )


@pytest.mark.parametrize(
    "settings", [{"method": "dual"}, {"method": "scit", "instruct_tuning": "lora", "lora_rank": 64}]
)
def test_the_disk_that_a_run_takes_is_no_more_than_was_told(where, tmp_path, monkeypatch, settings):
    from workbench.rahf import estimate

    most, prune = [0], training.prune

    def measured(folder, *given):  # when a checkpoint was written, and no earlier one removed
        files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
        most[0] = max(most[0], sum(path.stat().st_size for path in files))
        prune(folder, *given)

    monkeypatch.setattr(training, "prune", measured)
    monkeypatch.setattr(estimate, "OTHER_FILES", 5e5)
    full = {"instruct_tuning": "full", "instruct_steps": 4, "align_steps": 4, "checkpoint_every": 1}
    run(tmp_path / "run", **full | where(width=64) | settings)
    told = json.loads((tmp_path / "run" / "estimate.json").read_text())["disk_bytes"]
    assert most[0] < told < 2 * most[0]


def test_checkpoints_that_take_long_to_write_come_seldom(where, tmp_path, monkeypatch):
    import time as clock

    written, seal = [], training.seal
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)  # as often as it may be
    monkeypatch.setattr(
        training, "seal", lambda path, about: (written.append(path), clock.sleep(0.3), seal(path, about))
    )
    run(tmp_path / "run", method="scit", instruct_steps=40, **where())
    assert len([path for path in written if path.parent.name == "instructed"]) <= 5


def test_base_and_fully_tuned_answers_side_by_side_are_those_of_each_alone(tmp_path):
    loaded = tiny_model()
    config = RunConfig.from_dict({**QUICK, "instruct_tuning": "full", "instruct_rate": 0.03, "instruct_steps": 4})
    instruct(loaded, some_pairs(), config, "chosen", Limits(64, 32), tmp_path, QUIET)
    prompts, sampling = [as_messages("what is it?"), as_messages("a lazy dog")], Sampling(max_new_tokens=8)
    alone = [[answer.ids for answer in generate(loaded, prompts, sampling, name)] for name in (None, "chosen")]
    *_, last = compare(loaded, prompts, sampling, "chosen")
    assert [[answer.ids for answer in side] for side in (last.base, last.aligned)] == alone
    assert alone[0] != alone[1]
    activate(loaded, ["chosen"])  # and whatever acts meanwhile comes back
    assert [answer.ids for answer in generate(loaded, prompts, sampling)] == alone[0]
    assert loaded.tuned.active == "chosen"


def test_full_tuning_of_a_bfloat16_model_learns_by_steps_that_bfloat16_cannot_hold(tmp_path):
    loaded = tiny_model()
    loaded.model.to(torch.bfloat16)
    loaded = wrap_model(loaded.model, loaded.tokenizer)
    config = RunConfig.from_dict(
        {**QUICK, "instruct_tuning": "full", "instruct_steps": 60, "instruct_rate": 3e-5, "schedule": "constant"}
    )
    instruct(loaded, some_pairs(), config, "chosen", Limits(64, 32), tmp_path, QUIET)
    (name,) = [name for name in loaded.tuned.state("chosen") if name.endswith("layers.0.self_attn.q_proj.weight")]
    moved = loaded.tuned.state("chosen")[name] - dict(loaded.model.named_parameters())[name]
    assert moved.dtype == torch.bfloat16
    # 60 steps of 3e-5: about 1e-3 a weight, while one step is less than half of what separates most of these numbers
    assert float((moved != 0).float().mean()) > 0.8


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"quantization": "4bit"}, "4 bits"),
        ({"foundation": "instructed"}, "no adapter"),
        ({"dtype": "float16"}, "float16"),
    ],
)
def test_what_full_tuning_cannot_be_joined_with_is_refused(setting, said):
    with pytest.raises(UserError, match=said) as caught:
        RunConfig.from_dict({"instruct_tuning": "full", **setting})
    assert "\n" not in str(caught.value)


# -- weights in few bits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_base_in_few_bits_trains_and_its_adapter_is_for_that_base(where, tmp_path, bits):
    pytest.importorskip("bitsandbytes")
    material = where(width=64)  # 4 bits come in blocks of 64 weights
    settings = {"quantization": bits, "align_rate": 0.01, **material}
    result = run(tmp_path / "run", **settings)
    again = load_model(material["model"], "cpu", quantization=bits)
    assert again.fingerprint == result["model_fingerprint"] != load_model(material["model"], "cpu").fingerprint
    held = sum(weight.numel() * weight.element_size() for weight in again.blocks[0].parameters())
    plain = load_model(material["model"], "cpu")
    assert held < 0.3 * sum(weight.numel() * weight.element_size() for weight in plain.blocks[0].parameters())
    base = logits_of(again)
    load_adapter(again, tmp_path / "run" / "adapter", "aligned")
    activate(again, ["aligned"])
    assert float((logits_of(again) - base).abs().max()) > 1e-4
    with pytest.raises(UserError, match="other weights"):
        load_adapter(plain, tmp_path / "run" / "adapter", "aligned")
    other = tiny_model(width=64, seed=1)
    other.model.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    assert load_model(str(tmp_path / "other"), "cpu", quantization=bits).fingerprint != again.fingerprint
    with pytest.raises(UserError, match="export the adapter alone"):
        export(tmp_path / "run", tmp_path / "merged", merge=True)


def test_weights_in_few_bits_do_not_fill_the_log(where, caplog):
    pytest.importorskip("bitsandbytes")
    loaded = load_model(where(width=64)["model"], "cpu", quantization="8bit")
    logits_of(loaded)
    assert not [record for record in caplog.records if "cast" in record.getMessage()]


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_gradients_go_through_weights_in_few_bits_also_after_they_have_answered(where, bits):
    pytest.importorskip("bitsandbytes")
    material = where(width=64)
    directions = []
    for quantization in ("none", bits):
        model = load_model(material["model"], "cpu", quantization=quantization).model
        with torch.no_grad():  # a pass without gradients comes first, as in every run
            model(input_ids=torch.arange(10, 30)[None])
        embedded = model.get_input_embeddings()(torch.arange(10, 30)[None]).detach().requires_grad_()
        model(inputs_embeds=embedded).logits[..., 7].sum().backward()
        directions.append(embedded.grad.flatten())
    assert float(torch.cosine_similarity(*directions, dim=0)) > 0.95


# -- presets -----------------------------------------------------------------------------------------------------------

PAPER = {  # the table of the paper's settings; its layers 10, 12, ... are our blocks 9, 11, ...
    "paper-scit": {
        "method": "scit", "instruct_epochs": 2, "instruct_batch": 64, "instruct_rate": 2e-5, "instruct_warmup": 0.1,
        "align_steps": 450, "align_batch": 64, "align_rate": 3e-4, "layers": (9, 11, 13, 15, 17),
        "align_completion_tokens": None,
    },
    "paper-dual": {
        "method": "dual", "instruct_epochs": 3, "instruct_batch": 128, "instruct_rate": 2e-5, "instruct_warmup": 0.1,
        "instruct_schedule": "cosine", "align_steps": 2500, "align_batch": 8, "align_rate": 9e-6,
        "layers": (9, 11, 13, 15, 17, 19), "align_completion_tokens": 64,
    },
}  # fmt: skip
BOTH = {
    "instruct_tuning": "full", "states": "completion", "response": "random", "alpha": 5, "step1_share": 0.5,
    "held_out": 1000, "lora_rank": 8, "lora_alpha": 16, "lora_dropout": 0.05, "lora_targets": "attention",
    "schedule": "constant", "warmup": 0, "label_smoothing": 0.2, "prompt_tokens": 256, "completion_tokens": 512,
    "gradient_checkpointing": True,
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_presets_are_the_paper_s_table(name):
    config = RunConfig.from_dict(preset_values(name))
    wanted = PAPER[name] | BOTH
    assert {key: getattr(config, key) for key in wanted} == wanted


@pytest.mark.parametrize("name", PRESETS)
def test_presets_validate_and_survive_yaml(tmp_path, name):
    config = RunConfig.from_dict(preset_values(name))
    config.to_yaml(tmp_path / "config.yaml")
    assert RunConfig.from_yaml(tmp_path / "config.yaml") == config
    assert PRESETS[name].label and PRESETS[name].help.endswith(".")


def test_what_is_given_beside_a_preset_wins(tmp_path):
    from workbench.cli import build_parser
    from workbench.cli.method import settings

    (tmp_path / "f.yaml").write_text("align_batch: 7\nalign_steps: 8\n")
    line = ["align", "--preset", "paper-dual", "--config", str(tmp_path / "f.yaml"), "--steps", "9", "--set", "seed=3"]
    values = settings(build_parser().parse_args(line))
    assert [values[key] for key in ("align_batch", "align_steps", "seed")] == [7, 9, 3]
    assert (values["align_rate"], values["method"]) == (9e-6, "dual")


def test_an_unknown_preset_is_one_sentence():
    with pytest.raises(UserError, match="demo, small, paper-scit, paper-dual"):
        preset_values("papier")


def test_instructions_of_a_value_and_texts_of_ones_own():
    from workbench.cli import build_parser
    from workbench.cli.method import settings
    from workbench.rahf.instructions import INSTRUCTIONS, value_of

    parse = build_parser().parse_args
    values = settings(parse(["align", "--instructions", "honest", "--set", "negative=Lie."]))
    assert values["positive"] == INSTRUCTIONS["honest"].positive and values["negative"] == "Lie."
    assert value_of(RunConfig().positive, RunConfig().negative) == "general" and value_of("Be good.", "Be bad.") is None
    with pytest.raises(UserError, match="no instructions for 'brave': choose one of general, helpful"):
        settings(parse(["align", "--instructions", "brave"]))
    for name, (positive, negative) in INSTRUCTIONS.items():
        RunConfig(positive=positive, negative=negative)
        assert value_of(positive, negative) == name


# -- the number format -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("foundation", ["base", "instructed"])
def test_a_run_of_another_device_keeps_its_number_format(where, tmp_path, monkeypatch, foundation):
    """On a GPU "auto" is bfloat16 and on a CPU float32: whoever takes up such a run elsewhere has the same weights."""
    import workbench.models as models
    from workbench.heldout import evaluate
    from workbench.runs import loading, store

    material, elsewhere, asked = where(), tmp_path / "run", []
    picked = models.pick_dtype

    def on_a_gpu(dtype, device):
        return torch.bfloat16 if dtype == "auto" else picked(dtype, device)

    settings = QUICK | material | {"foundation": foundation, "checkpoint_every": 1, "align_steps": 3}
    made = store.create("align", RunConfig.from_dict(settings).to_dict(), folder=elsewhere)
    with monkeypatch.context() as there, pytest.raises(Stopped):
        there.setattr(models, "pick_dtype", on_a_gpu)
        run(
            elsewhere,
            lambda event: asked.append(event.stage == "align" and event.step == 1),
            lambda: any(asked),
            **settings,
        )
    assert keep_partial(RunConfig.from_dict(settings), elsewhere)["steps"] >= 1
    run(elsewhere, **settings)
    assert loading.load_run(made, "cpu").dtype == torch.bfloat16
    pairs = PreferencePairs.from_pairs(list(some_pairs())[:4])
    assert [row["name"] for row in evaluate([elsewhere], pairs, judge="none")["models"]] == ["base", "run"]
    assert export(elsewhere, tmp_path / "merged", merge=True)["bytes"] > 0
