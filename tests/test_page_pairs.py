"""Step 1 in depth: columns by hand, questions that get lost, undo, selections, the report; in a browser and without."""

from __future__ import annotations

import csv
import json
import os
import re
import threading

import numpy as np
import pytest
from browser import browser, overflow, page, server  # noqa: F401
from playwright.sync_api import expect

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

ARABIC = "ما هي عاصمة فرنسا؟"


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


def bring(page, path):  # noqa: F811
    page.locator("#rw-source-file input[type=file], #rw-empty input[type=file]").first.set_input_files(str(path))


# -- in the browser ----------------------------------------------------------------------------------------------------


def test_columns_by_hand(page, tmp_path):  # noqa: F811
    trial, columns = page.locator("#rw-trial"), page.locator("#rw-columns")
    bring(page, table_file(tmp_path, extra=[["x", "f", "same", "same"]]))
    expect(trial).to_contain_text("Which column is which?")
    expect(trial.locator("table")).to_contain_text("gute antwort 2")
    use = page.get_by_role("button", name="Use these columns")
    expect(use).to_be_disabled()
    columns.get_by_label("Chosen").select_option("gut")
    columns.get_by_label("Rejected").select_option("gut")
    expect(trial.get_by_role("alert")).to_contain_text("One column cannot be two things")
    columns.get_by_label("Rejected").select_option("schlecht")
    columns.get_by_label("Prompt").select_option("frage")
    expect(trial.locator("li")).to_have_count(3)
    expect(trial.locator("li").nth(1)).to_contain_text("frage 1 zum thema")
    expect(trial).to_contain_text("Chosen and rejected are identical")
    page.reload()  # a reload finds it waiting
    expect(trial).to_contain_text("Which column is which?")
    for label, column in (("Prompt", "frage"), ("Chosen", "gut"), ("Rejected", "schlecht")):
        columns.get_by_label(label).select_option(column)
    use.click()
    expect(page.locator("#rw-context")).to_contain_text("odd.csv, 30")
    expect(trial.locator("header")).to_have_count(0)

    # recognised, but wrongly: the sides are exchanged, looked at, left, and then done
    columns.get_by_label("Chosen").select_option("schlecht")
    columns.get_by_label("Rejected").select_option("gut")
    expect(trial.locator(".tx.chosen").first).to_contain_text("nein 0")
    page.get_by_role("button", name="Leave it as it is").click()
    expect(columns.get_by_label("Chosen")).to_have_value("gut")
    columns.get_by_label("Chosen").select_option("schlecht")
    columns.get_by_label("Rejected").select_option("gut")
    expect(trial.locator("li")).to_have_count(3)
    use.click()
    expect(page.locator("#rw-pairs-shown tbody tr").first).to_contain_text("nein 0gute antwort 0")

    page.locator("#rw-source").get_by_label("Paste", exact=True).check()
    rows = "\n".join(json.dumps({"ask": f"q {i}", "yes": f"good {i}", "no": f"bad {i}"}) for i in range(12))
    page.get_by_label("Pasted pairs").fill(rows)
    page.get_by_role("button", name="Read these pairs").click()
    expect(trial).to_contain_text("Which column is which?")
    page.get_by_role("button", name="Keep the earlier pairs").click()
    expect(trial.locator("header")).to_have_count(0)
    expect(page.locator("#rw-context")).to_contain_text("odd.csv, 30")
    page.locator("#rw-source").get_by_label("Paste", exact=True).check()
    page.get_by_role("button", name="Read these pairs").click()
    expect(trial.locator("table")).to_contain_text("good 2")
    for label, column in (("Prompt", "ask"), ("Chosen", "yes"), ("Rejected", "no")):
        columns.get_by_label(label).select_option(column)
    use.click()
    expect(page.locator("#rw-context")).to_contain_text("pasted, 12")


