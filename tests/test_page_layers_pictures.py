"""Step 2's pictures in a browser: 2D and 3D, colours, play, small pictures, UMAP that can be stopped, files to take away."""

from __future__ import annotations

import csv
import io
import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from tests.browser import MOST, browser, outside, overflow, server  # noqa: F401

HOSTILE = '<img src=x onerror="document.title=7">'
FORMULA = '=HYPERLINK("http://example.com")'
N = 40
SVG = "{http://www.w3.org/2000/svg}"
# All WebGL contexts of a page that were not given back.
COUNT_CONTEXTS = """(() => {
  const made = [], get = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    const context = get.call(this, kind, ...rest);
    if (context && /webgl/.test(kind) && !made.includes(context)) made.push(context);
    return context;
  };
  window.liveContexts = () => made.filter(context => !context.isContextLost()).length;
})()"""
SLIDE = """layer => {
  const slider = document.querySelector('#rw-layer');
  slider.value = layer;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
}"""
EYE = """() => {
  const eye = document.querySelector('.rw-plot')._fullLayout.scene._scene.getCamera().eye;
  return [eye.x, eye.y, eye.z].map(v => v.toFixed(6)).join(' ');
}"""
# Where the chosen answers are on the screen in three dimensions, the nearest first.
SPOTS = """() => {
  const plot = document.querySelector('.rw-plot'), scene = plot._fullLayout.scene._scene, camera = scene.glplot.cameraParams;
  const box = plot.querySelector('canvas').getBoundingClientRect(), {x, y, z} = plot._fullData[1];
  const times = (m, v) => [0, 1, 2, 3].map(i => m[i] * v[0] + m[4 + i] * v[1] + m[8 + i] * v[2] + m[12 + i] * v[3]);
  return Array.from(x, (_, i) => {
    const place = [x[i], y[i], z[i]].map((value, k) => value * scene.dataScale[k]).concat(1);
    const [px, py, pz, w] = times(camera.projection, times(camera.view, times(camera.model, place)));
    return [box.left + box.width * (0.5 + 0.5 * px / w), box.top + box.height * (0.5 - 0.5 * py / w), pz / w];
  }).sort((a, b) => a[2] - b[2]).slice(0, 6);
}"""
# The colours of one trace's points.
COLOURS = """trace => {
  const colours = document.querySelector('.rw-plot')._fullData[trace].marker.color;
  return Array.isArray(colours) ? [...new Set(colours)] : [colours];
}"""
# How many pixels of each small picture are drawn on.
INK = """() => [...document.querySelectorAll('.rw-small canvas')].map(canvas => {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, i) => i % 4 === 3 && value > 0).length;
})"""
# Small pictures of 32 blocks of 2,000 points: the milliseconds they take.
MANY = """() => {
  const L = rw.layers, P = L.picture, kept = {view: L.view, data: L.data, smalls: L.smalls}, n = 1000, blocks = 32;
  const whole = new Int16Array(blocks * 4 * n).map(() => 65000 * (Math.random() - 0.5));
  const bytes = new Uint8Array(whole.buffer);
  let text = '';
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  const fill = value => new Array(blocks).fill(value);
  const words = {findings: fill(''), parted: fill(0.9), names: fill(['', ''])};
  const set = {xy: btoa(text), scale: fill(1e-4), dims: 2, same: true, ...words};
  const host = document.querySelector('#rw-scatter').appendChild(document.createElement('div'));
  L.view = {...L.view, blocks: Array.from({length: blocks}, (_, l) => ({...L.view.blocks[0], l}))};
  L.data = {...L.data, ids: Array.from({length: n}, (_, i) => i), sets: {pca: set, axis: set}};
  P.load();
  L.grid(host);
  const grid = host.querySelector('.rw-smalls'), took = +grid.dataset.took, cells = grid.children.length;
  host.remove();
  Object.assign(L, kept);
  P.load();
  return [took, cells];
}"""


