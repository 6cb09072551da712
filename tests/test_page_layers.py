"""Step 2 in a browser: from the demo to captured blocks, picks, the picture, a pair, a reload."""

from __future__ import annotations

import json
import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser import MOST, browser, overflow, page, server  # noqa: F401

# How long after the slider's event the points have moved, and how long until they arrived (milliseconds).
MOVE = """async layer => {
  const slider = document.querySelector('#rw-layer'), plot = document.querySelector('.rw-plot');
  const box = document.querySelector('.scat');
  const began = performance.now();
  slider.value = layer;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
  while (plot.dataset.drawn !== String(layer)) await new Promise(requestAnimationFrame);
  const moved = performance.now() - began;
  while (box.classList.contains('gliding')) await new Promise(requestAnimationFrame);
  return [moved, performance.now() - began, plot._fullData[1].x[0]];
}"""
# Where the chosen answer of a drawn pair is on the screen, one that no other point covers.
POINT = """() => {
  const plot = document.querySelector('.rw-plot'), f = plot._fullLayout, r = plot.getBoundingClientRect();
  const at = (t, i) => [f.xaxis.l2p(plot._fullData[t].x[i]), f.yaxis.l2p(plot._fullData[t].y[i])];
  const all = [0, 1].flatMap(t => plot._fullData[t].x.map((_, i) => [t, i, ...at(t, i)]));
  const room = a => Math.min(...all.filter(b => b !== a).map(b => Math.hypot(a[2] - b[2], a[3] - b[3])));
  const [t, i, x, y] = all.filter(a => a[0] === 1).map(a => [...a, room(a)]).sort((a, b) => b[4] - a[4])[0];
  return {id: plot._fullData[1].customdata[i], x: r.left + x, y: r.top + y};
}"""


@pytest.fixture
def captured(page):  # noqa: F811
    """The page in step 2, its blocks captured, the picture drawn."""
    page.get_by_role("button", name="Start with the demo").click()
    page.get_by_role("button", name="Look at the layers").click()
    page.get_by_role("button", name="Capture all blocks").click()
    expect(page.locator("#rw-layers-left")).to_be_visible()
    expect(page.locator(".rw-plot[data-drawn]")).to_be_visible()
    return page


def kept(server, **wanted):  # noqa: F811
    """Wait until the visitor's workspace says how the picture is looked at."""
    (path,) = (server.runs / "workspaces").glob("*/workspace.json")
    until = time.monotonic() + MOST / 1000
    while time.monotonic() < until:
        seen = json.loads(path.read_text()).get("settings", {}).get("layers_view") or {}
        if all(seen.get(key) == value for key, value in wanted.items()):
            return
        time.sleep(0.05)
    raise AssertionError(f"kept {seen}, not {wanted}")


def test_from_the_demo_to_picked_blocks(captured, server):  # noqa: F811
    tab = captured
    blocks, picks = tab.locator("#rw-strip button.blk"), tab.locator("#rw-strip [data-picks]")
    expect(blocks).to_have_count(8)
    expect(blocks.first).to_have_attribute("aria-label", re.compile("AUC"))
    expect(tab.locator("#rw-strip button.blk[aria-pressed=true]").first).to_be_visible()  # a suggestion

    # The slider moves the picture at once, in the browser alone.
    tab.locator("#rw-layer").scroll_into_view_if_needed()
    begins = [tab.evaluate(MOVE, layer) for layer in (0, 3, 6, 1)]
    assert sorted(moved for moved, _, _ in begins)[1] < 200, begins
    assert len({place for _, _, place in begins}) == 4, "every block has a picture of its own"
    expect(tab.locator("#rw-scatter h2")).to_contain_text("Block 1:")
    expect(tab.get_by_text("Block 1 of 0 to 7")).to_be_visible()

    # Picks by mouse and by keyboard.
    before = json.loads("[" + picks.inner_text().replace(" and ", ", ") + "]")
    blocks.nth(2).click()
    blocks.nth(2).focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Space")
    after = sorted(set(before) ^ {2, 3})
    picked = " and ".join(filter(None, [", ".join(str(n) for n in after[:-1]), str(after[-1])]))
    expect(picks).to_have_text(picked)
    expect(tab.locator("#rw-steps")).to_contain_text(f"{picked} picked")

    # A point opens its pair.
    tab.locator("#rw-layer").scroll_into_view_if_needed()
    expect(tab.locator(".scat.gliding")).to_have_count(0)
    spot = tab.evaluate(POINT)
    tab.mouse.move(spot["x"] - 2, spot["y"])
    tab.mouse.move(spot["x"], spot["y"])
    expect(tab.locator("#rw-scatter .rw-tip")).to_contain_text(f"Pair {spot['id']},")
    tab.mouse.click(spot["x"], spot["y"])
    title = tab.locator("#rw-pair h2")
    expect(title).to_have_text(f"Pair {spot['id']}")
    expect(tab.locator("#rw-pair .tx")).to_have_count(2)

    # So does the keyboard, from one pair to the next.
    tab.get_by_role("button", name="Next pair").press("Enter")
    expect(title).not_to_have_text(f"Pair {spot['id']}")
    tab.get_by_role("button", name="Previous pair").press("Enter")
    expect(title).to_have_text(f"Pair {spot['id']}")

    # Numbers, and the other projection.
    tab.get_by_role("button", name="Numbers", exact=True).click()
    expect(tab.locator("#rw-strip tbody tr")).to_have_count(8)
    tab.get_by_role("radio", name="Preference axis").check()
    expect(tab.locator("#rw-scatter").get_by_text("preference axis, means at")).to_be_visible()
    assert overflow(tab) <= 0

    # A reload finds all of it, once what is on view was kept (a moment after the last move).
    kept(server, layer=3, projection="axis")
    tab.reload()
    expect(tab.locator(".rw-plot[data-drawn]")).to_be_visible()
    expect(picks).to_have_text(picked)
    expect(title).to_have_text(f"Pair {spot['id']}")
    expect(tab.get_by_role("radio", name="Preference axis")).to_be_checked()
    expect(tab.locator("#rw-scatter h2")).to_contain_text("Block 3:")

    # Dropping that pair says that the scores are of before.
    tab.locator("#rw-pair-drop").click()
    expect(tab.get_by_text("Scores and picture are of before.")).to_be_visible()
    expect(tab.locator("#rw-pair")).to_contain_text("Dropped 1 pair")

    # Narrow and dark.
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")

    # On to step 3, which needs a block.
    align = tab.locator("#rw-align-picked")
    for block in after:
        blocks.nth(block).click()
    expect(align).to_be_disabled()
    expect(align).to_have_attribute("title", re.compile("Pick a block"))
    blocks.nth(5).click()
    align.click()
    expect(tab.locator("#rw-step-align")).to_be_visible()
