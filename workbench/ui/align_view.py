"""What the page says about one alignment run: its events and status in, the JSON of static/align.js out.

A :class:`Story` collects the events of one run; :func:`story_of` keeps the stories of the last few runs in memory and
reads only what was appended since, so that a look costs a ``stat`` when nothing moved.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from workbench.progress import Event
from workbench.ui import charts, context

STAGES = ("instruct", "patterns", "align")  # the three bars; every other stage belongs to the bar before or after it
BEFORE = {"load": 0, "pairs": 0, "capture": 0, "score": 0, "project": 0, "check": 1}
DOING = {
    "load": "Loading the model",
    "pairs": "Reading the pairs",
    "capture": "Reading the layers, to choose blocks",
    "score": "Scoring the layers, to choose blocks",
    "project": "Drawing the layers",
    "instruct": "Instructing the model",
    "check": "Checking what step 1 taught",
    "patterns": "Collecting activity patterns",
    "align": "Fitting the adapter",
    "evaluate": "Judging answers on held-out prompts",
    "save": "Saving the adapter",
}
LIVE = ("queued", "running")
SHOWN = ("relative_strength", "alpha", "layers", "memory_bytes", "tokens_per_second", "base_coherence")


@dataclass
class Story:
    """Everything the page draws of a run, gathered event by event."""

    spans: dict[str, list[float]] = field(default_factory=dict)  # stage -> [first time, last time, step, total]
    instruct: list[tuple[float, float]] = field(default_factory=list)
    loss: list[tuple[float, float]] = field(default_factory=list)
    fit: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    preferred: list[charts.Rate] = field(default_factory=list)
    wins: list[charts.Rate] = field(default_factory=list)
    coherence: list[charts.Rate] = field(default_factory=list)
    last: Event | None = None
    latest: dict[str, Any] = field(default_factory=dict)  # metrics that are shown as they stand
    samples: tuple[int, list[dict[str, str]]] = (0, [])
    position: int = 0  # byte in events.jsonl up to which it was read
    version: int = 0  # rises with every change

    def add(self, events: Iterable[Event]) -> None:
        """Take in events in their order. A stage that begins again (after a resume) overwrites what lay ahead of it."""
        for event in events:
            self.last = event
            self.version += 1
            span = self.spans.setdefault(event.stage, [event.time, event.time, 0, 0])
            span[1:] = [event.time, max(event.step, 0), max(event.total, 0) or span[3]]
            self._metrics(event)

    def _metrics(self, event: Event) -> None:
        metrics, step = event.metrics, float(event.step)
        loss = metrics.get("loss")
        if event.stage in ("instruct", "align") and _number(loss):
            _append(self.instruct if event.stage == "instruct" else self.loss, (step, loss))
        if event.stage == "align" and isinstance(metrics.get("fit"), dict):
            for block, share in metrics["fit"].items():
                if _number(share):
                    _append(self.fit.setdefault(int(block), []), (step, share))
        for name, series in (("preferred", self.preferred), ("win_rate", self.wins), ("coherence", self.coherence)):
            value = metrics.get(name)
            if event.stage in ("align", "evaluate") and _number(value):
                at = step if event.stage == "align" else float(self.spans.get("align", [0, 0, step])[2])
                _append(series, (at, value, metrics.get(f"{name}_low"), metrics.get(f"{name}_high")))
        if isinstance(metrics.get("samples"), list) and metrics["samples"]:
            self.samples = (event.step, metrics["samples"])
        if event.stage == "align" and event.step == 0 and _number(metrics.get("preferred")):
            self.latest["base_preferred"] = metrics["preferred"]  # nothing is fitted yet: it is the base that answered
        if event.stage == "check" and _number(metrics.get("separation")):
            self.latest["check"] = metrics | {"message": event.message}
        for name in SHOWN:
            if metrics.get(name) is not None and (name != "tokens_per_second" or event.stage in STAGES):
                self.latest[name] = metrics[name]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _append(series: list, point: tuple) -> None:
    while series and series[-1][0] >= point[0] and point[0] > 0:
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


# -- words -------------------------------------------------------------------------------------------------------------


def blocks_text(blocks: Iterable[int]) -> str:
    """``5 and 7``, ``3, 5 and 7``."""
    texts = [str(block) for block in blocks]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def at_step(story: Story) -> str:
    """``step 162 of 250``, or the stage in words where steps are not counted."""
    event = story.last
    if event is None:
        return "at the start"
    return f"step {event.step} of {event.total}" if event.total else DOING.get(event.stage, event.stage).lower()


def head(status: dict[str, Any], story: Story) -> dict[str, Any]:
    """Title row and, where something went wrong, what is kept and what to do."""
    name, state = context.title_of(status), status["state"]
    event = story.last
    started = time.strftime("%H:%M", time.localtime(status.get("started") or status.get("created") or 0))
    bold = {"text": name, "as": "b"}
    if state == "queued" and status.get("queue"):
        return waiting_head(status, bold)
    if state in LIVE:
        doing = DOING.get(event.stage, "Working") if event else "Starting"
        steps = f": step {event.step} of {event.total}" if event and event.total and event.stage in STAGES else ""
        stopping = status.get("stopping")
        ends = {"keep": "Stopping, and keeping the adapter", "discard": "Cancelling"}
        return {
            "title": ends.get(stopping, "Stopping at the next safe point") if stopping else doing + steps,
            "sub": [
                "Run ",
                bold,
                f" started at {started}. It goes on when this page is closed; any tab finds it again.",
            ],
            "actions": [one | {"off": bool(stopping)} for one in STOPS],
        }
    again = {"label": "Resume", "act": "resume", "mark": "again", "primary": True}
    keep = [{"label": "Keep its adapter", "act": "keep"}] if story.loss and not status.get("partial") else []
    discard = {"label": "Discard", "act": "discard", "ghost": True}
    if state == "stopped":
        return stopped_head(status, story, bold, [again, *keep, discard])
    if state == "finished":
        return finished_head(status, story, bold)
    where = f" at {at_step(story)}" if event else ""
    cause = "failed" if state == "failed" else "was interrupted"
    return {
        "title": f"{name} {cause}{where}",
        "sub": "What was measured stays on this page, and whole checkpoints stay on disk.",
        "error": {
            "strong": "The run ended with an error." if state == "failed" else "The run’s process is gone.",
            "text": str(status.get("error") or "No cause is known."),
            "actions": [
                again | {"label": "Resume from the last checkpoint"},
                {"label": "Change settings", "act": "copy"},
                *keep,
                discard,
            ],
        },
    }


STOPS = (
    {"label": "Pause", "act": "pause", "mark": "pause", "title": "Ends it at a checkpoint; resume goes on from there"},
    {"label": "Stop and keep", "act": "keep", "mark": "stop", "title": "Leaves an adapter of the steps done so far"},
    {"label": "Cancel", "act": "discard", "ghost": True, "title": "Puts the run into the bin, with a way back"},
)


def waiting_head(status: dict[str, Any], bold: dict[str, str]) -> dict[str, Any]:
    """A run in the queue: its place, when it may start, and how to change that."""
    place = status["queue"]
    when = f"in about {charts.duration(place['seconds'])}" if place["seconds"] is not None else "when they have ended"
    said = str(status.get("message") or "")
    return {
        "title": f"Waiting: place {place['position']} of {place['of']}",
        "sub": ["Run ", bold, f" starts {when}; one run at a time works on the device. ", said],
        "actions": [
            {"label": "Sooner", "act": "sooner", "off": place["position"] == 1},
            {"label": "Later", "act": "later", "off": place["position"] == place["of"]},
            {"label": "Take out of the queue", "act": "pause", "mark": "stop"},
            {"label": "Cancel", "act": "discard", "ghost": True},
        ],
    }


def stopped_head(status: dict[str, Any], story: Story, bold: dict[str, str], actions: list[dict]) -> dict[str, Any]:
    """A run that was stopped: what is left of it, and the ways on."""
    partial = status.get("partial")
    if partial:
        kept = f" was stopped at step {partial['steps']} of {partial['of']}; the adapter of these steps is kept. "
        compare = {"label": "Compare answers", "act": "open:compare", "mark": "next", "primary": True}
        actions = [compare, *(action | {"primary": False} for action in actions)]
        return {
            "title": f"{bold['text']} is stopped and kept",
            "sub": ["Run ", bold, kept, "Resume goes on."],
            "actions": actions,
        }
    said = str(status.get("message") or "Nothing is lost: resume goes on from the last checkpoint.")
    how = "paused" if status.get("how") == "pause" else "stopped"
    if story.last is None:
        return {
            "title": f"{bold['text']} has not begun",
            "sub": ["Run ", bold, " was taken out of the queue."],
            "actions": actions,
        }
    sub = ["Run ", bold, f" was {how} at {at_step(story)}. {said}"]
    return {"title": f"{bold['text']} is {how}", "sub": sub, "actions": actions}


def finished_head(status: dict[str, Any], story: Story, bold: dict[str, str]) -> dict[str, Any]:
    """What the finished run achieved, as the page's title."""
    took = charts.duration(status.get("seconds"))
    finding = achieved(rows_of(status.get("result") or {}))
    sub: list[Any] = ["Run ", bold, f" finished in {took}. ", *(finding[1] if finding else [])]
    compare = {"label": "Compare answers", "act": "open:compare", "mark": "next", "primary": True}
    return {"title": finding[0] if finding else f"{bold['text']} is finished", "sub": sub, "actions": [compare]}