def own_file(folder: Path) -> Path:
    """Pairs with columns beside them, some of them unfriendly."""
    chance, path = random.Random(1), folder / "own.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "chosen", "rejected", "source", "chosen_rating", "rejected_rating"])
        for i in range(N):
            source = ["web", HOSTILE, FORMULA][i % 3]
            good, bad = f"Happy to help: it is {2 * i}. {HOSTILE}", f"Work it out yourself, number {i}."
            rows.writerow([f"What is {i} plus {i}? {HOSTILE}", good, bad, source, 3 + chance.random(), chance.random()])
    return path


@pytest.fixture(scope="module")
def visitor(browser, server, tmp_path_factory):  # noqa: F811
    """A visitor who has captured all blocks of their own pairs: what their browser keeps."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(MOST)
    tab.goto(server.url)
    files = tab.locator("#rw-source-file input[type=file], #rw-empty input[type=file]").first
    files.set_input_files(str(own_file(tmp_path_factory.mktemp("own"))))
    tab.get_by_role("button", name="Look at the layers").click()
    tab.get_by_role("button", name="Capture all blocks").click()
    tab.wait_for_selector(".rw-plot[data-drawn]")
    kept = context.storage_state()
    context.close()
    return kept


@pytest.fixture(scope="module")
def opened(browser, server, visitor):  # noqa: F811
    """Their page in step 2, opened once for all tests: a script that failed or a request to elsewhere fails them."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 1000}, storage_state=visitor, accept_downloads=True, color_scheme="light"
    )
    context.add_init_script(COUNT_CONTEXTS)
    page = context.new_page()
    page.set_default_timeout(MOST)
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: outside(request.url, server.url) and trouble.append(request.url))
    page.goto(server.url)
    page.wait_for_selector(".rw-plot[data-drawn]")
    yield page
    assert page.title() != "7" and not trouble, trouble
    context.close()


@pytest.fixture
def tab(opened):
    """The page with PCA in two dimensions on view, coloured by side."""
    opened.set_viewport_size({"width": 1440, "height": 1000})
    opened.emulate_media(reduced_motion="no-preference")
    opened.get_by_role("radio", name="PCA").check()
    opened.get_by_role("radio", name="2D").check()
    opened.locator("#rw-colour").select_option(label="Side")
    opened.wait_for_selector(".rw-plot[data-dims='2']")
    opened.wait_for_selector(".scat:not(.gliding)")
    opened.locator("#rw-layer").scroll_into_view_if_needed()
    return opened


def run_folder(server) -> Path:  # noqa: F811
    return next(server.runs.glob("separability-*"))


def saved(tab, key: str) -> tuple[str, bytes]:
    """The name and the content of the file that an entry of the menu saves."""
    tab.locator("#rw-save").click()
    with tab.expect_download() as waiting:
        tab.locator(f"[data-save={key}]").click()
    tab.wait_for_selector(".rw-save:not([open])")
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


# -- in two and three dimensions ---------------------------------------------------------------------------------------


def test_three_dimensions_keep_the_camera_and_one_context(tab):
    tab.get_by_role("radio", name="3D").check()
    tab.wait_for_selector(".rw-plot[data-dims='3']")
    tab.get_by_text("the lasso works in 2D").wait_for()
    before = tab.evaluate(EYE)
    tab.locator("#rw-layer").scroll_into_view_if_needed()
    box = tab.locator(".rw-plot").bounding_box()
    tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=12)
    tab.mouse.up()
    tab.wait_for_function(f"was => ({EYE})() !== was", arg=before)
    turned = tab.evaluate(EYE)
    first = tab.evaluate("document.querySelector('.rw-plot')._fullData[1].x[0]")
    tab.evaluate(SLIDE, 1)
    tab.wait_for_selector(".rw-plot[data-drawn='1']")
    tab.wait_for_function("was => document.querySelector('.rw-plot')._fullData[1].x[0] !== was", arg=first)
    assert tab.evaluate(EYE) == turned
    # A point shows its texts, and a press opens its pair; a turn did not.
    tip, spots = tab.locator("#rw-scatter .rw-tip"), tab.evaluate(SPOTS)
    for step in range(240):
        x, y, _ = spots[step % len(spots)]
        tab.mouse.move(x + step % 2, y)
        tab.wait_for_timeout(50)
        if tip.is_visible():
            break
    words = tip.inner_text()
    assert HOSTILE in words
    tab.mouse.down()
    tab.mouse.up()
    tab.locator("#rw-pair h2", has_text=re.compile(rf"^{re.search('Pair [0-9]+', words)[0]}$")).wait_for()
    for projection in ("Preference axis", "PCA"):
        for dims in ("2", "3"):
            tab.get_by_role("radio", name=f"{dims}D").check()
            tab.wait_for_selector(f".rw-plot[data-dims='{dims}']")
        tab.get_by_role("radio", name=projection).check()
    tab.wait_for_function("liveContexts() === 1")
    tab.get_by_role("radio", name="UMAP").check()  # has no third dimension: flat, and it says so
    tab.wait_for_selector(".rw-plot[data-dims='2']")
    tab.get_by_text("UMAP is drawn in two dimensions").wait_for()
    tab.wait_for_function("liveContexts() === 0")
    tab.get_by_role("button", name="Stop", exact=True).click()


