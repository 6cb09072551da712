"""The page's frame and step 1 in a real browser; plus the parts of them that need none."""

from __future__ import annotations

import json
import threading

import pytest
from browser import browser, overflow, page, server  # noqa: F401
from playwright.sync_api import expect

from workbench.errors import UserError
from workbench.ui import context, html, pairs_report, pairs_table, state
from workbench.ui.html import Markup

HOSTILE = (
    "<script>window.bad=1</script> <img src=x onerror='window.bad=1'> ${window.bad=1} {{window.bad=1}} </textarea>"
)


def own_pairs(folder, count=24, name="own.csv"):
    """A small CSV of pairs, one of them hostile, one identical."""
    import csv

    path = folder / name
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "chosen", "rejected"])
        for i in range(count):
            rows.writerow([f"question {i}", f"a good answer {i}", f"bad {i}"])
        rows.writerow([HOSTILE, HOSTILE + " yes", HOSTILE + " no"])
        rows.writerow(["same", "same answer", "same answer"])
    return path


def upload(page, path):  # noqa: F811
    """Put a file into whichever file input is on the page."""
    page.locator("#rw-source-file input[type=file], #rw-empty input[type=file]").first.set_input_files(str(path))


def visitor_folder(server):  # noqa: F811
    """The newest workspace on the server."""
    folders = (server.runs / "workspaces").iterdir()
    return max(folders, key=lambda folder: folder.stat().st_mtime)


# -- in the browser ----------------------------------------------------------------------------------------------------


def test_demo_reload_and_steps(page, server):  # noqa: F811
    expect(page.get_by_role("heading", level=1)).to_contain_text("Make a model answer")
    expect(page.locator("#rw-steps [aria-disabled=true]")).to_have_count(4)
    page.get_by_role("button", name="Start with the demo").click()
    expect(page.locator("#rw-pairs h1")).to_contain_text("pairs are ready")
    kept = json.loads((visitor_folder(server) / "workspace.json").read_text())["pairs"]
    assert kept["report"]["read"] >= 600 and kept["count"] >= 590 and kept["path"] is None
    expect(page.locator("#rw-pairs h1")).to_contain_text(f"{kept['count']} of {kept['report']['read']}")
    expect(page.locator("#rw-context")).to_contain_text(f"polite-demo, {kept['count']}")
    expect(page.locator("#rw-report summary").first).to_be_visible()
    page.locator("#rw-report summary").first.click()
    expect(page.locator("#rw-report details[open] p")).to_contain_text("Row")
    rows = page.locator("#rw-pairs-shown tbody tr")
    expect(rows).to_have_count(pairs_table.PER_PAGE)
    first = rows.first.get_attribute("data-pair")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#rw-pairs-shown [role=status]")).to_contain_text(
        f"{pairs_table.PER_PAGE + 1} to {2 * pairs_table.PER_PAGE} of"
    )
    assert rows.first.get_attribute("data-pair") != first

    page.reload()
    expect(page.locator("#rw-pairs h1")).to_contain_text(f"{kept['count']} of {kept['report']['read']}")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert overflow(page) <= 0
    page.set_viewport_size({"width": 1440, "height": 900})
    assert overflow(page) <= 0
    page.get_by_role("button", name="Look at the layers").click()
    expect(page.locator("#rw-steps [aria-current=step]")).to_contain_text("Layers")
    page.reload()
    expect(page.locator("#rw-steps [aria-current=step]")).to_contain_text("Layers")
    page.locator("#rw-context [data-item=pairs]").click()
    expect(page.locator("#rw-pairs h1")).to_be_visible()


