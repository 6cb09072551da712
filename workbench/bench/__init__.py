"""How fast and how lean the engine is, against the naive way and against a floor: ``python -m workbench bench``.

Each bench does the same work both ways in turn, several times over, and reports medians, so that a machine with other
work slows both sides alike. A figure that does not apply is None. What a ratio should be stands beside it as its goal.
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

# the module that does a bench, and what its ``run`` is told besides
BENCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "capture": ("capture", {"blocks": 8, "width": 512}),
    "capture_24": ("capture", {"blocks": 24, "width": 896}),
    "step1_scit": ("step1", {}),
    "step3_scit": ("step3", {"method": "scit"}),
    "step3_dual": ("step3", {"method": "dual"}),
    "compare_1": ("compare", {"prompts": 1}),
    "compare_16": ("compare", {"prompts": 16}),
    "scores": ("scores", {}),
    "page_start": ("page", {}),
    "page_slider": ("page_slider", {"pages": 1}),
    "page_many": ("page_slider", {"pages": 20}),
    "coverage": ("coverage", {}),
    "growth": ("growth", {}),
}
USUAL = ("capture", "step1_scit", "step3_scit", "step3_dual", "compare_1", "compare_16", "scores", "page_start")


@dataclass(frozen=True)
class Measure:
    """One bench's figures. ``seconds``: ours, the median; ``over_floor``: ours as a multiple of what cannot be avoided;
    ``speedup_over_naive``; ``memory_over_naive``: what ours needs beyond the weights as a share of what the naive way
    needs; ``tokens_per_second``; ``goals``: what a figure should be at most (a speed-up: at least); ``details``:
    whatever else was found, by name."""

    name: str
    seconds: float
    over_floor: float | None = None
    speedup_over_naive: float | None = None
    memory_over_naive: float | None = None
    tokens_per_second: float | None = None
    goals: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def missed(self) -> list[str]:
        """The goals that were not reached, by the names of their figures."""
        return [name for name, goal in self.goals.items() if not self._reached(name, goal)]

    def _reached(self, name: str, goal: float) -> bool:
        value = getattr(self, name)
        return value is not None and (value >= goal if name == "speedup_over_naive" else value <= goal)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"missed": self.missed}


def run(names: Sequence[str] = (), progress: Progress = QUIET) -> list[Measure]:
    """Run these benches in order, or the usual ones. Raises UserError for an unknown name."""
    for name in names:
        if name not in BENCHES:
            raise UserError(f"There is no bench {name!r}: choose among {', '.join(BENCHES)}.")
    found = []
    for name in names or USUAL:
        module, settings = BENCHES[name]
        found.append(import_module(f"workbench.bench.{module}").run(name, progress, **settings))
    return found


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
