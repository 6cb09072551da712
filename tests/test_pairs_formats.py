"""Every form of the ecosystem, in every file type, becomes the same pairs; every bad file gets its own sentence."""

import csv
import gzip
import json

import pytest

from workbench.errors import UserError
from workbench.pairs import FORMATS, load_pairs, pairs_from_text, preview
from workbench.pairs.formats import recognise
from workbench.pairs.forms import Sample


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


QUESTIONS = ["What is red?", "What is blue?", "What is green?"]
GOOD, BAD = "A colour, of course.", "No idea."


def rows_of(make):
    return [make(question) for question in QUESTIONS]


PLAIN = rows_of(lambda q: {"prompt": q, "chosen": GOOD, "rejected": BAD})

FAMILIES = {
    "trl-explicit": PLAIN,
    "trl-explicit messages": rows_of(
        lambda q: {"prompt": [user(q)], "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]}
    ),
    "trl-explicit whole dialogues": rows_of(
        lambda q: {"prompt": [user(q)], "chosen": [user(q), assistant(GOOD)], "rejected": [user(q), assistant(BAD)]}
    ),
    "trl-explicit question": rows_of(lambda q: {"question": q, "chosen": GOOD, "rejected": BAD}),
    "trl-explicit capitals": rows_of(lambda q: {"Prompt": q, "Chosen": GOOD, "Rejected ": BAD}),
    "trl-explicit marked": rows_of(
        lambda q: {"prompt": f"\n\nHuman: {q}\n\nAssistant:", "chosen": f" {GOOD}", "rejected": f" {BAD}\n"}
    ),
    "trl-implicit": rows_of(lambda q: {"chosen": [user(q), assistant(GOOD)], "rejected": [user(q), assistant(BAD)]}),
    "hh": rows_of(
        lambda q: {
            "chosen": f"\n\nHuman: {q}\n\nAssistant: {GOOD}",
            "rejected": f"\n\nHuman: {q}\n\nAssistant: {BAD}",
        }
    ),
    "ultrafeedback": rows_of(
        lambda q: {
            "prompt": q,
            "prompt_id": "0f",
            "chosen": [user(q), assistant(GOOD)],
            "rejected": [user(q), assistant(BAD)],
            "messages": [user(q), assistant(GOOD)],
            "score_chosen": 8.0,
            "score_rejected": 3.5,
        }
    ),
    "llama-factory": rows_of(lambda q: {"instruction": q, "input": "", "chosen": GOOD, "rejected": BAD}),
    "sharegpt": rows_of(
        lambda q: {
            "conversations": [{"from": "human", "value": q}],
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"from": "gpt", "value": BAD},
        }
    ),
    "alpaca-comparisons": [
        {"instruction": q, "input": "", "output_1": first, "output_2": second, "preference": label}
        for q, (first, second, label) in zip(QUESTIONS, [(GOOD, BAD, 1), (BAD, GOOD, 2), (BAD, GOOD, 2.0)], strict=True)
    ],
    "shp": [
        {"post_id": "x", "history": q, "human_ref_A": a, "human_ref_B": b, "labels": label, "score_A": 4, "score_B": 9}
        for q, (a, b, label) in zip(QUESTIONS, [(GOOD, BAD, 1), (BAD, GOOD, 0), (BAD, GOOD, 0)], strict=True)
    ],
    "stack-exchange": rows_of(lambda q: {"qid": 1, "question": q, "response_j": GOOD, "response_k": BAD}),
    "stack-exchange-scores": rows_of(
        lambda q: {
            "question": q,
            "answers": [
                {"text": "Middling.", "pm_score": 2},
                {"text": BAD, "pm_score": 0},
                {"text": GOOD, "pm_score": 5},
            ],
        }
    ),
    "scored-answers": rows_of(
        lambda q: {
            "question": {"full_text": q},
            "answer_0": BAD,
            "answer_1": GOOD,
            "score_0": -0.5,
            "score_1": 0.5,
        }
    ),
    "labelled-responses": rows_of(
        lambda q: {"prompt": q, "response_0": BAD, "response_1": GOOD, "better_response_id": 1}
    ),
    "openai": rows_of(
        lambda q: {
            "input": {"messages": [user(q)], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [assistant(GOOD)],
            "non_preferred_output": [assistant(BAD)],
        }
    ),
}


def write(path, rows, kind):
    """A file as other programs write it."""
    text = ""
    if kind.startswith("jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif kind.startswith("json"):
        text = json.dumps(rows, indent=2)
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
            writer.writerow(rows[0])
            cell = lambda value: value if isinstance(value, str) else json.dumps(value)  # noqa: E731
            writer.writerows([[cell(value) for value in row.values()] for row in rows])
        return path
    path.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())
    return path


def triples(pairs):
    return [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs]


NESTED = ("sharegpt", "openai", "scored-answers", "stack-exchange-scores")  # objects have no form in a table's cell
WANTED = [([user(question)], GOOD, BAD) for question in QUESTIONS]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "jsonl.gz"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_every_file_type_gives_the_same_pairs(family, kind, tmp_path):
    pairs = load_pairs(write(tmp_path / f"some pairs.{kind}", FAMILIES[family], kind))
    assert pairs.report.format == family.split()[0]
    assert triples(pairs) == WANTED
    assert pairs.ids == [1, 2, 3]
    assert pairs.name == "some pairs"
    assert (pairs.report.read, pairs.report.kept, pairs.report.dropped) == (3, 3, {})


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in NESTED])
def test_tables_of_text(family, kind, tmp_path):
    pairs = load_pairs(write(tmp_path / f"x.{kind}", FAMILIES[family], kind))
    assert triples(pairs) == WANTED


