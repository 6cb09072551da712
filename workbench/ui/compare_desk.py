"""The desk of step 4: answers for everybody who asks at the same time, on one machine.

Work is a generator whose pieces are short (a token of a batch, one pass over some answers). One thread does the pieces of
all visitors, one at a time, and whoever has had the least time goes next: of two who ask at once each takes at most twice
as long as alone. Between two pieces nothing of a visitor's work is left in the model, so a piece may switch adapters and
put hooks on blocks. Work goes on when the tab that asked is closed; it ends when it is done, stopped, or asked anew.
Whoever watches is let go of at once then, also while the model is still loading.

>>> job = desk.ask(visitor, "chat", load, work)     # load() in a thread of its own, then work(job, loaded) piece by piece
>>> for shown in job.watch(0.1): ...                # what the work last showed (job.show), until it ends
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from workbench.errors import UserError

MOST = 24  # jobs at once on the whole machine
EACH = 3  # of them, of one visitor, and threads that load for them
_numbers = itertools.count()


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
        self.frame: Any = None  # what stands around it on the page, for whoever draws it
        self.load: Callable[[], Any] | None = None  # until a thread has taken it
        self.begin: Callable[[Job, Any], Iterator[Any]] | None = None
        self.work: Iterator[Any] | None = None  # once it is loaded
        self._news = threading.Condition()
        self._number, self._count = next(_numbers), 0

    @property
    def stamp(self) -> tuple[int, int]:
        """Another one whenever something else is shown."""
        return self._number, self._count

    def show(self, value: Any) -> None:
        """Let everybody who watches see this."""
        with self._news:
            self.shown = value
            self._count += 1
            self._news.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come. What ended before stays as it was."""
        with self._news:
            if not self.done:
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
            with self._news:
                self._news.wait_for(lambda: self.done, every)
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
        self._loading: Counter[str] = Counter()  # visitor -> threads that load
        self._change = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(
        self,
        visitor: str,
        kind: str,
        load: Callable[[], Any],
        work: Callable[[Job, Any], Iterator[Any]],
    ) -> Job:
        """Begin work of this visitor; their earlier work of the same ``kind`` ends where it is. ``load`` (which may take
        long and touches no model that others use) is called in a thread of its own first; ``work`` is given what it
        returned, so that nothing has to be loaded on the desk.

        Raises UserError if too many are at work.
        """
        job = Job(visitor, kind)
        job.load, job.begin = load, work
        with self._change:
            others = [one for one in self._jobs if not one.dropped and (one.visitor, one.kind) != (visitor, kind)]
            if len(others) >= MOST:
                raise UserError("Many people are asking at this moment: try again in a minute.")
            if sum(one.visitor == visitor for one in others) >= EACH:
                raise UserError("You have asked several things at once: wait for one of them, or stop it.")
            self._stop(visitor, kind, drop=True)
            self._jobs.append(job)
            if self._loading[visitor] < EACH:
                self._loading[visitor] += 1
                threading.Thread(target=self._load, args=(visitor,), name="compare-load", daemon=True).start()
        return job

    def job(self, visitor: str, kind: str) -> Job | None:
        """The visitor's latest job of this kind while it is not done."""
        with self._change:
            mine = [job for job in self._jobs if (job.visitor, job.kind) == (visitor, kind) and not job.dropped]
        return mine[-1] if mine else None

    def stop(self, visitor: str, kind: str, drop: bool = False) -> None:
        """Let the visitor's work of this kind end where it is; with ``drop``, nothing of it is kept. What is still loading
        has nothing to keep."""
        with self._change:
            self._stop(visitor, kind, drop)

    def _stop(self, visitor: str, kind: str, drop: bool) -> None:
        for job in [one for one in self._jobs if (one.visitor, one.kind) == (visitor, kind)]:
            job.stopping, job.dropped = True, job.dropped or drop or job.work is None
            if job.work is None:
                self._jobs.remove(job)
            if job.dropped:
                job.end()  # what has begun is cleared away on the desk

    def _load(self, visitor: str) -> None:
        """Load what this visitor asked, as long as there is something: of what was asked anew meanwhile only the latest."""
        while True:
            with self._change:
                job = next((one for one in self._jobs if one.visitor == visitor and one.load), None)
                if job is None:
                    self._loading[visitor] -= 1
                    self._loading += Counter()  # without those at zero
                    return
                load, job.load = job.load, None
            try:
                ready = load()
            except BaseException as error:  # handed over to whoever watches
                self._drop(job, error)
                continue
            with self._change:
                if not job.done:
                    job.work = job.begin(job, ready)
                    self._join(job)
            del ready  # a model, perhaps, that nobody wants any more

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
        return min(
            ready,
            key=lambda job: (not job.dropped, self._had.get(job.visitor, 0.0), not job.stopping, job.used),
            default=None,
        )

    def _work(self) -> None:
        while True:
            with self._change:
                job = self._next()
                if job is None:
                    self._thread = None
                    return
            self._piece(job)

    def _piece(self, job: Job) -> None:
        """Do one piece of a job; one that is not wanted any more is cleared away."""
        began = self._clock()
        try:
            if job.dropped:
                job.work.close()
                raise StopIteration
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
