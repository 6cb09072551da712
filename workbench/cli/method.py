"""Verbs about runs: ``align`` makes one, ``plan`` says what it would cost; ``runs``, ``resume`` and ``stop`` keep house."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench.baselines import METHODS, RAHF
from workbench.cli.common import lasting, new_run, work_on
from workbench.cli.plan import exit_code, look_first, show_plan
from workbench.cli.plan import plan as make_plan
from workbench.cli.terminal import duration, plain, table
from workbench.errors import UserError
from workbench.runs import queue, store, worker

# Options of ``align`` and the settings they stand for; --set reaches all others.
OPTIONS = {
    "model": "model",
    "pairs": "pairs",
    "method": "method",
    "layers": "layers",
    "alpha": "alpha",
    "foundation": "foundation",
    "seed": "seed",
    "steps": "align_steps",
    "device": "device",
    "dtype": "dtype",
}


def add_verbs(verb) -> None:
    """``align``, ``plan``, ``runs``, ``resume``, ``stop``."""
    it = verb("align", "Align a model with the preferences in pairs: the whole of RAHF.", align, show_align)
    run_options(it)
    it.add_argument("--now", action="store_true", help="do not wait until other runs have left the device")

    it = verb(
        "plan", "Say what an alignment will cost and what stands in its way, without starting it.", plan, show_plan
    )
    run_options(it)
    it.set_defaults(exit_code=exit_code)

    it = verb("runs", "List the runs and their states.", runs, show_runs)
    it.add_argument("--all", action="store_true", help="also scores of blocks and evaluations")

    it = verb("resume", "Go on with a run that was stopped, killed, or failed.", resume, show_resumed)
    it.add_argument("run", metavar="RUN")

    it = verb("stop", "End a running or waiting run within seconds.", stop, show_stop)
    it.add_argument("run", metavar="RUN")
    way = it.add_mutually_exclusive_group()
    way.add_argument("--keep", action="store_true", help="leave a usable adapter of the steps done so far")
    way.add_argument("--discard", action="store_true", help="put the run into the bin")


def run_options(it, method: bool = True) -> None:
    """The options that say what run is meant; without ``method`` where the verb has words of its own for that."""
    it.add_argument("--model", help="what to align (demo)")
    it.add_argument("--pairs", help="the preferences (demo)")
    if method:
        it.add_argument("--method", metavar="scit|dual", help="one instructed model or two (scit)")
    it.add_argument("--layers", metavar="auto|3,4,5", help="blocks to move, from 0 (auto: by held-out probes)")
    it.add_argument("--alpha", metavar="auto|X", help="strength (auto: calibrated on prompts of the pairs)")
    it.add_argument("--foundation", metavar="base|instructed", help="which model gets the adapter (base)")
    it.add_argument("--seed", metavar="N")
    it.add_argument("--steps", metavar="N", help="optimiser steps of step 3")
    it.add_argument("--device", metavar="auto|cpu|cuda|mps")
    it.add_argument("--dtype", metavar="auto|float32|bfloat16")
    it.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting, repeatable")
    names = "demo|small|paper-scit|paper-dual"
    it.add_argument("--preset", metavar=names, help="settings that belong together; all that is given beside it wins")
    values = "general|helpful|harmless|honest|polite|brief|careful"
    it.add_argument("--instructions", metavar=values, help="ready-made p+ and p- for a value (general)")
    it.add_argument("--config", metavar="F.yaml", help="settings in a file; what is given beside it wins")
    it.add_argument("--out", metavar="RUN", help="the run's folder (default: one among the runs)")


def align(options: Namespace) -> dict[str, Any]:
    """What ``align --json`` prints."""
    values = _of_rahf(settings(options))
    look_first(values, options.out)
    return work_on(new_run("align", values, options.out), fresh=True, wait=not options.now)


def plan(options: Namespace) -> dict[str, Any]:
    """What ``plan --json`` prints."""
    return make_plan(_of_rahf(settings(options)), options.out)


def _of_rahf(values: dict[str, Any]) -> dict[str, Any]:
    if values["method"] in METHODS:
        raise UserError(
            f"method must be one of {', '.join(RAHF)}: python -m workbench baseline {values['method']} trains the other."
        )
    return values


def settings(options: Namespace) -> dict[str, Any]:
    """The run's settings: defaults, overlaid by the preset, the file, and what the command says. Raises UserError."""
    from workbench.rahf.config import RunConfig
    from workbench.rahf.instructions import instructions_for
    from workbench.rahf.presets import preset_values

    values = preset_values(options.preset) if options.preset else {}
    values |= RunConfig.values_in(Path(options.config).expanduser()) if options.config else {}
    names = OPTIONS | ({"steps": "steps"} if options.method in METHODS else {})
    given = {name: getattr(options, option) for option, name in names.items()}
    values |= {name: value for name, value in given.items() if value is not None}
    values |= instructions_for(options.instructions) if options.instructions else {}
    for item in options.set:
        name, sign, value = item.partition("=")
        if not sign or not name.strip():
            raise UserError(f"{item!r} sets nothing: write --set name=value.")
        optional = getattr(RunConfig, name.strip(), "") is None  # elsewhere "none" may be a choice
        values[name.strip()] = None if optional and value.strip().lower() in ("none", "null") else value.strip()
    values = RunConfig.from_dict(values).to_dict()
    return values | {"model": lasting(values["model"]), "pairs": lasting(values["pairs"])}


