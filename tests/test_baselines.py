"""The other methods: each does what its name says, on the pairs and the budget of an alignment, and its run is like any."""

import json
import math
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import PAIRS, saved, tiny_model
from transformers import AutoModelForCausalLM

from workbench.baselines.config import BaselineConfig
from workbench.baselines.pipeline import run_baseline
from workbench.baselines.supervised import ADAPTER, lessons_of, train
from workbench.cli import main
from workbench.errors import Stopped, UserError
from workbench.models import load_model
from workbench.pairs import Pair, PreferencePairs, as_messages, load_pairs
from workbench.progress import QUIET, Progress
from workbench.rahf.adapters import adapter_state
from workbench.rahf.checkpoints import last_checkpoint
from workbench.rahf.config import RunConfig
from workbench.rahf.instruct import instruct
from workbench.rahf.pipeline import align
from workbench.runs.loading import add_run
from workbench.runs.store import Run
from workbench.tokens import Limits

QUICK = {
    "instruct_steps": 4, "align_steps": 6, "instruct_batch": 4, "align_batch": 6, "evaluate_every": 5,
    "checkpoint_every": 3, "evaluate_prompts": 4, "max_new_tokens": 6, "calibration_prompts": 4, "device": "cpu",
    "positive": "be kind", "negative": "be a lazy dog", "layers": (0, 1), "prompt_tokens": 64, "completion_tokens": 32,
}  # fmt: skip
LIMITS = Limits(64, 32)
KEYS = {
    "run",
    "method",
    "layers",
    "alpha",
    "relative_strength",
    "instructed",
    "steps",
    "seconds",
    "loss_first",
    "loss_last",
}
KEYS |= {"peak_memory_bytes", "adapter", "held_out", "config", "pairs", "instruction", "budget"}


@pytest.fixture
def where(tmp_path):
    """A saved tiny model and a file of pairs."""
    return saved(tmp_path, tiny_model())


@pytest.fixture
def some():
    return [Pair(i, as_messages(row["prompt"]), row["chosen"], row["rejected"]) for i, row in enumerate(PAIRS)]


def settings(method, **more):
    return BaselineConfig.from_dict({**QUICK, "method": method, **more})


def run(folder, method, emit=None, stopping=None, **more):
    return run_baseline(settings(method, **more), folder, Progress(emit, stopping))


def weights(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


# --- what each method is


def test_dpo_s_loss_is_the_formula_on_our_own_tokens(some, tmp_path, monkeypatch):
    from workbench.baselines import preference

    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda *a, **k: pytest.fail("telemetry was sent"))
    loaded, base = tiny_model(), tiny_model()  # the same seed: the same weights
    config = settings("dpo", beta=0.3)
    config = config.as_stage(config.budget(8, 8), 4)
    trainer = preference.make_trainer(loaded, some, config, LIMITS, tmp_path, QUIET)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    found = float(trainer.compute_loss(trainer.model, batch).detach())

    def logp(model, prompt, answer):
        """Sum over the answer's tokens, one sequence at a time, from the text that the template writes."""
        ids = base.tokenizer(f"<|user|>{prompt}<|end|><|assistant|>").input_ids
        said = base.tokenizer(f"{answer}<|end|>").input_ids
        logps = model(torch.tensor([ids + said])).logits.log_softmax(-1)[0]
        return sum(float(logps[len(ids) + at - 1, token]) for at, token in enumerate(said))

    def ratio(row, side):
        return logp(loaded.model, row["prompt"], row[side]) - logp(base.model, row["prompt"], row[side])

    gaps = torch.tensor([ratio(row, "chosen") - ratio(row, "rejected") for row in PAIRS[:4]])
    slow = float(-torch.nn.functional.logsigmoid(0.3 * gaps).mean())
    assert gaps.abs().max() > 0.1
    assert found == pytest.approx(slow, rel=1e-4)
    assert trainer.measured["reward_gap"] == pytest.approx(0.3 * float(gaps.mean()), rel=1e-3)


@pytest.mark.parametrize("family", ["opt", "mixtral"])
def test_dpo_begins_at_indifference_whatever_the_base_drops_or_routes(some, tmp_path, family):
    from workbench.baselines import preference

    config = settings("dpo")
    config = config.as_stage(config.budget(8, 8), 4)
    trainer = preference.make_trainer(tiny_model(family), some, config, LIMITS, tmp_path, QUIET)
    trainer.model.train()
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    assert float(trainer.compute_loss(trainer.model, batch).detach()) == pytest.approx(math.log(2), abs=1e-6)


