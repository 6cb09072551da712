"""Step 5 in a browser: merging, GGUF, pushing, sharing; and that a shared page is nobody's but its maker's to take back."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import browser, overflow, page, start_server, stop_server  # noqa: F401
from tests.tiny import saved, tiny_model
from workbench.errors import UserError
from workbench.export import report
from workbench.export.comparison import checked, comparison_page
from workbench.rahf.config import RunConfig
from workbench.runs import create, worker
from workbench.ui import export_share, export_view, making, quota, sharing, state, step_export

pytestmark = pytest.mark.timeout(900)  # the fixture makes a run and starts a server
ANN, BOB = "a" * 32, "b" * 32
TOKEN = "hf_do_not_tell_anybody"
HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'> {{7*7}}"
SHORT = {
    "instruct_steps": 2, "align_steps": 3, "evaluate_every": 1, "instruct_batch": 4, "align_batch": 4, "evaluate_prompts": 4,
    "max_new_tokens": 5, "force": True, "layers": [1], "alpha": 1.0, "device": "cpu", "judge": "none", "method": "scit",
}  # fmt: skip
STAND_IN = """
import argparse, fnmatch, hashlib, json, os
import huggingface_hub

class HfApi:
    def __init__(self, token=None):
        self.token = token
    def create_repo(self, repository, private, exist_ok):
        if repository.endswith("bad"):
            raise RuntimeError("401 for token " + self.token)
        self.private = private
    def repo_info(self, repository):
        return argparse.Namespace(private=self.private and not repository.endswith("known"))
    def upload_folder(self, repo_id, folder_path, ignore_patterns):
        told = {"repository": repo_id, "private": self.private, "files": [name for name in sorted(os.listdir(folder_path))
                           if not any(fnmatch.fnmatch(name, one) for one in ignore_patterns)],
                "token": hashlib.sha256(self.token.encode()).hexdigest(), "left_out": ignore_patterns}
        with open(os.environ["FAKE_HUB"], "w") as file:
            json.dump(told, file)

