"""Step 2's laboratory in a browser: what is read and where, shortcuts called out, pairs token by token, undo, and what
an alignment moved."""

from __future__ import annotations

import json
import random
import re

import pytest
from playwright.sync_api import expect

from tests.browser import MOST, browser, outside, overflow, server  # noqa: F401

WORDS = re.findall("[a-z]+", "the a of and to in it is was that for on as with at by from or an be this are")
HEBREW = "מה השעה עכשיו?"
SLIDE = """layer => {
  const slider = document.querySelector('#rw-layer');
  slider.value = layer;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
}"""
CLASSES = "() => [...document.querySelectorAll('#rw-pair .rw-read .tk')].map(e => e.className).join()"


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    """Ninety pairs whose sides differ in nothing but their length."""
    rng = random.Random(5)
    path = tmp_path_factory.mktemp("pairs") / "length-only.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for i in range(90):
            prompt = HEBREW if i == 0 else f"question number {i}?"
            long, short = (" ".join(rng.choices(WORDS, k=rng.randint(*size))) for size in ((16, 22), (4, 7)))
            file.write(json.dumps({"prompt": prompt, "chosen": long, "rejected": short}) + "\n")
    return path


@pytest.fixture(scope="module")
def aligned(server):  # noqa: F811
    """A finished alignment of the demo model that every visitor may see: an adapter of random weights."""
    import torch

    from workbench.models import load_model
    from workbench.rahf.adapters import add_adapter, save_adapter
    from workbench.rahf.config import RunConfig
    from workbench.runs import store

    loaded = load_model("demo", device="cpu")
    add_adapter(loaded, "aligned", RunConfig(lora_rank=2), depth=6, seed=0)
    torch.manual_seed(0)
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.02)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAHF_RUNS", str(server.runs))
        run = store.create("align", {"method": "scit", "model": "demo", "pairs": "demo", "layers": [3, 5]})
        save_adapter(loaded, "aligned", run.adapter)
        run.write_status(state="finished", ended=run.created)
    return run


@pytest.fixture(scope="module")
def visitor(browser, server, pairs_file):  # noqa: F811
    """What the browser keeps of a visitor with the pairs, whose capture is finished."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    tab.goto(server.url)
    inputs = tab.locator("#rw-source-file input[type=file], #rw-empty input[type=file]")
    inputs.first.set_input_files(str(pairs_file))
    tab.get_by_role("button", name="Look at the layers").click(timeout=MOST)
    expect(tab.locator(".rw-readfold summary")).to_contain_text("Mean of answer, block output")
    tab.get_by_role("button", name="Capture all blocks").click()
    expect(tab.locator("#rw-layers-left")).to_be_visible()
    expect(tab.locator(".rw-plot[data-drawn]")).to_be_visible()
    kept = context.storage_state()
    context.close()
    return kept


@pytest.fixture
def captured(browser, server, visitor):  # noqa: F811
    """The visitor's page in step 2. Fails the test if a script failed or anything but the server was asked for."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, storage_state=visitor)
    tab = context.new_page()
    tab.set_default_timeout(MOST)
    trouble: list[str] = []
    tab.on("pageerror", lambda error: trouble.append(f"script: {error}"))
    tab.on("request", lambda request: outside(request.url, server.url) and trouble.append(f"asked for {request.url}"))
    tab.goto(server.url)
    tab.locator('#rw-steps [data-step="layers"]').click()
    expect(tab.locator(".rw-plot[data-drawn]")).to_be_visible()
    yield tab
    context.close()
    assert not trouble, trouble