def test_every_format_is_tested_and_described():
    assert {family.split()[0] for family in FAMILIES} | {"trl-implicit-text"} == {form.name for form in FORMATS}
    for form in FORMATS:
        assert form.title and form.about and not form.about.endswith(".")


def test_pandas_writes_message_lists_as_python(tmp_path):
    import pandas

    pandas.DataFrame(FAMILIES["trl-implicit"]).to_csv(tmp_path / "x.csv", index=False)
    assert triples(load_pairs(tmp_path / "x.csv")) == WANTED


def test_longer_dialogues_keep_their_turns():
    turns = [user("Hello"), assistant("Hi."), user("What is red?")]
    hh = "\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: What is red?\n\nAssistant:"
    texts = [
        json.dumps({"chosen": f"{hh} {GOOD}", "rejected": f"{hh} {BAD}"}),
        json.dumps({"chosen": [*turns, assistant(GOOD)], "rejected": [*turns, assistant(BAD)]}),
        json.dumps({"prompt": turns, "chosen": GOOD, "rejected": BAD}),
        json.dumps({"prompt": hh, "chosen": GOOD, "rejected": BAD}),
        json.dumps({"instruction": "What is red?", "history": [["Hello", "Hi."]], "chosen": GOOD, "rejected": BAD}),
    ]
    for text in texts:
        assert triples(pairs_from_text(text)) == [(turns, GOOD, BAD)]


def test_system_messages_and_inputs():
    row = {"system": "Be kind.", "instruction": "Translate.", "input": "rouge", "chosen": "red", "rejected": "blue"}
    (pair,) = pairs_from_text(json.dumps(row))
    assert pair.prompt == [{"role": "system", "content": "Be kind."}, user("Translate.\nrouge")]
    row = {"system": "Be kind.", "question": "rouge?", "chosen": "red", "rejected": "blue"}
    (pair,) = pairs_from_text(json.dumps(row))
    assert pair.prompt == [{"role": "system", "content": "Be kind."}, user("rouge?")]


def test_texts_whose_shared_beginning_is_the_prompt():
    rows = [{"chosen": "The sky is blue.", "rejected": "The sky is green."}] * 1
    rows += [{"chosen": "Two and two make four.", "rejected": "Two and two make five."}]
    pairs = pairs_from_text("\n".join(map(json.dumps, rows)))
    assert pairs.report.format == "trl-implicit-text"
    assert triples(pairs)[0] == ([user("The sky is")], "blue.", "green.")
    assert "shared" in pairs.report.about and "both texts begin" in pairs.report.warnings[0]


def test_dialogues_that_differ_before_the_last_answer_are_dropped():
    hh = [
        {"chosen": f"\n\nHuman: {q}\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: {q}\n\nAssistant: {BAD}"}
        for q in "ab"
    ]
    hh.append({"chosen": hh[0]["chosen"], "rejected": "\n\nHuman: other\n\nAssistant: x"})
    hh.append({"chosen": hh[0]["chosen"], "rejected": hh[0]["rejected"] + "\n\nHuman: and now?"})
    hh.append({"chosen": "no dialogue", "rejected": hh[0]["rejected"]})
    pairs = pairs_from_text("\n".join(map(json.dumps, hh)))
    assert pairs.report.dropped == {"prompt not shared": [3], "no answer": [4, 5]}


def test_ties_and_missing_labels_are_dropped():
    row = {"instruction": "x?", "output_1": "a", "output_2": "b"}
    rows = [row | {"preference": value} for value in (1, 1.5, None, "2", "both")]
    rows[3]["instruction"] = "y?"
    pairs = pairs_from_text("\n".join(map(json.dumps, rows)))
    assert [pair.chosen for pair in pairs] == ["a", "b"]
    assert pairs.report.dropped == {"no preference": [2, 3, 5]}
    scored = {"question": "x?", "answer_0": "a", "answer_1": "b", "score_0": 1, "score_1": 1}
    pairs = pairs_from_text("\n".join(map(json.dumps, [scored, scored | {"score_0": 2}, scored | {"score_0": "?"}])))
    assert [pair.chosen for pair in pairs] == ["a"] and pairs.report.dropped == {"no preference": [1, 3]}


