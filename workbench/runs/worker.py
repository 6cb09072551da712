"""Doing the work of a run, in this process (:func:`execute`) or as the one that was started for it (:func:`main`).

A worker holds the run's lock, writes every event and the status, and leaves a last word (``finished``, ``stopped``,
``failed``) on disk before it ends, whatever happened inside. If it is killed, nobody has to clean up: the store sees
that the process is gone. Starting and ending workers is in ``control``, waiting for a device in ``queue``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from workbench import processes
from workbench.errors import Stopped, UserError
from workbench.progress import QUIET, Event, Progress, steady
from workbench.runs import control, files, queue, store
from workbench.runs.control import spawn, stop, stop_soon
from workbench.runs.events import EventLog, Pace
from workbench.runs.queue import resume, submit
from workbench.runs.store import Run

__all__ = ["execute", "follow", "main", "memory_full", "resume", "sentence", "spawn", "stop", "stop_soon", "submit"]

# What each kind of run does: work(config, folder, progress) -> result (plain data), doing only what is not yet done.
WORK = {
    "align": "workbench.runs.work:align",
    "baseline": "workbench.runs.work:baseline",
    "study": "workbench.runs.work:study",
    "separability": "workbench.runs.work:separability",
    "evaluate": "workbench.runs.work:evaluate",
}
SHARED_OUT = ("align",)  # kinds that several processes can work on
FULL_DISK = ("No space left on device", "file write failed", "inline_container", "iostream error")
RESERVE = 64 * 1024  # bytes set aside for the last word of a run that fills the disk
LISTEN = 0.1  # seconds between two looks whether somebody asked to stop
LAUNCHED = 2.0  # a launcher passes on a Ctrl-C that the terminal sent already: so many seconds are one
INSIST = 1.0  # seconds after which work that swallowed its interruption is interrupted again


def execute(run: Run, watch: Callable[[Event], None] | None = None) -> dict[str, Any]:
    """Do the work of ``run`` in this process and return its final status (see ``Run.status``).

    Ctrl-C and SIGTERM ask the work to stop, as a stop from elsewhere does: at once, or at its next safe point where it
    is in the middle of something whole; a second Ctrl-C ends it at once (``KeyboardInterrupt``, the run being
    ``stopped``). ``watch`` sees every event, also those too frequent to be written down. What goes wrong inside ends as
    state ``failed`` with one sentence; ``UserError`` is raised only if the work cannot begin: another process works on
    the run, or the disk is full.
    """
    if processes.here().count > 1 and run.kind not in SHARED_OUT:
        raise UserError(f"Only align works in several processes: start this {run.kind} in one.")
    files.need_space(run.path)
    with run.lock() as mine:
        if not mine:
            raise UserError(f"Another process works on run {run.id} already; stop it first or wait for it.")
        files.sweep(run.path)
        return _Worker(run, watch).work()


class _Worker:
    """One go at the work of a run whose lock is held."""

    def __init__(self, run: Run, watch: Callable[[Event], None] | None) -> None:
        self.run, self.watch = run, watch
        self.log, self.pace = EventLog(run.path / "events.jsonl"), Pace()
        self.progress = Progress(self._emit, self._stopping)
        self.asked = False  # by a signal, or by a file in the run's folder
        self.noticed = False  # by the work, at a safe point
        self.over = False
        self.looked_at = self.wrote_at = 0.0
        self.started, self.began = steady(), time.monotonic()
        self.before = float(run.status()["seconds"] or 0.0)

    def work(self) -> dict[str, Any]:
        self._begin()
        with self._listening():
            try:
                if self._stopping():
                    raise Stopped
                work = _work(self.run.kind)
                task = self.run.kind, self.run.config(), self.run.path
                processes.heed(self._stopping)
                processes.agreed(task)  # see follow
                with self.progress.whole(processes.here().count > 1):  # broken off alone it would be waited for
                    result = work(*task[1:], self.progress)
                self.over = True
                self._end("finished", result=result, message="", seconds_left=0.0, partial=None)
            except KeyboardInterrupt:
                self._stopped()
                raise
            except BaseException as error:
                if isinstance(error, Stopped) or _stopped_within(error):
                    self._stopped()
                else:
                    self.over = True
                    with contextlib.suppress(OSError):
                        self._note(error)
                    self._end("failed", error=sentence(error), mendable=isinstance(error, UserError))
        return self.run.status()

    def _begin(self) -> None:
        """Say that the work goes on. Raises ``UserError`` if not even that fits on the disk."""
        reserve = self.run.path / "reserve"
        try:
            try:
                reserve.write_bytes(bytes(RESERVE))
            except OSError:
                reserve.unlink(missing_ok=True)
            self.run.write_status(
                state="running", pid=os.getpid(), pid_start=files.process_start(os.getpid()), noticed=False,
                started=self.run.status()["started"] or self.started, since=self.started, ended=None,
                error=None, message="", how=None, **self._now(),
            )  # fmt: skip
        except OSError as error:
            raise UserError(sentence(error)) from error

    def _now(self) -> dict[str, Any]:
        """What every line of the status repeats: when it was written and how long the run has worked."""
        worked = self.before + time.monotonic() - self.began
        return {"updated": steady(), "beat": files.moment(), "seconds": round(worked, 2)}

    def _emit(self, event: Event) -> None:
        with self.progress.whole():
            self._write(event)

    def _write(self, event: Event) -> None:
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
        now = time.monotonic()
        if known or now - self.wrote_at >= 0.2:
            self.wrote_at = now
            self.run.write_status(
                sync=False, stage=event.stage, step=event.step, total=event.total, message=event.message,
                seconds_left=left, **self._now(), **known,
            )  # fmt: skip

    def _stopping(self) -> bool:
        if not self.asked and time.monotonic() - self.looked_at >= LISTEN:
            self.looked_at = time.monotonic()
            self.asked = bool(self.run.stop_asked())
        if self.asked and not self.noticed:
            self.noticed = True  # whoever waits for the stop now knows that a checkpoint is being written
            with contextlib.suppress(OSError):  # a full disk must not keep the work from stopping
                self.run.write_status(sync=False, noticed=True)
        return self.asked

    def _stopped(self) -> None:
        """The work broke off because it was asked to."""
        self.over = True
        how = self.run.stop_asked() or "pause"
        ending: dict[str, Any] = {"message": control.WORDS.get(str(how), "")}
        if how == "keep":
            self.asked = True
            self._stopping()  # whoever waits is to let it finish this
            try:
                ending = control.keep(self.run)
            except (UserError, OSError) as error:
                ending = {"message": sentence(error)}
        self._end("stopped", how=how, **ending)

    def _end(self, state: str, **changes: Any) -> None:
        """The last word. On a full disk the space set aside for it is given up first."""
        now = self._now()
        changes |= now | {"state": state, "ended": now["updated"]}
        result = changes.get("result")
        if isinstance(result, dict):  # what was chosen automatically is known now
            changes |= {key: result[key] for key in ("method", "layers", "alpha") if result.get(key) is not None}
        with contextlib.suppress(OSError):
            (self.run.path / "reserve").unlink()
        self.run.write_status(**changes)
        if changes.get("how") != "discard":  # whoever comes next takes that to the bin
            self.run.clear_stop()

    def _note(self, error: BaseException) -> None:
        with open(self.run.path / "worker.log", "a", encoding="utf-8") as log:
            log.write("".join(traceback.format_exception(error)))

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Make SIGTERM and Ctrl-C a request to stop while the work lasts, and break it off where it may be.

        Only in a main thread; elsewhere the work looks for itself.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        asked_at = [0.0]

        def ask(number: int, frame: Any) -> None:
            if self.over:
                return
            twice = processes.here().count == 1 or time.monotonic() - asked_at[0] > LAUNCHED
            if number == signal.SIGINT and self.asked and twice:
                raise KeyboardInterrupt
            self.asked, asked_at[0] = True, time.monotonic()
            if self.progress.breakable and not _importing(frame):  # else it is asked again, see listen
                raise Stopped("broken off")
            if number == signal.SIGINT and sys.stderr.isatty():
                print("\nStopping at the next safe point; Ctrl-C again ends at once.", file=sys.stderr)

        def listen(main: int = threading.get_ident()) -> None:
            insisted = -INSIST
            while not self.over and not ended.wait(LISTEN):
                self.asked = self.asked or bool(self.run.stop_asked())
                if self.asked and self.progress.breakable and time.monotonic() - insisted >= INSIST and not self.over:
                    insisted = time.monotonic()
                    with contextlib.suppress(ProcessLookupError, OSError):
                        signal.pthread_kill(main, signal.SIGTERM)

        ended = threading.Event()
        # SIGHUP: the terminal was closed
        old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        thread = threading.Thread(target=listen, name="stop", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.over = True
            ended.set()
            thread.join(2)  # or its last signal could meet a process that no longer knows what it means
            for number, handler in old.items():
                signal.signal(number, handler)


def follow() -> int:
    """What every process of a run but the first does: the same work, once the first has said which, without a word.
    Exit 0, or 130 if the run was stopped, or 2 with a sentence on stderr."""
    place = processes.here().place
    try:
        task = processes.agreed(None)
        if task is not None:  # else there is nothing to do, and the first has said why
            kind, config, folder = task
            _work(kind)(config, folder, QUIET)
    except Stopped:
        return 130
    except Exception as error:
        if not _left_alone(error):
            print(f"Process {place}: {sentence(error, 'no more is known')}", file=sys.stderr, flush=True)
        return 2
    return 0


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
    if any(memory_full(item) for item in chain):
        return (
            "There is not enough memory for this: choose a smaller batch, shorter limits, a smaller model or bfloat16, "
            "then resume."
        )
    for item in chain:
        if isinstance(item, UserError):
            return str(item)
    if any(_left_alone(item) for item in chain):
        return (
            "Another process of this run has ended: what it said stands above. Start as many again and resume; it goes "
            "on from the last checkpoint."
        )
    first = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no more is known"
    return f"Something unexpected went wrong ({type(error).__name__}: {first}); {details}."


def _left_alone(error: BaseException) -> bool:
    """Whether another process of the run is no longer there."""
    said = str(error).lower()
    words = ("closed by peer", "connection reset", "broken pipe", "gloo")
    lost = type(error).__name__.startswith("Dist") or (
        isinstance(error, RuntimeError) and any(some in said for some in words)
    )
    return processes.here().count > 1 and lost


def _disk_full(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # safetensors and torch report what the system told them in words of their own
    return full or any(words in str(error) for words in FULL_DISK)


def memory_full(error: BaseException) -> bool:
    """Whether the machine or the GPU had no memory left."""
    # torch reports a full GPU as torch.OutOfMemoryError and a full machine as a RuntimeError of its allocator.
    said = str(error).lower()
    torch_full = isinstance(error, RuntimeError) and any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )
    return isinstance(error, MemoryError) or torch_full or getattr(error, "errno", None) == errno.ENOMEM


def _work(kind: str) -> Callable[[dict[str, Any], Path, Progress], Any]:
    target = WORK.get(kind)
    # Further kinds, and other work for known ones, for tests: RAHF_WORK="kind=module:function".
    extra = dict(item.split("=", 1) for item in os.environ.get("RAHF_WORK", "").split(",") if "=" in item)
    target = extra.get(kind, target)
    if target is None:
        raise UserError(f"This version does not know what to do with a run of kind {kind}.")
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported at this moment: some C code drops what is raised then and imports again, which
    not all modules take."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _stopped_within(error: BaseException) -> bool:
    """Whether a library wrapped the interruption of the work into an error of its own."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        if isinstance(link, Stopped):
            return True
        seen.append(link)
        link = link.__cause__ or link.__context__
    return False


def main(arguments: list[str] | None = None) -> int:
    """``python -m workbench.runs FOLDER``: what :func:`spawn` starts. Exit 0 unless the work could not begin."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    run = store.find_run(name)
    processes.forget()  # whoever started this one
    try:
        execute(run)
        queue.learn(run)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        with contextlib.suppress(UserError, OSError):
            control.settle(run)
            queue.tend()
    return 0
