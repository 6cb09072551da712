"""The desk of step 4: answers for everybody who asks at the same time, on one machine.

Work is a generator whose pieces are short (a token of a batch, one pass over some answers). One thread does the pieces of
all visitors, one at a time, and whoever has had the least time goes next: of two who ask at once each takes at most twice
as long as alone. Between two pieces nothing of a visitor's work is left in the model, so a piece may switch adapters and
put hooks on blocks. Work goes on when the tab that asked is closed; it ends when it is done, stopped, or asked anew.

>>> job = desk.ask(visitor, "chat", load, work)     # load() in a thread of its own, then work(job) piece by piece
>>> for shown in job.watch(0.1): ...                # what the work last showed (job.show), until it ends
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from workbench.errors import UserError

MOST = 24  # jobs at once on the whole machine


class Job:
    """One visitor's work: what it shows, how long it took, how it ended."""

    def __init__(self, visitor: str, kind: str) -> None:
        self.visitor, self.kind = visitor, kind
        self.shown: Any = None  # set as a whole by :meth:`show`, never changed in place
        self.used = 0.0  # seconds of work, those of others left out
        self.stopping = False  # it is to end where it is
        self.dropped = False  # and what it made is not wanted any more
        self.error: BaseException | None = None
        self.done = False
        self.work: Iterator[Any] | None = None
        self._news = threading.Condition()
        self._count = 0

    def show(self, value: Any) -> None:
        """Let everybody who watches see this."""
        with self._news:
            self.shown = value
            self._count += 1
            self._news.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come."""
        with self._news:
            self.error, self.done = error, True
            self._news.notify_all()

    def watch(self, every: float = 0.1) -> Iterator[Any]:
        """What is shown, whenever it has changed and at most so often (seconds), until the work has ended. Then raises
        what the work raised, if it failed."""
        seen = 0
        while True:
            with self._news:
                if not self.done and self._count == seen:
                    self._news.wait(1.0)
                ended, fresh, shown = self.done, self._count != seen, self.shown
                seen = self._count
            if fresh:
                yield shown
            if ended:
                break
            time.sleep(every)
        if self.error is not None:
            raise self.error

    def result(self) -> Any:
        """Wait for the end and return what was shown last. Raises what the work raised."""
        for _ in self.watch():
            pass
        return self.shown


class Desk:
    """All jobs of the machine and the one thread that does them."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._jobs: list[Job] = []  # that are loading or at work
        self._had: dict[str, float] = {}  # visitor at work -> seconds had, counted from when the others stood
        self._change = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(
        self,
        visitor: str,
        kind: str,
        load: Callable[[], Any],
        work: Callable[[Job], Iterator[Any]],
    ) -> Job:
        """Begin work of this visitor; their earlier work of the same ``kind`` ends where it is. ``load`` (which may take
        long and touches no model that others use) is called in a thread of its own first.

        Raises UserError if too many are at work.
        """
        job = Job(visitor, kind)
        with self._change:
            if sum(other.visitor != visitor or other.kind != kind for other in self._jobs) >= MOST:
                raise UserError("Many people are asking at this moment: try again in a minute.")
            for other in self._jobs:
                if (other.visitor, other.kind) == (visitor, kind):
                    other.stopping = other.dropped = True
            self._jobs.append(job)

        def prepare() -> None:
            try:
                load()
            except BaseException as error:  # handed over to whoever watches
                self._drop(job, error)
                return
            if job.dropped:
                self._drop(job)
                return
            with self._change:
                job.work = work(job)
                self._join(job)

        threading.Thread(target=prepare, name="compare-load", daemon=True).start()
        return job

    def job(self, visitor: str, kind: str) -> Job | None:
        """The visitor's latest job of this kind while it is not done."""
        with self._change:
            mine = [job for job in self._jobs if (job.visitor, job.kind) == (visitor, kind) and not job.dropped]
        return mine[-1] if mine else None

    def stop(self, visitor: str, kind: str, drop: bool = False) -> None:
        """Let the visitor's work of this kind end where it is; with ``drop``, nothing of it is kept."""
        with self._change:
            for job in self._jobs:
                if (job.visitor, job.kind) == (visitor, kind):
                    job.stopping, job.dropped = True, job.dropped or drop

    # -- the one who works ---------------------------------------------------------------------------------------------

    def _join(self, new: Job) -> None:
        """Whoever comes starts level with those who have had the least: no claims on time when nobody was there."""
        at_work = {job.visitor for job in self._jobs if job.work is not None and job is not new}
        self._had = {name: seconds for name, seconds in self._had.items() if name in at_work}
        self._had.setdefault(new.visitor, min(self._had.values(), default=0.0))
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="compare-desk", daemon=True)
            self._thread.start()

    def _next(self) -> Job | None:
        ready = [job for job in self._jobs if job.work is not None]
        return min(ready, key=lambda job: (self._had.get(job.visitor, 0.0), not job.stopping, job.used), default=None)

    def _work(self) -> None:
        while True:
            with self._change:
                job = self._next()
                if job is None:
                    self._thread = None
                    return
            self._piece(job)

    def _piece(self, job: Job) -> None:
        """Do one piece of a job."""
        began = self._clock()
        try:
            next(job.work)
        except StopIteration:
            self._drop(job)
        except BaseException as error:  # handed over to whoever watches
            self._drop(job, error)
        took = self._clock() - began
        job.used += took
        with self._change:
            self._had[job.visitor] = self._had.get(job.visitor, 0.0) + took

    def _drop(self, job: Job, error: BaseException | None = None) -> None:
        with self._change, contextlib.suppress(ValueError):
            self._jobs.remove(job)
        job.end(error)


desk = Desk()
