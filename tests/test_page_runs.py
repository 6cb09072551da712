"""All runs on the page: waiting, names, the bin, comparing; and that nobody reaches another visitor's runs."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gradio as gr
import pytest
import torch
from playwright.sync_api import expect
from safetensors.torch import save_file

from tests.browser import Server, browser, overflow, page, start_server, stop_server  # noqa: F401
from workbench.errors import UserError
from workbench.rahf.config import RunConfig
from workbench.runs import control, create, queue, worker
from workbench.ui import context, frame, runs_panel, runs_view, state, step_align

ROOT = Path(__file__).parents[1]
ANN, BOB = "a" * 32, "b" * 32
SECRET = "ANNS-SECRET"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """The page, whose alignments only count."""
    before = dict(os.environ)
    os.environ |= {"RAHF_WORK": "align=tests.fake_work:act_align", "PYTHONPATH": str(ROOT)}
    try:
        running = start_server(tmp_path_factory.mktemp("page"))
    finally:
        os.environ.clear()
        os.environ.update(before)
    yield running
    stop_server(running)


@pytest.fixture
def ready(page, server):  # noqa: F811
    """A visitor with the demo and picked blocks, in step 3."""
    page.get_by_role("button", name="Start with the demo").click()
    expect(page.locator("#rw-context")).to_contain_text("Pairs")
    page.locator('#rw-steps [data-step="layers"]').wait_for()
    path = max((server.runs / "workspaces").glob("*/workspace.json"), key=os.path.getmtime)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"picked": [2, 3], "step": "align"}))
    page.reload()
    expect(page.locator("#rw-settings")).to_be_visible()
    return page


def start(page, steps):  # noqa: F811
    page.locator("#rw-settings details").evaluate_all("folds => folds.forEach(fold => { fold.open = true; })")
    field = page.get_by_label("Steps of stage 3", exact=True)
    field.fill(str(steps))
    field.press("Tab")
    button = page.get_by_role("button", name="Start SCIT")
    expect(button).to_be_enabled()
    button.click()


def test_a_start_is_one_with_what_was_typed_last(ready, server):
    """Also where the network brings the press before the number."""
    held = []

    def slow(route):
        if not held and "set" in (route.request.post_data or "") and "77" in route.request.post_data:
            held.append(route.request.post_data)
            ready.wait_for_timeout(1500)
        route.continue_()

    ready.route("**/queue/join*", slow)
    start(ready, 77)
    expect(ready.locator("#rw-align-head")).to_contain_text("It goes on when this page is closed")
    made = max((server.runs).glob("scit-*/config.yaml"), key=os.path.getmtime)
    assert held and RunConfig.from_yaml(made).align_steps == 77
    ready.locator("#rw-align-head").get_by_role("button", name="Stop and keep").click()
    expect(ready.locator("#rw-align-head h1")).to_contain_text("is stopped")


def test_runs_wait_are_named_compared_deleted_and_taken_back(ready):
    page, head, rows = ready, ready.locator("#rw-align-head"), ready.locator("#rw-all-runs .runrows > li")  # noqa: F811
    start(page, 5000)
    expect(head).to_contain_text("It goes on when this page is closed")
    page.get_by_role("button", name="Copy to new").click()
    expect(page.locator("#rw-settings h2")).to_have_text("New run")
    start(page, 3)
    expect(head.locator("h1")).to_have_text("Waiting: place 1 of 1")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Waiting, place 1 of 1")

    rows.last.get_by_role("button", name="Rename").click()  # the markup in a name stays text
    page.get_by_label("Name", exact=True).fill("<b>long</b> one")
    page.get_by_label("Note", exact=True).fill("as a start")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(rows.last).to_contain_text("<b>long</b> one")
    expect(rows.last).to_contain_text("as a start")

    rows.last.get_by_role("button", name="<b>long</b> one", exact=True).click()
    head.get_by_role("button", name="Stop and keep").click()
    expect(rows.first).to_contain_text("Finished")  # its turn came
    expect(head.locator("h1")).to_contain_text("is stopped")

    rows.first.get_by_role("checkbox").check()
    rows.last.get_by_role("checkbox").check()
    beside = page.locator("#rw-beside")
    expect(beside).to_contain_text("Steps of stage 3")
    expect(beside.locator("tbody tr").first).to_contain_text("5000")
    expect(beside.locator(".plot path").first).to_be_attached()

    head.get_by_role("button", name="Discard").click()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text("<b>long</b> one")
    page.reload()
    expect(rows).to_have_count(2)
    assert overflow(page) <= 0
    page.set_viewport_size({"width": 390, "height": 844})
    assert overflow(page) <= 0


# --- whose runs


@pytest.fixture
def anns(runs_root):
    """Ann's finished run, full of what nobody else may see; Bob's workspace names it wherever it can."""
    config = {"method": "scit", "model": "demo", "pairs": "demo", "layers": [3]}
    run = create("align", config, owner=ANN)
    run.describe(SECRET, SECRET)
    (run.path / "adapter").mkdir()
    for name in ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "events.jsonl", "report.html"):
        (run.path / name).write_text(SECRET)
    (run.path / "samples.jsonl").write_text(json.dumps({"id": 0, "prompt": SECRET, "base": SECRET, "aligned": SECRET}))
    run.write_status(state="finished", message=SECRET, layers=[3], result={"layers": [3], "note": SECRET})
    settings = {"evaluation": run.id, "evaluations": {run.id: run.id}, "layers_shown": run.id,
                "runs": {"compare": [run.id, run.id], "undo": run.id}}  # fmt: skip
    state.change(BOB, run=run.id, separability_run=run.id, settings=settings, step="align", picked=[3])
    return run


@cache
def actions(module: str) -> list[str]:
    """Every word that the handlers of a step (of a module and those named like it) compare an action with."""
    found = set()
    step = module.rpartition(".")[2].removeprefix("step_").partition("_")[0]
    for path in (ROOT / "workbench" / "ui").glob(f"*{step}*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Compare, ast.Dict, ast.Match, ast.Assign)):
                text = ast.unparse(node)
                if "action" in text or (isinstance(node, ast.Assign) and re.match(r"[A-Z]", text)):
                    found |= {
                        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                    }
    return sorted(word for word in found if re.fullmatch(r"[a-z][a-z-]{1,15}", word))


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def told(value) -> str:
    """All text in what a handler returned, files included."""
    text = json.dumps(value, default=str) if not isinstance(value, dict) else repr(list(value.values()))
    for name in re.findall(r"(/[^\s'\"\\]+)", text):
        path = Path(name)
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                text += "".join(archive.read(item).decode(errors="replace") for item in archive.namelist())
        elif path.is_file() and path.stat().st_size < 10**6:
            text += path.read_text(errors="replace")
    return text


def test_no_handler_shows_or_touches_another_visitor_s_run(anns, monkeypatch):
    """Every handler of the page, as a direct POST reaches it, with somebody else's run in every place."""
    for module, name in ((control, "spawn"), (queue, "submit"), (worker, "spawn"), (worker, "submit")):
        monkeypatch.setattr(module, name, lambda run: None)
    monkeypatch.setattr(context, "warm_up", lambda: None)
    page = frame.build()  # noqa: F811
    before, calls = fingerprint(anns.path), 0
    assert {"discard", "keep", "pause", "resume", "sooner", "copy"} <= set(actions("workbench.ui.step_align"))
    assert {"delete", "restore", "describe", "compare", "open", "later"} <= set(actions("workbench.ui.runs_panel"))
    for function in page.fns.values():
        if function.fn is None:
            continue
        takes_event = function.fn.__annotations__.get("sent") is gr.EventData
        values = [BOB, *[anns.id] * (len(function.inputs) - 1)]
        payloads = [None]
        if takes_event:
            common = {"run": anns.id, "id": anns.id, "name": anns.id, "value": anns.id, "item": "run", "step": "align",
                      "title": "stolen", "note": "stolen", "row": 0, "layer": 0, "pair": 0}  # fmt: skip
            payloads = [common | {"action": word} for word in actions(function.fn.serves)]
        for payload in payloads:
            calls += 1
            arguments = [gr.EventData(None, payload), *values] if takes_event else values
            result = function.fn(*arguments)
            parts = [part for part, _ in zip(result, range(3))] if hasattr(result, "__next__") else [result]  # noqa: B905
            for part in parts:
                assert SECRET not in told(part), (function.fn.__name__, payload)
    assert calls > 200
    assert fingerprint(anns.path) == before and anns.path.exists() and anns.state == "finished"


