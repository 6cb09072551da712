"""How answers are read, several runs beside one base, whether there is memory for it, and files of prompts."""

import json

import numpy as np
import pytest
import torch
from compare_setup import PROMPTS, SAMPLING, finished, steering, with_adapter
from tiny import PAIRS, saved, tiny_model

from workbench.errors import UserError
from workbench.generation import Row, Speaker, answer_rows, answer_together, generate
from workbench.models import load_model
from workbench.pairs import pairs_from_text
from workbench.pairs.prompts import read_prompts
from workbench.rahf.adapters import activate
from workbench.reading import axes_of, token_logprobs, token_preferences
from workbench.runs import loading, store

# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("who", ["base", "adapter", "instruction"])
def test_log_probabilities_of_tokens_are_those_of_one_slow_pass_each(family, who):
    loaded = with_adapter(tiny_model(family))
    speaker = {"base": Speaker(), "adapter": Speaker("aligned"), "instruction": Speaker(instruction="be kind")}[who]
    ids = [answer.ids for answer in generate(loaded, PROMPTS, SAMPLING, adapter="aligned")]
    ids[2] = []
    found = token_logprobs(loaded, PROMPTS, ids, speaker, SAMPLING)
    activate(loaded, [speaker.adapter] if speaker.adapter else [])
    for prompt, answer, values in zip(PROMPTS, ids, found, strict=True):
        slow = []
        for place, token in enumerate(answer):
            before = loaded.boundary.prompt_ids(prompt, speaker.instruction) + answer[:place]
            logits = loaded.model(input_ids=torch.tensor([before])).logits[0, -1]
            slow.append(torch.log_softmax(logits.double(), -1)[token].item())
        np.testing.assert_allclose(values, slow, atol=2e-5)


def test_steering_acts_on_what_is_read():
    loaded = tiny_model()
    ids = [[5, 6, 7]]
    plain, pushed = (
        token_logprobs(loaded, ["no"], ids, one, SAMPLING) for one in (Speaker(), Speaker(None, None, steering()))
    )
    assert np.abs(np.array(plain) - np.array(pushed)).max() > 1e-3
    assert token_logprobs(loaded, ["no"], ids, Speaker(), SAMPLING) == plain


@pytest.mark.parametrize("pooling", ["mean", "predicting"])
def test_preferences_of_tokens_are_the_base_s_states_on_each_block_s_axis(pooling):
    from workbench.representations.capture import capture
    from workbench.representations.separability import calibrate, preference_direction

    loaded = tiny_model()
    acts = capture(loaded, pairs_from_text("\n".join(map(json.dumps, PAIRS))), pooling=pooling)
    with_adapter(loaded)
    ids = [answer.ids for answer in generate(loaded, PROMPTS, SAMPLING)]
    found = token_preferences(loaded, PROMPTS, ids, axes_of(acts), SAMPLING)
    plain = tiny_model()
    for prompt, answer, values in zip(PROMPTS, ids, found, strict=True):
        states = []
        hooks = [block.register_forward_hook(lambda m, a, out, to=states: to.append(out)) for block in plain.blocks]
        before = plain.boundary.prompt_ids(prompt)
        plain.model(input_ids=torch.tensor([before + answer]))
        for hook in hooks:
            hook.remove()
        for layer, out in enumerate(states):
            hidden = (out[0] if isinstance(out, tuple) else out)[0].numpy()
            first = len(before) - (pooling == "predicting")
            direction = preference_direction(acts, layer)
            way = calibrate(acts, layer, direction)
            on = hidden[first : first + len(answer)] @ direction
            slow = 2 * (on - way.rejected) / (way.chosen - way.rejected) - 1
            np.testing.assert_allclose(values[layer], slow, atol=2e-4)


# -- several speakers --------------------------------------------------------------------------------------------------


def test_a_chat_has_a_prompt_for_each_speaker_and_the_same_luck():
    loaded = with_adapter(tiny_model())
    rows = [
        Row(PROMPTS[0], Speaker()),
        Row(PROMPTS[1], Speaker("aligned")),
        Row(PROMPTS[2], Speaker(steering=steering())),
    ]
    *_, last = answer_rows(loaded, rows, SAMPLING)
    for row, answer in zip(rows, last, strict=True):
        *_, alone = answer_rows(loaded, [row], SAMPLING)
        assert alone[0].ids == answer.ids


def test_several_runs_stand_beside_one_base(tmp_path):
    settings = saved(tmp_path, tiny_model())
    runs = [finished(tmp_path, settings, seed) for seed in (1, 2)]
    loaded = loading.load_run(runs[0], adapter=False)
    speakers = [Speaker(), *(loading.add_run(loaded, run, run.id) for run in runs)]
    *_, together = answer_together(loaded, PROMPTS, SAMPLING, speakers)
    said = [[answer.ids for answer in side] for side in together]
    assert said[0] == [answer.ids for answer in generate(load_model(settings["model"]), PROMPTS, SAMPLING)]
    for run, side in zip(runs, said[1:], strict=True):
        alone = loading.load_run(run)
        assert side == [answer.ids for answer in generate(alone, PROMPTS, SAMPLING, adapter=loading.ALIGNED)]
    assert said[1] != said[2]


