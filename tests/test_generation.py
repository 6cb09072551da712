"""Answers: the base side is the model without adapter, luck belongs to the prompt, and batches change nothing."""

import pytest
import torch
from tiny import FAMILIES, tiny_model, tiny_tokenizer

from workbench import narrow
from workbench.errors import UserError
from workbench.generation import Sampling, Speaker, Steering, answer_together, compare, generate, pick, speaking
from workbench.rahf.adapters import activate, add_adapter, load_adapter, save_adapter
from workbench.rahf.config import RunConfig

PROMPTS = ["what is it?", "please tell me how many days a week has", "no"]
SAMPLING = Sampling(max_new_tokens=8, seed=3)


def _with_adapter(loaded, name="aligned"):
    add_adapter(loaded, name, RunConfig(), loaded.n_blocks, seed=1)
    with torch.no_grad():
        for key, parameter in loaded.model.named_parameters():
            if "lora_B" in key and name in key:
                parameter.normal_(std=0.3)
    return loaded


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_side_is_token_for_token_the_model_without_adapter(family):
    plain = [answer.ids for answer in generate(tiny_model(family), PROMPTS, SAMPLING)]
    loaded = _with_adapter(tiny_model(family))
    *_, last = compare(loaded, PROMPTS, SAMPLING)
    assert [answer.ids for answer in last.base] == plain
    alone = [answer.ids for answer in generate(loaded, PROMPTS, SAMPLING, adapter="aligned")]
    assert [answer.ids for answer in last.aligned] == alone
    assert alone != plain


@pytest.mark.parametrize("before", [[], ["aligned"]])
def test_generating_leaves_the_adapters_as_they_were(before):
    loaded = _with_adapter(tiny_model())
    activate(loaded, before)
    ids = torch.tensor([loaded.boundary.prompt_ids("what is it?")])
    logits = loaded.model(input_ids=ids).logits
    generate(loaded, PROMPTS, SAMPLING)
    list(compare(loaded, PROMPTS, SAMPLING))
    torch.testing.assert_close(loaded.model(input_ids=ids).logits, logits, rtol=0, atol=0)


def test_an_answer_does_not_depend_on_the_others_in_its_batch():
    loaded = tiny_model()
    together = generate(loaded, PROMPTS, SAMPLING)
    small = generate(loaded, PROMPTS, SAMPLING, batch_rows=1)
    assert [a.ids for a in together] == [a.ids for a in small]


def test_the_seed_decides():
    loaded = tiny_model()
    first, again = (generate(loaded, PROMPTS, SAMPLING) for _ in range(2))
    other = generate(loaded, PROMPTS, Sampling(max_new_tokens=8, seed=4))
    assert [a.ids for a in first] == [a.ids for a in again] != [a.ids for a in other]


def test_greedy_equals_transformers_own():
    loaded = tiny_model(seed=5)
    mine = generate(loaded, ["what is it?"], Sampling(temperature=0, max_new_tokens=10))[0]
    ids = torch.tensor([loaded.boundary.prompt_ids("what is it?")])
    theirs = loaded.model.generate(ids, do_sample=False, max_new_tokens=10, pad_token_id=0)[0, ids.shape[1] :].tolist()
    stop = next((k for k, token in enumerate(theirs) if token in loaded.boundary.eos_ids), len(theirs))
    assert mine.ids == theirs[:stop]


def test_draws_follow_the_distribution_and_top_p_cuts_its_tail():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(20000, 1)
    luck = torch.rand(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = torch.bincount(pick(logits, luck, Sampling()), minlength=4) / 20000
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.01, rtol=0)
    cut = torch.bincount(pick(logits, luck, Sampling(top_p=0.7)), minlength=4) / 20000
    torch.testing.assert_close(cut, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.01, rtol=0)


def test_steering_moves_the_aligned_rows_only():
    loaded = _with_adapter(tiny_model())
    vector = {1: torch.randn(32, generator=torch.Generator().manual_seed(0)) * 5}
    *_, plain = compare(loaded, PROMPTS, SAMPLING)
    *_, steered = compare(loaded, PROMPTS, SAMPLING, steering=Steering(vector, 2.0))
    assert [a.ids for a in plain.base] == [a.ids for a in steered.base]
    assert [a.ids for a in plain.aligned] != [a.ids for a in steered.aligned]
    *_, none = compare(loaded, PROMPTS, SAMPLING, steering=Steering(vector, 0.0))
    assert [a.ids for a in plain.aligned] == [a.ids for a in none.aligned]


def test_a_context_of_64_cuts_long_prompts_and_never_crashes():
    loaded = tiny_model("gpt2", context=64)
    answers = generate(loaded, ["a lazy dog. " * 500], Sampling(max_new_tokens=100))
    assert 0 < len(answers[0].ids) <= 56


@pytest.mark.parametrize("chat", [True, False])
def test_without_pad_or_template(chat):
    loaded = tiny_model(tokenizer=tiny_tokenizer(chat=chat, pad=False))
    assert len(generate(loaded, PROMPTS, SAMPLING)) == 3