def test_the_laboratory(captured):
    tab = captured

    # A set that only length explains is called out under the title, and beside the block.
    expect(tab.locator("#rw-shortcut")).to_contain_text("Length alone")
    expect(tab.locator("#rw-controls h2")).to_contain_text("Answer length alone")
    for name in ("Answer length", "Bag of words", "Random weights", "Prompt only"):
        expect(tab.locator("#rw-controls .dots").get_by_text(name)).to_be_visible()
    tab.locator("#rw-controls summary").click()
    expect(tab.locator("#rw-controls tbody tr")).to_have_count(5)
    expect(tab.locator("#rw-controls tbody")).to_contain_text("this must be chance")

    # Every number has a meaning that the keyboard reaches.
    tab.get_by_role("button", name="Numbers", exact=True).click()
    expect(tab.locator("#rw-strip tbody tr")).to_have_count(8)
    for title, words in (("Probe AUC", "0.5 is guessing"), ("Silhouette", "no interval"), ("p", "random swaps")):
        tab.locator("#rw-strip").get_by_role("button", name=title, exact=True).focus()
        expect(tab.locator("#rw-strip .rw-meaning")).to_contain_text(words)
    tab.locator("#rw-strip").get_by_text("What do these numbers mean").click()
    expect(tab.locator("#rw-strip .rw-terms")).to_contain_text("Shortcuts")
    assert overflow(tab) <= 0

    # The open pair, token by token: all blocks' colours are there at once.
    pair = tab.locator("#rw-pair")
    expect(pair.locator(".rw-read .tk").first).to_be_visible()
    expect(pair.locator(".rw-read").first).to_have_attribute("dir", "auto")
    seen = set()
    for layer in (0, 7, 3):
        tab.evaluate(SLIDE, layer)
        expect(pair.locator(".rw-tokstate")).to_contain_text(f"block {layer}")
        seen.add(tab.evaluate(CLASSES))
    assert len(seen) == 3, "every block colours anew"
    first = pair.locator(".rw-read .tk").first
    first.focus()
    expect(pair.locator(".rw-toktip")).to_contain_text("at block 3")
    tab.keyboard.press("ArrowRight")
    expect(pair.locator(".rw-read .tk").nth(1)).to_be_focused()
    before = pair.locator("h2").inner_text()
    pair.get_by_role("button", name="Next pair").click()
    expect(pair.locator("h2")).not_to_have_text(before)
    expect(pair.locator(".rw-read .tk").first).to_be_visible()
    texts = pair.locator(".rw-read").first.evaluate("e => e.textContent.replace(/end$/, '').trim()")
    assert texts == tab.evaluate("rw.layers.pair.chosen"), "tokens spell the answer"

    # Colours off, and kept so.
    pair.get_by_label("Colour tokens by preference").uncheck()
    expect(pair.locator(".rw-read .tk")).to_have_count(0)

    # Dropped, and brought back.
    opened = pair.locator("h2").inner_text()
    tab.locator("#rw-pair-drop").click()
    expect(pair).to_contain_text("Dropped 1 pair; 89 are left.")
    expect(tab.get_by_text("1 pair fewer than when this was measured.")).to_be_visible()
    tab.locator("#rw-pair-undo").click()
    expect(pair).to_contain_text("Brought back; there are 90 again.")
    expect(tab.get_by_text("fewer than when this was measured.")).to_have_count(0)

    # Another reading is another capture; going back shows the first at once.
    tab.locator(".rw-readfold summary").click()
    tab.get_by_role("radio", name="MLP output").check()
    expect(tab.locator("#rw-capture")).to_be_visible()
    expect(tab.locator(".rw-readfold summary")).to_contain_text("Mean of answer, MLP output")
    tab.get_by_role("radio", name="Block output").check()
    expect(tab.locator(".rw-plot[data-drawn]")).to_be_visible()
    expect(tab.locator(".rw-choice .tag")).to_have_count(2)

    # A reload finds all of it.
    tab.reload()
    expect(tab.locator(".rw-plot[data-drawn]")).to_be_visible()
    expect(tab.locator("#rw-scatter h2")).to_contain_text("Block 3")
    expect(pair.locator("h2")).to_have_text(opened)
    expect(pair.get_by_label("Colour tokens by preference")).not_to_be_checked()
    expect(pair.locator(".rw-read .tk")).to_have_count(0)

    # Whatever is posted is answered by a sentence, and the page goes on.
    for sent, said in (
        ({"action": "read", "pooling": ["mean"], "site": "block"}, "no such way of reading"),
        ({"action": "open", "id": "1; drop"}, "no such pair"),
        ({"action": "drop", "ids": {"a": 1}}, "None of these pairs"),
        ({"action": "pick", "picked": [99]}, "Blocks are numbered 0 to 7"),
        ({"action": "move_choose", "run": "../../x"}, "no such finished run"),
        ({"action": ["undo"]}, "older than its server"),
        ({"action": "undo"}, "was not a drop"),
    ):
        tab.evaluate("sent => rw.layers.send(sent)", sent)
        expect(tab.locator("#rw-error")).to_contain_text(said)
    tab.evaluate("rw.layers.leave('x')")
    expect(tab.locator("#rw-error")).to_contain_text("None of these pairs")
    expect(tab.locator("#rw-strip button.blk")).to_have_count(8)

    # The pair in step 1's editor.
    chosen = tab.evaluate("rw.layers.pair.chosen")
    tab.locator("#rw-pair-edit-there").click()
    expect(tab.locator("#rw-edit-chosen")).to_have_value(chosen)