huggingface_hub.HfApi = HfApi
"""


def make_run(root: Path):
    """A finished run on a tiny model, whose held-out prompts attack the page."""
    before = os.environ.get("RAHF_RUNS")
    os.environ["RAHF_RUNS"] = str(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        config = RunConfig.from_dict(saved(root.parent, tiny_model()) | SHORT).to_dict()
        run = create("align", config)
        status = worker.execute(run)
        assert status["state"] == "finished", status["error"]
    finally:
        os.environ["RAHF_RUNS"] = before or ""
    rows = [json.loads(line) for line in (run.path / "samples.jsonl").read_text().splitlines()]
    rows[0] |= {"prompt": HOSTILE, "aligned": HOSTILE}
    (run.path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator:
    """The page, with one finished run of this machine and a stand-in for the Hub."""
    folder = tmp_path_factory.mktemp("export-page")
    (folder / "path").mkdir()
    (folder / "path" / "sitecustomize.py").write_text(STAND_IN)
    run = make_run(folder / "runs")
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": str(folder / "path"), "FAKE_HUB": str(folder / "hub.json")}
    try:
        running = start_server(folder)
    finally:
        os.environ.clear()
        os.environ.update(before)
    running.run, running.hub = run, folder / "hub.json"
    yield running
    stop_server(running)


@pytest.fixture
def step(page):  # noqa: F811
    page.locator('#rw-steps [data-step="export"]').click()
    expect(page.locator("#rw-card")).to_be_visible()
    return page


def names_in(download) -> set[str]:
    with zipfile.ZipFile(download.path()) as archive:
        return set(archive.namelist())


def test_merge_and_gguf_are_made_kept_over_a_reload_and_downloaded(step, server):
    for kind, file in (("merged", "model.safetensors"), ("gguf", "model.gguf")):
        if kind == "gguf":
            pytest.importorskip("gguf")
        step.locator(f"#rw-make-{kind}").click()
        button = step.locator(f"#rw-take-{kind}")
        expect(button).to_be_visible()
        step.reload()
        expect(button).to_be_visible()
        expect(step.locator(f"#rw-make-{kind}")).to_be_hidden()
        with step.expect_download() as saving:
            button.click()
        assert {file, "README.md", "report.html", "figures/held-out.svg"} <= names_in(saving.value)
    for kind, file in (
        ("adapter", "adapter_config.json"),
        ("vectors", "vectors.safetensors"),
        ("notebook", "repeat.ipynb"),
    ):
        with step.expect_download() as saving:
            step.locator(f"#rw-take-{kind}").click()
        assert file in names_in(saving.value)
    with step.expect_download() as saving:
        step.locator("#rw-everything").click()
    assert {"merged/model.safetensors", "adapter/README.md", "notebook/repeat.py"} <= names_in(saving.value)
    for width in (1440, 390):
        step.set_viewport_size({"width": width, "height": 900})
        assert overflow(step) <= 0


def test_push_uses_the_token_once_and_leaves_it_nowhere(step, server):
    push, said = step.locator("#rw-push"), step.locator("#rw-pushed")
    expect(push).to_be_disabled()
    for repository, told in (
        ("me/bad", "failed (401 for token …)"),
        ("me/known", "me/known exists already and is public"),
        ("me/mine", "Pushed to me/mine."),
    ):
        step.get_by_label("Repository").fill(repository)
        step.get_by_label("Token").fill(TOKEN)
        expect(push).to_be_enabled()
        push.click()
        expect(said if repository == "me/mine" else step.locator("#rw-error")).to_contain_text(told)
        expect(step.get_by_label("Token")).to_have_value("")
        expect(push).to_be_disabled()
    found = json.loads(server.hub.read_text())
    assert found["repository"] == "me/mine" and found["private"] is True and "pairs.jsonl" in found["left_out"]
    assert found["token"] == hashlib.sha256(TOKEN.encode()).hexdigest()
    assert found["files"] == ["README.md", "adapter_config.json", "adapter_model.safetensors", "figures", "result.json"]
    assert TOKEN not in step.content()
    for path in (server.log, *server.runs.rglob("*"), *(server.runs.parent / "gradio").rglob("*")):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_a_link_shows_what_was_chosen_runs_nothing_and_can_be_taken_back(step, server, browser):  # noqa: F811
    expect(step.locator("#rw-share-meaning")).to_contain_text("8 held-out prompts")
    step.locator("#rw-share-title input").fill("Look at <b>this</b>")
    step.get_by_label("Settings").uncheck()
    expect(step.locator("#rw-share-meaning")).not_to_contain_text("settings")
    step.locator("#rw-share-make").click()
    link = step.locator("#rw-share-links a").first
    expect(link).to_have_text("Look at <b>this</b>")
    url = link.get_attribute("href")
    context = browser.new_context(viewport={"width": 390, "height": 844})  # somebody else
    tab, trouble = context.new_page(), []
    tab.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    answer = tab.goto(url)
    assert answer.status == 200 and answer.headers["x-robots-tag"] == "noindex, nofollow"
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules and "frame-ancestors 'none'" in rules and "unsafe" not in rules
    expect(tab.locator("h1")).to_have_text("Look at <b>this</b>")
    expect(tab.locator(".ask").first.locator(".q")).to_have_text(HOSTILE)
    expect(tab.locator(".ask").first.locator(".ans").last).to_contain_text(HOSTILE)
    assert tab.evaluate("window.hit") is None and tab.locator("#settings").count() == 0
    assert tab.locator("#fig-held-out .narrow svg").is_visible() and overflow(tab) <= 0
    owner = next((server.runs / "workspaces").glob("*/shares/*.json")).parent.parent.name
    assert owner not in tab.content() and server.run.id not in tab.content() and str(server.runs) not in tab.content()
    assert not trouble, trouble

    share_id = url.rpartition("/")[2]
    assert "no such link of yours" in post(server, "rw-share-links", {"action": "revoke", "share": share_id})
    assert tab.reload().status == 200
    step.reload()
    step.get_by_role("button", name="Take back").click()
    expect(step.locator("#rw-share-links")).to_contain_text("No links yet.")
    assert tab.reload().status == 404
    context.close()


def post(server, view: str, payload: dict) -> str:
    """What the server answers somebody else who sends this to a part of the page without any page."""
    config = json.loads(urllib.request.urlopen(f"{server.url}/config").read())
    kinds = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    entry = next(one for one in config["dependencies"] if any(kinds.get(at) == view for at, _ in one["targets"]))
    session, data = "s" + os.urandom(5).hex(), [BOB, *[None] * (len(entry["inputs"]) - 1)]
    body = {"data": data, "fn_index": entry["id"], "session_hash": session, "event_data": payload}
    head = {"Content-Type": "application/json"}
    urllib.request.urlopen(
        urllib.request.Request(f"{server.url}/gradio_api/queue/join", json.dumps(body).encode(), head)
    ).read()
    answer = ""
    with urllib.request.urlopen(f"{server.url}/gradio_api/queue/data?session_hash={session}", timeout=60) as lines:
        for line in lines:
            answer += line.decode()
            if "process_completed" in answer:
                return answer
    return answer


def test_no_path_leads_out_of_the_shared_pages(server):
    for name in ("..%2Fworkspaces", "..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "a" * 22, "x/../../run.json", "."):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.url}/share/{name}")
        assert caught.value.code in (404, 405), name
    for odd in ("../" + "a" * 19, "a" * 21 + "/", "", None, 7, "\u0430" * 22):
        assert sharing.page_of(odd) is None


def test_the_report_answers_pointer_keys_and_sliders_and_opens_offline(server, browser, tmp_path):  # noqa: F811
    (tmp_path / "report.html").write_text(report(server.run.path), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True, color_scheme="dark")
    tab, trouble = context.new_page(), []
    tab.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.goto((tmp_path / "report.html").as_uri())
    tip, plot = tab.locator("#tip"), tab.locator("#fig-left .wide")
    plot.scroll_into_view_if_needed()
    plot.hover()
    expect(tip).to_contain_text("Block 1")
    plot.focus()
    plot.press("End")
    expect(tip).to_contain_text("Step of stage 3 3")
    plot.press("Escape")
    expect(tip).to_be_hidden()
    looks = tab.locator("#fig-held-out")
    looks.get_by_role("button", name="Base").click()
    expect(looks.locator(".wide .sr.c-base")).to_be_hidden()
    expect(looks.locator(".wide .sr.c-aligned")).to_be_visible()
    expect(tab.locator("#look-said")).to_contain_text("At the end")
    expect(tab.locator(".ask .q").first).to_have_text(HOSTILE)
    tab.locator("#look").focus()
    tab.keyboard.press("Home")
    expect(tab.locator("#look-said")).to_have_text("Step 0")
    assert tab.evaluate("window.hit") is None and not trouble, trouble
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
    tab.locator("#theme").click()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.set_viewport_size({"width": 390, "height": 844})
    assert overflow(tab) <= 0
    context.close()


# --- without a browser

PAYLOAD = {
    "columns": [{"name": "A"}, {"name": "B"}],
    "rows": [{"prompt": "p", "answers": [{"text": "1"}, {"text": "2"}]}],
}


def test_a_link_is_its_maker_s_ends_and_counts(runs_root, monkeypatch):
    path = sharing.share(ANN, PAYLOAD | {"title": "mine"})
    share_id = path.rpartition("/")[2]
    assert len(share_id) == 22 and "mine" in sharing.page_of(share_id)
    assert [one["path"] for one in sharing.shares_of(ANN)] == [path] and sharing.shares_of(BOB) == []
    assert quota.used(ANN) > 0 and quota.used(BOB) == 0
    with pytest.raises(UserError, match="no such link of yours"):
        sharing.revoke(BOB, share_id)
    with pytest.raises(UserError, match="no such link of yours"):
        sharing.revoke(ANN, f"../shares/{share_id}")
    assert sharing.page_of(share_id)
    now = time.time()
    monkeypatch.setattr(sharing.time, "time", lambda: now + (sharing.DAYS + 1) * 86_400)
    assert sharing.page_of(share_id) is None and sharing.shares_of(ANN) == []
    assert not list((runs_root / "shares").iterdir()) and not list(
        (runs_root / "workspaces" / ANN / "shares").iterdir()
    )
    monkeypatch.undo()
    monkeypatch.setenv("RAHF_RUNS", str(runs_root))
    monkeypatch.setenv("RAHF_QUOTA", "10")
    with pytest.raises(UserError, match="each visitor has here"):
        sharing.share(ANN, PAYLOAD)
    with pytest.raises(UserError, match="lost its place"):
        sharing.share("../../x", PAYLOAD)


def test_only_a_comparison_is_shared_and_no_more_than_fits(runs_root):
    for odd in (None, [], {}, {"columns": [], "rows": []}, PAYLOAD | {"rows": [{"prompt": "p", "answers": []}]}):
        with pytest.raises(UserError, match="cannot be shared"):
            checked(odd)
    many = {
        "columns": PAYLOAD["columns"],
        "rows": [{"prompt": "x" * 20_000, "answers": [{"text": "y" * 20_000}] * 2}] * 60,
    }
    with pytest.raises(UserError, match="too long"):
        sharing.share(ANN, many)
    told = comparison_page(PAYLOAD | {"title": HOSTILE, "votes": [[HOSTILE, HOSTILE]], "settings": [[HOSTILE, 1]],
                                      "table": {"head": [HOSTILE], "rows": [[HOSTILE]]}}, 0.0)  # fmt: skip
    assert "window.hit = 1</script>" not in told and "<img" not in told


def test_a_run_that_was_not_judged_has_nothing_to_share_and_says_so(server, tmp_path):
    class Bare:
        path = tmp_path

    panel = export_share.Panel.__new__(export_share.Panel)
    panel.chosen = lambda visitor: Bare
    assert "stopped before it was judged" in panel.mean(ANN, "", "12", [])
    with pytest.raises(UserError, match="stopped before it was judged"):
        export_share.comparison_of(Bare, ANN, "", "12", [])
    for count, parts in (("7", []), ("12", ["everything"]), ("12", None)):
        with pytest.raises(UserError, match="from the list"):
            export_share.comparison_of(server.run, ANN, "", count, parts)


def test_what_takes_a_while_can_be_cancelled_and_leaves_nothing(server, monkeypatch):
    """The press that starts it, the same press that cancels it, and a failure told in a sentence."""
    monkeypatch.setenv("RAHF_RUNS", str(server.runs))
    begun, ended = threading.Event(), threading.Event()

    def slow(folder, to, *, kinds, scores, progress):
        to.mkdir()
        begun.set()
        try:
            while True:
                progress("save", 1, 4, "Writing GGUF")
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr("workbench.export.export", slow)
    run, home = server.run, server.run.path / "exports"
    kept = sorted(home.iterdir()) if home.exists() else []
    making.start(ANN, run.id, "cancelled", lambda progress: step_export.write(run, "cancelled", None, progress))
    assert begun.wait(60)
    now = making.look(run.id, "cancelled")
    assert now.working and making.working(run.id)
    making.cancel(run.id, "cancelled")
    assert not making.working(run.id) and ended.wait(60) and now.done.wait(60)
    assert sorted(home.iterdir()) == kept and now.error == ""

    def fails(progress):
        raise UserError("No room: free some.")

    making.start(ANN, run.id, "gguf", fails)
    assert making.look(run.id, "gguf").done.wait(60)
    state.open_workspace(ANN)
    monkeypatch.setattr(export_view, "made_of", lambda run, kind: None)
    assert export_view.takes(run, run.status(), ANN)["gguf"]["trouble"] == "No room: free some."


def test_the_command_line_writes_several_kinds_and_tells_them(server, tmp_path, capfd):
    from workbench.cli import main

    run = str(server.run.path)
    assert main(["export", run, "--to", str(tmp_path / "out"), "--kind", "vectors", "report", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert {"vectors/vectors.safetensors", "vectors/README.md", "report/report.html"} <= set(told["files"])
    assert told["path"] == str(tmp_path / "out") and told["bytes"] > 0
    assert main(["export", run, "--to", str(tmp_path / "x"), "--kind", "exe"]) == 2
    assert "invalid choice" in capfd.readouterr().err
