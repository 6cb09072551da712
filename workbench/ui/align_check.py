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

from workbench.errors import UserError
from workbench.ui import align_fields, charts, state
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
    """What is known of these settings now: {problems, rows, basis, run_bytes, working}. Never waits."""
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
    return {"problems": [], "rows": [], "basis": "", "run_bytes": 0, "working": False}


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
    state.import_engine()
    from workbench.rahf.config import RunConfig
    from workbench.rahf.preflight import outlook
    from workbench.runs.history import history
    from workbench.runs.store import runs_root

    try:
        pairs = state.load_pairs_of(workspace)
    except UserError as error:
        return nothing() | {"problems": [problem("stop", "pairs", str(error))]}
    root = runs_root()
    root.mkdir(parents=True, exist_ok=True)
    told = outlook(
        RunConfig.from_dict(values),
        pairs=pairs,
        folder=root,
        history=history(workspace.visitor if state.public() else None),
        local=state.folders_allowed(),
    )
    problems = [problem(one["severity"], one["field"], one["text"]) for one in told["problems"]]
    found = {"problems": problems, "rows": cost_rows(told), "basis": told["basis"] or ""}
    return nothing() | found | {"run_bytes": told["run_bytes"] or 0}


def problem(severity: str, name: str, text: str) -> dict[str, Any]:
    """A problem as the page shows it, with the words for its field."""
    return {
        "severity": severity if severity in SEVERITIES else "note",
        "field": name,
        "label": {"model": "Model", "pairs": "Pairs"}.get(name) or align_fields.label(name),
        "text": align_fields.in_page_words(text),
    }


def cost_rows(told: dict[str, Any]) -> list[list[Any]]:
    """Rows of [what, figure, strong]: time as a range, memory and disk against what is free."""
    rows = []
    if told.get("seconds") is not None:
        rows.append(["Time, estimated", time_range(told["seconds_low"], told["seconds_high"]), True])
    for name, what in (("memory", "Memory, at its peak"), ("disk", "Disk")):
        size, free = told.get(f"{name}_bytes"), told.get(f"free_{name}_bytes")
        if size is not None:
            rows.append([what, charts.amount(size) + (f" of {charts.amount(free)} free" if free else ""), False])
    return rows


def time_range(low: float, high: float) -> str:
    """``2 to 9 min``: no finer than the guess is."""
    for size, unit in ((3600, "h"), (60, "min")):
        if high >= 2 * size:
            whole = f"{max(1, round(low / size))}", f"{round(high / size)}"
            return f"{whole[0]} to {whole[1]} {unit}" if low >= size else f"{charts.duration(low)} to {whole[1]} {unit}"
    low, high = 5 * max(1, round(low / 5)), 5 * max(1, round(high / 5))
    return f"{low} to {high} s" if low < high else f"about {high} s"
