"""The queue: runs that fill a device wait for each other, one works at a time on each device.

The queue is a folder of small files ``RANK-RUN`` beside the runs, so that nothing in it can be half-written: a run's
file is there from when it was submitted until it has ended. No process owns the queue. Whoever looks (:func:`tend`:
a worker at its end, every look of the page, every command) starts what is due, one at a time by a lock file, so a
server or terminal that goes away leaves nothing behind that waits for it.

>>> submit(run)             # starts at once if the device is free
>>> place(run)              # {"position": 2, "of": 3, "seconds": 640.0}; None unless it waits
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import Stopped, UserError
from workbench.runs import bin, control, files, store
from workbench.runs.store import Run

FILLS = {"align", "baseline", "study"}  # the kinds of work that need a device for themselves; the others run beside
ENTRY = re.compile(r"(\d{12})-(.+)")
MOST_WAITING = 20  # runs of one visitor
LEARN_FROM = 200  # finished runs whose time is remembered


@dataclass(frozen=True)
class Entry:
    """One run in the queue, with its state at the time of looking."""

    rank: int
    run: Run
    device: str
    status: dict[str, Any]
    working: bool  # its process was started

    @property
    def name(self) -> str:
        return f"{self.rank:012d}-{self.run.id}"


def fills_device(run: Run) -> bool:
    """Whether the run waits for others and others for it."""
    return run.kind in FILLS


def submit(run: Run) -> None:
    """Let the run start as soon as its device is free; a run of a kind that fills none starts at once.

    Raises ``UserError`` if something works on it already, its owner has too many waiting, or the disk is full.
    """
    if not fills_device(run):
        return control.spawn(run)
    files.need_space(run.path)
    if run.active():
        raise UserError(f"Run {run.id} is working already.")
    with _held():
        known = entries()
        if any(entry.run.id == run.id for entry in known):
            raise UserError(f"Run {run.id} is waiting already.")
        if run.owner and sum(entry.run.owner == run.owner for entry in known) >= MOST_WAITING:
            raise UserError(f"{MOST_WAITING} of your runs are waiting already: take one out of the queue first.")
        run.clear_stop()
        (run.path / "spawned.json").unlink(missing_ok=True)
        run.write_status(state="queued", error=None, ended=None, since=None, how=None, message="")
        _enter(run, known)
    tend()


def resume(run: Run) -> None:
    """Start a run again that was stopped, interrupted or failed, or never started. Raises ``UserError``."""
    if run.state == "finished":
        raise UserError(f"Run {run.id} has finished; there is nothing to resume.")
    submit(run)


@contextlib.contextmanager
def turn(run: Run, waiting: Callable[[dict[str, Any]], None], patience: float = 0.3) -> Iterator[None]:
    """Wait, in this process, until the device is free for ``run``, and hold it while its work is done within.

    ``waiting`` gets the run's :func:`place` now and then. Raises ``Stopped`` if the run is stopped meanwhile.
    """
    if not fills_device(run) or not _writable():
        yield
        return
    with _held():
        control.claim(run, os.getpid())
        run.write_status(state="queued", error=None, ended=None, since=None, how=None)
        _enter(run, [entry for entry in entries() if entry.run.id != run.id])
    try:
        while not _first(run):
            tend()  # what works before it may have been killed, or asked to stop by somebody who has left
            if run.stop_asked():
                run.write_status(state="stopped", how=run.stop_asked(), message=control.WORDS["pause"])
                raise Stopped("stopped while waiting")
            if (where := place(run)) is not None:
                waiting(where)
            time.sleep(patience)
        yield
    finally:
        _leave(run)
        with contextlib.suppress(UserError, OSError):
            tend()


def entries() -> list[Entry]:
    """The queue in order: working runs and waiting ones, of every device. What has ended is taken out."""
    found = []
    try:
        names = sorted(os.listdir(_folder()))
    except OSError:
        return []
    for name in names:
        known = ENTRY.fullmatch(name)
        if known is None:
            continue
        run = store.read_run(store.runs_root() / known[2])
        status = run.status() if run and run.id == known[2] else None
        if run is None or status is None or status["state"] not in ("queued", "running"):
            if run is None or not run.stop_asked():  # else its end is still to be settled
                (_folder() / name).unlink(missing_ok=True)
            continue
        spawned = files.read_json(run.path / "spawned.json")
        terminal = bool(spawned) and (_folder() / name).stat().st_size > 0
        working = status["state"] == "running" or (bool(spawned) and not terminal)
        found.append(Entry(int(known[1]), run, device_of(run), status, working))
    return found


def tend() -> list[Run]:
    """Do what is due in the queue: end what was asked to stop and does not, settle what has ended, start what is next.

    Cheap when nothing is due; returns the runs it started. Two callers at once do it once.
    """
    if not _folder().is_dir():
        return []
    started = []
    with files.only_one(store.runs_root() / "queue.lock") as mine:
        if not mine:
            return []
        asked = [run for _, run in _named() if run.stop_asked()]
        for run in asked:
            with contextlib.suppress(UserError, OSError):
                control.urge(run) if run.active() else control.settle(run)
        busy: set[str] = set()
        now = entries()
        for entry in now:
            if entry.working:
                busy.add(entry.device)
        for entry in now:
            if entry.device in busy:
                continue
            busy.add(entry.device)
            if _holds_terminal(entry):  # it starts itself when it sees that it is the first
                continue
            try:
                control.spawn(entry.run)
                started.append(entry.run)
            except (UserError, OSError) as error:  # no space, no memory: it goes on waiting, and says why
                if entry.status["message"] != str(error):
                    with contextlib.suppress(OSError):
                        entry.run.write_status(message=str(error))
    return started


def recover() -> None:
    """Put runs that wait but stand in no queue (their folder was copied or cleaned) back, and empty the bin. Once at
    the start of a server."""
    with _held():
        known = entries()
        lost = [run for run in reversed(store.list_runs()) if fills_device(run) and run.state == "queued"]
        for run in lost:
            if run.owner and run.id not in {entry.run.id for entry in known} and not run.active():
                _enter(run, known)
                known = entries()
    bin.empty_bin()
    tend()


def place(run: Run, known: list[Entry] | None = None) -> dict[str, Any] | None:
    """Where a waiting run stands: ``position`` (1: it is next), ``of`` (runs that wait for this device), ``seconds``
    until it may start (None where that cannot be told). None if it does not wait."""
    known = entries() if known is None else known
    mine = next((entry for entry in known if entry.run.id == run.id), None)
    if mine is None or mine.working:
        return None
    line = [entry for entry in known if entry.device == mine.device]
    waiting = [entry for entry in line if not entry.working]
    before = [entry for entry in line if entry.working or entry.rank < mine.rank]
    left = [remaining(entry) for entry in before]
    return {
        "position": waiting.index(mine) + 1,
        "of": len(waiting),
        "seconds": None if None in left else round(sum(left), 1),
    }


def move(run: Run, by: int, owner: str | None = None) -> None:
    """Let a waiting run change places with the next waiting one before it (``by`` -1) or after it (1).

    With ``owner`` only that owner's runs change places with each other, so that nobody is overtaken by others. Raises
    ``UserError`` if the run does not wait.
    """
    with _held():
        waiting = [entry for entry in entries() if not entry.working]
        mine = next((entry for entry in waiting if entry.run.id == run.id), None)
        if mine is None:
            raise UserError(f"Run {run.id} does not wait: it is {run.state}.")
        line = [e for e in waiting if e.device == mine.device and (owner is None or e.run.owner == owner)]
        at = line.index(mine) + (1 if by > 0 else -1)
        if not 0 <= at < len(line):
            return
        other = line[at]
        # Between the two renames both have one rank and the order of their names decides: the queue stays whole.
        os.rename(_folder() / mine.name, _folder() / f"{other.rank:012d}-{mine.run.id}")
        os.rename(_folder() / other.name, _folder() / f"{mine.rank:012d}-{other.run.id}")


def device_of(run: Run) -> str:
    """The device a run fills: cpu, cuda or mps. What is chosen automatically is told from the machine, without torch."""
    try:
        wanted = str(run.config().get("device") or "auto")
    except UserError:
        wanted = "auto"
    if wanted != "auto":
        return wanted
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    if Path("/dev/nvidiactl").exists() and not hidden:
        return "cuda"
    return "mps" if (platform.system(), platform.machine()) == ("Darwin", "arm64") else "cpu"


# -- how long ----------------------------------------------------------------------------------------------------------


def learn(run: Run) -> None:
    """Remember how long a finished run took, for the estimates of those that will wait for one like it."""
    status = run.status()
    if status["state"] != "finished" or not fills_device(run):
        return
    with contextlib.suppress(UserError, OSError):
        config = run.config()
        with _held():
            path = store.runs_root() / "took.json"
            took = (files.read_json(path) or {}).get("runs")
            took = took if isinstance(took, list) else []
            row = {"like": _like(run, config), "steps": _steps(config), "seconds": status["seconds"]}
            files.write_json(path, {"runs": [row, *took][:LEARN_FROM]}, sync=False)


def expected(run: Run) -> float | None:
    """Seconds the whole run will take, from finished ones with the same method, model and device; None without any."""
    took = (files.read_json(store.runs_root() / "took.json") or {}).get("runs")
    try:
        config = run.config()
    except UserError:
        return None
    like, steps = _like(run, config), _steps(config)
    for row in took if isinstance(took, list) else []:
        if isinstance(row, dict) and row.get("like") == like and row.get("steps"):
            return float(row["seconds"]) * steps / float(row["steps"])
    return None


def remaining(entry: Entry) -> float | None:
    """Seconds a run in the queue will still take; None where nothing is known."""
    whole = expected(entry.run)
    if whole is not None:
        return max(whole - (entry.status["seconds"] if entry.working else 0.0), 5.0 if entry.working else 0.0)
    left = entry.status.get("seconds_left")
    return float(left) if entry.working and isinstance(left, (int, float)) else None


def _like(run: Run, config: dict[str, Any]) -> list[Any]:
    keys = ("method", "model", "pairs", "instruct_tuning", "instruct_epochs", "align_epochs")
    return [run.kind, device_of(run), *(config.get(key) for key in keys)]


def _steps(config: dict[str, Any]) -> float:
    counts = (config.get(key) for key in ("instruct_steps", "align_steps"))
    return float(sum(count for count in counts if isinstance(count, int)) or 1)


# -- the folder --------------------------------------------------------------------------------------------------------


def _folder() -> Path:
    return store.runs_root() / "queue"


def _writable() -> bool:
    """Whether there can be a queue: a run in a folder of its own works also where the runs' folder cannot be made."""
    try:
        _folder().mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(_folder(), os.W_OK)