def test_colours_by_side_score_and_columns(tab, server):  # noqa: F811
    legend, colour = tab.locator("#rw-legend"), tab.locator("#rw-colour")
    options = colour.locator("option").all_inner_texts()
    assert options == [
        "Side", "Held-out score", "Read rightly", "Answer length", "Training or held out", "source", "rating of the answer"
    ]  # fmt: skip
    shown = COLOURS
    assert len(tab.evaluate(shown, 0)) == len(tab.evaluate(shown, 1)) == 1
    colour.select_option(label="source")
    legend.get_by_text(HOSTILE).wait_for()
    legend.get_by_text(FORMULA).wait_for()
    tab.wait_for_function(f"({shown})(1).length === 3")
    symbols = tab.evaluate("[0, 1].map(t => document.querySelector('.rw-plot')._fullData[t].marker.symbol)")
    assert symbols == ["square-open", "circle"], "shape still tells the sides apart"
    colour.select_option(label="rating of the answer")
    legend.get_by_text("rating of the answer").wait_for()
    tab.wait_for_function(f"({shown})(1).length > 5")
    colour.select_option(label="Answer length")
    legend.get_by_text("tokens").wait_for()
    colour.select_option(label="Read rightly")
    legend.get_by_text(re.compile(rf"reads \d+ of {N} drawn pairs rightly")).wait_for()
    colour.select_option(label="Held-out score")
    legend.get_by_text("rejected mean at").wait_for()
    # What was chosen is there again after a reload (the page keeps it a moment after the last change).
    for _ in range(600):
        if any('"score"' in file.read_text() for file in server.runs.glob("workspaces/*/workspace.json")):
            break
        tab.wait_for_timeout(100)
    tab.reload()
    tab.wait_for_selector(".rw-plot[data-drawn]")
    tab.locator("#rw-legend").get_by_text("rejected mean at").wait_for()
    tab.locator("#rw-colour").select_option(label="Side")
    tab.wait_for_function(f"({shown})(1).length === 1")


def test_pair_lines(tab):
    lines = tab.locator("#rw-lines")
    count = "document.querySelector('.rw-plot')._fullData[4].x.length"
    assert lines.get_attribute("aria-pressed") == "true", "few pairs: on by themselves"
    assert tab.evaluate(count) == 3 * N
    lines.click()
    tab.wait_for_function(
        f"{count} === undefined || {count} === 0 || !document.querySelector('.rw-plot')._fullData[4].visible"
    )
    assert lines.get_attribute("aria-pressed") == "false"
    assert tab.evaluate("document.querySelector('.rw-plot')._fullData[3].x.length") == 2, "the open pair's line stays"
    lines.click()


