"""What takes a while to make of a run, in a thread of the server: it goes on when the page is closed, and can be cancelled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from workbench.errors import Stopped, UserError
from workbench.progress import Event, Progress

log = logging.getLogger("workbench.page")
KEPT = 86_400  # seconds that a failure is told
ENDING = "What you cancelled has not come to its end yet: press again in a moment."
ANOTHER = "One thing at a time: wait until the other one is made, or cancel it."
_guard, _turn = threading.Lock(), threading.Lock()
_makings: dict[tuple[str, str], Making] = {}


class Making:
    """One thing being made; ``message``, ``step`` of ``total`` and ``error`` (a sentence) are for showing."""

    def __init__(self, visitor: str, work: Callable[[Progress], None]) -> None:
        self.visitor = visitor
        self.began, self.message, self.step, self.total = time.monotonic(), "Waiting for its turn", 0, 0
        self.error, self.cancelled, self.done = "", threading.Event(), threading.Event()
        self._work = work
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def working(self) -> bool:
        """Whether it is still to be waited for: a cancelled one is not, even if its thread has not come to an end yet."""
        return not self.done.is_set() and not self.cancelled.is_set()

    def said(self) -> str:
        """Where it is, in a few words."""
        share = f" {self.step / self.total:.0%}" if self.total else ""
        return f"{self.message}{share}, {time.monotonic() - self.began:.0f} s"

    def _run(self) -> None:
        from workbench.runs.worker import sentence

        progress = Progress(self._hear, self.cancelled.is_set)
        try:
            while not _turn.acquire(timeout=0.2):  # one at a time: two models in memory at once may be too many
                progress("wait")
            try:
                progress("load", message="Loading the model")
                self._work(progress)
            finally:
                _turn.release()
        except Stopped:
            pass
        except UserError as error:
            self.error = str(error)
        except Exception as error:
            log.exception("an export could not be made")
            self.error = sentence(error, "the server's log has the details")
        finally:
            self.done.set()

    def _hear(self, event: Event) -> None:
        self.message, self.step, self.total = event.message or self.message, event.step, event.total


def start(visitor: str, run_id: str, kind: str, work: Callable[[Progress], None]) -> None:
    """Begin to make ``kind`` of a run, unless that is under way. ``work`` gets a Progress that says when to stop.

    Raises UserError while a thread is at work for this visitor, even one that was cancelled: it may hold a model."""
    with _guard:
        for key, old in list(_makings.items()):
            if old.done.is_set() and (not old.error or time.monotonic() - old.began > KEPT):
                del _makings[key]  # what it made is on disk
        before = _makings.get((run_id, kind))
        if before is not None and before.working:
            return
        mine = [one for one in _makings.values() if not one.done.is_set() and (one is before or one.visitor == visitor)]
        if mine:
            raise UserError(ANOTHER if any(one.working for one in mine) else ENDING)
        _makings[run_id, kind] = Making(visitor, work)


def look(run_id: str, kind: str) -> Making | None:
    """What is, or was last, being made; None if nothing was since the server began."""
    with _guard:
        return _makings.get((run_id, kind))


def cancel(run_id: str, kind: str) -> None:
    """Let go of it: what it has made so far is thrown away at its next step."""
    if (making := look(run_id, kind)) is not None:
        making.cancelled.set()


def working(run_id: str) -> bool:
    """Whether anything is being made of a run."""
    with _guard:
        return any(making.working for (run, _), making in _makings.items() if run == run_id)
