"""Strengths tried before anything is fitted: one prompt, answered at every strength of a ladder, seen through a slider.

All strengths are answered together, with the same luck, so the slider that picks one of them waits for nothing.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.runs.store import Run
from workbench.ui import align_story, answers, html, state
from workbench.ui.page import Page

LONGEST = 2000  # characters of a prompt
MOST_TOKENS = 128  # of an answer
ALPHAS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)  # where the run has not measured any yet
EVERY = 0.15  # seconds between two looks at growing answers
KEPT = 256  # visitors whose last answers are kept

_models = state.Cache(1, weights=True)
_guard = threading.Lock()
_asked: OrderedDict[str, tuple[int, bool]] = OrderedDict()  # visitor -> number of the last question, whether to stop
_said: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()  # (visitor, run) -> the last answers


class PreviewPanel:
    """The view and what presses in it do."""

    def __init__(self, page: Page) -> None:
        self.view = html.view("align-preview", elem_id="rw-preview", elem_classes="rw-fill")
        self.parts = [self.view]
        many = {"trigger_mode": "multiple", "concurrency_limit": 4, "concurrency_id": "align-preview"}
        page.on(self.view.select, self.pressed, None, self.view, event=True, **many)

    def updates(self, visitor: str) -> dict[Any, Any]:
        """The panel as the selected run stands now."""
        return {self.view: html.value(drawn(visitor))}

    def pressed(self, visitor: str, sent: dict) -> Iterator[Any]:
        if sent.get("action") == "preview-stop":
            stop(visitor)
            yield gr.skip()
        elif sent.get("action") == "preview":
            for view in ask(visitor, sent.get("prompt")):
                yield html.value(view)


def build(page: Page) -> PreviewPanel:
    """Put the panel where it is called."""
    return PreviewPanel(page)


def drawn(visitor: str) -> dict[str, Any]:
    """The panel's JSON: what can be tried, and what was answered last."""
    run = state.run_of(state.open_workspace(visitor))
    if run is None:
        return {"shown": False}
    from workbench.runs.loading import can_preview

    if not can_preview(run):
        return {"shown": True, "ready": False}
    with _guard:
        said = _said.get((visitor, run.id))
    rungs = said["rungs"] if said else ladder(run)
    rows = [row for _, rows in align_story.story_of(run).samples[:1] for row in rows[:1]]
    prompt = next((str(row.get("prompt") or "") for row in rows), "")
    empty = {"prompt": prompt[:LONGEST], "texts": [], "live": False, "seconds": None}
    # who answers at alpha 0, and is moved
    who = "Instructed model" if run.config().get("foundation") == "instructed" else "Base"
    about = {"shown": True, "ready": True, "rungs": rungs, "chosen": taken(run, rungs), "run": run.id, "who": who}
    return about | (said or empty)


def ladder(run: Run) -> list[dict[str, Any]]:
    """The strengths to try: alpha; relative strength and drift where the run measured them. The first is 0; the run's own
    is one of them once it is known."""
    from workbench.jsonfile import read_json

    story = align_story.story_of(run)
    found = read_json(run.path / "calibration.json") or {}
    points = found.get("points") or []
    rungs = [{key: point.get(key) for key in ("alpha", "relative_strength", "drift")} for point in points]
    alpha, strength = _alpha(run), story.latest.get("relative_strength") or {}
    mean = sum(strength.values()) / len(strength) / alpha if strength and alpha else None
    more = [] if rungs else list(ALPHAS)
    if alpha and all(abs(rung["alpha"] - alpha) > 0.02 * alpha for rung in rungs):
        more.append(alpha)
    rungs += [
        {"alpha": one, "relative_strength": round(one * mean, 4) if mean else None, "drift": None} for one in {*more}
    ]
    zero = {"alpha": 0.0, "relative_strength": 0.0, "drift": None}
    return [zero, *sorted(rungs, key=lambda rung: rung["alpha"])]


def taken(run: Run, rungs: list[dict[str, Any]]) -> int:
    """The place of the strength nearest to the run's own; 0 while that is not known."""
    alpha = _alpha(run)
    return min(range(1, len(rungs)), key=lambda place: abs(rungs[place]["alpha"] - alpha)) if alpha else 0


def _alpha(run: Run) -> float | None:
    return (run.status().get("result") or {}).get("alpha", align_story.story_of(run).latest.get("alpha"))


def ask(visitor: str, prompt: Any) -> Iterator[dict[str, Any]]:
    """The panel with answers growing at all strengths at once. Raises UserError."""
    prompt = str(prompt or "").strip()
    if not prompt:
        raise UserError("There is nothing to answer yet: write a prompt for the preview.")
    if len(prompt) > LONGEST:
        raise UserError(f"A prompt for the preview may have up to {LONGEST} characters, not {len(prompt)}.")
    run = state.run_of(state.open_workspace(visitor))
    if run is None:
        raise UserError("There is no run here; it may have been deleted.")
    number, rungs = _next(visitor), ladder(run)
    answer = {"prompt": prompt, "rungs": rungs, "texts": [], "live": True, "seconds": None}
    began = time.monotonic()
    _say(visitor, number, run, answer)
    yield drawn(visitor)
    try:
        for texts in _growing(visitor, number, run, prompt, [rung["alpha"] for rung in rungs]):
            answer = answer | {"texts": texts}
            if not _say(visitor, number, run, answer):
                return
            yield drawn(visitor)
    finally:  # also when nobody listens any more
        _say(visitor, number, run, answer | {"live": False, "seconds": round(time.monotonic() - began, 1)})
    yield drawn(visitor)


def _growing(visitor: str, number: int, run: Run, prompt: str, alphas: list[float]) -> Iterator[list[str]]:
    """The answers at all strengths, now and then, until they end, are stopped, or another question comes."""
    state.import_engine()
    from workbench.generation import Sampling
    from workbench.preview import preview
    from workbench.rahf.config import RunConfig
    from workbench.runs.loading import load_preview

    config = RunConfig.from_dict(run.config())
    loaded, shift = _models.get(run.id, lambda: load_preview(run))
    sampling = Sampling(max_new_tokens=min(MOST_TOKENS, config.max_new_tokens), seed=config.seed)
    shown, now = 0.0, None
    with answers.in_use:
        for now in preview(loaded, [prompt] * len(alphas), alphas, shift, sampling, [0] * len(alphas)):
            if _number(visitor) != number or _stopped(visitor):
                break
            if time.monotonic() - shown >= EVERY:
                shown = time.monotonic()
                yield [answer.text for answer in now.answers]
    yield [answer.text for answer in now.answers] if now else []


def _say(visitor: str, number: int, run: Run, answer: dict[str, Any]) -> bool:
    """Keep what is answered by now, unless another question came meanwhile; returns whether none did."""
    with _guard:
        current = _asked.get(visitor, (0, False))[0] == number
        if current:
            _said[visitor, run.id] = answer
            while len(_said) > KEPT:
                _said.popitem(last=False)
        return current


def stop(visitor: str) -> None:
    """Let the question that is being answered end where it is; what was said stays."""
    with _guard:
        _asked[visitor] = (_asked.get(visitor, (0, False))[0], True)


def _next(visitor: str) -> int:
    """A new question of this visitor: an earlier one is answered no further."""
    with _guard:
        number = _asked.pop(visitor, (0, False))[0] + 1
        _asked[visitor] = (number, False)
        while len(_asked) > KEPT:
            _asked.popitem(last=False)
        return number


def _number(visitor: str) -> int:
    return _asked.get(visitor, (0, False))[0]


def _stopped(visitor: str) -> bool:
    return _asked.get(visitor, (0, True))[1]