def test_play_goes_through_all_blocks(tab):
    tab.evaluate(SLIDE, 4)
    tab.wait_for_selector(".rw-plot[data-drawn='4']")
    tab.locator("#rw-layer").focus()
    tab.keyboard.press("Space")
    play = tab.locator("#rw-layer-play")
    play.get_by_text("Pause").wait_for()
    tab.wait_for_selector(".rw-plot[data-drawn='7']")
    play.get_by_text("Play").wait_for()
    play.click()  # from the end it begins again
    tab.wait_for_selector(".rw-plot[data-drawn='1']")
    hide = """hidden => {
      Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    tab.evaluate(hide, True)
    play.get_by_text("Play").wait_for()
    tab.evaluate(hide, False)
    # With less motion asked for it steps: the canvas that shows gliding points is never shown for longer than a frame.
    tab.emulate_media(reduced_motion="reduce")
    tab.evaluate(SLIDE, 5)
    tab.wait_for_selector(".rw-plot[data-drawn='5']")
    tab.wait_for_selector(".scat:not(.gliding)")


# -- small pictures ----------------------------------------------------------------------------------------------------


def test_small_pictures_lead_to_the_large_one(tab):
    tab.locator("#rw-grid summary").click()
    tab.wait_for_selector(".rw-smalls[data-drawn='pca side']")
    cells = tab.locator(".rw-small")
    assert cells.count() == 8
    tab.locator("#rw-grid").get_by_text(re.compile("^In PCA chosen and rejected")).wait_for()
    cells.nth(6).click()
    tab.wait_for_selector(".rw-plot[data-drawn='6']")
    assert cells.nth(6).get_attribute("aria-current") == "true"
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".rw-plot[data-drawn='5']")
    assert tab.locator(".rw-small[aria-current]").count() == 1
    ink = INK
    assert min(tab.evaluate(ink)) > 200, "every one is drawn"
    tab.get_by_role("radio", name="Preference axis").check()
    tab.wait_for_selector(".rw-smalls[data-drawn='axis side']")
    tab.get_by_role("radio", name="PCA").check()
    took, drawn = tab.evaluate(MANY)
    assert drawn == 32 and took < 2000, "0.1 s on an idle machine"
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.wait_for_selector(".rw-smalls[data-drawn='pca side']")
    assert overflow(tab) <= 0


# -- UMAP --------------------------------------------------------------------------------------------------------------


def test_umap_can_be_stopped_and_is_kept(tab, server):  # noqa: F811
    folder, card = run_folder(server), tab.locator(".rw-umap")
    tab.get_by_role("radio", name="UMAP").check()
    card.get_by_text("Until it is there this is PCA").wait_for()
    tab.locator("#rw-scatter .lb").get_by_text(re.compile("^PCA 1")).wait_for()
    compute, stop = card.get_by_role("button", name="Compute UMAP"), card.get_by_role("button", name="Stop")
    stop.or_(compute).first.wait_for()
    if compute.is_visible():  # stopped by an earlier test
        compute.click()
    stop.click()
    card.get_by_text("UMAP was stopped; this is PCA.").wait_for()
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    if children.exists():
        commands = [Path(f"/proc/{pid}/cmdline") for pid in children.read_text().split()]
        assert not any(b"layers_umap" in c.read_bytes() for c in commands if c.exists()), "its process is ended"
    assert not (folder / "umap.npy").exists()
    # What was computed is never computed twice: it is shown from the run's folder.
    coords = np.random.default_rng(0).normal(size=(8, 2 * N, 2)).astype(np.float32)
    coords[:, :N] += 6
    np.save(folder / "umap.npy", coords)
    compute.click()
    tab.locator("#rw-scatter .lb").get_by_text("UMAP 1, no unit").wait_for()
    tab.wait_for_selector(".rw-umap[hidden]", state="attached")
    assert tab.locator("#rw-scatter h2").inner_text().endswith("chosen and rejected part")
    (folder / "umap.npy").unlink()
    tab.get_by_role("radio", name="PCA").check()


# -- files -------------------------------------------------------------------------------------------------------------


def test_drawings_open_and_hold_every_point(tab):
    tab.locator("#rw-colour").select_option(label="source")
    tab.locator("#rw-legend").get_by_text(FORMULA).wait_for()
    name, content = saved(tab, "svg")
    assert re.fullmatch(r"block-\d-pca\.svg", name)
    root = ElementTree.fromstring(content)
    circles = [c for c in root.iter(f"{SVG}circle") if c.get("r") == "3.8"]
    squares = [r for r in root.iter(f"{SVG}rect") if r.get("fill") == "none"]
    assert len(circles) == N and len(squares) == N + 1, "and one in the legend"
    words = " ".join(t.text or "" for t in root.iter(f"{SVG}text"))
    assert "chosen and rejected" in words and "in units of the block's spread" in words and HOSTILE[:20] in words
    assert root.find(f"{SVG}rect").get("fill") == "#ffffff" and not list(root.iter(f"{SVG}img"))
    name, content = saved(tab, "png")
    wide, high = np.frombuffer(content[16:24], dtype=">u4")
    assert content.startswith(b"\x89PNG") and wide == 1520 and high > 1000, "two pixels for one"
    for key, least in (("grid-svg", 2 * 8), ("strip-svg", 8)):
        root = ElementTree.fromstring(saved(tab, key)[1])
        assert sum(1 for _ in root.iter(f"{SVG}path")) + sum(1 for _ in root.iter(f"{SVG}circle")) >= least
    assert saved(tab, "strip-png")[1].startswith(b"\x89PNG") and saved(tab, "grid-png")[1].startswith(b"\x89PNG")
    tab.get_by_role("radio", name="3D").check()
    tab.wait_for_selector(".rw-plot[data-dims='3']")
    name, content = saved(tab, "svg")
    assert name.endswith("-3d.svg")
    assert sum(1 for c in ElementTree.fromstring(content).iter(f"{SVG}circle") if c.get("r") == "3.2") == N


def test_the_table_holds_every_answer_and_no_formula(tab):
    tab.locator("#rw-colour").select_option(label="source")
    tab.locator("#rw-legend").get_by_text(FORMULA).wait_for()
    name, content = saved(tab, "csv")
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    assert name.endswith(".csv")
    assert rows[0] == ["pair", "side", "block", "projection", "x", "y", "held_out_score", "source"]
    assert len(rows) == 1 + 2 * N and {row[1] for row in rows[1:]} == {"chosen", "rejected"}
    assert {row[7] for row in rows[1:]} == {"web", HOSTILE, "'" + FORMULA}
    assert all(len(row) == 8 and np.isfinite([float(cell) for cell in row[4:7]]).all() for row in rows[1:])


def test_the_saved_page_works_by_itself(tab, tmp_path):
    name, content = saved(tab, "html")
    assert name.endswith(".html")
    path = tmp_path / name
    path.write_bytes(content)
    alone = tab.context.new_page()
    asked, trouble = [], []
    alone.on("request", lambda request: asked.append(request.url))
    alone.on("pageerror", lambda error: trouble.append(str(error)))
    alone.goto(path.as_uri())
    alone.wait_for_selector("#plot .scatterlayer .point")
    assert alone.evaluate("document.querySelectorAll('#plot .scatterlayer .point').length") == 2 * N
    texts = alone.evaluate("document.querySelector('#plot').data[1].text")
    assert len(texts) == N and not any("<img" in text for text in texts) and "&lt;img" in texts[0]
    tools = alone.locator("#plot .modebar-btn").evaluate_all(
        "all => all.map(one => one.dataset.attr || one.dataset.title)"
    )
    assert len(tools) == 4, "nothing that sends the data anywhere"
    first = alone.locator("h1").inner_text()
    alone.evaluate(SLIDE.replace("#rw-layer", "#block"), 0)
    alone.wait_for_function("was => document.querySelector('h1').textContent !== was", arg=first)
    assert alone.locator("h1").inner_text().startswith("Block 0:")
    assert asked == [path.as_uri()] and not trouble and alone.title() != "7"
    alone.close()


def test_colour_of_nothing_is_refused(server, visitor):  # noqa: F811
    """The values of a column can be asked for by name only if the page offers it."""
    from workbench.errors import UserError
    from workbench.runs.store import Run
    from workbench.ui import layers_data

    run = Run(run_folder(server).name, run_folder(server), "separability")
    assert "extra:source" in {column["key"] for column in layers_data.colour_columns(run)}
    for column in ("extra:chosen", "extra:__class__", "side", None, 3, ["length"]):
        with pytest.raises(UserError):
            layers_data.colour_values(run, column)
