"""What the page says about one alignment run: its story and status in, the JSON of static/align.js out."""

from __future__ import annotations

import math
import time
from typing import Any

from workbench.ui import align_curves, align_fields, charts, context
from workbench.ui.align_story import LIVE, STAGES, Story, is_number, story_of

__all__ = [
    "DOING",
    "LIVE",
    "STAGES",
    "Story",
    "achieved",
    "head",
    "live",
    "nothing_yet",
    "rows_of",
    "story_of",
]

BEFORE = {"load": 0, "pairs": 0, "capture": 0, "score": 0, "project": 0, "check": 1, "calibrate": 1}
DOING = {
    "load": "Loading the model",
    "pairs": "Reading the pairs",
    "capture": "Reading the layers, to choose blocks",
    "score": "Scoring the layers, to choose blocks",
    "project": "Drawing the layers",
    "instruct": "Instructing the model",
    "check": "Checking what stage 1 taught",
    "patterns": "Collecting activity patterns",
    "calibrate": "Trying strengths, to choose alpha",
    "align": "Fitting the adapter",
    "evaluate": "Judging answers on held-out prompts",
    "save": "Saving the adapter",
}


# -- words -------------------------------------------------------------------------------------------------------------


def at_step(story: Story) -> str:
    """``step 162 of 250``, or the stage in words where steps are not counted."""
    event = story.last
    if event is None:
        return "at the start"
    return f"step {event.step} of {event.total}" if event.total else DOING.get(event.stage, event.stage).lower()


def head(status: dict[str, Any], story: Story, beside: bool = False) -> dict[str, Any]:
    """Title row and, where something went wrong, what is kept and what to do. ``beside``: the next run stands ready
    beside it, and its start is the page's first action."""
    told = _head(status, story)
    for part in (told, told.get("error") or {}, told.get("warn") or {}) if beside else ():
        part["actions"] = [one | {"primary": False} for one in part.get("actions") or []]
    return told


def _head(status: dict[str, Any], story: Story) -> dict[str, Any]:
    name, state = context.title_of(status), status["state"]
    event = story.last
    started = time.strftime("%H:%M", time.localtime(status.get("started") or status.get("created") or 0))
    bold = {"text": name, "as": "b"}
    if state == "queued" and status.get("queue"):
        return waiting_head(status, bold)
    if state in LIVE:
        event = event if at_work(status, story) else None
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
            "actions": [one | ({"off": True} if stopping else {}) for one in stops(story)],
        }
    again = {"label": "Resume", "act": "resume", "mark": "again", "primary": True}
    keep = [{"label": "Keep its adapter", "act": "keep"}] if story.loss and not status.get("partial") else []
    discard = {"label": "Discard", "act": "discard", "ghost": True}
    if state == "stopped":
        return stopped_head(status, story, bold, [again, *keep, discard])
    if state == "finished":
        return finished_head(status, story, bold)
    if state == "failed" and (fault := method_failed(status, story, bold, discard)):
        return fault
    where = f" at {at_step(story)}" if event else ""
    cause = "failed" if state == "failed" else "was interrupted"
    return {
        "title": f"{name} {cause}{where}",
        "sub": "What was measured stays on this page, and whole checkpoints stay on disk.",
        "error": {
            "strong": "The run ended with an error." if state == "failed" else "The run’s process is gone.",
            "text": align_fields.in_page_words(str(status.get("error") or "No cause is known.")),
            "actions": [
                again | {"label": "Resume from the last checkpoint"},
                {"label": "Change settings", "act": "copy"},
                *keep,
                discard,
            ],
        },
    }


def method_failed(
    status: dict[str, Any], story: Story, bold: dict[str, str], discard: dict[str, Any]
) -> dict[str, Any] | None:
    """A run that ended because it was not worth going on: what to change, and no resume, which would end there again.
    None for one that failed of something else, though it may have gone badly before."""
    check, at = story.latest.get("check"), story.last.stage if story.last else ""
    if not status.get("mendable", True):
        return None
    if at == "check" and check is not None and (check.get("separation_low") or 0) <= 0.5:
        title = f"{bold['text']} ended after stage 1: there is nothing to fit"
        strong, text = (
            "Stage 1 taught the model no preference.",
            [
                "Stage 3 would move states along a direction that means nothing, so it was not begun. Try more steps or a higher "
                "rate of stage 1, more pairs, or instructions that ask for clearly opposite answers. ",
                "Go on whatever stage 1 learned, in More settings, fits it anyway.",
            ],
        )
    elif at == "align" and story.latest.get("collapsed"):
        title = f"{bold['text']} ended at {at_step(story)}: answers fell apart"
        strong = "No adapter was worth keeping."
        text = align_fields.in_page_words(str(status.get("error") or story.latest["collapsed"]))
    else:
        return None
    change = {"label": "Change settings", "act": "copy", "primary": True}
    return {
        "title": title,
        "sub": "What was measured stays on this page.",
        "error": {"strong": strong, "text": text, "actions": [change, discard]},
    }


