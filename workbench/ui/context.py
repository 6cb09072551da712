"""What the header and the steps line say, computed from the workspace and the runs on disk (no components here)."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from workbench.ui import state
from workbench.ui.html import Markup, icon, join, send
from workbench.ui.state import STEPS, Workspace

log = logging.getLogger("workbench.page")
LABELS = {"pairs": "Pairs", "layers": "Layers", "align": "Align", "compare": "Compare", "export": "Export"}
LIVE = ("queued", "running")
STAGES = {
    "load": "Loading",
    "pairs": "Reading pairs",
    "capture": "Capturing",
    "score": "Scoring",
    "project": "Projecting",
    "instruct": "Stage 1 of 3",
    "check": "Stage 1 of 3, checking",
    "patterns": "Stage 2 of 3",
    "calibrate": "Stage 2 of 3, trying strengths",
    "align": "Stage 3 of 3",
    "evaluate": "Evaluating",
    "save": "Saving",
}


@dataclass(frozen=True)
class Seen:
    """One look at everything the frame shows."""

    workspace: Workspace
    runs: list[dict[str, Any]]  # statuses of the alignments the visitor may see, newest first
    run: dict[str, Any] | None  # the selected one's
    scoring: dict[str, Any] | None  # the separability run's

    @property
    def finished(self) -> int:
        return sum(run["state"] == "finished" for run in self.runs)

    @property
    def usable(self) -> int:
        return sum(usable(run) for run in self.runs)

    @property
    def live(self) -> bool:
        """Whether anything the header shows is still moving."""
        return any(run is not None and run["state"] in LIVE for run in (*self.runs, self.scoring))


def look(workspace: Workspace) -> Seen:
    """Read the runs' states. Costs a few small files."""
    runs = statuses(workspace.visitor)
    chosen = next((run for run in runs if run["run"] == workspace.run), None)
    scoring = state.run_of(workspace, workspace.separability_run) if workspace.separability_run else None
    return Seen(workspace, runs, chosen, scoring.status() if scoring else None)


def statuses(visitor: str, most: int = 60) -> list[dict[str, Any]]:
    """The states of the runs a visitor may see, newest first; a waiting one's ``queue`` is its place."""
    from workbench.runs import queue

    found, line = [], None
    for run in state.runs_of(visitor)[:most]:
        status = run.status()
        if status["state"] == "queued":
            line = queue.entries() if line is None else line
            status["queue"] = queue.place(run, line)
        found.append(status)
    return found


# -- header ------------------------------------------------------------------------------------------------------------


def header(seen: Seen) -> dict[str, Any]:
    """The value of the ``context`` view: what is loaded, item by item."""
    pairs, model = seen.workspace.pairs, seen.workspace.model
    number = model.get("blocks") or (demo_blocks() if model.get("source") == "demo" else None)
    blocks = f", {number} blocks" if number else ""
    device = device_text()
    run = seen.run
    dot = (
        ("live" if run["state"] in LIVE else "err" if run["state"] in ("failed", "interrupted") else "") if run else ""
    )
    return {
        "items": [
            {"item": "pairs", "label": "Pairs", "text": f"{pairs['name']}, {pairs['count']}" if pairs else None},
            {"item": "model", "label": "Model", "text": f"{model.get('name') or model.get('source')}{blocks}"},
            {"item": "device", "label": "Device", "text": device, "wait": device is None},
            {"item": "run", "label": "Run", "text": title_of(run) if run else None, "dot": dot},
        ]
    }


@cache
def demo_blocks() -> int | None:
    """How many blocks the bundled model has, from its configuration file."""
    path = Path(__file__).resolve().parents[2] / "assets" / "model" / "config.json"
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


_device: list[str] = []
_device_guard = threading.Lock()


def device_text() -> str | None:
    """The device in words, or None while it is still being looked at (that imports torch, so not while serving)."""
    return _device[0] if _device else None


