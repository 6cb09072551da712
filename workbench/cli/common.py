"""What verbs share: kinds of values, names that outlast a change of folder, doing a run in this process."""

from __future__ import annotations

import contextlib
import math
import shlex
from pathlib import Path
from typing import Any

from workbench.cli.terminal import ProgressLine, duration
from workbench.errors import Stopped, UserError
from workbench.progress import Event
from workbench.runs import queue, store, worker
from workbench.runs.store import Run

BEGINNING = ("", "load", "pairs")  # stages before anything worth keeping is made


def count(text: str) -> int:
    """An argument that counts things: a whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{text!r} is not a number of things: give a whole number from 1.")
    return number


def number(text: str) -> float:
    """An argument that is a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{text!r} is not a number.")
    return value


def blocks(text: str) -> list[int] | None:
    """``all`` or ``auto`` (None), or block numbers such as ``3,4,5``."""
    if text in ("all", "auto"):
        return None
    try:
        chosen = sorted({int(item) for item in text.split(",")})
    except ValueError:
        chosen = [-1]
    if chosen[0] < 0:
        raise UserError(f"{text!r} are not blocks: give all, or numbers from 0 such as 3,4,5.")
    return chosen


def lasting(source: str) -> str:
    """A model or pairs as the run must remember it: a file or folder by its full path, all else as it is."""
    if source == "demo" or source.startswith(("demo/", "demo:")):
        return source
    path = Path(source).expanduser()
    try:
        return str(path.absolute()) if path.exists() else source
    except OSError:  # a text too long for a name
        return source


def new_run(kind: str, config: dict[str, Any], out: str | None) -> Run:
    """A run in the runs' folder, or where the user says."""
    return store.create(kind, config, folder=Path(out).expanduser() if out else None)


def work_on(run: Run, fresh: bool, wait: bool = True) -> dict[str, Any]:
    """Do ``run`` in this process, with progress on stderr, and return its result. If it fills a device, it waits for
    its turn first, unless ``wait`` is False.

    Raises ``UserError`` with the sentence of a failure, ``Stopped`` with how to go on. A ``fresh`` run that failed
    before it made anything leaves no folder behind, so that the mended command can be given again as it is.
    """
    line = ProgressLine()
    on = Stopped(f"Stopped; go on with: python -m workbench resume {shlex.quote(run.name)}")

    def waiting(place: dict[str, Any]) -> None:
        left = f", about {duration(place['seconds'])}" if place["seconds"] else ""
        line(Event("waiting", message=f"place {place['position']} of {place['of']} in the queue{left}"))

    try:
        with queue.turn(run, waiting) if wait else contextlib.nullcontext():
            status = worker.execute(run, line)
        queue.learn(run)
    except Stopped:
        raise on from None
    except KeyboardInterrupt:
        if run.state in ("queued", "interrupted"):  # it had not begun
            run.write_status(state="stopped")
        raise on from None
    finally:
        line.close()
    if status["state"] == "stopped":
        raise on
    if status["state"] != "finished":
        if fresh and status.get("mendable") and status["stage"] in BEGINNING:
            run.delete()
        raise UserError(status["error"])
    return status["result"] | {"run": run.name}
