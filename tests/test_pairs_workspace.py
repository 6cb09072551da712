"""Step 1 without a browser: versions and undo, refusals, finding, columns, reading that is stopped, the report."""

from __future__ import annotations

import csv
import json
import threading

import numpy as np
import pytest

from workbench.errors import Stopped, UserError
from workbench.progress import QUIET
from workbench.ui import (
    align_form,
    pairs_data,
    pairs_edit,
    pairs_files,
    pairs_history,
    pairs_mapping,
    pairs_reading,
    pairs_report,
    pairs_table,
    state,
)


def table_file(folder, name="odd.csv", head=("nr", "frage", "gut", "schlecht"), count=30, extra=()):
    path = folder / name
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(head)
        for i in range(count):
            rows.writerow([i, f"frage {i} zum thema {chr(97 + i % 26) * 4}", f"gute antwort {i}", f"nein {i}"])
        rows.writerows(extra)
    return path


def taken(folder, **kwargs):
    """A visitor with pairs of a file."""
    visitor = state.new_visitor()
    path = table_file(folder, head=("nr", "prompt", "chosen", "rejected"), **kwargs)
    return visitor, pairs_data.take_upload(visitor, str(path))


# -- versions ----------------------------------------------------------------------------------------------------------


def test_every_change_can_be_undone_and_redone(tmp_path):
    visitor, workspace = taken(tmp_path)
    prints = [workspace.pairs["fingerprint"]]
    pairs_edit.swap_pair(visitor, 4)
    prints.append(state.open_workspace(visitor).pairs["fingerprint"])
    pairs_edit.remove_pairs(visitor, [1, 2])
    prints.append(state.open_workspace(visitor).pairs["fingerprint"])
    added = pairs_edit.add_pair(visitor, "new", "good", "bad")
    prints.append(state.open_workspace(visitor).pairs["fingerprint"])
    assert len(set(prints)) == 4 and added == 29
    marks = pairs_history.marks_of(state.open_workspace(visitor))
    assert marks.rows.tolist() == [*range(3, 31), 0]
    assert np.flatnonzero(marks.marks).tolist() == [1, 28]
    for want in prints[2::-1]:
        pairs_edit.step(visitor, "undo")
        workspace = state.open_workspace(visitor)
        assert workspace.pairs["fingerprint"] == want == state.load_pairs_of(workspace).fingerprint
    with pytest.raises(UserError, match="nothing to undo"):
        pairs_edit.step(visitor, "undo")
    for want in prints[1:]:
        pairs_edit.step(visitor, "redo")
        assert state.open_workspace(visitor).pairs["fingerprint"] == want
    pairs_edit.step(visitor, "undo")
    pairs_edit.swap_pair(visitor, 1)  # a new change ends what could be redone
    assert not state.open_workspace(visitor).pairs["redo"]


def test_versions_are_bounded_and_whole(tmp_path, monkeypatch):
    visitor, _ = taken(tmp_path)
    for _ in range(pairs_history.MOST_STEPS + 3):
        pairs_edit.swap_pair(visitor, 1)
    workspace = state.open_workspace(visitor)
    assert len(workspace.pairs["undo"]) == pairs_history.MOST_STEPS
    assert len(list(workspace.folder.glob("pairs-*.jsonl"))) == pairs_history.MOST_STEPS + 1
    named = workspace.pairs["undo"][-1]["path"]
    monkeypatch.setattr(pairs_history, "MOST_BYTES", 3 * workspace.folder.joinpath(named).stat().st_size + 10)
    pairs_edit.swap_pair(visitor, 1)
    workspace = state.open_workspace(visitor)
    assert len(workspace.pairs["undo"]) == 3 and workspace.pairs["undo"][-1]["path"] != workspace.pairs["path"]

    def full(*_, **__):
        raise UserError("The pairs could not be written (No space left on device).")

    monkeypatch.setattr("workbench.pairs.PreferencePairs.to_jsonl", full)
    with pytest.raises(UserError, match="No space"):
        pairs_edit.swap_pair(visitor, 1)
    assert state.open_workspace(visitor) == workspace


def test_changes_are_refused_where_they_mean_other_pairs(tmp_path):
    visitor, workspace = taken(tmp_path)
    seen = workspace.pairs["fingerprint"]
    pairs_edit.remove_pairs(visitor, [1], seen)
    with pytest.raises(UserError, match="changed meanwhile"):
        pairs_edit.remove_pairs(visitor, [1], seen)
    for nonsense in (None, "all", [], ["1"], [True], [10**30], {"a": 1}):
        with pytest.raises(UserError):
            pairs_edit.remove_pairs(visitor, nonsense)
    with pytest.raises(UserError, match="Not a single pair"):
        pairs_edit.remove_pairs(visitor, list(range(1, 30)))
    with pytest.raises(UserError, match="At least 8"):
        pairs_edit.remove_pairs(visitor, list(range(1, 28)), at_least=8)
    assert state.open_workspace(visitor).pairs["count"] == 29


