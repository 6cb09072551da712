"""Step 2 in a browser: from the demo to captured blocks, picks, the picture, a pair, a reload."""

from __future__ import annotations

import json

import pytest

from tests.browser import browser, overflow, page, server  # noqa: F401

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
    page.wait_for_selector("#rw-layers-left")
    page.wait_for_selector(".rw-plot[data-drawn]")
    return page


def test_from_the_demo_to_picked_blocks(captured):
    tab = captured
    blocks = tab.locator("#rw-strip button.blk")
    assert blocks.count() == 8
    assert "AUC" in blocks.first.get_attribute("aria-label")
    assert blocks.evaluate_all("all => all.filter(b => b.getAttribute('aria-pressed') === 'true').length") >= 1, (
        "a suggestion"
    )

    # The slider moves the picture at once, in the browser alone.
    tab.locator("#rw-layer").scroll_into_view_if_needed()
    begins = [tab.evaluate(MOVE, layer) for layer in (0, 3, 6, 1)]
    assert sorted(moved for moved, _, _ in begins)[1] < 200, begins
    assert len({place for _, _, place in begins}) == 4, "every block has a picture of its own"
    assert tab.locator("#rw-scatter h2").inner_text().startswith("Block 1:")
    assert tab.get_by_text("Block 1 of 0 to 7").is_visible()

    # Picks by mouse and by keyboard.
    before = json.loads("[" + tab.locator("#rw-strip [data-picks]").inner_text().replace(" and ", ", ") + "]")
    blocks.nth(2).click()
    blocks.nth(2).focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Space")
    after = sorted(set(before) ^ {2, 3})
    picked = " and ".join(filter(None, [", ".join(str(n) for n in after[:-1]), str(after[-1])]))
    assert tab.locator("#rw-strip [data-picks]").inner_text() == picked
    tab.locator("#rw-steps").get_by_text(f"{picked} picked").wait_for()

    # A point opens its pair.
    tab.wait_for_selector(".scat:not(.gliding)")
    spot = tab.evaluate(POINT)
    tab.mouse.move(spot["x"] - 2, spot["y"])
    tab.mouse.move(spot["x"], spot["y"])
    tab.locator(".rw-tip").get_by_text(f"Pair {spot['id']},").wait_for()
    tab.mouse.click(spot["x"], spot["y"])
    tab.locator("#rw-pair h2", has_text=f"Pair {spot['id']}").wait_for()
    assert tab.locator("#rw-pair .tx").count() == 2

    # So does the keyboard, from one pair to the next.
    tab.get_by_role("button", name="Next pair").press("Enter")
    tab.wait_for_function("was => document.querySelector('#rw-pair h2').textContent !== was", arg=f"Pair {spot['id']}")
    tab.get_by_role("button", name="Previous pair").press("Enter")
    tab.locator("#rw-pair h2", has_text=f"Pair {spot['id']}").wait_for()

    # Numbers, and the other projection.
    tab.get_by_role("button", name="Numbers").click()
    assert tab.locator("#rw-strip tbody tr").count() == 8
    tab.get_by_role("radio", name="Preference axis").check()
    tab.get_by_text("preference axis, means at").wait_for()
    assert overflow(tab) <= 0
    tab.wait_for_timeout(900)  # the block on view is kept a moment after the last move

    # A reload finds all of it.
    tab.reload()
    tab.wait_for_selector(".rw-plot[data-drawn]")
    assert tab.locator("#rw-strip [data-picks]").inner_text() == picked
    assert tab.locator("#rw-pair h2").inner_text() == f"Pair {spot['id']}"
    assert tab.get_by_role("radio", name="Preference axis").is_checked()
    assert tab.locator("#rw-scatter h2").inner_text().startswith("Block 3:")

    # Dropping that pair says that the scores are of before.
    tab.locator("#rw-pair-drop").click()
    tab.get_by_text("Scores and picture are of before.").wait_for()
    tab.locator("#rw-pair").get_by_text("Dropped 1 pair").wait_for()

    # Narrow and dark.
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_timeout(300)
    assert overflow(tab) <= 0

    # On to step 3, which needs a block.
    align = tab.locator("#rw-align-picked")
    for block in after:
        blocks.nth(block).click()
    assert align.is_disabled() and align.get_attribute("title")
    blocks.nth(5).click()
    align.click()
    tab.wait_for_selector("#rw-step-align", state="visible")