def test_the_command_line_asks_several_runs_and_the_base_under_an_instruction(tmp_path, capfd):
    from workbench.cli import main

    settings = saved(tmp_path, tiny_model())
    runs = [finished(tmp_path, settings, seed) for seed in (1, 2)]
    more = ["--instruct", "be kind", "--max-new-tokens", "8", "--seed", "3", "--json"]
    assert main(["generate", *(run.id for run in runs), "--prompt", *PROMPTS, *more]) == 0
    rows = json.loads(capfd.readouterr().out)["results"]
    plain = load_model(settings["model"])
    base = [answer.text for answer in generate(plain, PROMPTS, SAMPLING)]
    kind = [answer.text for answer in generate(plain, PROMPTS, SAMPLING, instruction="be kind")]
    assert [row["base"] for row in rows] == base
    assert [list(row["answers"]) for row in rows] == [["base", runs[0].name, runs[1].name, "instructed"]] * 3
    assert [row["answers"]["instructed"] for row in rows] == kind
    assert [row["aligned"] for row in rows] == [row["answers"][runs[0].name] for row in rows]
    assert main(["generate", runs[0].id, "--prompt", "hi", "--layers", "1"]) == 2
    assert "give --steer" in capfd.readouterr().err


def test_a_run_of_another_base_is_refused_and_an_instruction_is_kept(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = finished(tmp_path, saved(tmp_path / "a", tiny_model()), 1)
    other = finished(tmp_path, saved(tmp_path / "b", tiny_model(seed=7)), 1)
    loaded = loading.load_run(one, adapter=False)
    (other.path / "made_of.json").write_text(json.dumps({"model": load_model(other.config()["model"]).fingerprint}))
    with pytest.raises(UserError, match="another base model"):
        loading.add_run(loaded, other, other.id)
    one.write_status(result={"instruction": "be good"})
    assert loading.add_run(loaded, one, one.id) == Speaker(one.id, "be good")


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    from workbench.representations import untrained
    from workbench.runs import queue

    settings = saved(tmp_path, tiny_model())
    run = finished(tmp_path, settings, 1)
    size = sum(weight.numel() for weight in tiny_model().model.parameters()) * 4
    free = {"bytes": int(1.2 * size)}
    monkeypatch.setattr(untrained, "free_memory", lambda device: free["bytes"])
    loading.load_run(run)
    work = store.create("align", run.config())
    at_work = queue.Entry(1, work, "cpu", work.status(), True)
    monkeypatch.setattr(queue, "entries", lambda: [at_work])
    with pytest.raises(UserError, match=f"{work.id} is at work"):
        loading.load_run(run)
    monkeypatch.setattr(queue, "entries", lambda: [])
    free["bytes"] = int(0.75 * size)
    monkeypatch.setattr("workbench.models.load_model", lambda *a, **k: pytest.fail("the weights were read"))
    with pytest.raises(UserError, match=r"GiB and 0\.0 GiB are free on cpu"):
        loading.load_run(run)
    loading.need_memory(settings["model"], "cpu", "float32", "4bit")


# -- prompts -----------------------------------------------------------------------------------------------------------


def test_prompts_come_from_lines_and_from_columns(tmp_path):
    texts = ["what is it?", "and then, why?"]
    (tmp_path / "a.txt").write_text("\ufeff what is it?\n\n and then, why?\r\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text('id,question\n1,what is it?\n2,"and then, why?"\n')
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"prompt": text, "chosen": "x"}) for text in texts))
    for name in ("a.txt", "a.csv", "a.jsonl"):
        assert read_prompts(tmp_path / name).items == texts and not read_prompts(tmp_path / name).more
    first = read_prompts(tmp_path / "a.txt", most=1)
    assert first.items == texts[:1] and first.more
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "go"},
    ]
    (tmp_path / "b.json").write_text(json.dumps([{"messages": chat}]))
    assert read_prompts(tmp_path / "b.json").items == [chat]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\xff\xfe\x00\x81", "not a text file"),
        ("a.csv", b"id,answer\n1,two\n", "no prompt .its columns: id, answer"),
        ("a.jsonl", b'{"prompt": 3}\n', "Line 1 of a.jsonl has a prompt that is neither"),
        ("a.jsonl", b'{"prompt": [{"role": "user", "content": " "}]}\n', "empty prompt"),
        ("a.parquet", b"PAR1 nothing", "not a readable Parquet"),
    ],
)
def test_files_without_prompts_say_what_is_wrong(tmp_path, name, text, words):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(UserError, match=words):
        read_prompts(tmp_path / name)
    with pytest.raises(UserError, match=r"cannot be read|could not be read"):
        read_prompts(tmp_path / "gone.txt")
