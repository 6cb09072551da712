"""The verb ``plan``, and the look that ``align`` takes before it starts: problems, and what a run will cost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from workbench.cli.terminal import duration
from workbench.errors import UserError
from workbench.runs import files, store

SHOWN = {"stop": "STOP", "warn": "warning", "note": "note"}
FORCE = "--set force=true starts it all the same"


def plan(values: dict[str, Any], out: str | None) -> dict[str, Any]:
    """What ``plan --json`` prints, of settings and the folder the run would have: see ``rahf.preflight.outlook``."""
    from workbench.rahf.config import RunConfig
    from workbench.rahf.preflight import outlook
    from workbench.runs.history import history

    folder = Path(out).expanduser() if out else store.runs_root()
    found = outlook(RunConfig.from_dict(values), folder=folder, history=history())
    if first := stopping(found):
        print(first, file=sys.stderr, flush=True)
    return found


def exit_code(found: dict[str, Any]) -> int:
    """2 if the run cannot work."""
    return 2 if stopping(found) else 0


def stopping(found: dict[str, Any]) -> str:
    """The first reason why the run cannot work; empty if there is none."""
    return next((item["text"] for item in found["problems"] if item["severity"] == "stop"), "")


def show_plan(found: dict[str, Any]) -> str:
    """Problems and costs for a reader."""
    from workbench.rahf.preflight import amount

    lines = [f"{SHOWN[item['severity']]}: {item['text']} ({item['field']})" for item in found["problems"]]
    lines = lines or ["Nothing stands in the way."]
    if found["seconds"] is not None:
        low, high = duration(found["seconds_low"]), duration(found["seconds_high"])
        lines.append(f"{'time':<8} {duration(found['seconds'])} ({low} to {high}). {found['basis']}")
        for name, what in (("memory", "memory"), ("disk", "disk")):
            free = found[f"free_{name}_bytes"]
            lines.append(f"{what:<8} {amount(found[f'{name}_bytes'])}" + (f" of {amount(free)} free" if free else ""))
    return "\n".join(lines)


def look_first(values: dict[str, Any], out: str | None) -> None:
    """Say on stderr what may go wrong, before a run starts. Raises UserError for what cannot work, unless ``force``."""
    from workbench.rahf.config import RunConfig
    from workbench.rahf.preflight import outlook
    from workbench.runs.history import history

    folder = Path(out).expanduser() if out else store.runs_root()
    files.need_space(folder)
    found = outlook(RunConfig.from_dict(values), folder=folder, history=history())
    reason = stopping(found)
    if reason and not values["force"]:
        raise UserError(f"{reason.rstrip('.')}; {FORCE}." if _arguable(found) else reason)
    for item in found["problems"]:
        print(f"{SHOWN[item['severity']]}: {item['text']}", file=sys.stderr, flush=True)


def _arguable(found: dict[str, Any]) -> bool:
    """Whether what stops is a forecast that may be wrong, and not a fact that the run itself would trip over."""
    first = next(item["field"] for item in found["problems"] if item["severity"] == "stop")
    return found["seconds"] is not None and first not in ("pairs", "quantization", "optimizer")
