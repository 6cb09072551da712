"""Step 1: pairs are read in a thread, so that the page can show how far it is and stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from workbench.errors import Stopped, UserError
from workbench.progress import Event, Progress
from workbench.ui.model_panel import Job

_live: dict[str, Reading] = {}
_guard = threading.Lock()


class Reading:
    """One visitor's pairs being read by ``take(progress)``. A newer one stops it, and so does the visitor."""

    def __init__(self, visitor: str, take: Callable[[Progress], Any], what: str) -> None:
        self.what = what
        self.event: Event | None = None
        self.stopping = threading.Event()
        self._visitor = visitor
        with _guard:
            if visitor in _live:
                _live[visitor].stopping.set()
            _live[visitor] = self
        progress = Progress(self._heard, self.stopping.is_set)
        self._job = Job(lambda: take(progress))

    def _heard(self, event: Event) -> None:
        self.event = event

    def wait(self, every: float = 0.4) -> Iterator[str]:
        """A line about how far it is, again and again until it is done. Left early (the tab was closed): it stops."""
        done = False
        try:
            for seconds in self._job.wait(every):
                yield self.line(seconds)
            done = True
        finally:
            if not done:
                self.stopping.set()

    def line(self, seconds: float) -> str:
        """What is being done, how many rows, and for how long."""
        if self.stopping.is_set():
            return f"Stopping: {self.what}"
        event, at = self.event, ""
        if event is not None and event.stage == "pairs":
            share = f", {100 * event.step / event.total:.0f}%" if event.total else ""
            at = f"{share}, {event.message}" if event.message else share
        return f"{self.what}{at}, {seconds:.0f} s"

    def result(self) -> Any:
        """What was read. Raises UserError if it was stopped, or cannot be read."""
        try:
            return self._job.result()
        except Stopped as error:
            raise UserError("Reading was stopped: nothing was changed.") from error
        finally:
            with _guard:
                if _live.get(self._visitor) is self:
                    del _live[self._visitor]


def stop(visitor: str) -> None:
    """Stop what this visitor is reading, if anything."""
    with _guard:
        if visitor in _live:
            _live[visitor].stopping.set()
