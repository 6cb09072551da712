"""A browser for the benches of the page: headless Chromium, by playwright, and in it visitors who look at the layers of
the bundled pairs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from workbench.bench.page import PATIENCE, Served
from workbench.errors import UserError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
DRAWN = ".rw-plot[data-drawn]"
WINDOW = {"width": 1440, "height": 900}


def program() -> str:
    """Where Chromium is. Raises UserError if something that the benches in a browser need is not there."""
    for package, file in (("gradio", "requirements.txt"), ("playwright", "requirements-dev.txt")):
        if find_spec(package) is None:
            raise UserError(f"The benches in a browser need the package {package}: pip install -r {file}.")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise UserError(f"The benches in a browser need Chromium, and none of {', '.join(NAMES)} is on this machine.")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium without a window. Raises UserError if it is not there or does not start."""
    path = program()
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        except Error as error:
            raise UserError(f"{path} did not start: run it by hand and see what it says.") from error
        try:
            yield browser
        finally:
            browser.close()


def first_visitor(browser: Browser, served: Served) -> tuple[Page, bytes]:
    """Somebody who captures all blocks of the bundled pairs: their page, and what the server keeps of them."""
    page = _newcomer(browser, served)
    page.get_by_role("button", name="Capture all blocks").click()
    page.wait_for_selector(DRAWN)
    (kept,) = _workspaces(served)
    return page, (served.runs / "workspaces" / kept / "workspace.json").read_bytes()


def further_visitor(browser: Browser, served: Served, kept: bytes) -> Page:
    """Somebody else who sees the same capture: it is shown to all, and need not be made again for each."""
    before = _workspaces(served)
    page = _newcomer(browser, served)
    (mine,) = _workspaces(served) - before
    page.goto("about:blank")
    time.sleep(0.2)  # whatever their page asked for is answered, and nothing writes their folder any more
    (served.runs / "workspaces" / mine / "workspace.json").write_bytes(kept)
    page.goto(served.url)
    page.wait_for_selector(DRAWN)
    return page


def _newcomer(browser: Browser, served: Served) -> Page:
    """A visitor of their own, in step 2 with the bundled pairs."""
    page = browser.new_context(viewport=WINDOW).new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(served.url)
    page.get_by_role("button", name="Start with the demo").click()
    page.get_by_role("button", name="Look at the layers").click()
    page.get_by_role("button", name="Capture all blocks").wait_for()
    return page


def _workspaces(served: Served) -> set[str]:
    return {path.parent.name for path in served.runs.glob("workspaces/*/workspace.json")}