def achieved(rows: list[dict[str, Any]]) -> tuple[str, list[Any]] | None:
    """What held-out prompts say, as a title and a sentence; None without numbers. ``rows``: the base's first."""
    if len(rows) < 2:
        return None
    base, aligned = rows[0], rows[-1]
    coherent, reference = aligned.get("coherence"), base.get("coherence")
    for key, gains, chance, word in (
        (
            "preferred",
            "Aligned gives preferred answers to {}% of held-out prompts",
            base.get("preferred"),
            "Preferred",
        ),
        ("win_rate", "Aligned wins {}% of held-out prompts", 0.5, "Win rate"),
    ):
        value, low, high = aligned.get(key), aligned.get(f"{key}_low"), aligned.get(f"{key}_high")
        if not _number(value):
            continue
        title = gains.format(math.floor(100 * value + 1e-9))  # 99.5% is not all of them
        if _number(chance) and (low if _number(low) else value) <= chance:
            title = "Aligned is not clearly better than base"
        against = f" against {base[key]:.2f} for base" if key == "preferred" and _number(base.get(key)) else ""
        said = f"{word} {value:.2f} {charts.interval(low, high)}{against}"
        if _number(coherent):
            title += _coherence_tail(coherent, reference if _number(reference) else 1.0)
            said += f"; coherence {coherent:.2f}" + (f" against {reference:.2f} for base" if _number(reference) else "")
        return title, [said + "."]
    return None


