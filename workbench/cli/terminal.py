"""What the command line writes where: one JSON object or a short table on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from workbench.progress import Event, finite

MANY = 100_000  # steps (bytes, for instance): more are shown as a share


@contextlib.contextmanager
def quiet_stdout() -> Iterator[TextIO]:
    """Send to stderr whatever anybody prints meanwhile, libraries in C included; yields the true stdout."""
    true = sys.stdout
    true.flush()
    try:
        number = true.fileno()
    except (OSError, ValueError):  # replaced by something that is no file
        with contextlib.redirect_stdout(sys.stderr):
            yield true
        return
    kept = {target: os.dup(target) for target in {1, number}}  # they differ where something captures the output
    try:
        for target in kept:
            os.dup2(2, target)
        with os.fdopen(os.dup(kept[number]), "w", encoding="utf-8") as out, contextlib.redirect_stdout(sys.stderr):
            yield out
    finally:
        for target, copy in kept.items():
            os.dup2(copy, target)
            os.close(copy)


def print_json(value: Any, out: TextIO) -> None:
    """One JSON object on one line; numbers that JSON cannot hold are null."""
    out.write(json.dumps(finite(value), ensure_ascii=False, allow_nan=False) + "\n")
    out.flush()


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """A plain table: numbers to three digits and aligned right, nothing as ``-``."""
    if not rows:
        return "(none)"
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [[plain(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    number = [all(_is_number(row.get(column)) for row in rows) for column in columns]
    lines = [
        "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(*parts, strict=True))
        for parts in ((line, widths, number) for line in cells)
    ]
    return "\n".join(line.rstrip() for line in lines)


def plain(value: Any) -> str:
    """A value as a reader wants it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        few = abs(value) < 100 and not (value.is_integer() and abs(value) >= 2)
        return f"{value:.3f}" if few else f"{value:.0f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    return str(value)


def duration(seconds: float | None) -> str:
    """``75`` is ``1:15``; nothing is ``-``."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


class ProgressLine:
    """Shows events on stderr: one line rewritten in place on a terminal, a line every few seconds elsewhere."""

    SHOWN = ("loss", "preferred", "win_rate", "coherence")

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.terminal = self.out.isatty()
        self.every = 0.1 if self.terminal else 5.0
        self.stage = ""
        self.shown_at = 0.0
        self.open = False
        self.known: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        if event.stage != self.stage:
            self.known = {}
        self.known |= {key: event.metrics[key] for key in self.SHOWN if event.metrics.get(key) is not None}
        if event.stage == self.stage and time.monotonic() - self.shown_at < self.every:
            return
        self.stage, self.shown_at = event.stage, time.monotonic()
        self._write(self.line(event))

    def line(self, event: Event) -> str:
        """The event in words: ``align 120/250 · loss 0.41 · 0:45 left``."""
        far = f"{event.step / event.total:.0%}" if event.total >= MANY else f"{event.step}/{event.total}"
        parts = [f"{event.stage} {far}" if event.total else event.stage]
        parts += [f"{key.replace('_', ' ')} {plain(value)}" for key, value in self.known.items()]
        if (left := event.metrics.get("seconds_left")) is not None:
            parts.append(f"{duration(left)} left")
        return " · ".join([*parts, *([event.message] if event.message else [])])

    def _write(self, text: str) -> None:
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            self.out.write(f"\r{text[:width]:<{width}}")
            self.open = True
        else:
            self.out.write(text + "\n")
        self.out.flush()

    def close(self) -> None:
        """End the line, so that what follows begins on a new one."""
        if self.open:
            self.out.write("\n")
            self.out.flush()
            self.open = False
