"""Step 1 in depth: columns by hand, questions that get lost, undo, selections, the report, in a browser."""

from __future__ import annotations

import csv
import json
import os
import re

from browser import browser, overflow, page, server  # noqa: F401
from playwright.sync_api import expect
from test_pairs_workspace import table_file

ARABIC = "ما هي عاصمة فرنسا؟"


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
    expect(prompt).to_have_css("direction", "rtl")
    expect(rows.first.locator("[data-l=prompt] button")).to_have_css("direction", "rtl")
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