@contextlib.contextmanager
def _held() -> Iterator[None]:
    """Hold the queue while it is changed."""
    _folder().mkdir(parents=True, exist_ok=True)
    with files.only_one(store.runs_root() / "queue.lock", patience=10.0) as mine:
        if not mine:
            raise UserError("The queue of runs does not answer: try again in a moment.")
        yield


def _named() -> Iterator[tuple[str, Run]]:
    """The files of the queue with their runs, whatever the state of these."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(_folder())):
            known = ENTRY.fullmatch(name)
            run = store.read_run(store.runs_root() / known[2]) if known else None
            if run is not None and run.id == known[2]:
                yield name, run


def _enter(run: Run, known: list[Entry]) -> None:
    """Add the run at the end; what the file holds tells whether a terminal waits with it."""
    _leave(run)
    # Ranks grow with time, so that no name is used twice: somebody may be about to clear away an older entry.
    rank = max([entry.rank + 1 for entry in known] + [int(time.time() * 100)])
    terminal = "terminal" if (run.path / "spawned.json").exists() else ""
    (_folder() / f"{rank:012d}-{run.id}").write_text(terminal, encoding="utf-8")


def _leave(run: Run) -> None:
    for name, other in list(_named()):
        if other.id == run.id:
            (_folder() / name).unlink(missing_ok=True)


def _holds_terminal(entry: Entry) -> bool:
    return (entry.run.path / "spawned.json").exists()


def _first(run: Run) -> bool:
    """Whether it is the turn of a run that waits with a terminal."""
    with _held():
        known = entries()
        mine = next((entry for entry in known if entry.run.id == run.id), None)
        if mine is None:  # taken out, or its folder is not among the runs: nothing to wait for
            return True
        line = [entry for entry in known if entry.device == mine.device]
        return line[0].run.id == run.id or not any(e.working or e.rank < mine.rank for e in line if e is not mine)
