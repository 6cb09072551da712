"""Step 4 in a browser: a file of prompts to four columns, blind votes by keys, the votes as pairs in step 1; a chat; two
visitors at once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import ROOT, browser, overflow, page, server  # noqa: F401

PROMPTS = ["Which planet is closest to the sun?", "What do bees make?", "Is <b>ice</b> hot, or cold?"]


@pytest.fixture(scope="module")
def aligned(server, tmp_path_factory):  # noqa: F811
    """A finished run on the demo model that every visitor at home may see: an adapter of random weights, a direction to
    steer along, and captured states. Made in a process of its own, as runs are."""
    code = """
import json, torch
from safetensors.torch import save_file
from workbench.models import load_model
from workbench.pairs import load_pairs
from workbench.rahf.adapters import add_adapter, save_adapter
from workbench.rahf.config import RunConfig
from workbench.representations.capture import capture
from workbench.runs import store
config = RunConfig()
run = store.create("align", config.to_dict())
loaded = load_model("demo")
acts = capture(loaded, load_pairs("demo").select(list(range(40))))
acts.save(run.path / "activations.safetensors")
add_adapter(loaded, "aligned", config, 6, seed=0)
with torch.no_grad():
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            weight.normal_(0, 0.15, generator=torch.Generator().manual_seed(1))
save_adapter(loaded, "aligned", run.adapter)
save_file({"4": torch.randn(loaded.width, generator=torch.Generator().manual_seed(2))}, run.path / "steering.safetensors")
run.write_status(state="finished", layers=[4], alpha=0.5, result={"alpha": 0.5, "relative_strength": {"4": 0.2}})
print(run.id)
"""
    import os

    environment = os.environ | {"RAHF_RUNS": str(server.runs)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.split()[-1]
    yield run_id
    shutil.rmtree(server.runs / run_id, ignore_errors=True)


def open_compare(page):  # noqa: F811
    page.get_by_role("button", name="Start with the demo").click()
    page.locator('#rw-steps a[data-step="compare"]').click()
    expect(page.locator("#rw-answers article")).to_have_count(2)
    page.get_by_text("Sampling: seed").click()
    page.get_by_label("Longest answer, tokens").fill("10")
    page.get_by_label("Longest answer, tokens").press("Tab")
    expect(page.get_by_text("up to 10 tokens")).to_be_visible()


def ask(page, text):  # noqa: F811
    page.get_by_placeholder("Ask all columns something").fill(text)
    page.locator("#rw-ask-both").click()
    expect(page.locator("#rw-answers .facts").first).to_contain_text("seed")
    expect(page.locator("#rw-ask-both")).to_be_visible()


def votes_of(server, run_id):  # noqa: F811
    path = server.runs / run_id / "votes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_from_a_file_of_prompts_by_four_columns_and_votes_to_pairs_in_step_1(page, server, aligned, tmp_path):  # noqa: F811
    open_compare(page)
    for count in (3, 4):
        page.get_by_role("button", name="Add column").click()
        expect(page.locator("#rw-answers article")).to_have_count(count)
    (tmp_path / "prompts.csv").write_text("prompt\n" + "\n".join(f'"{text}"' for text in PROMPTS))
    page.locator("#rw-many-panel input[type=file]").set_input_files(tmp_path / "prompts.csv")
    rows = page.locator("#rw-many tbody tr")
    expect(rows).to_have_count(3)
    expect(page.locator("#rw-take-answers")).to_be_visible()
    expect(rows.nth(2)).to_contain_text("Is <b>ice</b> hot, or cold?")
    expect(rows.nth(0).locator(".saidcell")).to_have_count(4)
    with page.expect_download() as arriving:
        page.locator("#rw-take-answers").click()
    saved = [json.loads(line) for line in Path(arriving.value.path()).read_text().splitlines()]
    assert [row["prompt"] for row in saved] == PROMPTS and len(saved[0]["answers"]) == 4
    rows.nth(1).click()
    expect(page.locator("#rw-answers .tk").first).to_be_visible()
    expect(page.locator("#rw-prompt textarea")).to_have_value(PROMPTS[1])

    page.get_by_role("button", name="Prepare answers to vote on").click()
    expect(page.locator("#rw-blind .blindrows")).not_to_contain_text(re.compile("steered|SCIT|p\\+"))
    page.locator("#rw-blind h2").click()
    for count, key in enumerate(("ArrowLeft", "x", "b"), 1):
        expect(page.locator("#rw-blind").get_by_role("button", name="Tie")).to_be_enabled()
        page.keyboard.press(key)
        expect(page.locator("#rw-blind h3")).to_contain_text(f"of {count} vote")
    meant = [vote["vote"] for vote in votes_of(server, aligned)]
    assert meant[1] == "neither" and {meant[0], meant[2]} <= {"base", "aligned"}
    expect(page.locator("#rw-blind")).to_contain_text("1 both bad")
    with page.expect_download() as arriving:
        page.locator("#rw-take-votes").click()
    path = tmp_path / arriving.value.suggested_filename
    arriving.value.save_as(path)
    pairs = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(pairs) == 2 and all(set(pair) == {"prompt", "chosen", "rejected"} for pair in pairs)
    for vote, pair in zip((votes_of(server, aligned)[i] for i in (0, 2)), pairs, strict=True):
        assert (pair["chosen"] == vote["aligned"]) == (vote["vote"] == "aligned")

    page.locator('#rw-steps a[data-step="pairs"]').click()
    page.locator("#rw-source").get_by_role("radio", name="Upload").check()
    page.locator("#rw-source-file input[type=file]").set_input_files(path)
    expect(page.locator("#rw-context")).to_contain_text(f"{path.name}, 2")


def test_a_chat_with_a_reload_in_it(page, aligned):  # noqa: F811
    open_compare(page)
    ask(page, "What <img src=x onerror=alert(1)> is it?")
    expect(page.locator("#rw-answers .ends2").nth(1)).to_contain_text("Base")
    expect(page.locator("#rw-answers img")).to_have_count(0)
    first = page.locator("#rw-answers .say").nth(0).inner_text()
    page.get_by_role("radio", name="Log-probability").check()
    page.locator("#rw-answers .ans.aligned .tk").first.hover()
    expect(page.locator("#rw-answers .ans.aligned .tokinfo")).to_contain_text("under Base")
    page.locator("#rw-reply").fill("And then?")
    page.locator("#rw-reply").press("Enter")
    expect(page.locator("#rw-answers .past li")).to_have_count(1)
    expect(page.locator("#rw-answers .you.now")).to_have_text("And then?")
    expect(page.locator("#rw-answers .past .was").nth(0)).to_have_text(first)
    expect(page.get_by_role("button", name="Same seed")).to_be_enabled()
    said = page.locator("#rw-answers .say").all_inner_texts()
    page.reload()
    expect(page.locator("#rw-answers .you.now")).to_have_text("And then?")
    assert page.locator("#rw-answers .say").all_inner_texts() == said
    page.get_by_role("button", name="Next seed").click()
    expect(page.locator("#rw-answers .facts").first).to_contain_text("seed 8")
    expect(page.get_by_role("button", name="Next seed")).to_be_enabled()
    expect(page.locator("#rw-answers .past .was").nth(0)).to_have_text(first)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("#rw-answers .say").first).to_have_text("The answer will stand here.")
    page.get_by_text("Sampling: seed").click()
    page.get_by_label("Top-p").fill("7")
    page.get_by_label("Top-p").press("Tab")
    expect(page.get_by_text("top-p 7")).to_be_visible()
    page.get_by_placeholder("Ask all columns something").fill("hi")
    page.locator("#rw-ask-both").click()
    expect(page.locator("#rw-error [role=alert]")).to_contain_text("Top-p must be above 0 and at most 1")
    for width in (390, 800, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        assert overflow(page) <= 0


def test_two_people_compare_at_once_and_neither_sees_the_other(page, browser, server, aligned):  # noqa: F811
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    other = context.new_page()
    other.goto(server.url)
    other.wait_for_selector("#rw-steps a")
    secrets = {page: "The first visitor's question?", other: "What the second one asks!"}
    for tab in secrets:
        open_compare(tab)
        tab.get_by_placeholder("Ask all columns something").fill(secrets[tab])
    for tab in secrets:
        tab.locator("#rw-ask-both").click()
    for tab, secret in secrets.items():
        expect(tab.locator("#rw-answers .ends2").nth(1)).to_contain_text("Base")
        tab.reload()
        expect(tab.get_by_placeholder("Ask all columns something")).to_have_value(secret)
        expect(tab.locator("#rw-answers .facts").first).to_contain_text("seed 7")
        others = next(text for text in secrets.values() if text != secret)
        assert others not in tab.content()
    context.close()
