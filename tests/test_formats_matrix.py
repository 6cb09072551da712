"""Every family in every file type, written by the libraries that people write their files with, read back whole."""

import gzip
import io
import json

import pytest

from workbench.errors import UserError
from workbench.pairs import load_pairs, pairs_from_text, preview


def says(role, text):
    return {"role": role, "content": text}


QUESTIONS = [
    "What is red?",
    'He said: "1, 2; 3"\tand\nleft.\n\nWhy?',
    "مرحبا، ما هو اللون \u200fالأحمر؟",
    "赤は何色ですか？\r\nそして青は？",
    "Was heißt „Straße“ auf Кириллице 👩‍👩‍👧 🏳️‍🌈 e\u0301?",
    "a\u2028b\u0085c \x01\x1b[0m \\n \\u0041 {x} [y] 'z' NaN",
]
ANSWERS = [
    ("A colour, of course.", "No idea."),
    ('"Because", he wrote,\nand left it\tthere.', "- one\n- two, three"),
    ("لون الدم والورد.", "לא יודע"),
    ("赤い色です。🌹", "分かりません。"),
    ("{'role': 'user'} is a dict; [{'role': 'x'}] a list", "null"),
    ("    indented()\n    twice()", "True"),
]
PLAIN = [([says("user", question)], *answers) for question, answers in zip(QUESTIONS, ANSWERS, strict=True)]
TURNS = [
    (
        [
            says("system", "Be kind, “always”."),
            says("user", f"First: {question[:9].strip()}"),
            says("assistant", "Yes} {'no': \"it's\"}"),
            says("user", question),
        ],
        *answers,
    )
    for question, answers in zip(QUESTIONS, ANSWERS, strict=True)
]
NO_SYSTEM = [(prompt[1:], good, bad) for prompt, good, bad in TURNS]
CALL = {"name": "look_up", "arguments": {"word": "röd"}}
TOOLS = [
    (
        [
            says("system", "Use tools."),
            says("user", question),
            says("assistant", json.dumps(CALL, ensure_ascii=False)),
            says("tool", '{"found": "red"}'),
        ],
        *answers,
    )
    for question, answers in zip(QUESTIONS, ANSWERS, strict=True)
]
FROM = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


def hh(messages):
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[m['role']]}: {m['content']}" for m in messages)


def sharegpt(messages):
    return [{"from": FROM[m["role"]], "value": m["content"]} for m in messages]


def answer(text):
    return [says("assistant", text)]


def llama_factory(prompt, good, bad):
    history = prompt[1:-1]
    return {
        "instruction": prompt[-1]["content"],
        "input": "",
        "system": prompt[0]["content"],
        "history": [[history[0]["content"], history[1]["content"]]],
        "chosen": good,
        "rejected": bad,
    }


def ultrafeedback(prompt, good, bad):
    return {
        "prompt": prompt[-1]["content"],
        "prompt_id": "0f3a",
        "chosen": [*prompt, *answer(good)],
        "rejected": [*prompt, *answer(bad)],
        "messages": [*prompt, *answer(good)],
        "score_chosen": 8.5,
        "score_rejected": 3.0,
    }


def openai(prompt, good, bad):
    messages = []
    for message in prompt:
        if message["content"].startswith('{"name"'):
            function = {"name": CALL["name"], "arguments": json.dumps(CALL["arguments"])}
            messages.append(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
                }
            )
        else:
            messages.append(message | ({"tool_call_id": "call_1"} if message["role"] == "tool" else {}))
    return {
        "input": {"messages": messages, "tools": [], "parallel_tool_calls": True},
        "preferred_output": answer(good),
        "non_preferred_output": answer(bad),
    }