def test_a_direct_post_is_refused_with_a_sentence(server, tmp_path, monkeypatch):
    """The same through the server, as somebody with a script would."""
    monkeypatch.setenv("RAHF_RUNS", str(server.runs))
    run = create("separability", {"model": "demo", "pairs": "demo"}, owner=ANN)  # of a kind that no queue picks up
    run.describe(SECRET)
    config = json.loads(urllib.request.urlopen(f"{server.url}/config").read())
    kinds = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    before = fingerprint(run.path)
    for view, payload in (
        ("rw-all-runs", {"action": "delete", "run": run.id}),
        ("rw-all-runs", {"action": "describe", "run": run.id, "title": "stolen"}),
        ("rw-all-runs", {"action": "open", "run": run.id}),
        ("rw-runs-list", {"run": run.id}),
    ):
        entry = next(one for one in config["dependencies"] if any(kinds.get(at) == view for at, _ in one["targets"]))
        session, data = "s" + os.urandom(5).hex(), [BOB, *[None] * (len(entry["inputs"]) - 1)]
        body = {"data": data, "fn_index": entry["id"], "session_hash": session, "event_data": payload}
        head = {"Content-Type": "application/json"}
        join = urllib.request.Request(f"{server.url}/gradio_api/queue/join", json.dumps(body).encode(), head)
        urllib.request.urlopen(join).read()
        answer = ""
        with urllib.request.urlopen(f"{server.url}/gradio_api/queue/data?session_hash={session}", timeout=60) as lines:
            for line in lines:
                answer += line.decode()
                if "process_completed" in answer:
                    break
        assert "no longer there" in answer and SECRET not in answer, answer
    assert fingerprint(run.path) == before
    for path in (run.path / "about.json", server.runs / "workspaces", run.path):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{server.url}/gradio_api/file={path}")
    run.delete()