def test_lost_questions_are_asked_again_and_old_answers_ignored(page, tmp_path):  # noqa: F811
    bring(page, table_file(tmp_path, head=("nr", "prompt", "chosen", "rejected")))
    rows, found = page.locator("#rw-pairs-shown tbody tr"), page.locator("#rw-pairs-shown [role=status]")
    expect(found).to_contain_text("1 to 10 of 30")
    lost = []

    def lose(route):
        """The first two questions for rows never reach the server."""
        if '"action":"rows"' in (route.request.post_data or "") and len(lost) < 2:
            lost.append(1)
            route.fulfill(status=200, content_type="application/json", body='{"event_id": "lost"}')
        else:
            route.continue_()

    page.route("**/queue/join*", lose)
    page.get_by_label("Search the pairs").fill("antwort 17")
    expect(found).to_contain_text("1 to 1 of 1 found in 30")
    expect(rows).to_have_count(1)
    assert len(lost) == 2
    # an answer to an older question, or to another tab's, changes nothing
    taken = page.evaluate(
        """() => {
            const sent = [], asker = rw.pairs.asker(question => sent.push(question), () => ({}), () => {});
            asker.ask(); asker.ask();
            const [first, second] = sent;
            const other = {...second, tab: 'another'};
            return [asker.answers(first), asker.waiting, asker.answers(other), asker.answers(second), asker.waiting];
        }"""
    )
    assert taken == [False, True, False, True, False]


def test_select_remove_undo_and_find_it_again(page, tmp_path):  # noqa: F811
    extra = [["l", ARABIC, "باريس 🥐", "w" * 4000], ["h", "<b>bold</b>", "yes", "no"]]
    bring(page, table_file(tmp_path, head=("nr", "prompt", "chosen", "rejected"), extra=extra))
    rows, context = page.locator("#rw-pairs-shown tbody tr"), page.locator("#rw-context")
    found = page.locator("#rw-pairs-shown [role=status]")
    expect(context).to_contain_text("odd.csv, 32")
    for number in (2, 3, 5):
        page.get_by_label(f"Select pair {number}", exact=True).check()
    page.get_by_role("button", name="Remove the 3 selected").click()
    expect(context).to_contain_text("odd.csv, 29")
    page.get_by_label("Search the pairs").fill("antwort 1")
    expect(found).to_contain_text("found in 29")
    many = int(re.search(r"of (\d+) found", found.inner_text())[1])
    page.locator("#rw-remove-found").click()
    page.locator("#rw-remove-sure").click()
    expect(context).to_contain_text(f"odd.csv, {29 - many}")
    page.reload()
    expect(context).to_contain_text(f"odd.csv, {29 - many}")
    page.get_by_role("button", name=re.compile(f"Undo: removed {many} pairs")).click()
    expect(context).to_contain_text("odd.csv, 29")
    page.get_by_role("button", name=re.compile("Undo: removed 3 pairs")).click()
    expect(context).to_contain_text("odd.csv, 32")
    expect(page.get_by_role("button", name="Undo", exact=True)).to_be_disabled()
    page.get_by_role("button", name=re.compile("Redo: removed 3 pairs")).click()
    expect(context).to_contain_text("odd.csv, 29")

    # keyboard: from the search to the rows, through them, and into the editor
    page.get_by_label("Order").select_option("longest")
    expect(rows.first).to_contain_text("gute antwort 1")
    page.get_by_label("Search the pairs").fill("")
    expect(found).to_contain_text("1 to 10 of 29")
    page.get_by_label("Search the pairs").press("ArrowDown")
    expect(rows.nth(0).locator("button")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1).locator("button")).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    expect(found).to_contain_text("11 to 20 of 29")
    expect(rows.nth(0).locator("button")).to_be_focused()
    page.keyboard.press("Enter")
    editor = page.locator("#rw-pair-edit")
    chosen = editor.get_by_label("Chosen", exact=True)
    chosen.fill("another answer")
    rows.nth(3).click()  # what was typed is not lost by looking elsewhere
    expect(editor.get_by_role("alert")).to_contain_text("not saved")
    page.get_by_role("button", name="Keep editing").click()
    expect(chosen).to_have_value("another answer")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#rw-show option[value=edited]")).to_have_text("Edited here (1)")
    page.get_by_label("Show", exact=True).select_option("edited")
    expect(found).to_contain_text("1 to 1 of 1 found in 29")
    expect(rows.first).to_contain_text("another answer")

    # right to left, emoji, a word of 4,000 letters
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_label("Show", exact=True).select_option("all")
    page.get_by_label("Search the pairs").fill("فرنسا")
    expect(rows.first).to_contain_text(ARABIC)
    expect(rows).to_have_count(1)
    rows.first.click()
    prompt = editor.get_by_label("Prompt", exact=True)
    expect(prompt).to_have_value(ARABIC)
    assert prompt.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert rows.first.locator("[data-l=prompt] button").evaluate("e => getComputedStyle(e).direction") == "rtl"
    page.set_viewport_size({"width": 390, "height": 844})
    expect(rows.first).to_contain_text("باريس 🥐")
    assert overflow(page) <= 0


