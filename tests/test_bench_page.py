"""The benches of the layer slider: what they time in a browser, and what they say where there is none."""

import os
import time

import psutil
import pytest

from workbench import bench
from workbench.bench import browser, page_slider
from workbench.errors import UserError
from workbench.progress import QUIET

# A picture as step 2 has it, as far as the bench looks: a canvas shows the new points LATE milliseconds after the slider
# was moved, and plotly has them GLIDE milliseconds later.
STAND_IN = """
<input id="rw-layer" type="range" min="0" max="7" value="2" style="width: 400px">
<div class="scat"><div class="rw-plot" data-drawn="2"></div></div>
<script>{
  const slider = document.querySelector('#rw-layer'), plot = document.querySelector('.rw-plot');
  plot._fullData = [{x: []}, {x: [2]}];
  slider.addEventListener('input', () => setTimeout(() => {
    plot.dataset.drawn = slider.value;
    plot.parentNode.classList.add('gliding');
    setTimeout(() => { plot._fullData[1].x = [PLACE]; plot.parentNode.classList.remove('gliding'); }, GLIDE);
  }, LATE));
}</script>
"""


@pytest.fixture(scope="module")
def stand_in():
    """A function from the place of the points to a page with that stand-in."""
    try:
        browser.program()
    except UserError as error:
        if os.environ.get("RAHF_NEEDS_BROWSER"):
            raise
        pytest.skip(str(error))
    with browser.chromium() as chromium:
        page = chromium.new_page()
        page.set_default_timeout(20_000)

        def shown(place: str):
            page.set_content(STAND_IN.replace("PLACE", place).replace("LATE", "150").replace("GLIDE", "300"))
            return page

        yield shown


@pytest.fixture(autouse=True)
def few(monkeypatch):
    for name, value in (("MOVES", 3), ("UNCOUNTED", 1), ("PAUSE", 0.0)):
        monkeypatch.setattr(page_slider, name, value)


def test_a_move_is_timed_from_the_press_to_the_picture(stand_in):
    found = page_slider.moves(stand_in("+slider.value"), glide=True)
    assert len(found["first"]) == len(found["drawn"]) == 3
    assert all(
        first >= 0.15 and drawn >= first + 0.2 for first, drawn in zip(found["first"], found["drawn"], strict=True)
    )
    assert min(found["drawn"]) < 2


def test_a_picture_that_stays_is_no_picture(stand_in):
    with pytest.raises(UserError, match="the picture stayed"):
        page_slider.moves(stand_in("0"), glide=False)


def test_a_picture_that_never_comes_is_not_waited_for(stand_in, monkeypatch):
    monkeypatch.setattr(page_slider, "PATIENCE", 0.05)
    with pytest.raises(UserError, match="no new picture came"):
        page_slider.moves(stand_in("+slider.value"), glide=True)


def test_what_is_missing_is_told_before_anything_starts(monkeypatch):
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="Chromium, and none of chromium, "):
        bench.run(["page_slider"])
    monkeypatch.setattr(browser, "find_spec", lambda name: None if name == "playwright" else True)
    with pytest.raises(UserError, match=r"need the package playwright: pip install -r requirements-dev\.txt"):
        bench.run(["page_many"])


def test_many_are_held_against_one_alone_before_and_after(monkeypatch):
    """The ratio is of one page's seconds, and the pages that were opened are closed before the second look."""
    opened, looks = [], iter((0.1, 0.3, 0.2))

    class Visitor:
        context = property(lambda self: self)

        def close(self):
            opened.remove(self)

    def further(chromium, served, kept):
        opened.append(Visitor())
        return opened[-1]

    def answers(page, served):
        seen.append(len(opened))
        return {"seconds": next(looks), "pair_seconds": 0.5, "server_idle_share": 0.0}

    class Context:
        def __init__(self, *arguments):
            pass

        __enter__ = __exit__ = lambda self, *arguments: None

    seen: list[int] = []
    for name, value in (("chromium", Context), ("serving", Context), ("further_visitor", further), ("SETTLE", 0.0)):
        monkeypatch.setattr(page_slider, name, value)
    monkeypatch.setattr(page_slider, "first_visitor", lambda chromium, served: (Visitor(), b"{}"))
    monkeypatch.setattr(page_slider, "_answers", answers)
    found = page_slider.run("page_many", QUIET, pages=20)
    assert seen == [0, 19, 0]
    assert found.seconds == 0.3 and found.over_floor == pytest.approx(2.0) and found.details["pair_over_alone"] == 1.0


def test_a_process_that_works_is_not_idle(monkeypatch):
    monkeypatch.setattr(page_slider, "IDLE", 0.2)
    mine = {"mine": [psutil.Process()], "nobody's": []}
    idle = page_slider.idle_shares(mine)
    monkeypatch.setattr(page_slider.time, "sleep", busy)
    assert page_slider.idle_shares(mine)["mine"] > idle["mine"] and idle["nobody's"] == 0


def busy(seconds: float) -> None:
    until = time.process_time() + 0.3  # of work, however long that takes on a busy machine
    while time.process_time() < until:
        pass
