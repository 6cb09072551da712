"""Every kind of bad input that people bring, through the real command line and engine: one sentence, exit code 2."""

import json
import shutil
from collections import namedtuple

import pytest
from tiny import PAIRS, tiny_model

from workbench.cli import main
from workbench.runs import list_runs

GOOD = "\n".join(json.dumps(pair) for pair in PAIRS)
FILES = {
    "empty.jsonl": b"",
    "binary.jsonl": bytes(range(256)) * 64,
    "columns.csv": b"a,b\n1,2\n",
    "identical.jsonl": b"\n".join(b'{"prompt": "q%d", "chosen": "same", "rejected": "same"}' % i for i in range(20)),
    "one.jsonl": json.dumps(PAIRS[0]).encode(),
    "torn.jsonl": b"\n".join(line[:-20] for line in GOOD.encode().splitlines()),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    loaded = tiny_model(context=64)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def refused(capfd):
    """Runs a command that must be refused; returns its sentence."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        seen = capfd.readouterr()
        sentence = seen.err.strip().splitlines()[-1]
        assert code == 2, seen.err
        assert seen.out == ""
        assert "Traceback" not in seen.err
        assert sentence.endswith((".", ")")) and len(sentence) < 500, sentence
        return sentence

    return run


@pytest.mark.parametrize("name", FILES)
def test_files_that_hold_no_pairs_to_train_on(refused, model, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    sentence = refused("align", "--model", model, "--pairs", path, "--json")
    assert name.split(".")[0] in sentence or "pairs" in sentence
    assert path.read_bytes() == FILES[name]  # what the user brought is as it was
    assert not list_runs()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "no/such-model"], "no/such-model"),
        (["--model", "../../etc/passwd"], "no model"),
        (["--layers", "1,9"], "blocks 0 to 2"),
        (["--alpha", "nan"], "alpha"),
        (["--device", "abacus"], "abacus"),
        (["--dtype", "int3"], "int3"),
    ],
)
def test_settings_that_do_not_fit_the_model(refused, model, tmp_path, options, said):
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    assert said in refused("align", "--model", model, "--pairs", tmp_path / "pairs.jsonl", *options)


def test_no_disk_space(refused, model, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 10**6))
    (tmp_path / "pairs.jsonl").write_text(GOOD)
    assert "free" in refused("align", "--model", model, "--pairs", tmp_path / "pairs.jsonl")


def test_a_prompt_of_a_hundred_thousand_characters_is_cut_and_trained_on(model, tmp_path, capfd):
    rows = [*PAIRS[:12], {**PAIRS[12], "prompt": "the lazy dog jumps. " * 5000}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    quick = ["instruct_steps=2", "align_steps=2", "evaluate_prompts=2", "max_new_tokens=4", "force=true"]
    quick += ["positive=kind", "negative=rude"]
    settings = [part for setting in quick for part in ("--set", setting)]
    command = [
        "align",
        "--model",
        str(model),
        "--pairs",
        str(tmp_path / "pairs.jsonl"),
        "--layers",
        "1",
        *settings,
        "--json",
    ]
    assert main(command) == 0
    seen = capfd.readouterr()
    assert json.loads(seen.out)["layers"] == [1]
    run = list_runs()[0]
    assert any("are cut" in event.message for event in run.events(0)[0])