def test_report_split_and_downloads(page, tmp_path):  # noqa: F811
    extra = [["a", "same", "both", "both"], ["b", "", "x", "y"], ["c", "long one", "word " * 3000, "short"]]
    extra += [["d", "frage 3 zum thema dddd!", "gute antwort 3.", "nein 3!"]]
    bring(page, table_file(tmp_path, head=("nr", "prompt", "chosen", "rejected"), extra=extra))
    report, context = page.locator("#rw-report"), page.locator("#rw-context")
    expect(context).to_contain_text("odd.csv, 32")
    report.locator("summary").filter(has_text="identical").click()
    report.get_by_role("button", name="See the rows").filter(visible=True).click()
    expect(page.locator("#rw-rows table")).to_contain_text("both")
    expect(page.locator("#rw-rows table")).to_contain_text("31")
    page.locator("#rw-rows").get_by_role("button", name="Close").click()
    expect(page.locator("#rw-rows header")).to_have_count(0)

    lengths = page.locator("#rw-lengths")
    expect(lengths).to_contain_text("length alone tells them apart with AUC")
    lengths.get_by_role("button", name="Drop it instead").click()
    expect(context).to_contain_text("odd.csv, 31")
    expect(report).to_contain_text("Longer than the model reads")

    held = page.locator("#rw-split")
    expect(held).to_contain_text("31 pairs split")
    seed = page.get_by_label("Split seed")
    for nonsense in ("-1", "abc", "1e9", "99999999999"):
        seed.fill(nonsense)
        expect(page.locator("#rw-split-seed")).to_contain_text("A whole number from 0")
        expect(page.get_by_role("button", name="Split again")).to_be_hidden()
    page.get_by_label("Filter by split").select_option("held_out")
    rows = page.locator("#rw-pairs-shown tbody tr")
    expect(rows).to_have_count(10)
    before = [row.get_attribute("data-pair") for row in rows.all()]
    seed.fill("7")
    seed.press("Enter")
    expect(rows.first).not_to_have_attribute("data-pair", before[0])
    assert [row.get_attribute("data-pair") for row in rows.all()] != before

    page.locator("#rw-pairs summary[aria-label='Clean file in another format']").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV", exact=True).click()
    with open(saved.value.path(), newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 31 and set(lines[0]) == {"prompt", "chosen", "rejected"}


def test_many_pairs_are_read_again_after_a_restart(page, server, tmp_path):  # noqa: F811
    """Another process has them on disk only: the page says what it waits for, then shows them; and if they are gone,
    it offers to bring others."""
    with open(tmp_path / "many.jsonl", "w", encoding="utf-8") as file:
        for i in range(9000):
            row = {"prompt": f"question {i} {'x' * 800}", "chosen": f"good {i}", "rejected": f"bad {i}"}
            file.write(json.dumps(row) + "\n")
    bring(page, tmp_path / "many.jsonl")
    expect(page.locator("#rw-context")).to_contain_text("many.jsonl, 9000")
    folder = max((server.runs / "workspaces").iterdir(), key=lambda folder: folder.stat().st_mtime)
    kept = json.loads((folder / "workspace.json").read_text())
    path = folder / kept["pairs"]["path"]
    os.utime(path, (1, 1))  # another time of writing: what is in memory is not this file any more
    page.reload()
    expect(page.locator("#rw-pairs h1")).to_contain_text("9,000")
    path.unlink()
    page.reload()
    expect(page.locator("#rw-error [role=alert]")).to_contain_text("load them again")
    bring(page, table_file(tmp_path, head=("nr", "prompt", "chosen", "rejected")))
    expect(page.locator("#rw-context")).to_contain_text("odd.csv, 30")


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