@pytest.mark.parametrize(
    "bad", [{"temperature": float("nan")}, {"temperature": -1}, {"top_p": 0}, {"max_new_tokens": 0}, {"top_p": 2}]
)
def test_settings_that_mean_nothing_are_refused(bad):
    with pytest.raises(UserError):
        generate(tiny_model(layers=1), PROMPTS, Sampling(**bad))


def test_speakers_in_one_batch_answer_as_each_would_alone():
    loaded = tiny_model("llama")
    _with_adapter(loaded)
    vector = {1: torch.full((loaded.width,), 0.7)}
    up, down = Steering(vector, 2.0), Steering(vector, -3.0)
    speakers = [Speaker(), Speaker("aligned"), Speaker(instruction="Be kind."), Speaker(steering=up)]
    speakers += [Speaker("aligned", steering=down)]
    *_, together = answer_together(loaded, PROMPTS, SAMPLING, speakers)
    for speaker, answers in zip(speakers, together, strict=True):
        alone = generate(
            loaded, PROMPTS, SAMPLING, speaker.adapter, speaker.instruction, batch_rows=1, steering=speaker.steering
        )
        assert [answer.ids for answer in answers] == [answer.ids for answer in alone]
    assert len({tuple(answers[0].ids) for answers in together}) > 2


def test_what_a_speaker_adds_acts_in_passes_made_within_and_is_gone_afterwards():
    loaded = tiny_model("llama")
    _with_adapter(loaded)
    ids = torch.tensor([loaded.boundary.prompt_ids(PROMPTS[0])])
    steering = Steering({0: torch.full((loaded.width,), 0.5)}, 1.5)

    seen = []
    loaded.blocks[1].register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))

    def states():
        with torch.inference_mode():
            loaded.model(input_ids=ids)
        return seen[-1]

    with speaking(loaded, Speaker()):
        base = states()
    with speaking(loaded, Speaker(steering=steering)):
        torch.testing.assert_close(states(), base + 0.75)
    with speaking(loaded, Speaker("aligned")):
        assert not torch.equal(states(), base)
    with speaking(loaded, Speaker()):
        assert torch.equal(states(), base)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (5, 1), (3, 4), (20, 1), (200, 1)])
def test_products_of_few_rows_are_the_same_the_other_ways(shape, bias):
    layer = torch.nn.Linear(40, 70, bias=bias)
    rows = torch.randn(*shape, 40)
    with torch.no_grad():
        plain = layer(rows)
        with narrow.Narrow():
            found = layer(rows)
            halved = torch.nn.functional.linear(rows.bfloat16(), layer.weight.bfloat16())
        way = narrow.faster(rows, layer.weight)
    count = shape[0] * shape[1]
    assert way is (narrow.turned if count <= 5 else None if count > 192 or not narrow.ONEDNN else narrow.by_onednn)
    assert found.shape == plain.shape and found.is_contiguous() and halved.dtype == torch.bfloat16
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)
    with narrow.Narrow():  # where a gradient is wanted the plain call stays
        layer(rows).sum().backward()
    assert layer.weight.grad is not None


def test_answers_of_few_rows_go_the_other_way_round(monkeypatch):
    loaded, asked = tiny_model(), []
    turned = narrow.turned
    monkeypatch.setattr(narrow, "turned", lambda *args: asked.append(len(args[0])) or turned(*args))
    few = generate(loaded, ["what is it?"], Sampling(max_new_tokens=4, temperature=0))
    assert asked and set(asked) == {1}
    monkeypatch.setattr(narrow, "MOST_ROWS", 0)
    assert [a.ids for a in generate(loaded, ["what is it?"], Sampling(max_new_tokens=4, temperature=0))] == [
        a.ids for a in few
    ]


def test_an_adapter_that_is_loaded_between_two_tokens_does_not_act_on_others(tmp_path):
    """Another visitor opens the first run on a base that answers somebody without any adapter."""
    made = tiny_model()
    add_adapter(made, "aligned", RunConfig(), 3, seed=1)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    save_adapter(made, "aligned", tmp_path)
    speakers, sampling = [Speaker(), Speaker(instruction="be kind")], Sampling(max_new_tokens=12, temperature=0)

    def answers(between):
        loaded = tiny_model()
        drawing = answer_together(loaded, ["what is it?", "a fox"], sampling, speakers)
        next(drawing)
        next(drawing)
        between(loaded)
        *_, last = drawing
        return [[answer.ids for answer in side] for side in last]

    changed = tiny_model()
    load_adapter(changed, tmp_path, "other")
    wanted = answers(lambda loaded: None)
    assert [a.ids for a in generate(changed, ["what is it?", "a fox"], sampling, "other")] != wanted[0]
    assert answers(lambda loaded: load_adapter(loaded, tmp_path, "other")) == wanted


@pytest.mark.parametrize("speakers", [[Speaker("nobody")], [Speaker(), Speaker("nobody")]])
def test_an_adapter_that_is_not_there_is_no_base(speakers):
    loaded = tiny_model()
    add_adapter(loaded, "aligned", RunConfig(), 3, seed=1)
    with pytest.raises(KeyError, match="nobody"):
        list(answer_together(loaded, ["what is it?"], Sampling(max_new_tokens=2), speakers))
