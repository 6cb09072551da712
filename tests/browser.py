"""The page in headless Chromium, for tests: one server for a test file, a fresh browser context (a fresh visitor) for
every test.

    from tests.browser import browser, page, server  # noqa: F401   (fixtures)

    def test_something(page):
        page.get_by_role("button", name="Start with the demo").click()
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
MOST = 60_000  # milliseconds a busy machine may take for one thing to appear


@dataclass
class Server:
    """The running page: its address, its runs' folder, its log."""

    url: str
    runs: Path
    log: Path
    seconds: float  # from start to the first answer
    process: subprocess.Popen


def start_server(folder: Path, port: int = 0) -> Server:
    """``python app.py`` in a process of its own, its runs in ``folder``. Raises RuntimeError if it never answers."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    environment = os.environ | {
        "RAHF_RUNS": str(runs),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
    }
    began = time.monotonic()
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    while time.monotonic() - began < 60 and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return Server(url, runs, log, time.monotonic() - began, process)
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the page did not start:\n{log.read_text()[-2000:]}")


def stop_server(server: Server) -> None:
    """End the server's process."""
    server.process.terminate()
    try:
        server.process.wait(10)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """The page, served for this test file."""
    running = start_server(tmp_path_factory.mktemp("page"))
    yield running
    stop_server(running)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Headless Chromium."""
    if CHROMIUM is None:
        if os.environ.get("RAHF_NEEDS_BROWSER"):
            pytest.fail("no Chromium on this machine, and RAHF_NEEDS_BROWSER asks for one")
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=MOST)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser, server) -> Iterator:
    """A visitor who has just opened the page. Fails the test if a script of the page failed or anything but the server
    was asked for."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True, color_scheme="light")
    tab = context.new_page()
    tab.set_default_timeout(MOST)
    trouble: list[str] = []
    tab.on("pageerror", lambda error: trouble.append(f"script: {error}"))
    tab.on("request", lambda request: outside(request.url, server.url) and trouble.append(f"asked for {request.url}"))
    tab.goto(server.url)
    tab.wait_for_selector("#rw-steps a")
    yield tab
    context.close()
    assert not trouble, trouble


def outside(url: str, home: str) -> bool:
    """Whether an address is not on the server itself."""
    return not url.startswith((home, "data:", "blob:"))


def overflow(page) -> int:
    """By how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