def resume(options: Namespace) -> dict[str, Any]:
    """What ``resume --json`` prints: the figures of the run, whatever its kind."""
    run = store.find_run(options.run)
    status = run.status()
    if status["state"] == "finished":
        return status["result"] | {"run": run.name}
    if run.active():
        raise UserError(f"Run {run.name} is working; python -m workbench stop {run.name} ends it.")
    run.clear_stop()
    return work_on(run, fresh=False)


def show_resumed(result: dict[str, Any]) -> str:
    """The figures of whatever the run was."""
    if "pooled" in result:
        from workbench.cli.study import show_study

        return show_study(result)
    return show_align(result)


def show_align(result: dict[str, Any]) -> str:
    """The figures of an alignment for a reader."""
    seconds = result.get("seconds")
    rows = [
        ("run", result["run"]),
        ("method", result.get("method")),
        ("blocks", result.get("layers") if not isinstance((result.get("layers") or [0])[0], dict) else None),
        ("alpha", result.get("alpha")),
        ("relative strength", result.get("relative_strength")),
        ("loss", _span(result)),
        ("time", duration(sum(filter(None, seconds.values()))) if isinstance(seconds, dict) else None),
        ("adapter", result.get("adapter")),
    ]
    return "\n".join(f"{name:<18} {plain(value)}" for name, value in rows if value is not None and value != {})


def _span(result: dict[str, Any]) -> str | None:
    if result.get("loss_first") is None:
        return None
    return f"{plain(result['loss_first'])} -> {plain(result.get('loss_last'))} in {result.get('steps')} steps"


def runs(options: Namespace) -> dict[str, Any]:
    """What ``runs --json`` prints; newest first."""
    keys = (
        "run",
        "title",
        "note",
        "kind",
        "state",
        "method",
        "model",
        "pairs",
        "started",
        "seconds",
        "stage",
        "step",
        "total",
    )
    found = []
    queue.tend()
    known = queue.entries()
    for run in store.list_runs(all=True):
        if not (options.all or queue.fills_device(run)):
            continue
        status = run.status()
        place = queue.place(run, known) if status["state"] == "queued" else None
        found.append({key: status.get(key) for key in keys} | {"path": str(run.path), "queue": place})
    return {"runs": found}


def show_runs(result: dict[str, Any]) -> str:
    """The list for a reader."""
    if not result["runs"]:
        return "There are no runs yet: python -m workbench align starts one."
    rows = []
    for item in result["runs"]:
        at = f"{item['stage']} {item['step']}/{item['total']}" if item["state"] == "running" and item["total"] else ""
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(item["started"])) if item["started"] else None
        method = item["method"] or item["kind"]
        if item["queue"]:
            at = f"place {item['queue']['position']} in the queue"
        rows.append(item | {"method": method, "started": began, "time": duration(item["seconds"]), "at": at})
    named = ("name",) if any(item["title"] for item in result["runs"]) else ()
    rows = [row | {"name": row["title"] or None} for row in rows]
    return table(rows, ("run", *named, "state", "method", "model", "started", "time", "at"))


def stop(options: Namespace) -> dict[str, Any]:
    """What ``stop --json`` prints."""
    run = store.find_run(options.run)
    name, how = run.name, "keep" if options.keep else "discard" if options.discard else "pause"
    state = worker.stop(run, how)
    partial = run.status()["partial"] if state == "stopped" and options.keep else None
    return {"run": name, "state": state} | ({"partial": partial} if options.keep else {})


def show_stop(result: dict[str, Any]) -> str:
    """One line."""
    kept = result.get("partial")
    tail = f", the adapter of {kept['steps']} of {kept['of']} steps is kept" if kept else ""
    return f"{result['run']} {result['state']}{tail}"
