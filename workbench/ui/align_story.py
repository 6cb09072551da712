"""A run as the page knows it: a :class:`Story` collects the events of one run; :func:`story_of` keeps the stories of the
last few runs in memory and reads only what was appended since, so that a look costs a ``stat`` when nothing moved."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from workbench.progress import Event
from workbench.ui import charts

STAGES = ("instruct", "patterns", "align")  # the three bars; every other stage belongs to the bar before or after it
# figures of a look
LOOKED = ("preferred", "win_rate", "coherence", "preference_accuracy", "kl_from_base", "mean_tokens")
STEPPED = ("loss", "grad_norm", "learning_rate")  # figures of a step
LIVE = ("queued", "running")
SHOWN = (
    "relative_strength",
    "alpha",
    "layers",
    "memory_bytes",
    "tokens_per_second",
    "base_coherence",
    "base_mean_tokens",
    "calibration",
    "collapsed",
)


@dataclass
class Story:
    """Everything the page draws of a run, gathered event by event."""

    spans: dict[str, list[float]] = field(default_factory=dict)  # stage -> [first time, last time, step, total]
    instruct: list[tuple[float, float]] = field(default_factory=list)  # loss of step 1
    steps: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {name: [] for name in STEPPED})
    fit: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    reached: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    looks: dict[str, list[charts.Rate]] = field(default_factory=lambda: {name: [] for name in LOOKED})
    samples: list[tuple[int, list[dict[str, str]]]] = field(default_factory=list)  # of every look: step, rows
    last: Event | None = None
    latest: dict[str, Any] = field(default_factory=dict)  # metrics that are shown as they stand
    loaded: float = 0.0  # when the model was loaded last: what stood before it was another sitting
    position: int = 0  # byte in events.jsonl up to which it was read
    version: int = 0  # rises with every change

    @property
    def loss(self) -> list[tuple[float, float]]:
        """The loss of step 3."""
        return self.steps["loss"]

    def add(self, events: Iterable[Event]) -> None:
        """Take in events in their order. A stage that begins again (after a resume) overwrites what lay ahead of it."""
        for event in events:
            self.last = event
            self.version += 1
            if event.stage == "load":
                self.loaded = event.time
            span = self.spans.setdefault(event.stage, [event.time, event.time, 0, 0])
            if span[1] < self.loaded:  # between two sittings nobody worked
                span[0] += event.time - span[1]
            span[1:] = [event.time, max(event.step, 0), max(event.total, 0) or span[3]]
            self._metrics(event)

    def _metrics(self, event: Event) -> None:
        metrics, step = event.metrics, float(event.step)
        if event.stage == "instruct" and is_number(metrics.get("loss")):
            _append(self.instruct, (step, metrics["loss"]))
        if event.stage == "align":
            self._step(step, metrics)
        if event.stage in ("align", "evaluate"):
            at = step if event.stage == "align" else float(self.spans.get("align", [0, 0, step])[2])
            for name, series in self.looks.items():
                if is_number(metrics.get(name)):
                    _append(series, (at, metrics[name], metrics.get(f"{name}_low"), metrics.get(f"{name}_high")))
        if isinstance(metrics.get("samples"), list) and metrics["samples"]:
            _append(self.samples, (event.step, metrics["samples"]))
        if event.stage == "align" and event.step == 0 and is_number(metrics.get("preferred")):
            self.latest["base_preferred"] = metrics["preferred"]  # nothing is fitted yet: it is the base that answered
        if event.stage == "check" and is_number(metrics.get("separation")):
            self.latest["check"] = metrics | {"message": event.message}
        for name in SHOWN:
            if metrics.get(name) is not None and (name != "tokens_per_second" or event.stage in STAGES):
                self.latest[name] = metrics[name]

    def _step(self, step: float, metrics: dict[str, Any]) -> None:
        for name, series in self.steps.items():
            if is_number(metrics.get(name)):
                _append(series, (step, metrics[name]))
        for name, blocks in (("fit", self.fit), ("reached", self.reached)):
            values = metrics.get(name)
            for block, share in values.items() if isinstance(values, dict) else ():
                if is_number(share):
                    _append(blocks.setdefault(int(block), []), (step, share))


def is_number(value: Any) -> bool:
    """Whether something that came in an event is a number (and no truth value)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _append(series: list, point: tuple) -> None:
    """Put a point at the end, over what a resumed run does again; the look at the base that every sitting begins with
    takes nothing away."""
    if point[0] <= 0 and series and series[-1][0] > 0:
        return
    while series and series[-1][0] >= point[0]:
        series.pop()
    series.append(point)


_stories: OrderedDict[str, Story] = OrderedDict()
_guard = threading.Lock()


def story_of(run: Any, keep: int = 24) -> Story:
    """The story of a run up to now. Shared by all tabs; only the bytes that are new are read."""
    with _guard:
        story = _stories.setdefault(run.id, Story())
        _stories.move_to_end(run.id)
        while len(_stories) > keep:
            _stories.popitem(last=False)
        events, position = run.events(story.position)
        if position < story.position:  # the file began anew
            _stories[run.id] = story = Story(version=story.version + 1)
        story.add(events)
        story.position = position
        return story