def test_a_bundled_set_becomes_a_copy_and_back(tmp_path):
    visitor = state.new_visitor()
    workspace = pairs_data.take_bundled(visitor, "demo")
    pairs_edit.swap_pair(visitor, state.load_pairs_of(workspace).ids[0])
    assert state.open_workspace(visitor).pairs["path"]
    pairs_edit.step(visitor, "undo")
    assert state.open_workspace(visitor).pairs["path"] is None


# -- table -------------------------------------------------------------------------------------------------------------


def test_table_finds_what_a_slow_look_finds(tmp_path):
    visitor, workspace = taken(tmp_path, count=60)
    pairs_edit.swap_pair(visitor, 9)
    workspace = state.open_workspace(visitor)
    pairs = list(state.load_pairs_of(workspace))
    sides = state.load_pairs_of(workspace).sides(0)
    for query in ("", "antwort 1", "ANTWORT 5", "none of these"):
        for split in pairs_table.SPLITS:
            for sort in pairs_table.SORTS:
                wanted = pairs_table.Wanted(query, split, "all", sort)
                fit = [
                    i
                    for i, pair in enumerate(pairs)
                    if any(query.lower() in t.lower() for t in (pair.prompt[0]["content"], pair.chosen, pair.rejected))
                    and (split == "all" or (sides[i] == "held_out") == (split == "held_out"))
                ]
                longer = {
                    "row": lambda i: 0,
                    "longest": lambda i: -len(pairs[i].chosen),
                    "shortest": lambda i: len(pairs[i].chosen),
                    "chosen_longer": lambda i: len(pairs[i].rejected) - len(pairs[i].chosen),
                    "rejected_longer": lambda i: len(pairs[i].chosen) - len(pairs[i].rejected),
                }[sort]
                assert pairs_table.matching(workspace, wanted).tolist() == sorted(fit, key=longer)
    assert pairs_table.matching(workspace, pairs_table.Wanted(show="edited")).tolist() == [8]


def test_nonsense_questions_get_an_answer(tmp_path):
    _, workspace = taken(tmp_path)
    for sent in (
        {},
        {"query": 7, "split": [], "show": {}, "sort": None, "page": "x", "seq": "1", "tab": {"a": 1}},
        {"query": "q" * 10_000, "page": -5, "seq": 10**40},
        {"page": 10**12, "seq": True},
        {"query": "(*[\\", "split": "../", "page": 1.5},
    ):
        value = pairs_table.answer(workspace, sent)
        assert value["page"] >= 0 and len(value["rows"]) <= pairs_table.PER_PAGE and isinstance(value["tab"], str)
        json.dumps(value)
    for pair in (None, "1", 0, -1, 10**40, True, [1], 1.0):
        assert pairs_table.opened(workspace, {"pair": pair})["kind"] == "gone"
    with pytest.raises(UserError):
        pairs_table.ids_found(workspace.visitor, {"want": {"query": "antwort"}, "count": 3})


def test_seed_is_one_for_both_steps(tmp_path):
    visitor, workspace = taken(tmp_path)
    for bad in (None, "", "x", -1, "1.5", 2**31, "1e3", True, [1], {}):
        with pytest.raises(UserError, match="whole number"):
            pairs_data.use_seed(visitor, bad)
    workspace = pairs_data.use_seed(visitor, "12")
    assert pairs_data.seed_of(workspace) == 12 and align_form.read({}, workspace)[0]["seed"] == 12
    state.keep_setting(visitor, align={"draft": {"seed": "5", "lora_rank": "8"}})
    workspace = state.open_workspace(visitor)
    assert pairs_data.seed_of(workspace) == 5
    workspace = pairs_data.use_seed(visitor, 3)
    assert pairs_data.seed_of(workspace) == 3 and align_form.draft_of(workspace) == {"lora_rank": "8"}


# -- bringing pairs ----------------------------------------------------------------------------------------------------