def test_parts_of_text_are_joined_and_pictures_refused():
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "red?"}]
    picture = [{"type": "image_url", "image_url": {"url": "x"}}]
    rows = [
        {
            "input": {"messages": [user(content)]},
            "preferred_output": [assistant("a")],
            "non_preferred_output": [assistant("b")],
        }
        for content in (parts, picture)
    ] + [
        {
            "input": {"messages": [{"role": "wizard", "content": "x"}]},
            "preferred_output": "a",
            "non_preferred_output": "b",
        }
    ]
    pairs = pairs_from_text("\n".join(map(json.dumps, rows)))
    assert pairs[0].prompt == [user("What is\nred?")]
    assert pairs.report.dropped == {"not text": [2], "unknown role": [3]}


def test_other_shapes_of_json(tmp_path):
    shapes = {
        "one object": PLAIN[0],
        "under a key": {"version": 1, "data": PLAIN},
        "columns": {name: [row[name] for row in PLAIN] for name in PLAIN[0]},
        "viewer": {"rows": [{"row_idx": 0, "row": row, "truncated_cells": []} for row in PLAIN]},
    }
    for name, value in shapes.items():
        for indent in (None, 1):
            (tmp_path / "x.json").write_text(json.dumps(value, indent=indent))
            assert triples(load_pairs(tmp_path / "x.json")) == WANTED[: 1 if name == "one object" else 3], name
    write(tmp_path / "lines.json", PLAIN, "jsonl")  # what Dataset.to_json writes
    write(tmp_path / "list.jsonl", PLAIN, "json")
    write(tmp_path / "no_ending", PLAIN, "jsonl")
    for name in ("lines.json", "list.jsonl", "no_ending"):
        assert triples(load_pairs(tmp_path / name)) == WANTED


def test_semicolons_quotes_and_line_breaks_in_tables(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffprompt;chosen;rejected\r\n"a ""b""\nc";"x, y";z\r\n\r\nq;NA;null\r\n'.encode())
    assert triples(load_pairs(path)) == [([user('a "b"\nc')], "x, y", "z"), ([user("q")], "NA", "null")]
    assert triples(pairs_from_text("prompt\tchosen\trejected\nq\ta\tb")) == [([user("q")], "a", "b")]


def test_columns_mapped_by_hand(tmp_path):
    rows = [{"id": i, "q": f"Q{i}?", "good": "yes", "bad": "no", "prompt": "not this one"} for i in range(3)]
    path = write(tmp_path / "x.csv", rows, "csv")
    with pytest.raises(UserError, match=r"columns id, q, good, bad, prompt.*need prompt, chosen and rejected"):
        load_pairs(path)
    seen = preview(path, count=2)
    assert (seen.columns, seen.total, seen.format) == (["id", "q", "good", "bad", "prompt"], 3, "")
    assert seen.rows == [{k: str(v) for k, v in row.items()} for row in rows[:2]]
    pairs = load_pairs(path, columns={"prompt": "q", "chosen": "good", "rejected": "bad"})
    assert triples(pairs)[1] == ([user("Q1?")], "yes", "no")
    assert pairs.report.columns == {"prompt": "q", "chosen": "good", "rejected": "bad"}
    assert json.loads(pairs.dataset[1]["extra"]) == {"id": "1", "prompt": "not this one"}
    with pytest.raises(UserError, match=r"no column answer: choose from id, q"):
        load_pairs(path, columns={"prompt": "q", "chosen": "answer", "rejected": "bad"})
    with pytest.raises(UserError, match="chosen and rejected"):
        load_pairs(path, columns={"prompt": "q", "chosen": "good"})
    dialogues = [{"a": row["chosen"], "b": row["rejected"]} for row in FAMILIES["hh"]]
    text = "\n".join(map(json.dumps, dialogues))
    assert triples(pairs_from_text(text, columns={"chosen": "a", "rejected": "b"})) == WANTED


def test_a_named_format_must_fit():
    text = json.dumps(PLAIN[0])
    assert pairs_from_text(text, format="trl-explicit").report.format == "trl-explicit"
    with pytest.raises(UserError, match="not in the format openai"):
        pairs_from_text(text, format="openai")
    with pytest.raises(UserError, match="no format called 'xml': choose one of openai"):
        pairs_from_text(text, format="xml")


def test_some_broken_rows_do_not_hide_a_format():
    rows = [{"chosen": None, "rejected": "x"}, *FAMILIES["hh"]]
    form, roles = recognise(["chosen", "rejected"], rows, "x")
    assert form.name == "hh" and roles == {"chosen": "chosen", "rejected": "rejected"}
    assert not Sample(["a"], [{"a": None}]).mostly("a", lambda value: True)


def test_text_is_kept_character_by_character(tmp_path):
    prompt = "  مرحبا\u2028\u0085 👩‍👩‍👧 é e\u0301\r\n\ttab "
    rows = [{"prompt": prompt, "chosen": "    indented\n\nשלום \u200f \n", "rejected": " one space"}]
    for kind in ("jsonl", "json", "csv", "parquet"):
        (pair,) = load_pairs(write(tmp_path / f"x.{kind}", rows, kind))
        assert pair.prompt == [user(prompt)], kind
        assert pair.chosen == "    indented\n\nשלום \u200f" and pair.rejected == "one space", kind
