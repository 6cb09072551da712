"""Progress of long work as typed events: whoever watches (terminal, page, log file) reads the same stream."""

from __future__ import annotations

import contextlib
import json
import math
import time as clock
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.errors import Stopped

_BEGAN = clock.time() - clock.monotonic()


def steady() -> float:
    """Unix seconds that never go back and pass at an even pace within this process, whoever sets the clock."""
    return _BEGAN + clock.monotonic()


@dataclass(frozen=True)
class Event:
    """One moment of a long piece of work.

    ``stage`` names the part of the work, ``step`` of ``total`` counts inside it (0 of 0: not countable), ``metrics``
    holds plain JSON values, ``time`` is in unix seconds (see :func:`steady`).
    """

    stage: str
    step: int = 0
    total: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    time: float = field(default_factory=steady)

    def to_json(self) -> str:
        """One line of strict JSON (a NaN or infinity becomes null, because browsers refuse them)."""
        return json.dumps(finite(asdict(self)), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Event:
        """The event in a line written by :meth:`to_json`; raises ``ValueError`` for anything else."""
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(f"not an event: {line[:80]!r}") from error


class Progress:
    """What long work reports to. Calling it emits an event, and raises :class:`Stopped` once a stop was asked for.

    Work that must reach a safe point first (a training loop that saves a checkpoint) reports with ``check=False``,
    looks at :meth:`stopping` itself, and does so within :meth:`whole`: outside of it whoever runs the work may raise
    :class:`Stopped` at any moment, so that a long call into a library does not keep a stop waiting.
    """

    def __init__(self, emit: Callable[[Event], None] | None = None, stopping: Callable[[], bool] | None = None) -> None:
        self._emit = emit or (lambda event: None)
        self._stopping = stopping or (lambda: False)
        self._whole = 0

    @property
    def breakable(self) -> bool:
        """Whether the work may be broken off at this moment."""
        return self._whole == 0

    @contextlib.contextmanager
    def whole(self, whole: bool = True) -> Iterator[None]:
        """What happens within is not broken off (with ``whole=False``: within that, it may be again)."""
        before, self._whole = self._whole, self._whole + 1 if whole else 0
        try:
            yield
        finally:
            self._whole = before

    def __call__(
        self, stage: str, step: int = 0, total: int = 0, message: str = "", check: bool = True, **metrics: Any
    ) -> None:
        self._emit(Event(stage, step, total, metrics, message))
        if check and self.stopping():
            raise Stopped(f"stopped in {stage}")

    def stopping(self) -> bool:
        """Whether somebody asked the work to stop."""
        return self._stopping()


QUIET = Progress()


def finite(value: Any) -> Any:
    """``value`` with numbers JSON cannot hold (NaN, infinities) replaced by None, at any depth, and NumPy scalars plain."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
