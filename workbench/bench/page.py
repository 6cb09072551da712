"""From starting the page's process to its first answer, against a page of one line (the floor); and how long the page
takes to answer one visitor, and twenty that come together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from urllib.error import URLError
from urllib.request import urlopen

from workbench.bench import Measure, interleaved
from workbench.errors import UserError
from workbench.progress import Progress

REPEATS, VISITORS, PATIENCE = 3, 20, 120.0
HELLO = """
import os, gradio
with gradio.Blocks() as page:
    gradio.Markdown("hello")
page.launch(server_port=int(os.environ["GRADIO_SERVER_PORT"]), quiet=True)
"""
APP = Path(__file__).parents[2] / "app.py"


@dataclass(frozen=True)
class Served:
    """A page that answers: its address, its process, its folder of runs."""

    url: str
    process: subprocess.Popen
    runs: Path


def run(name: str, progress: Progress) -> Measure:
    """``details``: seconds until one page is there, and until the slowest of twenty is that are asked for at once, as a
    multiple of twenty one after another."""
    if find_spec("gradio") is None:
        raise UserError("The bench of the page needs the package gradio: pip install -r requirements.txt.")

    def started(command: list[str]) -> None:
        with serving(command):
            pass

    ways = {"ours": lambda: started([str(APP)]), "hello": lambda: started(["-c", HELLO])}
    seconds = interleaved(ways, REPEATS, progress, "bench")
    with serving([str(APP)]) as served:
        visit(served.url)
        alone = [visit(served.url) for _ in range(VISITORS)]
        with ThreadPoolExecutor(VISITORS) as pool:
            began = time.perf_counter()
            list(pool.map(visit, [served.url] * VISITORS))
            together = time.perf_counter() - began
    return Measure(
        name=name,
        seconds=seconds["ours"],
        over_floor=seconds["ours"] / seconds["hello"],
        goals={"over_floor": 1.3},
        details={
            "hello_seconds": seconds["hello"],
            "page_seconds": median(alone),
            "visitors": VISITORS,
            "together_over_in_turn": together / sum(alone),
        },
    )


def visit(url: str) -> float:
    """The seconds until the page and what it is built of are there."""
    began = time.perf_counter()
    for path in ("/", "/config"):
        with urlopen(url + path, timeout=PATIENCE) as answer:
            answer.read()
    return time.perf_counter() - began


@contextmanager
def serving(command: list[str]) -> Iterator[Served]:
    """A page in a process and a folder of its own, from its first answer on. Raises UserError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home, open(os.devnull, "wb") as nowhere:
        told = {"GRADIO_SERVER_PORT": str(port), "RAHF_RUNS": home, "GRADIO_ANALYTICS_ENABLED": "False"}
        process = subprocess.Popen(
            [sys.executable, *command], env=os.environ | told, stdout=nowhere, stderr=nowhere, cwd=APP.parent
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _answered(process, url)
            yield Served(url, process, Path(home))
        finally:
            process.terminate()
            process.wait(30)


def _answered(process: subprocess.Popen, url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(url, timeout=PATIENCE) as answer:
                answer.read()
                return
        except (URLError, OSError):
            time.sleep(0.02)
    raise UserError("The page did not start: run python app.py and see what it says.")