def test_a_waiting_file_leaves_the_pairs_alone(tmp_path):
    visitor, workspace = taken(tmp_path)
    with pytest.raises(pairs_data.Unmapped):
        pairs_data.take_upload(visitor, str(table_file(tmp_path, "other.csv")))
    now = state.open_workspace(visitor)
    assert now.pairs == workspace.pairs and now.settings["unmapped"]["name"] == "other.csv"
    assert len(list(now.folder.glob("raw-*"))) == 2
    nothing = pairs_mapping.tried(now, {"columns": {"chosen": "gut"}})
    assert nothing["pairs"] is None and nothing["rows"][0][1].startswith("frage 0")
    for columns in (None, 7, {"chosen": 1}, {"chosen": "gut", "rejected": "no such column"}):
        assert not pairs_mapping.tried(now, {"columns": columns})["pairs"]
    shown = pairs_mapping.tried(now, {"columns": {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"}})
    assert len(shown["pairs"]) == 3 and shown["pairs"][1]["chosen"] == "gute antwort 1" and shown["fit"] == 30
    left = pairs_mapping.leave(visitor)
    assert "unmapped" not in left.settings and len(list(left.folder.glob("raw-*"))) == 1


def test_a_hub_data_set_is_mapped_by_name(tmp_path, monkeypatch):
    """The Hub is not there in tests: a file stands in for it, asked for by the data set's name only."""
    import workbench.pairs as engine

    path, asked = table_file(tmp_path), []
    real_load, real_preview = engine.load_pairs, engine.preview

    def stand_in(real):
        def read(source, *, local=True, **kwargs):
            asked.append((source, local))
            assert source == "org/odd:train"
            return real(str(path), **kwargs)

        return read

    monkeypatch.setattr(engine, "load_pairs", stand_in(real_load))
    monkeypatch.setattr(engine, "preview", stand_in(real_preview))
    visitor = state.new_visitor()
    with pytest.raises(pairs_data.Unmapped):
        pairs_data.take_hub(visitor, "org/odd:train")
    workspace = state.open_workspace(visitor)
    columns = {"columns": {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"}}
    assert pairs_mapping.tried(workspace, columns)["pairs"][0]["rejected"] == "nein 0"
    workspace = pairs_mapping.use(visitor, columns, QUIET)
    assert workspace.pairs["kind"] == "hub" and workspace.pairs["count"] == 30 and "unmapped" not in workspace.settings
    assert pairs_mapping.columns_value(workspace)["chosen"] == columns["columns"]
    assert not any(local for _, local in asked)
    for bad in ("", "/etc/passwd", "../x", "demo/polite", "a b/c", None, 7):
        with pytest.raises(UserError, match="Name a data set"):
            pairs_data.take_hub(visitor, bad)


def test_reading_can_be_stopped_and_a_newer_one_stops_the_older(tmp_path):
    visitor, began = state.new_visitor(), threading.Event()

    def endless(progress):
        began.set()
        for row in range(10**9):
            progress("pairs", row + 1)

    first = pairs_reading.Reading(visitor, endless, "Reading big.csv")
    began.wait(30)
    lines = first.wait(0.01)
    assert "Reading big.csv" in next(lines)
    pairs_reading.stop(visitor)
    with pytest.raises(UserError, match="stopped"):
        first.result()
    older = pairs_reading.Reading(visitor, endless, "older")
    newer = pairs_reading.Reading(visitor, lambda progress: "read", "newer")
    with pytest.raises(UserError, match="stopped"):
        older.result()
    assert newer.result() == "read"
    assert not issubclass(Stopped, UserError)


def test_dropped_rows_stand_as_in_the_file(tmp_path):
    extra = [["a", "same", "both", "both"], ["b", "", "x", "y"]]
    visitor, workspace = taken(tmp_path, extra=extra)
    dropped = pairs_files.dropped_of(workspace)
    assert dropped == {"identical": [31], "empty": [32]}
    assert pairs_files.rows_of(workspace, [31]) == [
        (31, {"nr": "a", "prompt": "same", "chosen": "both", "rejected": "both"})
    ]
    shown = str(pairs_report.rows_panel("identical", [(31, {"a": "<b>"}), (32, "Broken line")], 2))
    assert "<b>" not in shown and "&lt;b&gt;" in shown
    workspace.folder.joinpath(workspace.pairs["raw"]).unlink()
    with pytest.raises(UserError, match="no longer on the server"):
        pairs_files.rows_of(workspace, [31])
    lines = pairs_files.clean_file(visitor).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 30 and json.loads(lines[0])["chosen"] == "gute antwort 0"
    from pyarrow import parquet

    assert parquet.read_table(pairs_files.clean_file(visitor, "parquet")).to_pylist()[0]["chosen"] == "gute antwort 0"
    with pytest.raises(UserError):
        pairs_files.clean_file(visitor, "../x")


def test_report_sentences():
    told = {"chosen_longer": 0.712, "auc": 0.66, "low": 0.61, "high": 0.7}
    assert pairs_report.bias(told, None) == (
        "Chosen answers are longer in 71% of pairs; length alone tells them apart with AUC 0.66 [0.61, 0.70]."
    )
    spoken = pairs_report.languages({"scripts": [{"name": "Latin", "share": 0.9}, {"name": "Arabic", "share": 0.1}]})
    assert spoken == "Scripts: Latin 90%, Arabic 10%."