def test_what_an_alignment_moved(aligned, captured):
    tab = captured
    panel = tab.locator("#rw-moved")
    expect(panel.locator("h2")).to_have_text("What did scit-3-5 move, and where?")
    panel.get_by_role("button", name="Capture the aligned model").click()
    expect(panel).to_have_attribute("data-phase", "running")
    panel.get_by_role("button", name="Stop").click()
    expect(panel).to_have_attribute("data-phase", re.compile("stopped|ready"))
    if panel.get_attribute("data-phase") == "stopped":
        panel.get_by_role("button", name="Capture again").click()
    tab.reload()  # in its middle
    expect(panel).to_have_attribute("data-phase", "ready")

    # Bars for all blocks, those it was aimed at marked; the slider and a press on a bar move both pictures.
    expect(panel.locator(".mv")).to_have_count(8)
    assert panel.locator(".mv.target").evaluate_all("all => all.map(b => b.dataset.l)") == ["3", "5"]
    expect(panel.locator("h2")).to_contain_text(re.compile("moved"))
    tab.evaluate(SLIDE, 2)
    expect(panel).to_have_attribute("data-drawn", "2")
    panel.locator(".mv[data-l='6']").click()
    expect(panel).to_have_attribute("data-drawn", "6")
    expect(tab.locator("#rw-scatter h2")).to_contain_text("Block 6")
    expect(panel.locator("figcaption").last).to_contain_text("block 6, AUC")
    ink = panel.locator("canvas").evaluate_all(
        "all => all.map(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0))"
    )
    assert ink == [True, True]
    panel.get_by_role("radio", name="PCA").check()
    expect(panel.locator(".scat .lb", has_text="PCA 1").first).to_be_visible()
    panel.locator("summary", has_text="Numbers").click()
    expect(panel.locator("tbody tr")).to_have_count(8)
    expect(panel.locator("tbody")).to_contain_text("3 (aligned)")
    panel.get_by_role("button", name="Cosine").focus()
    expect(panel.locator(".rw-meaning")).to_contain_text("1 is along it")

    tab.set_viewport_size({"width": 390, "height": 844})
    expect(panel.locator(".rw-duo")).to_be_visible()
    assert overflow(tab) <= 0


def test_a_picture_that_is_replaced_while_its_points_glide_draws_no_more(captured):
    captured.evaluate("""async () => {
      const slider = document.querySelector('#rw-layer'), frame = () => new Promise(requestAnimationFrame);
      slider.value = +slider.value ? 0 : 1;
      slider.dispatchEvent(new Event('input', {bubbles: true}));
      await frame();
      rw.layers.scatter.end();
      for (let i = 0; i < 60; i++) await frame();
    }""")
