"""Steps 3 to 5 in a browser: start a run, reload in its middle, compare, vote, take the adapter away."""

from __future__ import annotations

import json
import os
import zipfile

import pytest
from playwright.sync_api import expect

from tests.browser import browser, overflow, page, server  # noqa: F401

SMALL = {  # a run of seconds, through all three stages
    "Steps of stage 1": "12",
    "Batch of stage 1": "8",
    "Steps of stage 3": "24",
    "Batch of stage 3": "8",
    "Prompts for calibration": "4",
    "Steps between looks": "8",
    "Prompts a look": "4",
    "Held-out pairs": "16",
    "Longest answer, tokens": "12",
}


def workspace_file(server):  # noqa: F811
    """The workspace of the visitor who did something last."""
    return max((server.runs / "workspaces").glob("*/workspace.json"), key=os.path.getmtime)


@pytest.fixture
def ready(page, server):  # noqa: F811
    """A visitor with the demo and picked blocks, in step 3."""
    page.get_by_role("button", name="Start with the demo").click()
    expect(page.locator("#rw-context")).to_contain_text("Pairs")
    page.locator('#rw-steps [data-step="layers"]').wait_for()
    path = workspace_file(server)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"picked": [2, 3], "step": "align"}))
    page.reload()
    expect(page.locator("#rw-settings")).to_be_visible()
    return page


def unfold(page):  # noqa: F811
    page.locator("#rw-settings details").evaluate_all("folds => folds.forEach(fold => { fold.open = true; })")


def fill(page, label, value):  # noqa: F811
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Tab")


def test_from_start_to_adapter_with_a_reload_in_the_middle(ready, server, tmp_path):  # noqa: F811
    page = ready  # noqa: F811
    start = page.get_by_role("button", name="Start SCIT")
    expect(start).to_be_enabled()
    unfold(page)

    fill(page, "Steps of stage 3", "plenty")
    expect(page.locator("#rw-bad-align_steps")).to_contain_text("Steps of stage 3 must be a whole number, not 'plenty'")
    expect(start).to_be_disabled()
    expect(page.locator("#rw-why")).to_contain_text("Start is off")
    for label, value in SMALL.items():
        fill(page, label, value)
    page.get_by_label("Go on whatever stage 1 learned").check()
    expect(start).to_be_enabled()

    start.click()
    expect(page.locator("#rw-settings h2")).to_have_text("Settings of this run")
    expect(page.get_by_label("Steps of stage 3", exact=True)).to_have_value("24")
    expect(page.get_by_label("Steps of stage 3", exact=True)).to_be_disabled()
    page.reload()
    expect(page.locator("#rw-settings h2")).to_have_text("Settings of this run")
    expect(page.locator("#rw-progress h2")).to_contain_text("Finished in", timeout=300_000)
    expect(page.locator("#rw-live .plot path").first).to_be_attached()
    expect(page.locator("#rw-samples tbody tr").first).to_be_visible()

    page.get_by_role("button", name="Compare answers").click()
    compare(page)
    page.locator("#rw-compare-head").get_by_role("button", name="Export").click()
    export(page, tmp_path)
    assert overflow(page) <= 0
    page.set_viewport_size({"width": 390, "height": 844})
    assert overflow(page) <= 0


def compare(page):  # noqa: F811
    page.get_by_placeholder("Ask all columns something").fill("What is <b>two</b> plus three?")
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator("#rw-answers .ans.aligned .facts")).to_contain_text("seed 7")
    expect(page.get_by_role("button", name="Ask both")).to_be_visible()
    expect(page.locator("#rw-answers .ans.aligned .ends2")).to_contain_text("Base")  # read, too
    expect(page.locator("#rw-answers .say b")).to_have_count(0)  # no text became markup

    page.get_by_role("button", name="Six held-out prompts").click()
    expect(page.locator("#rw-many tbody tr")).to_have_count(6)
    expect(page.get_by_role("button", name="Six other held-out prompts")).to_be_visible()

    page.get_by_role("button", name="Prepare answers to vote on").click()
    expect(page.locator("#rw-blind").get_by_role("button", name="Tie")).to_be_enabled()
    page.locator("#rw-blind h2").click()
    page.keyboard.press("a")
    expect(page.locator("#rw-blind")).to_contain_text("of 1 vote for")
    expect(page.locator("#rw-heldout tbody tr")).to_have_count(2)


def export(page, tmp_path):  # noqa: F811
    with page.expect_download() as arriving:
        page.locator("#rw-take-adapter").click()
    path = tmp_path / arriving.value.suggested_filename
    arriving.value.save_as(path)
    assert path.suffix == ".zip"
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= set(zipfile.ZipFile(path).namelist())
    with page.expect_download() as arriving:
        page.locator("#rw-take-pairs").click()
    arriving.value.save_as(tmp_path / "pairs.zip")
    names = set(zipfile.ZipFile(tmp_path / "pairs.zip").namelist())
    assert names == {"instruct.jsonl", "fit.jsonl", "held_out.jsonl", "votes.jsonl"}
    expect(page.locator("#rw-push")).to_be_disabled()
    page.get_by_label("Token").fill("hf_not_a_token")
    expect(page.locator("#rw-push")).to_be_enabled()


def test_a_run_is_stopped_and_resumed(ready):
    page = ready  # noqa: F811
    unfold(page)
    for label, value in (SMALL | {"Steps of stage 1": "4000"}).items():
        fill(page, label, value)
    page.get_by_role("radio", name="Dual").check()
    page.get_by_role("button", name="Start Dual").click()
    expect(page.locator("#rw-progress")).to_contain_text("of 8000")  # of both models
    page.locator("#rw-align-head").get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#rw-align-head h1")).to_contain_text("is paused")
    page.get_by_role("button", name="Copy to new").click()
    expect(page.locator("#rw-settings h2")).to_have_text("New run")
    expect(page.get_by_label("Steps of stage 1", exact=True)).to_have_value("4000")
    page.locator("#rw-align-head").get_by_role("button", name="Resume").click()
    expect(page.locator("#rw-progress")).to_contain_text("of 8000")
    page.locator("#rw-align-head").get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#rw-align-head h1")).to_contain_text("is paused")