def _coherence_tail(value: float, reference: float) -> str:
    if value < 0.5:
        return ", and its answers are not coherent"
    return ", and stays coherent" if value >= reference - 0.05 else ", but loses coherence"


def rows_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of a run's or an evaluation's models, the base first; empty if there are none."""
    held_out = result.get("held_out")
    if isinstance(held_out, dict) and isinstance(held_out.get("aligned"), dict):
        return [held_out.get("base") or {}, held_out["aligned"]]
    models = result.get("models")
    return [row for row in models if isinstance(row, dict)] if isinstance(models, list) else []


def stage_bars(story: Story, state: str) -> list[dict[str, Any]]:
    """The three bars: how far each stage is and how long it took."""
    last = story.last
    current = -1 if last is None else STAGES.index(last.stage) if last.stage in STAGES else BEFORE.get(last.stage, 3)
    if state == "finished":
        current = 3
    bars = []
    for i, (stage, word) in enumerate(zip(STAGES, ("1 Instruct", "2 Patterns", "3 Fit"), strict=True)):
        begun, ended, step, total = story.spans.get(stage, [0.0, 0.0, 0, 0])
        share = 100.0 if i < current else 100 * step / total if i == current and total else 0.0
        took = charts.clock(ended - begun) if ended else ""
        if i == 1:
            text = took if i <= current else ""
        elif i < current:
            text = f"done, {took}" if took else "done"
        elif i == current and stage in story.spans:
            text = f"{step} of {total}, {took}" if total else took
        else:
            text = ""
        broken = i == min(current, 2) and state in ("failed", "interrupted")
        bars.append(
            {"name": word, "label": word if i != 1 else "2", "text": text, "share": round(share, 1), "error": broken}
        )
    return bars


def progress(status: dict[str, Any], story: Story) -> dict[str, Any]:
    """The panel above the curves."""
    state, last = status["state"], story.last
    live = state in LIVE
    left = status.get("seconds_left")
    took = charts.duration(status.get("seconds"))
    if live:
        doing = DOING.get(last.stage, "Working") if last else "Starting: loading libraries and the model"
        where = {"instruct": " in stage 1", "patterns": " in stage 2"}.get(last.stage if last else "", "")
        counted = last is not None and last.stage in STAGES and _number(left) and left > 0
        heading = f"About {charts.duration(left)} left{where}" if counted else doing
    else:
        stage = min(3, sum(name in story.spans for name in STAGES)) or 1
        heading = {"finished": f"Finished in {took}", "stopped": f"Stopped in stage {stage}"}.get(
            state, f"Ended in stage {stage}"
        )
    panel: dict[str, Any] = {
        "heading": heading,
        "live": live,
        "stages": stage_bars(story, state),
        "note": verdict(story),
    }
    if live:
        fresh = max((last.time if last else 0), status.get("updated") or 0)
        panel["age"] = f"{max(0.0, time.time() - fresh):.1f}@{story.version}"
    else:
        ended = status.get("ended") or status.get("updated") or 0
        panel["right"] = f"{time.strftime('%H:%M', time.localtime(ended))}, after {took}"
    return panel


def verdict(story: Story) -> dict[str, Any] | None:
    """Whether step 1 taught anything, from what the check found."""
    check = story.latest.get("check")
    if check is None:
        return None
    good = (check.get("separation_low") or 0) > 0.5
    said = str(check.get("message") or "").partition(": ")[2]
    text: list[Any] = [
        {"text": "Step 1 worked. " if good else "Step 1 taught too little. ", "as": "b"},
        said[:1].upper() + said[1:],
    ]
    plus, minus = check.get("preferred_plus"), check.get("preferred_minus")
    if _number(plus) and _number(minus):
        text.append(
            f" Preferred answers to held-out prompts: {plus:.0%} on the preferred side, {minus:.0%} on the other"
        )
        text += [{"text": f" ({check['prompts']} prompts each)", "as": "q"} if check.get("prompts") else "", "."]
    return {"kind": "" if good else "warn", "text": text}


def curves(status: dict[str, Any], story: Story, steps: int = 0) -> list[dict[str, Any]]:
    """Loss, fit, preferred share (or win rate) and coherence."""
    state = "running" if status["state"] in LIVE else status["state"]
    total = int(story.spans.get("align", [0, 0, 0, 0])[3]) or steps or 100
    base, now = story.latest.get("base_coherence"), story.loss[-1][0] if story.loss else 0.0
    if story.loss or not story.instruct:
        loss = charts.loss_chart(story.loss, total, state=state)
    else:
        of = int(story.spans["instruct"][3]) or 100
        loss = charts.loss_chart(story.instruct, of, state=state, sub="stage 1, loss of instructing, by step")
        loss["title"] = loss["title"].replace("The loss", "The instructed model’s loss", 1)
    last = "Last " if state in ("failed", "interrupted", "stopped") else ""
    if story.preferred:
        value, reference = story.preferred[-1][1], story.latest.get("base_preferred")
        rate = charts.rate_chart(
            story.preferred,
            total,
            name="Preferred share of answers",
            base=reference,
            now=now,
            state=state,
            title=f"{last or ''}{'preferred' if last else 'Preferred'} answers {value:.2f}",
            base_text=f"base {reference:.2f}" if reference is not None else "",
            sub="share of sampled answers on held-out prompts, told by the judge",
        )
    else:
        title = f"{last}{'win' if last else 'Win'} rate {story.wins[-1][1]:.2f}" if story.wins else ""
        rate = charts.rate_chart(
            story.wins,
            total,
            name="Win rate",
            title=title,
            base=0.5,
            base_text="base, by definition",
            now=now,
            state=state,
            sub="held-out, judged against base",
        )
    return [
        loss,
        charts.fit_chart(story.fit, total, state=state),
        rate,
        charts.coherence_chart(story.coherence, total, base=base, now=now, state=state),
    ]


def samples(status: dict[str, Any], story: Story) -> dict[str, Any]:
    """The table of sample answers."""
    step, rows = story.samples
    texts = [
        {name: str(row.get(name) or "") for name in ("prompt", "base", "aligned")}
        for row in rows[:4]
        if isinstance(row, dict)
    ]
    if not texts:
        waits = (
            "They come with the first look at held-out prompts, during stage 3."
            if status["state"] in LIVE
            else "None were made."
        )
        return {"title": "Sample answers", "right": "", "rows": [], "empty": waits}
    return {"title": f"Sample answers at step {step}", "right": "temperature 1, same seed", "rows": texts}


def live(status: dict[str, Any], story: Story, steps: int = 0) -> dict[str, Any]:
    """The whole right column; ``steps`` is how many stage 3 will make, known before it begins."""
    return {
        "progress": progress(status, story),
        "charts": curves(status, story, steps),
        "samples": samples(status, story),
    }


def nothing_yet(steps: int = 0) -> dict[str, Any]:
    """The right column before the first run: the places of what will come."""
    story, status = Story(), {"state": "queued"}
    panel = live(status, story, steps)
    panel["progress"] = {
        "heading": "Nothing has run yet",
        "right": "the run has three stages",
        "stages": stage_bars(story, "queued"),
        "note": None,
    }
    panel["samples"]["empty"] = (
        "Answers of base and aligned to the same held-out prompts appear here while the run goes on."
    )
    for chart in panel["charts"]:
        chart["empty"] = "drawn while the run goes on"
    return panel
