"""How fast and how lean the engine is, against the naive way and against a floor: ``python -m workbench bench``.

Each bench does the same work both ways in turn, several times over, and reports medians, so that a machine with other
work slows both sides alike. A figure that does not apply is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from statistics import median
from time import perf_counter
from typing import Any

from workbench.errors import UserError
from workbench.progress import QUIET, Progress

NAMES = ("scores", "capture", "coverage")
USUAL = ("scores", "capture")  # what runs when nothing is named; the others take minutes


@dataclass(frozen=True)
class Measure:
    """One bench's figures. ``seconds``: ours, the median; ``over_floor``: ours as a multiple of what cannot be avoided;
    ``speedup_over_naive``; ``memory_over_naive``: what ours keeps as a share of what the naive way keeps;
    ``tokens_per_second``; ``details``: whatever else was found, by name."""

    name: str
    seconds: float
    over_floor: float | None = None
    speedup_over_naive: float | None = None
    memory_over_naive: float | None = None
    tokens_per_second: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def run(names: Sequence[str] = (), progress: Progress = QUIET) -> list[Measure]:
    """Run these benches in order, or the usual ones. Raises UserError for an unknown name."""
    for name in names:
        if name not in NAMES:
            raise UserError(f"There is no bench {name!r}: choose among {', '.join(NAMES)}.")
    return [import_module(f"workbench.bench.{name}").run(progress) for name in names or USUAL]


def interleaved(ways: dict[str, Callable[[], Any]], repeats: int, progress: Progress, stage: str) -> dict[str, float]:
    """The median seconds of each way: all in turn, ``repeats`` times, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, work in ways.items():
            progress(stage, turn, repeats + 1, message=name)
            started = perf_counter()
            work()
            if turn:
                taken[name].append(perf_counter() - started)
    progress(stage, repeats + 1, repeats + 1)
    return {name: median(seconds) for name, seconds in taken.items()}
