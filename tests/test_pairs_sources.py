"""Bad input, each in one sentence; the Hub, without a network."""

import gzip
import json

import pytest

from workbench.errors import UserError
from workbench.pairs import is_hub_id, load_pairs

GOOD_LINE = json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"})


def jsonl(*rows):
    return "\n".join(json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) for row in rows)


# -- bad input: one clear sentence each --------------------------------------------------------------------------------

BAD_FILES = {
    "empty.jsonl": (b"", "empty.jsonl is empty"),
    "blank.csv": (b" \n\n", "blank.csv is empty"),
    "bom.jsonl": (b"\xef\xbb\xbf", "bom.jsonl is empty"),
    "binary.jsonl": (b"\x93\x00\x01\x02\xff" * 50, "binary file"),
    "nul.csv": (b"prompt,chosen,rejected\nq,a\x00,b\n", "NUL byte in line 2"),
    "book.xlsx": (b"PK\x03\x04\x14\x00", "zip archive or an Excel file"),
    "picture.png": (b"\x89PNG\r\n\x1a\n\x00", "is a picture"),
    "latin.csv": ("prompt,chosen,rejected\nq,é,b\n".encode("latin-1"), "not in UTF-8 .byte 0xe9 in line 2.: save it"),
    "wider.csv": ("prompt,chosen,rejected\nq,a,b\n".encode("utf-32"), "UTF-32: save it as UTF-8"),
    "half.csv": ("prompt,chosen,rejected\nq,a,b\n".encode("utf-16") + b"\n", "not in UTF-16 .* in line 3"),
    "line.jsonl": (f"{GOOD_LINE}\n\n{GOOD_LINE[:-4]}\n{{\n".encode(), "Line 3 of line.jsonl is not valid JSON"),
    "cut.json": (b'[{"prompt": "p",\n "chosen": ', "Line 2 of cut.json is not valid JSON"),
    "list.jsonl": (f"{GOOD_LINE}\n[1, 2]\n3\n".encode(), "Line 2 of list.jsonl is a list"),
    "number.json": (b"[1, 2]", "Row 1 of number.json is a number"),
    "text.jsonl": (b'{"prompt": "p"}\n"x"\nnull', "Line 2 of text.jsonl is text"),
    "nothing.json": (b"[]", "holds no rows"),
    "deep.jsonl": (b'{"prompt": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    "deep.json": (b"[" * 200_000, "nested too deeply"),
    "digits.jsonl": (b'{"prompt": ' + b"1" * 10_000 + b"}", "number that is too long"),
    "header.csv": (b"prompt,chosen,rejected\n", "a header but no rows"),
    "columns.csv": (b"text,label\nx,1\n", r"columns text, label, but pairs need prompt, chosen and rejected"),
    "noprompt.csv": (b"chosen,rejected\nyes,no\n", "no prompt"),
    "cells.csv": (
        b"prompt,chosen,rejected\nq,a,b\nq,a, or b,c\nq\n",
        "Line 3 of cells.csv has 4 cells but the header has 3",
    ),
    "short.csv": (b"prompt,chosen,rejected\nq,a\n", "Line 2 of short.csv has 2 cells"),
    "quote.csv": (b'prompt,chosen,rejected\nq,a,b\nq,"a,b\nq,"a"b\n', "Line 3 of quote.csv is not valid CSV"),
    "twice.csv": (b"prompt,chosen,chosen\nq,a,b\n", "two columns called chosen"),
    "bad.parquet": (b"PAR1 and nothing else PAR1", "not a readable Parquet file"),
    "text.parquet": (GOOD_LINE.encode(), "not a readable Parquet file"),
    "bad.jsonl.gz": (b"\x1f\x8b\x08\x00junk", "damaged gzip"),
    "cut.jsonl.gz": (gzip.compress(GOOD_LINE.encode() * 99)[:-12], "damaged gzip"),
    "plain.jsonl.gz": (GOOD_LINE.encode(), "called .gz but is not gzip"),
    "hollow.jsonl.gz": (gzip.compress(b""), "hollow.jsonl.gz is empty"),
    "numbers.jsonl": (b'{"prompt": 1, "chosen": 2, "rejected": null}', "The only row of numbers.jsonl .*1 not text"),
    "same.jsonl": (
        (jsonl(("p", "x", "x")) + "\n").encode() * 4,
        r"None of the 4 rows .*4 identical \(rows 1, 2, 3, \.\.\.\)",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_sentence(name, tmp_path):
    content, sentence = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        load_pairs(str(tmp_path / name))
    said = str(caught.value)
    assert "\n" not in said and len(said) < 400 and said.endswith(".") and str(tmp_path) not in said


def test_sources_that_are_not_there(tmp_path):
    for source, sentence in {
        str(tmp_path / "no.jsonl"): "There is no file",
        str(tmp_path): "is a folder: name one file",
        "": "No pairs were named",
        "demo/rude": "no bundled value rude: choose polite",
        "demo:dev": "no split dev: choose test, train",
        "demo/../../x": "no bundled value",
        "x" * 5000: "There is no file",
        "a\x00b": "There is no file",
    }.items():
        with pytest.raises(UserError, match=sentence):
            load_pairs(source)
    with pytest.raises(UserError, match="limit of 0"):
        load_pairs("demo", limit=0)


def test_a_page_that_is_public_reads_no_file_of_the_machine(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(GOOD_LINE)
    for source in (str(path), "/etc/passwd", "../x", "x.jsonl", "a/x.jsonl"):
        with pytest.raises(UserError, match="no data set id"):
            load_pairs(source, local=False)
    assert len(load_pairs("demo:test", local=False)) >= 150


def test_hub_ids():
    for source in ("org/name", "org/na.me-2:train_prefs", "org/name/config:test", "1x/y"):
        assert is_hub_id(source)
    for source in (
        "name",
        "/org/name",
        "./org",
        "../a/b",
        "org/name.jsonl",
        "a/b/c/d",
        "org/name:",
        "~/x",
        "a/b.json.gz",
    ):
        assert not is_hub_id(source)


def test_a_data_set_of_the_hub(monkeypatch):
    import datasets

    asked = {}

    def load(name, config, *, split, **settings):
        asked.update(name=name, config=config, split=split, **settings)
        return datasets.Dataset.from_list([{"prompt": f"{i}?", "chosen": "a", "rejected": "b"} for i in range(3)])

    monkeypatch.setattr(datasets, "load_dataset", load)
    pairs = load_pairs("org/some-pairs/small:train_prefs", limit=3)
    assert len(pairs) == 3 and pairs.name == "some-pairs" and pairs.source == "org/some-pairs/small:train_prefs"
    assert (asked["name"], asked["config"], asked["split"]) == ("org/some-pairs", "small", "train_prefs[:3]")
    assert "trust_remote_code" not in asked
    load_pairs("org/some-pairs")
    assert asked["split"] == "train"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionError("no route"), "ConnectionError: no route"),
        (ValueError("Unknown split \"train\". Should be one of ['a', 'b']."), "one of .*'b'.*org/name:split"),
        (
            RuntimeError("Dataset scripts are no longer supported, but found x.py"),
            "code of its own, which is never run",
        ),
        (OSError("404 Client Error. Not found"), "no data set of this name"),
        (OSError("Access to dataset x is restricted: it is gated."), "accept its conditions"),
    ],
)
def test_a_hub_that_does_not_answer(monkeypatch, error, sentence):
    import datasets

    def load(*args, **settings):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=f"org/name could not be read from the Hub.*{sentence}"):
        load_pairs("org/name")


def test_offline_says_so():
    with pytest.raises(UserError, match="could not be read from the Hub: this machine is offline"):
        load_pairs("org/never-heard-of:train")
