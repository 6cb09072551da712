"""What takes a while to make of a run, in a thread of the server: it goes on when the page is closed, and can be cancelled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from workbench.errors import Stopped, UserError
from workbench.progress import Event, Progress

log = logging.getLogger("workbench.page")
_guard, _turn = threading.Lock(), threading.Lock()
_makings: dict[tuple[str, str], Making] = {}


class Making:
    """One thing being made; ``message``, ``step`` of ``total`` and ``error`` (a sentence) are for showing."""

    def __init__(self, work: Callable[[Progress], None]) -> None:
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

        try:
            with _turn:  # one at a time: two models in memory at once may be too many
                self._work(Progress(self._hear, self.cancelled.is_set))
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


def start(run_id: str, kind: str, work: Callable[[Progress], None]) -> None:
    """Begin to make ``kind`` of a run, unless that is under way. ``work`` gets a Progress that says when to stop."""
    with _guard:
        before = _makings.get((run_id, kind))
        if before is None or not before.working:
            _makings[run_id, kind] = Making(work)


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