def warm_up() -> None:
    """In the background, once: what takes seconds to import, and the device. Called after the first page was served."""

    def work() -> None:
        time.sleep(0.3)  # the page that was just loaded comes first
        try:
            state.import_engine()
            from workbench.models import describe_device

            _device.append(describe_device())
        except Exception:
            log.exception("the device could not be described")
            _device.append("not known")

    with _device_guard:
        if not getattr(warm_up, "begun", False):
            warm_up.begun = True
            threading.Thread(target=work, name="warm-up", daemon=True).start()


# -- steps -------------------------------------------------------------------------------------------------------------


def missing(seen: Seen, step: str) -> str:
    """What keeps ``step`` from being used, as a sentence; empty if nothing does."""
    if step not in STEPS:
        return "There is no such step."
    if step == "layers" and not seen.workspace.pairs:
        return "Step 2 needs pairs: load some in step 1."
    if step == "align" and not seen.workspace.picked and not seen.runs:
        return "Step 3 needs layers: pick at least one in step 2."
    if step in ("compare", "export") and not seen.usable:
        return f"Step {STEPS.index(step) + 1} needs a finished run: align a model in step 3 first."
    return ""


def steps_line(seen: Seen) -> dict[str, Any]:
    """The value of the ``steps`` view: for every step its state (on, done, off, err) and a few words."""
    now = seen.workspace.step
    words = {
        "pairs": _pairs_words,
        "layers": _layers_words,
        "align": _align_words,
        "compare": _result_words,
        "export": _result_words,
    }
    items = []
    for number, step in enumerate(STEPS, 1):
        text, done, failed = words[step](seen)
        items.append(
            {
                "step": step,
                "n": number,
                "label": LABELS[step],
                "text": text,
                "on": step == now,
                "done": done,
                "err": failed,
                "off": missing(seen, step) if step != now else "",
            }
        )
    return {"items": items}


Words = tuple[str, bool, bool]  # text, done, failed


def _pairs_words(seen: Seen) -> Words:
    pairs = seen.workspace.pairs
    if not pairs:
        return "Start here", False, False
    dropped = pairs["report"]["read"] - pairs["report"]["kept"]
    text = f"{pairs['count']} kept, {dropped} dropped" if dropped else f"{pairs['count']} kept"
    return text, True, False


def _layers_words(seen: Seen) -> Words:
    workspace = seen.workspace
    if not workspace.pairs:
        return "Needs pairs", False, False
    if workspace.picked:
        return f"{'Block' if len(workspace.picked) == 1 else 'Blocks'} {listed(workspace.picked)} picked", True, False
    if seen.scoring and seen.scoring["state"] in LIVE:
        return run_words(seen.scoring), False, False
    if seen.scoring and seen.scoring["state"] in ("failed", "interrupted"):
        return "Failed", False, True
    return "Pick blocks" if seen.scoring and seen.scoring["state"] == "finished" else "Ready", False, False


def _align_words(seen: Seen) -> Words:
    if seen.run and seen.run["state"] != "finished":
        return run_words(seen.run), False, seen.run["state"] in ("failed", "interrupted")
    if not seen.workspace.picked and not seen.runs:
        return ("Pick layers first" if seen.workspace.pairs else "Needs pairs and layers"), False, False
    return (f"{title_of(seen.run)} finished", True, False) if seen.run else ("Ready", False, False)


def _result_words(seen: Seen) -> Words:
    if not seen.finished:
        return "A stopped run" if seen.usable else "Needs a finished run", False, False
    return f"{seen.finished} finished run{'s' if seen.finished > 1 else ''}", False, False


def listed(numbers: list[int]) -> str:
    """``5``, ``5 and 7``, ``3, 5 and 7``; more than four as ``5 blocks``'s short form ``3, 4 ... 9``."""
    texts = [str(number) for number in sorted(numbers)]
    if len(texts) > 4:
        return f"{texts[0]}, {texts[1]} … {texts[-1]}"
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