# name -> (the pairs, one of them as a row of the family)
FAMILIES = {
    "trl-explicit": (PLAIN, lambda p, g, b: {"prompt": p[0]["content"], "chosen": g, "rejected": b}),
    "trl-explicit messages": (TURNS, lambda p, g, b: {"prompt": p, "chosen": answer(g), "rejected": answer(b)}),
    "trl-explicit tools": (TOOLS, lambda p, g, b: {"prompt": p, "chosen": answer(g), "rejected": answer(b)}),
    "trl-implicit": (TURNS, lambda p, g, b: {"chosen": [*p, *answer(g)], "rejected": [*p, *answer(b)]}),
    "hh": (
        [(prompt, good.strip(), bad) for prompt, good, bad in NO_SYSTEM],
        lambda p, g, b: {"chosen": hh([*p, *answer(g)]), "rejected": hh([*p, *answer(b)])},
    ),
    "ultrafeedback": (TURNS, ultrafeedback),
    "llama-factory": (TURNS, llama_factory),
    "sharegpt": (
        TOOLS,
        lambda p, g, b: {
            "conversations": sharegpt(p),
            "chosen": {"from": "gpt", "value": g},
            "rejected": {"from": "gpt", "value": b},
        },
    ),
    "alpaca-comparisons": (
        PLAIN,
        lambda p, g, b: {
            "instruction": p[0]["content"], "input": "", "output_1": b, "output_2": g, "preference": 2,
        },
    ),
    "shp": (
        PLAIN,
        lambda p, g, b: {
            "post_id": "x1", "history": p[0]["content"], "human_ref_A": g, "human_ref_B": b, "labels": 1,
            "score_A": 12, "score_B": 4,
        },
    ),
    "stack-exchange": (
        PLAIN, lambda p, g, b: {"qid": 5, "question": p[0]["content"], "response_j": g, "response_k": b},
    ),
    "stack-exchange-scores": (
        PLAIN,
        lambda p, g, b: {
            "question": p[0]["content"],
            "answers": [{"text": b, "pm_score": 0, "selected": False}, {"text": g, "pm_score": 4, "selected": True}],
        },
    ),
    "scored-answers": (
        PLAIN,
        lambda p, g, b: {
            "question": {"dataset": "web", "full_text": p[0]["content"]}, "answer_0": b, "answer_1": g,
            "score_0": -1.0, "score_1": 1.0,
        },
    ),
    "labelled-responses": (
        PLAIN,
        lambda p, g, b: {"prompt": p[0]["content"], "response_0": g, "response_1": b, "better_response_id": 0},
    ),
    "openai": (TOOLS, openai),
}  # fmt: skip


def pandas_frame(rows):
    import pandas

    return pandas.DataFrame(rows)


def arrow_frame(rows):
    """As somebody has it who read a Parquet file: lists are NumPy arrays now."""
    import pandas

    file = io.BytesIO()
    pandas.DataFrame(rows).to_parquet(file)
    return pandas.read_parquet(io.BytesIO(file.getvalue()))


def data_set(rows):
    import datasets

    return datasets.Dataset.from_list(rows)


def packed(text):
    return lambda rows, path: path.write_bytes(gzip.compress(text(rows).encode()))


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def csv_module(rows):
    import csv

    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(rows[0])
    table.writerows([[v if isinstance(v, str) else json.dumps(v) for v in row.values()] for row in rows])
    return file.getvalue()


WRITERS = {
    "json.jsonl": lambda rows, path: path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows), encoding="utf-8-sig", newline=""
    ),
    "datasets.jsonl": lambda rows, path: data_set(rows).to_json(path),
    "pandas.jsonl": lambda rows, path: pandas_frame(rows).to_json(path, orient="records", lines=True),
    "utf16.jsonl": lambda rows, path: path.write_text(json_lines(rows), encoding="utf-16"),
    "packed.jsonl.gz": packed(json_lines),
    "indented.json": lambda rows, path: path.write_text(json.dumps(rows, indent=2)),
    "pandas.json": lambda rows, path: pandas_frame(rows).to_json(path, orient="records", force_ascii=False),
    "columns.json": lambda rows, path: pandas_frame(rows).to_json(path),
    "index.json": lambda rows, path: pandas_frame(rows).to_json(path, orient="index"),
    "split.json": lambda rows, path: pandas_frame(rows).to_json(path, orient="split"),
    "packed.json.gz": packed(json.dumps),
    "module.csv": lambda rows, path: path.write_text(csv_module(rows), encoding="utf-8-sig", newline=""),
    "pandas.csv": lambda rows, path: pandas_frame(rows).to_csv(path),
    "arrow.csv": lambda rows, path: arrow_frame(rows).to_csv(path, index=False),
    "datasets.csv": lambda rows, path: data_set(rows).to_csv(path),
    "excel.csv": lambda rows, path: pandas_frame(rows).to_csv(path, index=False, sep=";", encoding="utf-16"),
    "packed.csv.gz": lambda rows, path: pandas_frame(rows).to_csv(path, index=False),
    "pandas.tsv": lambda rows, path: pandas_frame(rows).to_csv(path, index=False, sep="\t"),
    "packed.tsv.gz": lambda rows, path: pandas_frame(rows).to_csv(path, index=False, sep="\t"),
    "pandas.parquet": lambda rows, path: pandas_frame(rows).to_parquet(path),
    "datasets.parquet": lambda rows, path: data_set(rows).to_parquet(path),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_library_writes_is_read_back(family, writer, tmp_path):
    wanted, make = FAMILIES[family]
    path = tmp_path / writer
    WRITERS[writer]([make(*pair) for pair in wanted], path)
    pairs = load_pairs(path)
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs] == wanted
    assert pairs.report.format == family.split()[0] and pairs.report.dropped == {}
    assert preview(path).format == pairs.report.format


