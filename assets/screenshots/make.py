"""Takes the pictures of README and documentation from the running page, on the bundled demo.

``python -m assets.screenshots.make --out assets/screenshots`` needs the packages of requirements-dev.txt and Chromium.
It goes through steps 1 to 3 as a visitor would (minutes: it trains the demo run whose moves it shows).
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import CHROMIUM, FLAGS, start_server, stop_server

PATIENCE = 600_000  # milliseconds


def take(page: Page, out: Path) -> None:
    """Walk through the page and save one picture a stop."""

    def save(name: str, selector: str = "") -> None:
        page.wait_for_timeout(900)  # transitions come to rest
        target = page.locator(selector) if selector else page
        target.screenshot(path=out / f"{name}.png", animations="disabled")

    page.get_by_role("button", name="Start with the demo").click()
    expect(page.locator("#rw-lengths")).to_contain_text("tokens longer")
    save("pairs")
    page.get_by_role("button", name="Look at the layers").click()
    page.get_by_role("button", name="Capture all blocks").click()
    expect(page.locator(".rw-plot[data-drawn]")).to_be_visible()
    expect(page.locator("#rw-pair .tk").first).to_be_visible()
    page.get_by_role("radio", name="Preference axis").check()
    expect(page.locator(".scat:not(.gliding)")).to_be_visible()
    page.evaluate("window.scrollTo(0, 0)")
    save("layers")
    save("strip", "#rw-strip")
    save("controls", "#rw-controls")
    save("tokens", "#rw-pair")
    page.get_by_role("radio", name="PCA").check()
    expect(page.locator(".scat:not(.gliding)")).to_be_visible()
    save("scatter", "#rw-scatter")
    grid = page.locator("#rw-grid")
    if not grid.locator("canvas").first.is_visible():
        grid.locator("summary, button").first.click()
    save("grid", "#rw-grid")
    align(page)
    moved = page.locator("#rw-moved")
    moved.get_by_role("button", name="Capture").first.click()
    expect(moved.locator("canvas").first).to_be_visible()
    save("moved", "#rw-moved")


def align(page: Page) -> None:
    """The demo's run with all defaults, and back to the layers."""
    page.locator("#rw-align-picked").click()
    page.get_by_role("button", name="Start SCIT").click()
    expect(page.locator("#rw-steps")).to_contain_text(re.compile(r"scit\S* finished"))
    page.locator("#rw-steps").get_by_text("Layers").click()
    expect(page.locator(".rw-plot[data-drawn]")).to_be_visible()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/screenshots"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = start_server(Path(folder))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
            page.set_default_timeout(PATIENCE)
            page.goto(server.url)
            take(page, out)
        finally:
            browser.close()
            stop_server(server)


if __name__ == "__main__":
    main()