def at_work(status: dict[str, Any], story: Story) -> bool:
    """Whether the run has told anything since it was started (or resumed) last."""
    if status["state"] == "queued" or story.last is None:
        return False
    return story.last.time >= (status.get("since") or 0)


def stops(story: Story) -> list[dict[str, Any]]:
    """The ways to end a live run, each with what it leaves."""
    keeps = "Leaves an adapter of the steps done so far"
    nothing = "There is nothing to keep yet: the adapter is made in stage 3. Pause or cancel instead"
    keep = {"label": "Stop and keep", "act": "keep", "mark": "stop"}
    return [
        {
            "label": "Pause",
            "act": "pause",
            "mark": "pause",
            "title": "Ends it at a checkpoint; resume goes on from there",
        },
        keep | ({"title": keeps} if story.loss else {"title": nothing, "off": True}),
        {"label": "Cancel", "act": "discard", "ghost": True, "title": "Puts the run into the bin, with a way back"},
    ]


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
    said = (
        str(status.get("message") or "").removeprefix("Stopped; ")
        or "nothing is lost: resume goes on from the last checkpoint."
    )
    said = said[0].upper() + said[1:]
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
    title, result = finding[0] if finding else f"{bold['text']} is finished", status.get("result") or {}
    if result.get("ended") != "collapse":
        return {"title": title, "sub": sub, "actions": [compare]}
    return {
        "title": f"Ended early: answers fell apart; the adapter of step {result.get('steps')} is kept",
        "sub": [*sub, f" {title}." if finding else ""],
        "warn": {
            "strong": "Alpha is too high for these pairs, or the learning rate is.",
            "text": f"{result.get('collapse') or ''} For a run to its end, lower alpha: half of {alpha_text(result)} is a start.",
            "actions": [{"label": "Change settings", "act": "copy"}],
        },
        "actions": [compare],
    }


def alpha_text(result: dict[str, Any]) -> str:
    """The run's alpha as a person reads it."""
    return f"{result['alpha']:.3g}" if is_number(result.get("alpha")) else "this one"


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
        if not is_number(value):
            continue
        title = gains.format(math.floor(100 * value + 1e-9))  # 99.5% is not all of them
        if is_number(chance) and (low if is_number(low) else value) <= chance:
            title = "Aligned is not clearly better than base"
        against = (
            f" against {_with_interval(base, key)} for base" if key == "preferred" and is_number(base.get(key)) else ""
        )
        said = f"{word} {value:.2f} {charts.interval(low, high)}{against}"
        if is_number(coherent):
            title += _coherence_tail(coherent, reference if is_number(reference) else 1.0)
            said += f"; coherence {_with_interval(aligned, 'coherence')}"
            said += f" against {_with_interval(base, 'coherence')} for base" if is_number(reference) else ""
        count = aligned.get("pairs")
        return title, [said + (f"; {count} held-out prompts." if isinstance(count, int) else ".")]
    return None


def _with_interval(row: dict[str, Any], key: str) -> str:
    """``0.46 [0.39, 0.52]``."""
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return f"{row[key]:.2f} {charts.interval(low, high)}".rstrip()


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
        if i == 1:  # patterns, then strengths: two halves of one bar
            share, ended = _second(story, share, ended, i < current)
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
        bars.append({"name": word, "label": word, "text": text, "share": round(share, 1), "error": broken})
    return bars


def _second(story: Story, share: float, ended: float, done: bool) -> tuple[float, float]:
    """How far stage 2 is, in per cent, and when it last moved, with the strengths that it tries after the patterns."""
    if "calibrate" not in story.spans:
        return (100.0 if done else share / 2), ended  # whether strengths will be tried is not known here
    _, last, step, total = story.spans["calibrate"]
    return (100.0 if done else 50 + 50 * step / total if total else 50.0), last