def test_own_file_hostile_text_editing(page, server, tmp_path):  # noqa: F811
    editor = page.locator("#rw-pair-edit")
    upload(page, own_pairs(tmp_path))
    expect(page.locator("#rw-pairs h1")).to_contain_text("25 of 26 pairs are ready")
    expect(page.locator("#rw-source")).to_contain_text("own.csv")
    expect(page.locator("#rw-report")).to_contain_text("identical", ignore_case=True)

    page.get_by_label("Search the pairs").fill("onerror")
    rows = page.locator("#rw-pairs-shown tbody tr")
    expect(rows).to_have_count(1)
    assert HOSTILE in rows.first.inner_text()
    rows.first.click()
    expect(editor.get_by_label("Prompt", exact=True)).to_have_value(HOSTILE)
    page.get_by_role("button", name="Swap sides").click()
    expect(editor.get_by_label("Chosen", exact=True)).to_have_value(HOSTILE + " no")
    editor.get_by_label("Rejected", exact=True).fill("  ")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#rw-error [role=alert]")).to_contain_text("empty")
    expect(page.locator("#rw-error [role=alert]")).to_be_in_viewport()  # the editor stands far below the page's top
    editor.get_by_role("button", name="Remove").click()
    expect(page.locator("#rw-context")).to_contain_text("own.csv, 24")
    expect(page.locator("#rw-error [role=alert]")).to_have_count(0)

    page.get_by_role("button", name="Add a pair").click()
    editor.get_by_label("Prompt", exact=True).fill("a new question")
    editor.get_by_label("Chosen", exact=True).fill("${1+1} {{7*7}}")
    editor.get_by_label("Rejected", exact=True).fill("<b>worse</b>")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#rw-context")).to_contain_text("own.csv, 25")
    page.get_by_label("Search the pairs").fill("a new question")
    expect(rows).to_have_count(1)
    assert "${1+1} {{7*7}}" in rows.first.inner_text() and "<b>worse</b>" in rows.first.inner_text()

    with page.expect_download() as saved:
        page.get_by_role("button", name="Clean file").click()
    lines = [json.loads(line) for line in saved.value.path().read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 25 and {"prompt", "chosen", "rejected"} <= set(lines[0])
    assert saved.value.suggested_filename == "own-clean.jsonl"
    assert page.evaluate("window.bad") is None


def test_bad_input_gives_sentences_and_keeps_the_earlier_pairs(page, tmp_path):  # noqa: F811
    upload(page, own_pairs(tmp_path))
    expect(page.locator("#rw-context")).to_contain_text("own.csv, 25")
    alert = page.locator("#rw-error [role=alert]")
    bad = {
        "empty.jsonl": b"",
        "binary.jsonl": bytes(range(256)) * 40,
        "broken.jsonl": b'{"prompt": "x"\n',
        "identical.csv": b"prompt,chosen,rejected\n" + b"q,same,same\n" * 9,
        "picture.png": b"\x89PNG\r\n",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        upload(page, tmp_path / name)
        expect(alert).to_contain_text(name.split(".")[0], ignore_case=True)
        assert "Traceback" not in alert.inner_text() and "went wrong" not in alert.inner_text()
        assert "/workspaces/" not in alert.inner_text()
        expect(page.locator("#rw-context")).to_contain_text("own.csv, 25")

    (tmp_path / "other.csv").write_text("frage,gut,schlecht\n" + "".join(f"f{i},g{i},s{i}\n" for i in range(12)))
    upload(page, tmp_path / "other.csv")
    expect(page.locator("#rw-trial")).to_contain_text("Which column is which?")
    for label, column in (("Prompt", "frage"), ("Chosen", "gut"), ("Rejected", "schlecht")):
        page.locator("#rw-columns").get_by_label(label).select_option(column)
    page.get_by_role("button", name="Use these columns").click()
    expect(page.locator("#rw-context")).to_contain_text("other.csv, 12")

    page.locator("#rw-source").get_by_label("Paste", exact=True).check()
    page.get_by_label("Pasted pairs").fill("not pairs at all")
    page.get_by_role("button", name="Read these pairs").click()
    expect(alert).to_be_visible()
    expect(page.locator("#rw-context")).to_contain_text("other.csv, 12")
    page.locator("#rw-source").get_by_label("Hub", exact=True).check()
    page.get_by_label("Data set on the Hub").fill("/etc/passwd")
    page.get_by_role("button", name="Load", exact=True).click()
    expect(alert).to_contain_text("Name a data set of the Hub")


def test_model_panel_lengths_and_theme(page, server, tmp_path):  # noqa: F811
    from tiny import tiny_model

    loaded = tiny_model(layers=2)
    loaded.model.save_pretrained(tmp_path / "tiny")
    loaded.tokenizer.save_pretrained(tmp_path / "tiny")
    upload(page, own_pairs(tmp_path))
    expect(page.locator("#rw-context")).to_contain_text("own.csv, 25")
    page.locator("#rw-context [data-item=model]").click()
    model = page.get_by_label("Model", exact=True)
    model.fill("no/such-model-anywhere")
    page.get_by_role("button", name="Use this model").click()
    expect(page.locator("#rw-error [role=alert]")).to_contain_text("no/such-model-anywhere")
    model.fill(str(tmp_path / "tiny"))
    page.get_by_role("button", name="Use this model").click()
    expect(page.locator("#rw-context")).to_contain_text("tiny, 2 blocks")
    expect(page.locator("#rw-lengths h2")).to_contain_text("answers are")
    lengths = page.locator("#rw-lengths .in-tokens")
    lengths.locator("summary").click()
    expect(lengths.locator("table")).to_contain_text("95% have at most")
    page.locator("#rw-lengths").get_by_label("Characters", exact=True).check()
    expect(lengths).to_be_hidden()
    expect(page.locator("#rw-lengths .in-characters")).to_contain_text("Answers per")

    dark = "document.body.classList.contains('dark')"
    assert not page.evaluate(dark)
    page.get_by_role("button", name="Switch between light and dark").click()
    page.wait_for_function(dark)
    page.reload()
    page.wait_for_selector("#rw-steps a")
    assert page.evaluate(dark)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert overflow(page) <= 0


def test_two_visitors_see_only_their_own(browser, page, server, tmp_path):  # noqa: F811
    upload(page, own_pairs(tmp_path, name="confidential.csv"))
    expect(page.locator("#rw-context")).to_contain_text("confidential.csv")
    other = browser.new_context()
    tab = other.new_page()
    tab.goto(server.url)
    expect(tab.get_by_role("button", name="Start with the demo")).to_be_visible(timeout=60_000)
    assert "confidential" not in tab.content()
    other.close()
    kept = visitor_folder(server)
    assert list(kept.glob("pairs-*.jsonl")) and kept.stat().st_mode & 0o077 == 0


# -- without a browser -------------------------------------------------------------------------------------------------


def test_values_refuse_unescaped_text_and_hold_no_tags():
    with pytest.raises(TypeError):
        html.value("<b>")
    sent = html.value(Markup("<p>{}</p>").format(HOSTILE))
    assert "<" not in sent and "&lt;script>" not in sent.replace("&gt;", ">").replace("&lt;", "<")
    assert "onerror='" not in json.loads(sent)["html"].replace("&#39;", "’")


def test_workspace_ids_and_concurrent_changes():
    for bad in (None, "", "../../etc", "A" * 32, "a" * 31, "a" * 33, 7, {"x": 1}):
        with pytest.raises(UserError):
            state.open_workspace(bad)
    visitor = state.new_visitor()
    assert state.open_workspace(visitor).pairs is None and not (state.workspaces() / visitor).exists()
    threads = [threading.Thread(target=state.keep_setting, args=(visitor,), kwargs={f"k{i}": i}) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.open_workspace(visitor).settings == {f"k{i}": i for i in range(20)}
    (state.workspaces() / visitor / "workspace.json").write_text('{"step": "nonsense", "unknown": 1, "pick')
    assert state.open_workspace(visitor).step == "pairs"


def test_cache_loads_once_and_forgets_the_oldest():
    cache, loads = state.Cache(2), []
    barrier = threading.Barrier(4)

    def get():
        barrier.wait()
        cache.get("a", lambda: loads.append("a") or "A")

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["a"]
    for key in "bc":
        cache.get(key, lambda: key)  # noqa: B023
    assert cache.peek("a") is None and cache.peek("c") == "c"


def test_pollers_ask_again_though_an_answer_was_lost_and_do_not_pile_up():
    from workbench.ui import frame
    from workbench.ui.page import one_at_a_time

    ticks = [d for d in frame.build().config["dependencies"] if any(event == "tick" for _, event in d["targets"])]
    once = [d["api_name"] for d in ticks if d["trigger_mode"] != "multiple"]
    assert len(ticks) >= 6 and set(once) <= {"wake", "count"}  # asked for a single time
    begun, go_on, answers = threading.Event(), threading.Event(), []

    def slow(visitor):
        begun.set()
        assert go_on.wait(60)
        return f"told {visitor}"

    look = one_at_a_time(slow)
    first = threading.Thread(target=lambda: answers.append(look("ann")))
    first.start()
    assert begun.wait(60) and look("ann") is None
    go_on.set()
    assert look("bob") == "told bob"
    first.join()
    assert answers == ["told ann"] and look("ann") == "told ann"


def test_steps_say_what_is_missing():
    workspace = state.Workspace(state.new_visitor())
    seen = context.Seen(workspace, [], None, None)
    line = context.steps_line(seen)["items"]
    assert [bool(item["off"]) for item in line] == [False, True, True, True, True]
    assert "pairs" in line[1]["off"] and "finished run" in line[3]["off"]
    finished = {
        "run": "x",
        "state": "finished",
        "kind": "align",
        "method": "scit",
        "layers": [3, 5],
        "step": 0,
        "total": 0,
    }
    seen = context.Seen(state.Workspace("a" * 32, picked=[3]), [finished], finished, None)
    assert context.missing(seen, "export") == "" and context.run_name(finished) == "scit-3-5"


def test_lengths_title():
    assert pairs_report.lengths_title(3.2) == "Chosen answers are three tokens longer"
    assert pairs_report.lengths_title(-1) == "Chosen answers are one token shorter"
    assert pairs_report.lengths_title(0.2) == "Chosen and rejected answers are equally long"