def test_texts_that_look_like_structures_stay_texts():
    """A cell of a table is text unless it holds what forms of pairs are made of."""
    answers = ['[{"name": "x"}]', "{'a': 1}", '[["q", "a"]]', "[{1: 2}]", '[{"role"', '{"messages": 3}', "[1, 2]"]
    table = "prompt,chosen,rejected\n" + "".join(
        f'Question {number},"{answer.replace(chr(34), chr(34) * 2)}",no\n' for number, answer in enumerate(answers)
    )
    assert [pair.chosen for pair in pairs_from_text(table)] == answers


def test_other_columns_without_a_form_in_json(tmp_path):
    """Dates are kept as text, halves of characters are replaced where they are read."""
    import pandas

    frame = pandas.DataFrame([{"prompt": "p", "chosen": "a", "rejected": "b", "day": pandas.Timestamp("2024-02-03")}])
    frame.to_parquet(tmp_path / "x.parquet")
    pairs = load_pairs(tmp_path / "x.parquet")
    assert pairs.extra_columns == ["day"] and pairs.extra_of([1], "day") == ["2024-02-03 00:00:00"]
    pairs = pairs_from_text('{"prompt": "p", "chosen": "a", "rejected": "b", "tag": "x\\ud800", "n": NaN}')
    assert pairs.extra_of([1], "tag") == ["x?"] and pairs.extra_of([1], "none") == [None]
    assert load_pairs(pairs.to_jsonl(tmp_path / "x.jsonl", extra=True)).extra_of([1], "tag") == ["x?"]


def test_nul_characters():
    """Text with a NUL is no text, wherever it stands; the other rows are kept."""
    lines = [{"prompt": f"p{i}", "chosen": "a\x00" if i == 1 else "a", "rejected": "b"} for i in range(3)]
    pairs = pairs_from_text(json_lines(lines))
    assert pairs.ids == [1, 3] and pairs.report.dropped == {"not text": [2]}
    pairs = pairs_from_text("prompt,chosen,rejected\np0,a,b\np1,a\0,b\np2,a,b\n")
    assert pairs.ids == [1, 3] and pairs.report.dropped == {"broken line": [2]}
    assert "NUL byte in line 3" in pairs.report.warnings[0]
    pairs = pairs_from_text(json_lines(lines[:1]) + '{"prompt": "p", "chosen": "\x01\0", "rejected": "c"}\n')
    assert pairs.report.dropped == {"broken line": [2]}


def test_calls_of_tools_are_text():
    call = {"name": "f", "arguments": '{"x": 1}'}
    asked = [says("user", "x?"), {"role": "assistant", "content": "Wait.", "tool_calls": [{"function": call}]}]
    asked += [says("tool", "2"), says("user", "and?")]
    row = {"prompt": asked, "chosen": "a", "rejected": "b"}
    old = [says("user", "x?"), {"role": "assistant", "content": None, "function_call": call}, says("function", "2")]
    picture = [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}, says("user", "x")]
    rows = [row, row | {"prompt": old}, row | {"prompt": picture}]
    pairs = pairs_from_text(json_lines(rows))
    assert pairs[0].prompt[1] == says("assistant", 'Wait.\n{"name": "f", "arguments": {"x": 1}}')
    assert pairs[1].prompt[1:] == [says("assistant", '{"name": "f", "arguments": {"x": 1}}'), says("tool", "2")]
    assert pairs.report.dropped == {"not text": [3]}


# -- broken lines ------------------------------------------------------------------------------------------------------