def progress(status: dict[str, Any], story: Story) -> dict[str, Any]:
    """The panel above the curves."""
    state, live = status["state"], status["state"] in LIVE
    last = story.last if not live or at_work(status, story) else None
    left = status.get("seconds_left")
    took = charts.duration(status.get("seconds"))
    if live:
        doing = DOING.get(last.stage, "Working") if last else "Starting: loading libraries and the model"
        where = {"instruct": " in stage 1", "patterns": " in stage 2", "calibrate": " in stage 2"}
        where = where.get(last.stage if last else "", "")
        counted = last is not None and last.stage in STAGES and is_number(left) and left > 0
        heading = f"About {charts.duration(left)} left{where}" if counted else doing
    else:
        stage = min(3, sum(name in story.spans for name in STAGES)) or 1
        stopped = "Paused" if status.get("how") == "pause" else "Stopped"
        heading = {"finished": f"Finished in {took}", "stopped": f"{stopped} in stage {stage}"}.get(
            state, f"Ended in stage {stage}"
        )
    panel: dict[str, Any] = {
        "heading": heading,
        "live": live,
        "stages": stage_bars(story, state),
        "note": verdict(story) or (AWAITED if live or state == "stopped" else None),
    }
    if live and last is None:
        panel["right"] = "starting"
    elif live:
        fresh = max(last.time, status.get("updated") or 0)
        panel["age"] = f"{max(0.0, time.time() - fresh):.1f}@{story.version}"
    else:
        ended = status.get("ended") or status.get("updated") or 0
        panel["right"] = f"{time.strftime('%H:%M', time.localtime(ended))}, after {took}"
    return panel


AWAITED = {"kind": "wait", "text": "Stage 1 is judged here, on held-out prompts, before stage 3 begins."}


def verdict(story: Story) -> dict[str, Any] | None:
    """Whether stage 1 taught anything, from what the check found."""
    check = story.latest.get("check")
    if check is None:
        return None
    good = (check.get("separation_low") or 0) > 0.5
    said = str(check.get("message") or "").partition(": ")[2]
    text: list[Any] = [
        {"text": "Stage 1 worked. " if good else "Stage 1 taught too little. ", "as": "b"},
        said[:1].upper() + said[1:],
    ]
    gap, low, high = (check.get(f"margin_gap{end}") for end in ("", "_low", "_high"))
    if is_number(gap):
        text.append(
            f" The margin between the two answers differs by {gap:.2f} {charts.interval(low, high)} nats a token."
        )
    plus, minus = check.get("preferred_plus"), check.get("preferred_minus")
    if is_number(plus) and is_number(minus):
        text.append(
            f" Preferred answers to held-out prompts: {plus:.0%} on the preferred side, {minus:.0%} on the other"
        )
        text += [{"text": f" ({check['prompts']} prompts each)", "as": "q"} if check.get("prompts") else "", "."]
    if not good and story.loss:
        text.append(" The fit goes on because the settings say so; expect little of it.")
    return {"kind": "" if good else "warn", "text": text}


def live(status: dict[str, Any], story: Story, steps: int = 0, calibrates: bool = False) -> dict[str, Any]:
    """The whole right column; ``steps`` is how many stage 3 will make, and ``calibrates`` whether strengths are tried to
    choose alpha: both known before the run comes to it."""
    return {
        "progress": progress(status, story),
        "charts": align_curves.main(status, story, steps),
        "more": align_curves.more(status, story, steps),
        "before": align_curves.before(status, story, calibrates),
        "samples": align_curves.samples(status, story),
    }


def nothing_yet(steps: int = 0, others: bool = False) -> dict[str, Any]:
    """The right column while no run is selected: the places of what will come. ``others``: there are runs, in the list."""
    story, status = Story(), {"state": "queued"}
    panel = live(status, story, steps, calibrates=True)
    panel["progress"] = {
        "heading": "No run is open: start one, or open one below" if others else "Nothing has run yet",
        "right": "the run has three stages",
        "stages": stage_bars(story, "queued"),
        "note": AWAITED,
    }
    panel["samples"]["empty"] = (
        "Answers of base and aligned to the same held-out prompts appear here while the run goes on."
    )
    for chart in [*panel["charts"], *panel["more"]["charts"]]:
        chart["empty"] = "drawn while the run goes on"
    return panel