def test_sft_is_the_chosen_side_of_dual_s_step_1(some, tmp_path):
    pairs = PreferencePairs.from_pairs(some)
    dual = RunConfig.from_dict({**QUICK, "method": "dual"})
    left, right = tiny_model(), tiny_model()
    instruct(left, pairs, dual, "chosen", LIMITS, tmp_path / "left", QUIET)
    config = settings("sft")
    stage = config.as_stage(config.budget(8, 8), 4)
    stage = BaselineConfig.from_dict(stage.to_dict() | {"align_steps": 4})
    train(right, lessons_of(some, config), stage, LIMITS, tmp_path / "right", QUIET)
    one, two = adapter_state(left, "chosen"), adapter_state(right, ADAPTER)
    assert len(one) > 10 and one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert any("lora_B" in key and bool(tensor.any()) for key, tensor in two.items())


def test_hindsight_tells_every_answer_what_it_would_have_been_right_for(some):
    lessons = lessons_of(some[:2], settings("hir"))
    told = [(lesson.answer, lesson.instruction) for lesson in lessons]
    assert told == [
        (PAIRS[0]["chosen"], "be kind"),
        (PAIRS[0]["rejected"], "be a lazy dog"),
        (PAIRS[1]["chosen"], "be kind"),
        (PAIRS[1]["rejected"], "be a lazy dog"),
    ]
    loaded = tiny_model()
    ids = lessons[1].encoded(loaded, LIMITS)
    assert "be a lazy dog" in loaded.tokenizer.decode(ids.ids[: ids.start])
    assert all(lesson.instruction is None for lesson in lessons_of(some, settings("sft")))


def test_the_budget_is_the_answers_that_both_steps_see():
    plain = RunConfig()
    budget = BaselineConfig().budget(200, 200)
    assert budget.steps == plain.instruct_steps + plain.align_steps
    assert budget.answers == 2 * plain.instruct_steps * plain.instruct_batch + plain.align_steps * plain.align_batch
    passes = settings("sft", instruct_epochs=2, align_epochs=1).budget(8, 8)  # 2 x 2 steps of 4 pairs; 16 answers by 6
    assert passes.steps == 4 + 3 and passes.answers == pytest.approx(2 * 16 + 18, abs=passes.steps)
    own = settings("sft", steps=5, batch=7).budget(8, 8)
    assert (own.steps, own.batch, own.answers) == (5, 7, 35)
    assert settings("dpo").as_stage(budget, 8).align_rate == pytest.approx(plain.instruct_rate / 20)
    assert settings("hir", rate=1e-5).as_stage(budget, 8).align_rate == 1e-5


def token_norms(loaded, pair, block):
    """The lengths of a block's output at the positions that predict an answer's tokens, one sequence at a time."""
    found = []
    for text in (pair.chosen, pair.rejected):
        item = loaded.boundary.encode(pair.prompt, text, None, LIMITS)
        with torch.no_grad():
            states = loaded.model(torch.tensor([item.ids]), output_hidden_states=True).hidden_states[block + 1][0]
        found += states[item.start - 1 : len(item.ids) - 1].norm(dim=-1).tolist()
    return found


def test_steering_points_from_the_rejected_mean_to_the_chosen_one(where, tmp_path):
    from workbench.representations.capture import capture

    result = run(tmp_path / "run", "steering", **where)
    vectors = load_file(tmp_path / "run" / "steering.safetensors")
    loaded = load_model(where["model"])
    config = settings("steering", **where)
    pairs = load_pairs(where["pairs"])
    training = pairs.without(config.split(pairs).held_out.dataset["id"])
    states = capture(loaded, training, limits=LIMITS)
    for block in (0, 1):
        wanted = torch.from_numpy(states.chosen[block].mean(0) - states.rejected[block].mean(0))
        assert torch.allclose(vectors[str(block)], wanted, atol=1e-4)
        lengths = [
            norm for pair in training for norm in token_norms(loaded, pair, block)
        ]  # of states, not of their means
        share = float(wanted.norm()) / (sum(lengths) / len(lengths))
        assert result["relative_strength"][str(block)] == pytest.approx(result["alpha"] * share, rel=1e-2, abs=1e-4)
    points = result["calibration"]["points"]
    assert result["alpha"] in [point["alpha"] for point in points] or "chance" in result["calibration"]["reason"]
    assert result["adapter"] is None and result["budget"] is None and result["held_out"]["aligned"]["kl_from_base"] > 0
    kept = Run("steering-x", tmp_path / "run", "baseline", "", 0.0, 0)
    kept.write_status(state="finished", result=result)
    speaker = add_run(loaded, kept, "name")  # in Compare it answers like any run
    assert speaker.adapter is None and speaker.steering.alpha == result["alpha"]
    assert torch.equal(speaker.steering.vectors[0], vectors["0"])
    with pytest.raises(UserError, match="has no aligned model"):
        add_run(loaded, Run("scit-x", tmp_path / "run", "align", "", 0.0, 0), "name")


# --- runs