def test_the_owner_of_the_machine_sees_all_runs_and_nobody_else(anns, monkeypatch):
    mine, terminals = create("align", {}, owner=BOB), create("align", {})
    assert {run.id for run in state.runs_of(BOB)} == {mine.id, terminals.id}
    monkeypatch.setenv("RAHF_PUBLIC", "1")  # strangers can reach the page: the terminal's runs are none of theirs
    assert [run.id for run in state.runs_of(BOB)] == [mine.id]
    assert state.run_of(state.open_workspace(BOB), terminals.id) is None
    monkeypatch.delenv("RAHF_PUBLIC")
    monkeypatch.setenv("RAHF_OWNER", "1")
    assert {run.id for run in state.runs_of(BOB)} == {anns.id, mine.id, terminals.id}
    assert state.run_of(state.open_workspace(BOB)).id == anns.id
    monkeypatch.setenv("SPACE_ID", "somebody/space")  # never in public
    assert [run.id for run in state.runs_of(BOB)] == [mine.id]


def test_strangers_name_no_folder_of_the_server_and_do_not_read_with_its_sign_in(monkeypatch):
    from workbench.ui import keep_hub_token

    name = "HF_HUB_DISABLE_IMPLICIT_TOKEN"
    for variable in ("SPACE_ID", "RAHF_PUBLIC", "RAHF_OWNER", name):
        monkeypatch.delenv(variable, raising=False)
    keep_hub_token()
    assert state.folders_allowed() and name not in os.environ  # at home
    monkeypatch.setenv("RAHF_PUBLIC", "1")
    monkeypatch.setenv(name, "0")  # its owner lends it
    keep_hub_token()
    assert os.environ[name] == "0" and not state.folders_allowed()
    monkeypatch.delenv(name)
    keep_hub_token()
    assert os.environ.pop(name) == "1"
    monkeypatch.setenv("RAHF_OWNER", "1")
    keep_hub_token()
    assert state.folders_allowed() and name not in os.environ
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    assert not state.folders_allowed()


def kept(run, steps, of):
    """Make it a run that was stopped and kept: what its folder then holds."""
    config = RunConfig(model="demo", pairs="demo")
    config.to_yaml(run.path / "config.yaml")
    run.write_status(state="stopped", how="keep", partial={"steps": steps, "of": of}, result=None)
    header = {"made_of": json.dumps({"partial": {"steps": steps, "of": of}})}
    run.adapter.mkdir(exist_ok=True)
    save_file({"w": torch.zeros(1)}, run.adapter / "adapter_model.safetensors", metadata=header)
    chosen = {"method": "scit", "layers": [3], "alpha": 0.7, "relative_strength": {"3": 0.26}, "n_blocks": 8}
    chosen |= {"pairs": {"instruct": 9, "fit": 9, "held_out": 9}, "config": config.to_dict(), "versions": {}}
    (run.path / "chosen.json").write_text(json.dumps(chosen))


