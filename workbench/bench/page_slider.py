"""From a press on the slider of step 2 to the new block's picture, in headless Chromium; for one page that is open alone,
and for one of many."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil

from workbench.bench import Measure
from workbench.bench.browser import chromium, first_visitor, further_visitor
from workbench.bench.page import APP, Served, serving
from workbench.errors import UserError
from workbench.progress import Progress

if TYPE_CHECKING:
    from playwright.sync_api import Page

MOVES, UNCOUNTED, STRIDE = 16, 2, 3  # no move goes to a neighbouring block
PAUSE = 0.8  # after each move: the page tells the server what is on view when the slider has rested for 0.7 s
SETTLE, IDLE, PATIENCE = 5.0, 10.0, 60.0

# Watches one press. `first`: the first frame with the new block's points on their way; `drawn`: plotly has drawn them
# where they belong and nothing moves any more. Both count from when the browser took the press in until after the frame
# was painted.
WATCH = """patience => {
  const slider = document.querySelector('#rw-layer'), plot = document.querySelector('.rw-plot');
  const box = document.querySelector('.scat'), was = slider.value;
  const frame = () => new Promise(requestAnimationFrame);
  const painted = async () => { await frame(); await new Promise(done => setTimeout(done)); return performance.now(); };
  window.rahfBench = new Promise(done => slider.addEventListener('pointerdown', async event => {
    setTimeout(() => done(null), 1000 * patience);
    while (slider.value === was || plot.dataset.drawn !== slider.value) await frame();
    const first = await painted();
    while (box.classList.contains('gliding')) await frame();
    const drawn = await painted();
    done({first: first - event.timeStamp, drawn: drawn - event.timeStamp, layer: +slider.value,
      place: plot._fullData[1].x.slice(0, 20).join()});
  }, {once: true}));
}"""
# From the press on "Next pair" to its texts, which are asked of the server.
PAIR = """async () => {
  const title = () => document.querySelector('#rw-pair h2').textContent, was = title(), began = performance.now();
  document.querySelector('#rw-pair [aria-label="Next pair"]').click();
  while (title() === was) await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


def run(name: str, progress: Progress, pages: int) -> Measure:
    """One page: its seconds. More: what they are for one page while all are open, over what they are for it alone."""
    with chromium() as browser, serving([str(APP), "--owner"]) as served:
        progress("bench", 0, pages, message="capturing")
        page, kept = first_visitor(browser, served)
        if pages == 1:
            return _alone(name, page, progress)
        time.sleep(SETTLE)
        before = _answers(page, served)
        others = []
        for number in range(1, pages):
            progress("bench", number, pages, message="opening pages")
            others.append(further_visitor(browser, served, kept))
        time.sleep(SETTLE)
        progress("bench", pages, pages, message="all open")
        among = _answers(page, served)
        for other in others:
            other.context.close()
        time.sleep(SETTLE)
        after = _answers(page, served)
    alone = {key: (before[key] + after[key]) / 2 for key in before}
    return Measure(
        name=name,
        seconds=among["seconds"],
        over_floor=among["seconds"] / alone["seconds"],
        goals={"over_floor": 2.0},
        details={
            "pages": pages,
            "alone": alone,
            "among": among,
            "pair_over_alone": among["pair_seconds"] / alone["pair_seconds"],
        },
    )


def _alone(name: str, page: Page, progress: Progress) -> Measure:
    time.sleep(SETTLE)
    progress("bench", 1, 3, message="stepping")
    stepping = moves(page, glide=False)
    progress("bench", 2, 3, message="gliding")
    gliding = moves(page, glide=True)
    return Measure(
        name=name,
        seconds=median(stepping["drawn"]),
        goals={"seconds": 0.2},
        details={
            "moves": MOVES,
            "slowest_seconds": max(stepping["drawn"]),
            "gliding_first_frame_seconds": median(gliding["first"]),
            "gliding_at_rest_seconds": median(gliding["drawn"]),
            "drawn_pairs": page.evaluate("document.querySelector('.rw-plot')._fullData[1].x.length"),
        },
    )


def _answers(page: Page, served: Served) -> dict[str, float]:
    """How one page answers now, and how much of a processor server and browser take when nobody does anything."""
    ours = psutil.Process().children(recursive=True)
    shares = idle_shares(
        {
            "server": [psutil.Process(served.process.pid)],
            "browser": [process for process in ours if process.name().startswith("chrom")],
        }
    )
    slider = moves(page, glide=False)
    pairs = [page.evaluate(PAIR) / 1000 for _ in range(MOVES + UNCOUNTED)][UNCOUNTED:]
    return {
        "seconds": median(slider["drawn"]),
        "pair_seconds": median(pairs),
        "server_idle_share": shares["server"],
        "browser_idle_share": shares["browser"],
    }


def moves(page: Page, glide: bool) -> dict[str, list[float]]:
    """Seconds of each move of the slider. ``glide``: the points glide to their places for 0.42 s, as they do unless the
    visitor's system asks for less motion; else they are drawn there at once, and all that is measured is work."""
    page.emulate_media(reduced_motion="no-preference" if glide else "reduce")
    slider = page.locator("#rw-layer")
    slider.scroll_into_view_if_needed()
    last = int(slider.get_attribute("max") or 0)
    on_view, found = int(slider.input_value()), []
    for number in range(1, UNCOUNTED + MOVES + 1):
        found.append(_move(page, (on_view + STRIDE * number) % (last + 1) / last))
        time.sleep(PAUSE)
    if len({row["place"] for row in found}) != len({row["layer"] for row in found}):
        raise UserError("The slider was moved, and the picture stayed: the bench does not know this page.")
    return {key: [row[key] / 1000 for row in found[UNCOUNTED:]] for key in ("first", "drawn")}


def _move(page: Page, share: float) -> dict[str, Any]:
    """Press the slider so far along."""
    box = page.locator("#rw-layer").bounding_box()
    page.mouse.move(box["x"] + box["width"] * (0.02 + 0.96 * share), box["y"] + box["height"] / 2)
    page.evaluate(WATCH, PATIENCE)
    page.mouse.down()
    page.mouse.up()
    found = page.evaluate("window.rahfBench")
    if found is None:
        raise UserError("The slider was moved, and no new picture came: the bench does not know this page.")
    return found


def idle_shares(groups: dict[str, list[psutil.Process]]) -> dict[str, float]:
    """The share of one processor that each group of processes takes."""

    def spent() -> dict[str, float]:
        return {name: sum(sum(process.cpu_times()[:2]) for process in group) for name, group in groups.items()}

    began, before = time.perf_counter(), spent()
    time.sleep(IDLE)
    after, seconds = spent(), time.perf_counter() - began
    return {name: (after[name] - before[name]) / seconds for name in groups}
