"""The laboratory's journey in a browser: a file with columns of its own, mapped, captured, looked at, mended, found again."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

from playwright.sync_api import expect

from tests.browser import ROOT, browser, page, server  # noqa: F401

COUNT = 80
# The ten drawn chosen answers that lie furthest to the left, and a loop around them that holds no other chosen one.
LEFTMOST = """() => {
  const plot = document.querySelector('.rw-plot'), f = plot._fullLayout, r = plot.getBoundingClientRect();
  const all = [0, 1].flatMap(t => [...plot._fullData[t].x].map((_, i) => [
    plot._fullData[t].customdata[i], r.left + f.xaxis._offset + f.xaxis.l2p(plot._fullData[t].x[i]),
    r.top + f.yaxis._offset + f.yaxis.l2p(plot._fullData[t].y[i])]));
  const xs = all.map(a => a[1]).sort((a, b) => a - b), ys = all.map(a => a[2]);
  return {left: xs[0] - 4, right: (xs[9] + xs[10]) / 2, top: Math.min(...ys) - 4, bottom: Math.max(...ys) + 4};
}"""


def odd_file(folder: Path) -> Path:
    """Pairs as somebody's spreadsheet writes them: other names, semicolons, a column beside, three rows that are no pairs."""
    lines = (ROOT / "assets" / "pairs" / "careful" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines[:COUNT]]
    path = folder / "survey.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["Frage", "Note", "Antwort gut", "Antwort schlecht"])
        for number, pair in enumerate(pairs):
            rows.writerow([pair["prompt"], number % 3, pair["chosen"], pair["rejected"]])
        rows.writerow(["what?", 1, "the same", "the same"])
        rows.writerow(["what?", 1, "", "nothing on the other side"])
        rows.writerow([pairs[0]["prompt"], 1, pairs[0]["chosen"], pairs[0]["rejected"]])
    return path


def kept(server) -> dict:  # noqa: F811
    """What the server keeps of its only visitor."""
    (path,) = server.runs.glob("workspaces/*/workspace.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_from_an_odd_file_to_picked_blocks_and_back(page, server, tmp_path):  # noqa: F811
    page.locator("#rw-empty input[type=file]").first.set_input_files(str(odd_file(tmp_path)))

    # Mapped by hand, with a look at what comes of it.
    page.locator("#rw-column-prompt").select_option("Frage")
    page.locator("#rw-column-chosen").select_option("Antwort gut")
    page.locator("#rw-column-rejected").select_option("Antwort schlecht")
    expect(page.get_by_text("Read like this?")).to_be_visible()
    page.get_by_role("button", name="Use these columns").click()

    # The report.
    expect(page.locator("#rw-pairs h1")).to_contain_text(f"{COUNT} of {COUNT + 3} pairs are ready")
    for reason in ("identical", "empty", "same pair"):
        expect(page.locator("#rw-report")).to_contain_text(re.compile(reason, re.IGNORECASE))

    # Captured.
    page.get_by_role("button", name="Look at the layers").click()
    page.get_by_role("button", name="Capture all blocks").click()
    expect(page.locator(".rw-plot[data-drawn]")).to_be_visible()
    blocks = page.locator("#rw-strip button.blk")
    expect(blocks).to_have_count(8)

    # The slider moves the picture.
    slider = page.locator("#rw-layer")
    slider.focus()
    slider.press("Home")
    for _ in range(5):
        slider.press("ArrowRight")
    expect(page.locator("#rw-scatter h2")).to_contain_text("Block 5:")
    expect(page.locator(".scat:not(.gliding)")).to_be_visible()

    # A point opens its pair; the pair can be read.
    page.get_by_role("button", name="Next pair").click()
    opened = page.locator("#rw-pair h2")
    expect(opened).to_have_text(re.compile(r"Pair \d+"))
    expect(page.locator("#rw-pair .tx")).to_have_count(2)
    expect(page.locator("#rw-pair .tk").first).to_be_visible()  # token by token

    # A lasso around ten points, whose pairs are dropped.
    page.locator(".rw-plot").scroll_into_view_if_needed()
    box = page.evaluate(LEFTMOST)
    corners = [("left", "top"), ("right", "top"), ("right", "bottom"), ("left", "bottom"), ("left", "top")]
    page.mouse.move(box["left"], box["top"])
    page.mouse.down()
    for across, down in corners[1:]:
        page.mouse.move(box[across], box[down], steps=6)
    page.mouse.up()
    expect(opened).to_contain_text("in the lasso")
    dropped = int(opened.inner_text().split()[0])
    assert 1 <= dropped <= 10, dropped
    page.locator("#rw-pair-drop").click()
    expect(page.locator("#rw-pair")).to_contain_text(f"Dropped {dropped} pair")
    expect(page.locator("#rw-context")).to_contain_text(f"{COUNT - dropped}")

    # Two blocks picked.
    for number in range(8):
        if (blocks.nth(number).get_attribute("aria-pressed") == "true") != (number in (3, 5)):
            blocks.nth(number).click()
    expect(page.locator("#rw-strip [data-picks]")).to_have_text("3 and 5")
    expect(page.locator("#rw-steps")).to_contain_text("3 and 5 picked")

    # A reload finds all of it.
    slider.focus()
    slider.press("Home")
    slider.press("ArrowRight")
    deadline = time.monotonic() + 60
    while kept(server)["settings"].get("layers_view", {}).get("layer") != 1:  # kept a moment after the last move
        assert time.monotonic() < deadline
        page.wait_for_timeout(200)
    page.reload()
    expect(page.locator("#rw-strip [data-picks]")).to_have_text("3 and 5")
    expect(page.locator("#rw-scatter h2")).to_contain_text("Block 1:")
    expect(page.locator("#rw-context")).to_contain_text(f"survey.csv, {COUNT - dropped}")
    expect(page.get_by_text("Scores and picture are of before.")).to_be_visible()
    page.locator("#rw-context [data-item=pairs]").click()
    expect(page.locator("#rw-pairs h1")).to_contain_text("pairs are ready")
    page.get_by_role("button", name="Undo").first.click()
    expect(page.locator("#rw-context")).to_contain_text(f"survey.csv, {COUNT}")
