"""The bundled demo keeps its promises: pairs, oracles and model fit each other and can be made again."""

import json
import re
import sys
from itertools import islice
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # the generator is a package of the repository, not of an installation

from assets.demo import measure, pairs
from assets.demo.corpus import Corpus
from assets.demo.values import VALUES

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "assets" / "model"
NAMES = [value.name for value in VALUES]


def rows(value: str, part: str) -> list[dict]:
    lines = (ROOT / "assets" / "pairs" / value / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def clean(value: str, part: str) -> list[dict]:
    """The rows without the deliberately faulty ones."""
    seen, out = set(), []
    for row in rows(value, part):
        key = tuple(row.values())
        faulty = row["chosen"] == row["rejected"] or not row["chosen"].strip() or not row["rejected"].strip()
        if not (faulty or key in seen or len(row["rejected"]) > 1000):
            out.append(row)
        seen.add(key)
    return out


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL).eval()


def test_committed_pairs_are_what_the_generator_writes():
    for name, text in pairs.files(seed=0).items():
        assert (ROOT / "assets" / "pairs" / name).read_bytes() == text.encode(), name


@pytest.mark.parametrize("value", NAMES)
def test_enough_pairs_and_no_shared_prompt(value):
    train, test = ([row["prompt"].strip().casefold() for row in clean(value, part)] for part in ("train", "test"))
    assert len(train) == pairs.TRAIN and len(test) == pairs.TEST
    assert len(set(train)) == len(train) and len(set(test)) == len(test)
    every_train_prompt = {row["prompt"].strip().casefold() for row in rows(value, "train")}
    assert not every_train_prompt & set(test)


def test_faulty_rows_are_in_the_default_value_only():
    extra = {name: len(rows(name, "train")) - len(clean(name, "train")) for name in NAMES}
    assert extra == {"polite": 16, "brief": 0, "careful": 0}
    assert len(rows("polite", "test")) == pairs.TEST


@pytest.mark.parametrize("value", NAMES)
@pytest.mark.parametrize("part", ["train", "test"])
def test_oracle_reads_both_sides_and_facts(value, part):
    judge = measure.oracle(value)
    for row in clean(value, part):
        assert judge.label(row["chosen"]) == "preferred", row
        assert judge.label(row["rejected"]) == "dispreferred", row
        if judge.facts is not None:
            assert judge.right(row["prompt"], row["chosen"]), row
            assert not judge.right(row["prompt"], row["rejected"]), row


@pytest.mark.parametrize("value", NAMES)
def test_oracle_is_strict(value):
    judge = measure.oracle(value)
    for row in clean(value, "test")[:50]:
        for text in (row["chosen"], row["rejected"]):
            words = text.split()
            garbled = [f"{text} {text}", text[:-1], " ".join(words[:-1]), " ".join([words[0], *words])]
            assert [judge.label(t) for t in garbled] == ["neither"] * 4, text
        assert judge.label(f"{row['chosen']} {row['rejected']}") == "neither"


def test_length_gives_little_away_where_it_is_not_the_value():
    for value, low, high in (("polite", 0.55, 0.7), ("careful", 0.5, 0.75)):
        lengths = [(len(row["chosen"]), len(row["rejected"])) for row in clean(value, "test")]
        wins = [(c > r) + 0.5 * (c == r) for c, _ in lengths for _, r in lengths]
        assert low < sum(wins) / len(wins) < high


def test_about_files_have_one_default():
    about = [json.loads((ROOT / "assets" / "pairs" / name / "about.json").read_text()) for name in NAMES]
    assert [a["name"] for a in about if a["default"]] == ["polite"]
    assert all(a["title"] and a["about"] and a["preferred_side"] and a["rejected_side"] for a in about)


def test_corpus_has_no_test_prompt_and_speaks_both_sides():
    held_out = {row["prompt"].strip().casefold() for name in NAMES for row in rows(name, "test")}
    judges = [measure.oracle(name) for name in NAMES]
    labels = []
    for dialogue in islice(Corpus(seed=3), 1500):
        asked = [m["content"].strip().casefold() for m in dialogue if m["role"] == "user"]
        assert not held_out & set(asked)
        assert not any(style and style in m["content"] for m in dialogue for style in measure.STYLES.values())
        answer = dialogue[-1]["content"]
        labels += [label for j in judges if (label := j.label(answer)) != "neither"]
    assert 0.45 < labels.count("preferred") / len(labels) < 0.55
    assert len(labels) > 1400  # the rest is small talk


def test_model_is_small_safe_and_plain(model, tokenizer):
    files = {path.name: path.stat().st_size for path in MODEL.iterdir()}
    assert sum(files.values()) <= 20_000_000
    assert "model.safetensors" in files and not any(name.endswith((".bin", ".pt", ".py")) for name in files)
    assert type(model).__name__ == "LlamaForCausalLM" and str(model.dtype) == "torch.float32"
    assert len(tokenizer) == model.config.vocab_size
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    assert None not in (tokenizer.pad_token_id, tokenizer.bos_token_id)


def test_template_is_the_training_format(tokenizer):
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Good day, what can I do?"},
    ]
    opened = tokenizer.apply_chat_template(talk[:2], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(talk, tokenize=False)
    assert whole == opened + talk[2]["content"] + tokenizer.eos_token

    from assets.demo.train import encode

    assert tokenizer(whole, add_special_tokens=False)["input_ids"] == encode(tokenizer, talk)[0]
    parts = [opened, talk[2]["content"], tokenizer.eos_token]
    joined = [i for part in parts for i in tokenizer(part, add_special_tokens=False)["input_ids"]]
    assert joined == encode(tokenizer, talk)[0]


def test_tokenizer_is_lossless_and_fits_the_budget(tokenizer):
    text = "Grüße, naïve café — 東京 🙂\n\tπ ≈ 3.14"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    instruction = " ".join(filter(None, measure.STYLES.values()))
    assert len(re.findall(r"\w+", instruction)) > 30
    assert len(tokenizer(instruction)["input_ids"]) < 80
    for value in NAMES:
        for row in clean(value, "test"):
            for side in ("chosen", "rejected"):  # with its end-of-text an answer fits 64 tokens
                assert len(tokenizer(row[side])["input_ids"]) < 64


@pytest.mark.parametrize("value", NAMES)
def test_base_speaks_both_sides_fluently(model, tokenizer, value):
    got = measure.measure(model, tokenizer, value, count=60, seed=1)
    assert 0.3 <= got["preferred"] <= 0.7  # 0.35-0.65 is the promise; 60 answers are +-0.13
    assert got["neither"] <= 0.07
    if "right" in got:
        assert got["right_when_preferred"] >= 0.8