# -- runs --------------------------------------------------------------------------------------------------------------


def run_name(status: dict[str, Any]) -> str:
    """A short name for a run: its method and, once they are known, its blocks."""
    method = str(status.get("method") or status.get("kind") or "run")
    layers = status.get("layers")
    if isinstance(layers, (list, tuple)) and layers:
        return f"{method}-{'-'.join(str(layer) for layer in layers[:4])}{'…' if len(layers) > 4 else ''}"
    return method


def title_of(status: dict[str, Any]) -> str:
    """What somebody called the run; without that, its short name. Text of a user: never part of a path or a command."""
    return str(status.get("title") or "") or run_name(status)


def usable(status: dict[str, Any]) -> bool:
    """Whether a run has an aligned model: it is finished, or was stopped with what it had."""
    return status["state"] == "finished" or bool(status.get("partial"))


def run_words(status: dict[str, Any]) -> str:
    """Where a run stands, in a few words."""
    at = f"{status['step']} of {status['total']}" if status.get("total") else ""
    if status["state"] == "queued":
        place = status.get("queue")
        return f"Waiting, place {place['position']} of {place['of']}" if place else "Waiting to start"
    if status["state"] == "running":
        text = "Stopping" if status.get("stopping") else STAGES.get(status.get("stage") or "", "Starting")
        return f"{text}, {at}" if at and not status.get("stopping") else text
    if status["state"] == "finished":
        result = status.get("result") if isinstance(status.get("result"), dict) else {}
        rate, low, high = (result.get(key) for key in ("win_rate", "win_rate_low", "win_rate_high"))
        if isinstance(rate, (int, float)):
            span = (
                f" [{low:.2f}, {high:.2f}]" if isinstance(low, (int, float)) and isinstance(high, (int, float)) else ""
            )
            return f"Finished, win rate {rate:.2f}{span}"
        return "Finished"
    where = f" at step {status['step']}" if status.get("step") else ""
    if status["state"] == "stopped" and (partial := status.get("partial")):
        return f"Stopped and kept at step {partial['steps']}"
    if status["state"] == "stopped" and status.get("how") == "pause":
        return f"Paused{where}"
    return {"stopped": "Stopped", "interrupted": "Interrupted", "failed": "Failed"}[status["state"]] + where


def runs_list(seen: Seen) -> Markup:
    """The runs drawer: newest first, the selected one marked."""
    if not seen.runs:
        return Markup(
            '<p class="s sm">No runs yet. A run starts in step 3, and stays here until its folder is deleted.</p>'
        )
    return join(_run_row(run, run["run"] == seen.workspace.run) for run in seen.runs)


def _run_row(run: dict[str, Any], chosen: bool) -> Markup:
    state_now = run["state"]
    if state_now == "finished":
        sign = icon("check", 13)
    elif state_now == "stopped":
        sign = icon("stop", 12)
    else:
        sign = Markup('<span class="dot {}"></span>').format("live" if state_now in LIVE else "err")
    started = run.get("started") or run.get("created")
    at = time.localtime(started) if started else None
    same_day = at is not None and time.strftime("%Y%m%d", at) == time.strftime("%Y%m%d")
    when = time.strftime("%H:%M" if same_day else "%d %b", at) if at else ""
    words = run_words(run)
    if state_now in ("failed", "interrupted") and run.get("error"):
        words = f"{words}: {re.split(r'[.;:]', str(run['error']))[0]}"[:120]
    return Markup(
        '<button type="button" class="run {}"{}{}>{}<b>{}</b><span class="q nw">{}</span>'
        '<span class="m">{}</span></button>'
    ).format(
        "sel" if chosen else "",
        Markup(' aria-current="true"') if chosen else "",
        send(run=run["run"]),
        sign,
        title_of(run),
        when,
        words,
    )