def test_a_broken_line_is_left_out_and_named():
    good = [json.dumps({"prompt": f"p{i}", "chosen": "a", "rejected": "b"}) for i in range(6)]
    text = "\n".join([good[0], good[1][:-9], good[2], "", "[1]", good[3], "null", good[4], good[5]])
    pairs = pairs_from_text(text)
    assert pairs.ids == [1, 3, 6, 8, 9]
    assert pairs.report.dropped == {"broken line": [2, 5, 7]} and pairs.report.read == 8
    said = pairs.report.warnings[0]
    assert said.startswith("3 lines could not be read and were left out. Line 2 of the pasted text is not valid JSON")
    with pytest.raises(UserError, match=r"^Line 3 of the pasted text is not valid JSON"):
        pairs_from_text("\n".join([good[0], good[1], "{", "}", "x"]))


def test_broken_rows_of_a_table():
    rows = [f"p{i},a{i},b{i}" for i in range(12)]
    rows[2] = 'p2,"a,b2'  # a quote that is never closed
    rows[5] = "p5,a5"
    rows[6] = "p6,a, 6,b6"
    rows[9] = 'p9,"a"9,b9'
    pairs = pairs_from_text("prompt,chosen,rejected\n" + "\n".join(rows))
    assert [pair.chosen for pair in pairs] == [f"a{i}" for i in range(12) if i not in (2, 5, 6, 9)]
    assert pairs.ids == [1, 2, 4, 5, 8, 9, 11, 12]
    assert pairs.report.dropped == {"broken line": [3, 6, 7, 10]}
    assert "Line 4 of the pasted text is not valid CSV" in pairs.report.warnings[0]
    rows[2] = 'p2,"a, never closed'
    pairs = pairs_from_text("prompt,chosen,rejected\n" + "\n".join(rows[:5]))
    assert pairs.ids == [1, 2, 4, 5] and pairs.report.dropped == {"broken line": [3]}


def test_elements_of_a_list_that_are_no_rows():
    good = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(3)]
    pairs = pairs_from_text(json.dumps([good[0], 3, *good[1:], None], indent=1))
    assert pairs.ids == [1, 3, 4] and pairs.report.dropped == {"broken line": [2, 5]}
    with pytest.raises(UserError, match=r"Line 4 of the pasted text is not valid JSON \(Expecting ',' delimiter"):
        pairs_from_text('[{"prompt": "p",\n"chosen": "a", "rejected": "b"}\n\n{"prompt": "q"}]')
    with pytest.raises(UserError, match=r"Line 1 of the pasted text is not valid JSON .Extra data"):
        pairs_from_text(json.dumps(good) + "]")


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_list_is_read_in_pieces(size, monkeypatch, tmp_path):
    """However a file falls into pieces, the rows are the same, and an error stands where it stands in the whole."""
    from workbench.pairs import json_rows

    rows = [
        {"prompt": f"“p{i}” \\ \n 👋", "chosen": "[{,]}" * i, "rejected": "b", "n": [10**i, -1.5e-7, True, None]}
        for i in range(1, 9)
    ]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(rows, indent=2))
    whole = load_pairs(path)
    monkeypatch.setattr(json_rows, "PIECE", size)
    again = load_pairs(path)
    assert list(again) == list(whole) and again.dataset["extra"][3] == whole.dataset["extra"][3]
    for cut in (20, 333, 700):
        text = path.read_text()[:cut]
        (tmp_path / "cut.json").write_text(text)
        with pytest.raises(json.JSONDecodeError) as wanted:
            json.loads(text)
        with pytest.raises(UserError, match=f"Line {wanted.value.lineno} of cut.json is not valid JSON"):
            load_pairs(tmp_path / "cut.json")


def test_what_is_too_long_is_refused(monkeypatch):
    from workbench.pairs import json_rows

    row = {"prompt": "p" * 30_000, "chosen": "a", "rejected": "b"}
    monkeypatch.setattr(json_rows, "MOST_LINE", 2000)
    monkeypatch.setattr(json_rows, "PIECE", 100)
    with pytest.raises(UserError, match="Line 1 of the pasted text is longer than"):
        pairs_from_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="begins a value of more than"):
        pairs_from_text(json.dumps([row]))
    monkeypatch.undo()
    monkeypatch.setattr(json_rows, "MOST_DOCUMENT", 2000)
    with pytest.raises(UserError, match=r"one JSON object of more than .* write it as JSON Lines"):
        pairs_from_text(json.dumps({"data": [row]}, indent=1))


def test_odd_columns_are_named_in_one_line():
    with pytest.raises(UserError) as caught:
        pairs_from_text('"a\nb",' + ",".join(f"column {n}" for n in range(500)) + "\n" + "1," * 500 + "2\n")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
