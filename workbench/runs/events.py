"""The event stream of a run on disk: one JSON line per event, appended by the worker, read by whoever watches."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from workbench.progress import Event

READ_AT_MOST = 8 * 2**20  # bytes per call, so that a watcher of a very long run is never held up


class EventLog:
    """``events.jsonl``. One writer, any number of readers; a line cut off by a kill is never read and never extended.

    >>> log = EventLog(folder / "events.jsonl")
    >>> log.append(Event("align", 1, 250, {"loss": 0.7}))
    >>> events, position = log.read()
    >>> events, position = log.read(position)      # what came since
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._begun = False

    def append(self, event: Event) -> None:
        """Write one event. Raises ``OSError`` if the disk does not take it."""
        with open(self.path, "ab") as file:
            if not self._begun and self._torn():
                file.write(b"\n")  # an earlier worker was killed within a line: its rest must not join ours
            file.write(event.to_json().encode() + b"\n")
        self._begun = True

    def read(self, since: int = 0) -> tuple[list[Event], int]:
        """The events that begin at or after byte ``since``, and the byte to ask from next time.

        Costs one ``stat`` when nothing is new. A last line still being written waits for the next call; a line that is
        no event is passed over. If the file became shorter (the run began anew), reading starts at its beginning.
        """
        try:
            size = os.stat(self.path).st_size
        except OSError:
            return [], 0
        since = since if 0 <= since <= size else 0
        if since == size:
            return [], since
        with open(self.path, "rb") as file:
            file.seek(since)
            block = file.read(READ_AT_MOST)
        whole = block[: block.rfind(b"\n") + 1]
        return [event for line in whole.splitlines() if (event := _parse(line))], since + len(whole)

    def _torn(self) -> bool:
        try:
            with open(self.path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # missing or empty
            return False


def _parse(line: bytes) -> Event | None:
    try:
        event = Event.from_json(line.decode())
    except ValueError:
        return None
    return event if isinstance(event.stage, str) and isinstance(event.metrics, dict) else None


class Pace:
    """Decides which events are worth a line, and how long the stage will still take.

    Every event that says something new is kept: the first of its stage, the last step, a new message, metrics. Bare
    steps are kept five times a second. Metrics of one sort (the same names) are kept until there are ``plenty`` of
    them, then five times a second as well, so a run of a million steps has no file of a gigabyte.
    """

    def __init__(self, every: float = 0.2, plenty: int = 4000) -> None:
        self._every, self._plenty = every, plenty
        self._sorts: Counter[tuple[str, frozenset[str]]] = Counter()
        self._stage: str | None = None
        self._message = ""
        self._first = (0.0, 0)  # time and step at which the stage was entered
        self._kept_at = 0.0

    def keep(self, event: Event) -> bool:
        """Whether to write ``event`` down; asked once per event, in order."""
        sort = (event.stage, frozenset(event.metrics) - {"seconds_left", "memory_bytes"})
        self._sorts[sort] += 1
        new = (
            event.stage != self._stage or event.message != self._message or (event.total and event.step >= event.total)
        )
        if event.stage != self._stage:
            self._first = (event.time, event.step)
        self._stage, self._message = event.stage, event.message
        telling = bool(sort[1]) and self._sorts[sort] <= self._plenty
        if not (new or telling or event.time - self._kept_at >= self._every):
            return False
        self._kept_at = event.time
        return True

    def seconds_left(self, event: Event) -> float | None:
        """Seconds until this stage ends, from its own speed; None while that cannot be told."""
        at, step = self._first
        done, left = event.step - step, event.total - event.step
        if event.stage != self._stage or event.total <= 0 or done <= 0 or left < 0:
            return None
        return round((event.time - at) / done * left, 2)
