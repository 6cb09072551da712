"""Runs: long work as folders on disk and processes of their own, so that no page or terminal must stay open for it.

>>> run = create("align", {"model": "demo", "pairs": "demo", "method": "scit"})
>>> submit(run)                           # works as soon as its device is free, whoever leaves
>>> run.status()["state"], run.events()   # what the page, the terminal and a second tab all read
"""

from workbench.runs.store import Run, create, find_run, list_runs, open_run, runs_root
from workbench.runs.worker import execute, resume, spawn, stop, stop_soon, submit

__all__ = [
    "Run",
    "create",
    "execute",
    "find_run",
    "list_runs",
    "open_run",
    "resume",
    "runs_root",
    "spawn",
    "stop",
    "stop_soon",
    "submit",
]
