"""The verbs that need no training, on a tiny random model and the real engine."""

import json

import pytest
import torch
from tiny import PAIRS, tiny_model

from workbench.cli import main
from workbench.errors import UserError
from workbench.generation import Sampling, generate
from workbench.models import load_model
from workbench.rahf.adapters import add_adapter, save_adapter
from workbench.rahf.config import RunConfig
from workbench.runs import create, list_runs
from workbench.runs.loading import load_run, steering_of


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a model, as a user has one."""
    folder = tmp_path_factory.mktemp("model")
    loaded = tiny_model("llama")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    return path


@pytest.fixture
def run(model, pairs):
    """An alignment as the pipeline leaves it, with an adapter that does something."""
    config = RunConfig(model=str(model), pairs=str(pairs))
    run = create("align", config.to_dict())
    loaded = load_model(str(model))
    add_adapter(loaded, "aligned", config, depth=2, seed=0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    save_adapter(loaded, "aligned", run.adapter)
    run.write_status(state="finished")
    return run


@pytest.fixture
def say(capfd):
    def command(*arguments):
        code = main([str(argument) for argument in arguments])
        seen = capfd.readouterr()
        assert "Traceback" not in seen.out + seen.err
        return code, json.loads(seen.out) if code == 0 else seen.err.strip().splitlines()[-1]

    return command


def test_generate_puts_the_untouched_base_beside_the_aligned(say, run, model, tmp_path):
    prompts = ["what is it?", "how many days?"]
    code, answer = say("generate", run.id, "--json", "--prompt", *prompts, "--max-new-tokens", 9, "--seed", 3)
    assert code == 0 and [row["prompt"] for row in answer["results"]] == prompts and answer["tokens_per_second"] > 0
    alone = generate(load_model(str(model)), prompts, Sampling(max_new_tokens=9, seed=3))
    assert [row["base"] for row in answer["results"]] == [row.text for row in alone]
    assert [row["aligned"] for row in answer["results"]] != [row["base"] for row in answer["results"]]
    (tmp_path / "p.txt").write_text("what is it?\n\nhow many days?\n")
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
    for name in ("p.txt", "p.jsonl"):
        again = say("generate", run.id, "--json", "--prompts", tmp_path / name, "--max-new-tokens", 9, "--seed", 3)[1]
        assert again["results"] == answer["results"]


def test_what_generate_refuses(say, run, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "wrong.jsonl").write_text('{"question": 1}\n')
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    for words, rest in (
        ("nothing to answer", []),
        ("nothing to answer", ["--prompt", " "]),
        ("empty", ["--prompts", tmp_path / "empty.txt"]),
        ("Line 1", ["--prompts", tmp_path / "wrong.jsonl"]),
        ("not a text file", ["--prompts", tmp_path / "binary.txt"]),
        ("cannot be read", ["--prompts", tmp_path / "none.txt"]),
        ("Temperature", ["--prompt", "hi", "--temperature", "-1"]),
        ("Top-p", ["--prompt", "hi", "--top-p", "7"]),
        ("directions", ["--prompt", "hi", "--steer", "1"]),
    ):
        code, sentence = say("generate", run.id, *rest)
        assert code == 2 and words in sentence, sentence
    waiting = create("align", run.config())
    for command in (["generate", waiting.id, "--prompt", "hi"], ["evaluate", waiting.id, "--pairs", "demo"]):
        code, sentence = say(*command)
        assert code == 2 and "no aligned model: it is queued" in sentence


def test_steering_comes_from_the_run(say, run):
    from safetensors.torch import save_file

    save_file({"2": torch.full((32,), 0.5), "0": torch.ones(32)}, run.path / "steering.safetensors")
    assert list(steering_of(run, 1.5).vectors) == [0, 2] and steering_of(run, 1.5).alpha == 1.5
    assert list(steering_of(run, 1.0, [2]).vectors) == [2]
    with pytest.raises(UserError, match="no direction in block 7"):
        steering_of(run, 1.0, [7])
    plain = say("generate", run.id, "--json", "--prompt", "what is it?", "--steer", "0")[1]["results"][0]
    assert plain["base"] == plain["aligned"]
    pushed = say("generate", run.id, "--json", "--prompt", "what is it?", "--steer", "40")[1]["results"][0]
    assert pushed["base"] == plain["base"] != pushed["aligned"]


def test_an_adapter_of_other_weights_is_refused(run, tmp_path):
    other = tiny_model("llama", seed=9)
    other.model.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace(run.config()["model"], str(tmp_path / "other")))
    with pytest.raises(UserError, match="other weights"):
        load_run(run)


def test_separability_scores_and_keeps(say, model, pairs, tmp_path):
    more = ["--model", model, "--pairs", pairs, "--json"]
    code, result = say("separability", *more, "--out", tmp_path / "scores", "--layers", "0,2")
    assert code == 0 and [row["layer"] for row in result["layers"]] == [0, 2] and result["pairs"] == len(PAIRS)
    assert set(result["seconds"]) == {"capture", "score", "project"} and result["tokens_per_second"] > 0
    assert (tmp_path / "scores" / "layers.json").exists() and list_runs(all=True)[0].kind == "separability"
    assert list(steering_of(list_runs(all=True)[0], 1.0).vectors) == result["suggested_layers"]
    code, sentence = say("separability", *more[:-1], "--layers", "8")
    assert code == 2 and "blocks 0 to 2" in sentence


def test_check_reports_and_cleans(say, model, pairs, tmp_path):
    with open(pairs, "a") as file:
        file.write('\n{"prompt": "same?", "chosen": "yes", "rejected": "yes"}\n')
    code, report = say("check", pairs, "--model", model, "--json", "--out", tmp_path / "clean.jsonl")
    assert code == 0 and report["read"] == len(PAIRS) + 1 and report["kept"] == len(PAIRS)
    assert sum(report["dropped"].values()) == 1 and set(report["prompt_tokens"]) >= {"p50", "p95", "max"}
    assert len((tmp_path / "clean.jsonl").read_text().splitlines()) == len(PAIRS)
    code, sentence = say("check", tmp_path / "nothing.csv", "--model", model)
    assert code == 2 and "nothing.csv" in sentence
    code, sentence = say("check", pairs, "--model", "no/such/model/at/all")
    assert code == 2 and "no model" in sentence
