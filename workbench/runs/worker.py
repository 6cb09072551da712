"""Doing the work of a run: in this process (:func:`execute`) or in one of its own (:func:`spawn`), and ending it.

A worker holds the run's lock, writes every event and the status, and leaves a last word (``finished``, ``stopped``,
``failed``) on disk before it ends, whatever happened inside. If it is killed, nobody has to clean up: the store sees
that the process is gone.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from workbench.errors import Stopped, UserError
from workbench.progress import Event, Progress
from workbench.runs import files, store
from workbench.runs.events import EventLog, Pace
from workbench.runs.store import Run

# What each kind of run does: work(config, folder, progress) -> result (plain data), doing only what is not yet done.
WORK = {
    "align": "workbench.runs.work:align",
    "separability": "workbench.runs.work:separability",
    "evaluate": "workbench.runs.work:evaluate",
}
STOPPED = "Stopped; resume goes on from the last checkpoint."
FORCED = "Stopped by force, because it did not answer; resume goes on from the last checkpoint."
RESERVE = 64 * 1024  # bytes set aside for the last word of a run that fills the disk


def execute(run: Run, watch: Callable[[Event], None] | None = None) -> dict[str, Any]:
    """Do the work of ``run`` in this process and return its final status (see ``Run.status``).

    Ctrl-C and SIGTERM ask the work to stop at its next safe point, as a stop from elsewhere does; a second Ctrl-C ends
    it at once (``KeyboardInterrupt``, the run being ``stopped``). ``watch`` sees every event, also those too frequent
    to be written down. What goes wrong inside ends as state ``failed`` with one sentence; ``UserError`` is raised only
    if the work cannot begin: another process works on the run, or the disk is full.
    """
    files.need_space(run.path)
    with run.lock() as mine:
        if not mine:
            raise UserError(f"Another process works on run {run.id} already; stop it first or wait for it.")
        return _Worker(run, watch).work()


def spawn(run: Run) -> None:
    """Start the work of ``run`` in a process of its own, which lives on when this one ends; returns at once.

    Raises ``UserError`` if something works on the run already, or the disk is full.
    """
    files.need_space(run.path)
    with files.only_one(run.path / "launch.lock") as mine:
        if not mine or run.active():
            raise UserError(f"Run {run.id} is working already.")
        run.clear_stop()
        (run.path / "spawned.json").unlink(missing_ok=True)
        run.write_status(state="queued", error=None, ended=None, since=None, seconds=run.status().get("seconds", 0.0))
        environment = dict(os.environ, RAHF_RUNS=str(store.runs_root()))
        package = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        with open(run.path / "worker.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workbench.runs", str(run.path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        start = files.process_start(process.pid)
        files.write_json(run.path / "spawned.json", {"pid": process.pid, "pid_start": start or 0.0})
    threading.Thread(target=process.wait, daemon=True).start()  # or it would stay a zombie until this process ends


def resume(run: Run) -> None:
    """Start a run again that was stopped, interrupted or failed, or never started. Raises ``UserError``."""
    if run.state == "finished":
        raise UserError(f"Run {run.id} has finished; there is nothing to resume.")
    spawn(run)


def stop(run: Run, grace: float = 5.0, saving: float = 30.0) -> str:
    """End a run and return its state. Blocks until it is over.

    The work is asked first, and given ``grace`` seconds to notice; then SIGTERM, and after as long again SIGKILL. Work
    that did notice has ``saving`` seconds to write its checkpoint. A run that is over stays as it is.
    """
    if not run.active():
        if run.state == "queued":
            run.write_status(state="stopped", message=STOPPED, ended=time.time())
        return run.state
    run.request_stop()
    pid, start = _process(run)
    if pid == os.getpid():  # it works in this very process (another thread): it can only be asked
        return run.state
    begun, told = time.time(), False
    while run.active():
        waited = time.time() - begun
        noticed = (files.read_json(run.path / "status.json") or {}).get("noticed") is True
        if waited > max(saving if noticed else 0.0, 2 * grace):
            _signal(pid, start, signal.SIGKILL)
        elif waited > grace and not (told or noticed):
            told = True
            _signal(pid, start, signal.SIGTERM)
        time.sleep(0.05)
        pid, start = _process(run)
    if run.state == "interrupted":  # it went without a last word: that was us
        with run.lock() as mine:
            if mine:
                seconds = run.status().get("seconds", 0.0)
                run.write_status(state="stopped", message=FORCED, error=None, seconds=seconds, ended=time.time())
    return run.state


def stop_soon(run: Run, grace: float = 5.0, saving: float = 30.0) -> None:
    """:func:`stop` without waiting, for the page: ask now, and see to it in the background."""
    run.request_stop()
    threading.Thread(target=stop, args=(run, grace, saving), daemon=True).start()


class _Worker:
    """One go at the work of a run whose lock is held."""

    def __init__(self, run: Run, watch: Callable[[Event], None] | None) -> None:
        self.run, self.watch = run, watch
        self.log, self.pace = EventLog(run.path / "events.jsonl"), Pace()
        self.asked = False  # by a signal
        self.noticed = False
        self.looked_at = self.wrote_at = 0.0
        self.started = time.time()
        self.before = float(run.status().get("seconds") or 0.0)

    def work(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            (self.run.path / "reserve").write_bytes(bytes(RESERVE))
        started = self.run.status().get("started") or self.started
        self.run.write_status(
            state="running", pid=os.getpid(), pid_start=files.process_start(os.getpid()), noticed=False,
            started=started, since=self.started, updated=self.started, ended=None,
            seconds_before=self.before, error=None, message="",
        )  # fmt: skip
        with self._signals():
            try:
                if self._stopping():
                    raise Stopped
                result = _work(self.run.kind)(self.run.config(), self.run.path, Progress(self._emit, self._stopping))
                self._end("finished", result=result, message="", seconds_left=0.0)
            except Stopped:
                self._end("stopped", message=STOPPED)
            except KeyboardInterrupt:
                self._end("stopped", message=STOPPED)
                raise
            except BaseException as error:
                with contextlib.suppress(OSError):
                    self._note(error)
                self._end("failed", error=sentence(error), mendable=isinstance(error, UserError))
        return self.run.status()

    def _emit(self, event: Event) -> None:
        keep = self.pace.keep(event)
        left = event.metrics.get("seconds_left", self.pace.seconds_left(event))
        if left is not None:
            event.metrics["seconds_left"] = left
        if self.watch:
            self.watch(event)
        if not keep:
            return
        self.log.append(event)
        known = {key: event.metrics[key] for key in ("layers", "alpha") if key in event.metrics}
        if known or event.time - self.wrote_at >= 0.2:
            self.wrote_at = event.time
            self.run.write_status(
                sync=False, stage=event.stage, step=event.step, total=event.total, message=event.message,
                updated=event.time, seconds_left=left, **known,
            )  # fmt: skip

    def _stopping(self) -> bool:
        if not self.asked and time.time() - self.looked_at >= 0.1:
            self.looked_at = time.time()
            self.asked = self.run.stop_asked()
        if self.asked and not self.noticed:
            self.noticed = True  # whoever waits for the stop now knows that a checkpoint is being written
            self.run.write_status(sync=False, noticed=True)
        return self.asked

    def _end(self, state: str, **changes: Any) -> None:
        """The last word. On a full disk the space set aside for it is given up first."""
        now = time.time()
        changes |= {"state": state, "ended": now, "updated": now, "seconds": round(self.before + now - self.started, 2)}
        result = changes.get("result")
        if isinstance(result, dict):  # what was chosen automatically is known now
            changes |= {key: result[key] for key in ("method", "layers", "alpha") if result.get(key) is not None}
        with contextlib.suppress(OSError):
            (self.run.path / "reserve").unlink()
        self.run.write_status(**changes)
        self.run.clear_stop()

    def _note(self, error: BaseException) -> None:
        with open(self.run.path / "worker.log", "a", encoding="utf-8") as log:
            log.write("".join(traceback.format_exception(error)))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Make SIGTERM and Ctrl-C a request to stop while the work lasts (only a main thread may)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True
            if number == signal.SIGINT and sys.stderr.isatty():
                print("\nStopping at the next safe point; Ctrl-C again ends at once.", file=sys.stderr)

        old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def sentence(error: BaseException, details: str = "the run's worker.log has the details") -> str:
    """What to tell the user about an exception: what is wrong and what to do. ``details`` says where to find more."""
    if isinstance(error, UserError):
        return str(error)
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    if any(_disk_full(item) for item in chain):
        return "The disk is full: free some space and resume; it goes on from the last checkpoint."
    if any(_memory_full(item) for item in chain):
        return (
            "There is not enough memory for this: choose a smaller batch, shorter limits, a smaller model or bfloat16, "
            "then resume."
        )
    for item in chain:
        if isinstance(item, UserError):
            return str(item)
    first = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no more is known"
    return f"Something unexpected went wrong ({type(error).__name__}: {first}); {details}."


def _disk_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)


def _memory_full(error: BaseException) -> bool:
    # torch reports a full GPU as torch.OutOfMemoryError and a full machine as a RuntimeError of its allocator.
    said = str(error).lower()
    torch_full = isinstance(error, RuntimeError) and any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )
    return isinstance(error, MemoryError) or torch_full or getattr(error, "errno", None) == errno.ENOMEM


def _work(kind: str) -> Callable[[dict[str, Any], Path, Progress], Any]:
    target = WORK.get(kind)
    # Further kinds, for tests: RAHF_WORK="kind=module:function".
    extra = dict(item.split("=", 1) for item in os.environ.get("RAHF_WORK", "").split(",") if "=" in item)
    if target is None and kind not in extra:
        raise UserError(f"This version does not know what to do with a run of kind {kind}.")
    module, function = (target or extra[kind]).split(":")
    return getattr(importlib.import_module(module), function)


def _process(run: Run) -> tuple[int | None, float | None]:
    """Which process works on the run, as far as is known."""
    status = files.read_json(run.path / "status.json") or {}
    if status.get("state") != "running":
        status = files.read_json(run.path / "spawned.json") or {}
    return status.get("pid"), status.get("pid_start")


def _signal(pid: int | None, start: float | None, number: int) -> None:
    if pid and files.alive(pid, start):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def main(arguments: list[str] | None = None) -> int:
    """``python -m workbench.runs FOLDER``: what :func:`spawn` starts. Exit 0 unless the work could not begin."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    try:
        execute(store.find_run(name))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
