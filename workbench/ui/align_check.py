"""Before the start: what stands in the way of a run, and what it will cost, found beside the page's own work.

Looking at pairs, disk and memory can take a second, typing must not: :func:`look` answers at once with what is known
and lets a thread find the rest, of the newest settings only. What was found is kept for a minute, by settings.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from workbench.ui import align_fields, state
from workbench.ui.state import Workspace

log = logging.getLogger("workbench.page")
FRESH = 60.0  # seconds for which free memory and disk are taken as they were
PAUSE = 0.25  # seconds of quiet before settings are looked at
SEVERITIES = ("stop", "warn", "note")


@dataclass
class Desk:
    """What one visitor wants to know and what was found."""

    wanted: str = ""
    ask: Any = None  # makes the outcome of ``wanted``
    working: bool = False
    found: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)  # by key: when, outcome
    last: dict[str, Any] | None = None  # the outcome shown meanwhile
    moved: threading.Condition = field(default_factory=threading.Condition)


_desks = state.Cache(256)
_at_once = threading.Semaphore(2)


def look(workspace: Workspace, values: dict[str, Any]) -> dict[str, Any]:
    """What is known of these settings now: {problems, rows, basis, working}. Never waits."""
    desk = _desks.get(workspace.visitor, Desk)
    key = key_of(workspace, values)
    with desk.moved:
        if (known := _fresh(desk, key)) is not None:
            desk.wanted, desk.last = key, known
            return known | {"working": False}
        desk.wanted, desk.ask = key, lambda: outcome(workspace, values)
        desk.moved.notify_all()
        if not desk.working:
            desk.working = True
            threading.Thread(target=_work, args=(desk,), name="before-the-start", daemon=True).start()
        return (desk.last or nothing()) | {"working": True}


def wait(workspace: Workspace, values: dict[str, Any], seconds: float = 10.0) -> dict[str, Any] | None:
    """What is known of these settings, waited for if need be; None if that takes too long."""
    look(workspace, values)
    desk, key = _desks.get(workspace.visitor, Desk), key_of(workspace, values)
    with desk.moved:
        desk.moved.wait_for(lambda: _fresh(desk, key) is not None or desk.wanted != key, seconds)
        return _fresh(desk, key)


def nothing() -> dict[str, Any]:
    """The outcome where nothing is known."""
    return {"problems": [], "rows": [], "basis": "", "working": False}


def key_of(workspace: Workspace, values: dict[str, Any]) -> str:
    """What the outcome depends on, apart from the machine."""
    pairs = workspace.pairs or {}
    about = [workspace.model.get("fingerprint"), pairs.get("fingerprint"), pairs.get("count")]
    return json.dumps([values, about], sort_keys=True, default=str)


def _fresh(desk: Desk, key: str) -> dict[str, Any] | None:
    when, found = desk.found.get(key, (0.0, None))
    return found if found is not None and time.monotonic() - when < FRESH else None


def _work(desk: Desk) -> None:
    """Find what is wanted until nothing is; settings that were typed over meanwhile are passed by."""
    while True:
        with desk.moved:
            key, ask = desk.wanted, desk.ask
            if _fresh(desk, key) is not None:
                desk.working = False
                return
            if desk.moved.wait_for(lambda key=key: desk.wanted != key, PAUSE):
                continue
        with _at_once:
            try:
                found = ask()
            except Exception:  # it is only advice: the run itself checks everything again
                log.exception("settings could not be looked at before the start")
                found = nothing() | {
                    "basis": "What this run will cost could not be estimated; it can start all the same."
                }
        with desk.moved:
            desk.found[key] = (time.monotonic(), found)
            while len(desk.found) > 40:
                desk.found.pop(next(iter(desk.found)))
            if desk.wanted == key:
                desk.last = found
            desk.moved.notify_all()


# -- what is found -----------------------------------------------------------------------------------------------------


def outcome(workspace: Workspace, values: dict[str, Any]) -> dict[str, Any]:
    """Problems and costs of these settings, as the page shows them. May take seconds."""
    from workbench.rahf.config import RunConfig

    try:
        from workbench.rahf import preflight
    except ImportError:
        return nothing()

    state.import_engine()
    config = RunConfig.from_dict(values)
    problems = [shown_problem(one) for one in preflight.preflight(config)]
    problems.sort(key=lambda one: SEVERITIES.index(one["severity"]))
    return {"problems": problems, "rows": [], "basis": ""}


def shown_problem(one: Any) -> dict[str, Any]:
    """A problem as the page shows it, with the words for its field."""
    severity = one.severity if one.severity in SEVERITIES else "note"
    return {"severity": severity, "field": one.field, "label": align_fields.label(one.field), "text": one.text}