@pytest.mark.parametrize("method", ["sft", "hir", "dpo"])
def test_a_run_leaves_a_plain_adapter_and_says_what_it_spent(where, tmp_path, method):
    events = []
    result = run(tmp_path / "run", method, events.append, **where)
    assert result.keys() >= KEYS and result["method"] == method
    assert result["instruction"] == ("be kind" if method == "hir" else None)
    assert result["budget"]["steps"] == result["steps"] == 10
    assert result["budget"]["answers"] == 10 * result["budget"]["batch"] and result["budget"]["tokens"] > 500
    assert result["loss_last"] < result["loss_first"]
    looks = [event.metrics for event in events if "kl_from_base" in event.metrics]
    assert len(looks) == 3 and looks[0]["kl_from_base"] == 0  # before, in the middle, at the end
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(where["model"]), tmp_path / "run" / "adapter"
    )
    assert sum(float(p.abs().sum()) for name, p in plain.named_parameters() if "lora_B" in name) > 0
    assert run(tmp_path / "run", method, **where) == result  # nothing is done twice
    with pytest.raises(UserError, match="baseline"):
        align(RunConfig.from_dict({**QUICK, **where, "method": method}), tmp_path / "other", QUIET)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_stopped_and_resumed_equals_uninterrupted(where, tmp_path, method):
    run(tmp_path / "whole", method, **where)
    asked = []

    def emit(event):
        if event.stage == "align" and event.step == 4:
            asked.append(True)

    with pytest.raises(Stopped):
        run(tmp_path / "parts", method, emit, lambda: bool(asked), **where)
    assert last_checkpoint(tmp_path / "parts" / "checkpoints" / "aligned").step in (4, 5)
    run(tmp_path / "parts", method, **where)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"method": "ppo"}, "method must be one of"),
        ({"instruct_tuning": "full"}, "trains an adapter"),
        ({"beta": 0}, "beta"),
        ({"rate": "fast"}, "rate"),
        ({"positive": "same", "negative": "same", "method": "hir"}, "are the same"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(bad, said):
    with pytest.raises(UserError, match=said):
        settings(**{"method": "sft", **bad})


def test_too_few_pairs_and_a_lost_loss_are_sentences(where, tmp_path, monkeypatch):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(json.dumps(pair) for pair in PAIRS[:3]))
    with pytest.raises(UserError, match="at least 8 pairs"):
        run(tmp_path / "few", "sft", **where | {"pairs": str(few)})
    scored = sys.modules["workbench.rahf.instruct"].mean_logps
    monkeypatch.setattr("workbench.rahf.instruct.mean_logps", lambda *given: scored(*given) * float("nan"))
    with pytest.raises(UserError, match="lower learning rate") as caught:
        run(tmp_path / "lost", "sft", **where)
    assert "step 1 of 10" in str(caught.value) and "of step 1" not in str(caught.value)


def test_without_trl_dpo_says_what_to_install(where, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "workbench.baselines.preference", raising=False)
    monkeypatch.delattr("workbench.baselines.preference", raising=False)
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(UserError, match="pip install trl"):
        run(tmp_path / "run", "dpo", **where)


# --- like any other run


@pytest.fixture
def say(capfd):
    def command(*arguments):
        code = main([str(argument) for argument in arguments])
        seen = capfd.readouterr()
        assert "Traceback" not in seen.out + seen.err
        return code, json.loads(seen.out) if code == 0 else seen.err.strip().splitlines()[-1]

    return command


def test_the_verb_trains_and_the_other_verbs_take_its_run(where, tmp_path, say):
    options = [f"{name}={','.join(map(str, it)) if name == 'layers' else it}" for name, it in QUICK.items()]
    chosen = [part for option in options for part in ("--set", option)]
    chosen += ["--model", where["model"], "--pairs", where["pairs"]]
    code, made = say("baseline", "hir", "--json", "--steps", "5", *chosen, "--out", tmp_path / "mine")
    assert code == 0 and made.keys() >= KEYS and made["steps"] == 5
    code, answer = say("generate", tmp_path / "mine", "--json", "--prompt", "what is it?", "--max-new-tokens", 8)
    assert code == 0 and answer["results"][0]["base"]
    code, judged = say("evaluate", tmp_path / "mine", "--json", "--pairs", where["pairs"])
    assert code == 0
    (row,) = [row for row in judged["models"] if row["name"] != "base"]
    # judged as it judged itself: after p+
    assert row["kl_from_base"] == pytest.approx(made["held_out"]["aligned"]["kl_from_base"], rel=1e-3)
    code, sentence = say("align", "--method", "sft", *chosen)
    assert code == 2 and "baseline sft" in sentence
    code, sentence = say("baseline", "ppo")
    assert code == 2 and "sft, hir, dpo" in sentence