def test_a_run_that_was_stopped_and_kept_can_be_compared_and_exported(anns, monkeypatch):
    monkeypatch.setattr(context, "warm_up", lambda: None)
    kept(anns, 3, 9)
    page = frame.build()  # noqa: F811
    handlers = [
        function.fn for function in page.fns.values() if getattr(function.fn, "serves", "") == "workbench.ui.frame"
    ]
    opens = next(handler for handler in handlers if handler.__name__ == "open_step")
    state.change(ANN, run=anns.id, step="align", picked=[3])
    assert "Base and ANNS-SECRET, side by side" in told(opens(gr.EventData(None, {"step": "compare"}), ANN))
    shown = told(opens(gr.EventData(None, {"step": "export"}), ANN))
    assert "the adapter of 3 of 9 steps, not judged" in shown and "A LoRA adapter of 3 of 9 steps" in shown


def test_runs_beside_each_other_are_told_in_words_and_with_intervals(anns):
    aligned = {"preferred": 0.5, "preferred_low": 0.4, "preferred_high": 0.6, "kl_from_base": 1.0}
    made = []
    for method, result in (("dual", None), ("scit", {"held_out": {"aligned": aligned}, "alpha": 0.7231})):
        made.append(create("align", RunConfig(method=method, layers=(4, 6)).to_dict(), owner=BOB))
        made[-1].write_status(state="finished" if result else "stopped", layers=[4, 6], result=result, seconds=125.0)
    found = runs_view.beside(made)
    assert ["Method", "Dual", "SCIT"] in found["settings"]
    assert found["figures"] == [
        ["Preferred answers, share", "\N{EN DASH}", "0.50 [0.40, 0.60]"],
        ["KL from base, nats", "\N{EN DASH}", "1.00"],
        ["Alpha", "\N{EN DASH}", "0.723"],
        ["Time taken", "2 min 05 s", "2 min 05 s"],
    ]
    chart = runs_view.overlay("loss", [[[0, 1.0], [20, 0.5]], [[0, 1.0], [200, 0.4]]], ["short", "long"])
    short, long = chart["labels"]
    assert short["x"] < 20 and "side" not in short and (long["x"], long["side"]) == (100.0, "r")


def test_a_run_in_the_bin_keeps_its_name_and_its_way_back_stands_in_the_heading(anns):
    mine = create("align", {"method": "dual", "model": "demo", "pairs": "demo", "layers": [4, 6]}, owner=BOB)
    mine.write_status(state="stopped", layers=[4, 6])
    state.change(BOB, run=mine.id, step="align", picked=[3])
    runs_panel.delete(BOB, mine)
    head, _, live = (json.loads(value) for value in step_align.drawn(BOB)[0])
    assert head["sub"].startswith("dual-4-6 is in the bin.") and head["actions"][0]["label"] == "Take back dual-4-6"
    assert live["progress"]["heading"] == "Nothing has run yet"  # Bob's only one
    shown = json.loads(runs_panel.drawn(BOB)[0])
    assert shown["undo"]["text"] == "dual-4-6 is in the bin." and shown["bin"][0]["name"].startswith("dual-4-6, ")
    assert runs_panel.last_deleted(ANN) is None
    runs_panel.restore(BOB, runs_panel.last_deleted(BOB).id)
    assert mine.path.exists() and "actions" in json.loads(step_align.drawn(BOB)[0][0])


def test_what_is_deleted_on_the_page_can_be_taken_back_by_whoever_may(anns):
    terminals = create("align", {})
    runs_panel.delete(BOB, terminals)
    assert json.loads(runs_panel.drawn(BOB)[0])["undo"]["run"] == terminals.id
    runs_panel.restore(BOB, terminals.id)
    assert terminals.path.exists()
    runs_panel.delete(ANN, anns)
    assert json.loads(runs_panel.drawn(BOB)[0])["bin"] == []
    with pytest.raises(UserError, match="no longer in the bin"):
        runs_panel.restore(BOB, anns.id)
    runs_panel.restore(ANN, anns.id)


def test_a_waiting_run_says_when_it_starts():
    status = create("align", {"method": "dual"}).status() | {"queue": {"position": 2, "of": 3, "seconds": 75.0}}
    row = runs_view.row(status, False, False)
    assert row["words"] == "Waiting, place 2 of 3, starts in about 1 min 15 s" and row["sooner"] and row["later"]
