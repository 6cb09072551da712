"""Pairs: bad input in one sentence, what is dropped, the split's promises, edits, lengths."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
from tiny import tiny_model, tiny_tokenizer

from workbench.errors import UserError
from workbench.pairs import (
    Pair,
    PreferencePairs,
    as_messages,
    cut_rows,
    demo_values,
    drop_too_long,
    load_pairs,
    pairs_from_text,
    prompt_text,
    sources,
    token_lengths,
    token_report,
)
from workbench.pairs.checks import REASONS, bin_counts, bin_edges, length_auc
from workbench.pairs.core import Report

GOOD_LINE = json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"})


def some_pairs(count=24, per_prompt=1):
    return PreferencePairs.from_pairs(
        [Pair(i + 1, as_messages(f"What is {i // per_prompt}?"), f"good {i}", f"bad {i}") for i in range(count)]
    )


def jsonl(*rows):
    return "\n".join(json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) for row in rows)


# -- what is dropped, what is kept -------------------------------------------------------------------------------------


def test_rows_are_dropped_with_reason_and_number():
    text = jsonl(
        ("p", "a", "b"),
        ("p", "", "b"),
        ("p", "a ", "b\n"),
        ("p", "x", " x"),
        ("q", None, "b"),
        ("q", "a\x00", "b"),
        ("q", "a\ud800", "b"),
        ("r", "yes", "no"),
        ("r", "no", "yes"),
        (" \n", "a", "b"),
        ("s", ["list"], "b"),
        ("p", "a", "c"),
        ("t", 3, 4.5),
        ("u", True, "b"),
    )
    pairs = pairs_from_text(text)
    assert pairs.ids == [1, 12]
    assert pairs.report.dropped == {
        "not text": [5, 6, 7, 11, 13, 14],
        "empty": [2, 10],
        "identical": [4],
        "duplicate": [3],
        "contradiction": [8, 9],
    }
    assert set(pairs.report.dropped) <= set(REASONS)
    assert pairs.report.read == 14 and pairs.report.kept == 2 and sum(pairs.report.counts.values()) == 12
    assert any("Only 2 of 14 rows" in sentence for sentence in pairs.report.warnings)
    assert json.loads(json.dumps(pairs.report.to_dict())) == pairs.report.to_dict()
    assert Report.from_dict(pairs.report.to_dict()) == pairs.report


def test_a_missing_key_is_no_text_and_blank_lines_count():
    pairs = pairs_from_text(f'{GOOD_LINE}\n\n{{"prompt": "q", "chosen": "a"}}\r\n\n{jsonl(("q", "a", "b"))}')
    assert pairs.report.dropped == {"not text": [3]} and pairs.ids == [1, 5]


def test_a_very_long_prompt_is_kept_with_a_warning(tmp_path):
    for kind in ("jsonl", "csv"):
        path = tmp_path / f"x.{kind}"
        long = "word " * 20_000 + "?"
        path.write_text(jsonl((long, "a", "b")) if kind == "jsonl" else f'prompt,chosen,rejected\n"{long}",a,b\n')
        pairs = load_pairs(path)
        assert prompt_text(pairs[0].prompt) == long
        assert any("longest prompt has 100,001 characters (row 1)" in sentence for sentence in pairs.report.warnings)


def test_other_columns_are_kept_aside():
    pairs = pairs_from_text('{"prompt": "p", "chosen": "a", "rejected": "b", "score": 3, "tags": ["x"]}')
    assert json.loads(pairs.dataset[0]["extra"]) == {"score": 3, "tags": ["x"]}
    assert pairs.dataset.column_names == ["id", "prompt", "chosen", "rejected", "extra"]


def test_bundled_pairs():
    values = demo_values()
    assert len(values) >= 3 and [value.default for value in values].count(True) == 1 and values[0].default
    for value in values:
        train, test = load_pairs(f"demo/{value.name}"), load_pairs(f"demo/{value.name}:test")
        assert len(train) >= 400 and len(test) >= 150 and not set(train.prompt_keys) & set(test.prompt_keys)
    assert load_pairs("demo").fingerprint == load_pairs(f"demo/{values[0].name}:train").fingerprint
    assert len(load_pairs("demo", limit=10)) <= 10


def test_missing_assets_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "ASSETS", tmp_path)
    with pytest.raises(UserError, match="bundled pairs are missing"):
        demo_values()


# -- the split ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "per_prompt"), [(8, 1), (9, 3), (30, 1), (31, 2), (90, 7), (601, 1), (900, 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_split_shares_no_prompt_and_loses_no_pair(count, per_prompt, seed):
    pairs = some_pairs(count, per_prompt)
    split = pairs.split(seed)
    parts = [split.instruct, split.fit, split.held_out]
    assert sorted(number for part in parts for number in part.ids) == pairs.ids
    keys = [set(part.prompt_keys) for part in parts]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    wanted = min(200, round(count / 3))
    assert all(len(part) > 0 for part in parts)
    assert wanted - per_prompt < len(split.held_out) <= wanted
    assert abs(len(split.instruct) - len(split.fit)) <= per_prompt
    assert all(part.ids == sorted(part.ids) for part in parts)
    assert len(pairs.split(seed, held_out=2).held_out) <= max(2, per_prompt)


def test_prompts_that_differ_in_case_and_spacing_stay_together():
    spellings = ["What is {}?", "  what IS {}? ", "What\n is {}?", "What is {}？"]
    pairs = PreferencePairs.from_pairs(
        [Pair(i + 1, as_messages(spellings[i % 4].format(i // 4)), f"a{i}", f"b{i}") for i in range(80)]
    )
    sides = pairs.sides(3)
    assert all(len(set(sides[i : i + 4])) == 1 for i in range(0, 80, 4))


def test_the_split_depends_on_seed_and_prompts_only():
    pairs = some_pairs(60)
    sides = dict(zip(pairs.prompt_keys, pairs.sides(5), strict=True))
    shuffled = pairs.select(random.Random(0).sample(range(60), 60))
    assert dict(zip(shuffled.prompt_keys, shuffled.sides(5), strict=True)) == sides
    assert pairs.sides(6) != pairs.sides(5)
    fewer = pairs.without([1])
    held = {key for key, side in sides.items() if side == "held_out"}
    now = {key for key, side in zip(fewer.prompt_keys, fewer.sides(5), strict=True) if side == "held_out"}
    assert len(held ^ now) <= 2  # removing a pair does not deal all others anew
    assert "".join(side[0] for side in some_pairs(12).sides(0)) == "fffhihiiihhf"  # on every machine and Python


def test_what_cannot_be_split():
    with pytest.raises(UserError, match="needs at least 8 pairs, but there are 7"):
        some_pairs(7).split(0)
    with pytest.raises(UserError, match="at least 8 pairs, but there is 1: add pairs"):
        pairs_from_text(GOOD_LINE).split()
    with pytest.raises(UserError, match="at least 3 different prompts, but the 20 pairs have 2"):
        some_pairs(20, per_prompt=10).split(0)
    for share in (0, 0.0, -1, 1.0, 24, float("nan"), 2.0):
        with pytest.raises(UserError, match="cannot be held out"):
            some_pairs(24).split(0, held_out=share)
    assert len(some_pairs(24).split(0, held_out=0.5).held_out) == 12


# -- edits and the table -----------------------------------------------------------------------------------------------


def test_edits_give_new_pairs_under_the_rules_of_reading():
    pairs = some_pairs(8)
    before = pairs.fingerprint
    changed = pairs.with_pair(Pair(3, as_messages("New?"), " yes ", "no"))
    assert changed[2] == Pair(3, as_messages("New?"), "yes", "no") and len(changed) == 8
    added = changed.with_pair(Pair(0, "Plain?", "yes", "no"))
    assert added[8] == Pair(9, as_messages("Plain?"), "yes", "no")
    assert added.without([9, 77]).fingerprint == changed.fingerprint != before == pairs.fingerprint
    assert pairs.with_pair(pairs[1].swapped())[1].chosen == "bad 1"
    for pair, sentence in {
        Pair(0, "p", " ", "b"): "empty: fill in",
        Pair(0, "", "a", "b"): "empty: fill in",
        Pair(1, "p", "x", "x "): "identical: change",
        Pair(0, "What is 0?", "good 0", "bad 0"): "there already",
        Pair(0, "What is 0?", "bad 0", "good 0"): "other way round",
        Pair(0, "p", 3, "b"): "Use plain text",
    }.items():
        with pytest.raises(UserError, match=sentence):
            pairs.with_pair(pair)


def test_search_looks_into_all_texts():
    pairs = some_pairs(30).with_pair(Pair(0, "Straße?", "ÄPFEL", "no"))
    assert pairs.search("strasse") == pairs.search("äpfel") == [30]
    assert pairs.search("GOOD 2") == [2, *range(20, 30)] and len(pairs.search("")) == 31


def test_written_pairs_read_the_same(tmp_path):
    dialogue = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    odd = [{"role": "user", "content": "Human: is this\u2028 a dialogue?\n\nAssistant: no"}]
    pairs = PreferencePairs.from_pairs(
        [Pair(1, as_messages("p 👋"), "  two spaces", "\nb"), Pair(2, dialogue, "x", "y"), Pair(3, odd, "x", "y")]
    )
    again = load_pairs(pairs.to_jsonl(tmp_path / "new" / "x.jsonl"))
    assert again.fingerprint == pairs.fingerprint and list(again) == list(pairs)
    assert not list(tmp_path.glob("**/*.part"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        pairs.to_jsonl(tmp_path / "file" / "x.jsonl")


def test_prompts_for_reading():
    assert prompt_text("plain") == prompt_text(as_messages("plain")) == "plain"
    assert prompt_text([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]) == "System: s\n\nUser: u"
    for bad in ([1], [{"role": "user"}], 3):
        with pytest.raises(UserError, match="plain text or a list of messages"):
            as_messages(bad)


# -- lengths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"bos": True}, {"chat": False, "bos": True}])
def test_token_lengths_are_those_of_the_boundary(settings):
    model = tiny_model(layers=1, tokenizer=tiny_tokenizer(**settings))
    pairs = some_pairs(9)
    boundary, lengths = model.boundary, token_lengths(pairs, model)
    assert lengths[:, 0].tolist() == [len(boundary.prompt_ids(pair.prompt)) for pair in pairs]
    for column, side in ((1, "chosen"), (2, "rejected")):
        encoded = [boundary.encode(pair.prompt, getattr(pair, side)) for pair in pairs]
        assert lengths[:, column].tolist() == [len(item.ids) - item.start for item in encoded]


def test_the_token_report():
    model = tiny_model(layers=1, context=64)
    pairs = some_pairs(12).with_pair(Pair(0, "x " * 500, "a", "b"))
    report = token_report(pairs, model)
    assert json.loads(json.dumps(report)) == report
    assert report["too_long"] == cut_rows(pairs, model) == [13]
    assert report["prompt_tokens"]["max"] > 500 > report["prompt_tokens"]["p95"] > 0 < report["chosen_tokens"]["p50"]
    assert sum(report["histograms"]["prompt"]["counts"]) == sum(report["histograms"]["answers"]["chosen"]) == 13
    short = drop_too_long(pairs, model)
    assert len(short) == 12 and short.report.dropped == {"too long": [13]} and short.report.kept == 12
    with pytest.raises(UserError, match="Every pair is longer"):
        drop_too_long(pairs.select([12]), model)
    with pytest.raises(UserError, match="no pairs to measure"):
        token_report(pairs.select([]), model)


def test_length_auc_equals_counting():
    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(5, 40, 80), rng.integers(3, 30, 80)
    slow = np.mean([(c > r) + 0.5 * (c == r) for c in chosen for r in rejected])
    found = length_auc(chosen, rejected)
    assert found["value"] == pytest.approx(slow) and found["low"] < slow < found["high"] < found["low"] + 0.3
    assert found == length_auc(chosen, rejected)
    same = length_auc(chosen, chosen)
    assert same["value"] == 0.5 and same["low"] == same["high"] == 0.5
    assert length_auc(np.array([9]), np.array([3]))["value"] == 1.0


@pytest.mark.parametrize("lengths", [[0], [5], [1, 2, 3], range(24), range(1000), [3] * 500 + [90_000], [7, 100_000]])
def test_histograms_count_everything(lengths):
    lengths = np.array(list(lengths))
    edges, is_open = bin_edges(lengths)
    assert sum(bin_counts(lengths, edges)) == len(lengths) and len(edges) <= 26
    assert is_open == (lengths.max() >= edges[-1]) and edges[0] == 0 and len(set(np.diff(edges))) == 1


def test_importing_pairs_is_light():
    code = "import sys, workbench.pairs; print({'torch', 'datasets', 'transformers', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
