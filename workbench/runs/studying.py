"""A study: every method on the same pairs for several seeds, each training a run of its own process, judged together.

The members are ordinary runs in the study's folder (``members/METHOD-SEED``): they can be opened by that path, and a study that
was stopped or killed goes on with those that have not finished. They stand in no list and wait in no queue: the study
itself holds the device.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.baselines import METHODS, NAMES, RAHF
from workbench.errors import UserError
from workbench.progress import Progress
from workbench.runs import control, files, store
from workbench.runs.store import Run

ALL = ("base", "prompt", "steering", "sft", "hir", "dpo", "scit", "dual")  # in the order of the tables
FIGURE = "frontier.svg"
LOOK = 0.3  # seconds between two looks at a member at work
BEGINNING = ("", "load", "pairs")  # what fails here fails for every member


@dataclass(frozen=True)
class Plan:
    """What a study does, from its run's settings."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: dict[str, Any]  # shared by all members
    test: str | None  # pairs to judge by; None: those that each seed held out
    limit: int | None
    doc: str | None

    @classmethod
    def of(cls, config: dict[str, Any]) -> Plan:
        """Raises UserError for a method or number that means nothing."""
        methods = ("base", *(method for method in config["methods"] if method != "base"))
        if unknown := [method for method in methods if method not in ALL]:
            raise UserError(f"There is no method {str(unknown[0])[:40]!r}: choose from {', '.join(ALL)}.")
        first, count = int(config.get("seed") or 0), int(config["seeds"])
        settings = dict(config.get("settings") or {}) | {"model": config["model"], "pairs": config["pairs"]}
        test = config.get("test")
        if test is None and config["pairs"].partition(":")[0].partition("/")[0] == "demo":
            test = f"{config['pairs'].partition(':')[0]}:test"
            test = None if test == config["pairs"] else test
        ordered = tuple(method for method in ALL if method in methods)
        return cls(ordered, tuple(range(first, first + count)), settings, test, config.get("limit"), config.get("doc"))

    def trained(self) -> list[tuple[str, int]]:
        """The members that have a run, seed by seed."""
        return [(method, seed) for seed in self.seeds for method in self.methods if method in (*METHODS, *RAHF)]

    def config_of(self, method: str, seed: int) -> dict[str, Any]:
        """The settings of a member's run. Raises UserError for settings that mean nothing."""
        from dataclasses import fields

        from workbench.rahf.config import RunConfig

        values = self.settings | {"method": method, "seed": seed}
        if method in RAHF:  # which knows nothing of a baseline's own settings
            values = {key: value for key, value in values.items() if key in {entry.name for entry in fields(RunConfig)}}
        return RunConfig.from_dict(values).to_dict()


def study(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Train, judge, pool and write a study. ``config``: model, pairs, methods, seeds (how many), seed (the first), test,
    limit (answers a seed), settings (of all members), doc (a Markdown file to write too).

    Returns ``rows`` (a method and seed each: figures of ``evaluation.measure``, seconds, cpu_seconds, peak_memory_bytes),
    ``pooled`` (a method each), ``finding``, ``figure`` (an SVG's path; None where nobody judged), and what was asked.
    ``against`` holds the differences to RAHF. Called again for a folder where it was stopped or killed, it goes on from what
    is whole there. Raises UserError, Stopped.
    """
    progress("load", message="Starting")
    plan = Plan.of(config)
    sizes = _look_first(plan, progress)
    owner = run.owner if (run := store.read_run(folder)) else ""
    made: dict[tuple[str, int], Run] = {}
    spent: dict[tuple[str, int], dict[str, Any]] = {}
    for number, (method, seed) in enumerate(plan.trained()):
        member = _member(folder / "members" / f"{method}-{seed}", plan.config_of(method, seed), owner)
        spent[method, seed] = _train(member, f"{NAMES[method]}, seed {seed}", number, len(plan.trained()), progress)
        if "error" not in spent[method, seed]:
            made[method, seed] = member
    progress("train", len(spent), len(spent), "All are trained")
    from workbench.baselines.judging import Ballot, judge_members

    failed = {member: told for member, told in spent.items() if "error" in told}
    ballot = Ballot(
        plan.config_of("scit", plan.seeds[0]),
        plan.test,
        plan.limit,
        plan.methods,
        plan.seeds,
        {key: run.path for key, run in made.items()},
    )
    judged = judge_members(ballot, set(failed), folder / "rows", progress)
    result = _told(config, plan, judged, spent, sizes, _paths(plan, made))
    return _written(result, plan, folder)


def _look_first(plan: Plan, progress: Progress) -> dict[str, Any]:
    """How the pairs are split, and how many prompts to judge by are among them, before anything is trained. Raises
    UserError for what no member could work with."""
    from importlib.util import find_spec

    from workbench.baselines.pipeline import NO_TRL
    from workbench.models import load_reader
    from workbench.pairs import load_pairs, prompt_key
    from workbench.rahf.config import RunConfig

    if "dpo" in plan.methods and find_spec("trl") is None:
        raise UserError(NO_TRL)
    for method, seed in plan.trained():
        plan.config_of(method, seed)
    progress("pairs", message="Reading the pairs")
    pairs = load_pairs(plan.settings["pairs"], progress=progress)
    load_reader(plan.settings["model"])
    split = RunConfig.from_dict(plan.config_of("scit", plan.seeds[0])).split(pairs)
    sizes = {name: len(getattr(split, name)) for name in ("instruct", "fit", "held_out")} | {"known": 0}
    if plan.test is not None:
        test = load_pairs(plan.test)
        if test.fingerprint == pairs.fingerprint:
            raise UserError(
                "These pairs are trained on: judge by others, or without --test by what each seed holds out."
            )
        sizes["known"] = len({prompt_key(pair.prompt) for pair in pairs} & {prompt_key(pair.prompt) for pair in test})
    return sizes


def _member(path: Path, config: dict[str, Any], owner: str) -> Run:
    """The run of a member, made where it is not there yet."""
    run = store.read_run(path)
    if run is None:
        shutil.rmtree(path, ignore_errors=True)  # killed while it was made
        path.parent.mkdir(parents=True, exist_ok=True)
        run = store.create("align" if config["method"] in RAHF else "baseline", config, owner, path)
        (store.runs_root() / run.id).unlink(missing_ok=True)  # the study is the one that lists show
    return run


def _train(run: Run, name: str, number: int, total: int, progress: Progress) -> dict[str, Any]:
    """Let the member work to its end. Returns seconds, cpu_seconds and peak_memory_bytes, or the ``error`` of a method that
    could do nothing with these pairs. Raises UserError where the study cannot go on."""
    clock = _Clock(run.path / "cpu.json")
    if run.state in ("queued", "stopped", "interrupted", "failed") and not run.active() and not _gave_up(run):
        progress("train", number, total, f"{name}: starts")
        control.spawn(run)
    with _stopped_with(run, progress):
        while (status := run.status())["state"] in ("queued", "running"):
            clock.read(status.get("pid"))
            at = f"{status['stage']} {status['step']}/{status['total']}" if status["total"] else status["stage"]
            progress("train", number, total, f"{name}: {at or 'starts'}")
            time.sleep(LOOK)
    if status["state"] == "finished":
        return {
            "seconds": status["seconds"],
            "cpu_seconds": clock.total(),
            "peak_memory_bytes": status["result"].get("peak_memory_bytes"),
        }
    if _gave_up(run):
        return {
            "error": status["error"],
            "seconds": status["seconds"],
            "cpu_seconds": clock.total(),
            "peak_memory_bytes": None,
        }
    raise UserError(
        f"{name}: {status['error'] or status['message'] or 'the run ended without saying why; resume the study.'}"
    )


def _gave_up(run: Run) -> bool:
    """Whether the method itself came to nothing with these pairs, which it would again."""
    status = run.status()
    return status["state"] == "failed" and status.get("mendable") is True and status["stage"] not in BEGINNING


@contextlib.contextmanager
def _stopped_with(run: Run, progress: Progress) -> Iterator[None]:
    """What ends the study early ends its member too, which keeps a checkpoint."""
    try:
        yield
    except BaseException:
        with progress.whole(), contextlib.suppress(UserError, OSError):
            control.stop(run)
        raise


class _Clock:
    """CPU seconds of a member's processes, as last seen, one entry a sitting."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, float] = files.read_json(path) or {}

    def read(self, pid: Any) -> None:
        import psutil

        with contextlib.suppress(psutil.Error, TypeError, ValueError, OSError):
            process = psutil.Process(pid)
            times = process.cpu_times()
            self.values[f"{pid} {process.create_time():.0f}"] = times.user + times.system
            files.write_json(self.path, self.values, sync=False)

    def total(self) -> float | None:
        return round(sum(self.values.values()), 1) or None


def _told(
    config: dict[str, Any],
    plan: Plan,
    judged: list[dict[str, Any]],
    spent: dict[tuple[str, int], dict[str, Any]],
    sizes: dict[str, Any],
    paths: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    from workbench.baselines.finding import against, sentences
    from workbench.baselines.pooling import apart, pool
    from workbench.models import pick_device

    # CPU seconds are the same whatever else the machine does, but say nothing of work on another device
    on_cpu = pick_device(plan.settings.get("device") or "auto").type == "cpu"
    on_cpu = on_cpu and all(told["cpu_seconds"] is not None for told in spent.values())
    spent = spent if on_cpu else {key: told | {"cpu_seconds": None} for key, told in spent.items()}
    nothing = {"seconds": 0.0, "cpu_seconds": 0.0 if on_cpu else None, "peak_memory_bytes": None}
    known = {(one["row"]["method"], one["row"]["seed"]): one for one in judged}
    rows, pooled, each = [], [], {}
    for method in plan.methods:
        its = [known[method, seed] for seed in plan.seeds if (method, seed) in known]
        own = [one["row"] | spent.get((method, one["row"]["seed"]), nothing) for one in its]
        rows += own
        failed = {seed: told for (name, seed), told in spent.items() if name == method and "error" in told}
        rows += [{"method": method, "seed": seed} | UNJUDGED | told for seed, told in failed.items()]
        # where a method came to nothing the user is left with the base: left out, it would be judged by its good luck
        own += [known["base", seed]["row"] | {"method": method} | told for seed, told in failed.items()]
        each[method] = {one["row"]["seed"]: one["each"] for one in [*its, *(known["base", seed] for seed in failed)]}
        pooled.append(pool(own, list(each[method].values())) | {"failed": len(failed)})

    def difference(first: str, second: str, key: str) -> tuple[float, float, float]:
        both = [seed for seed in each[first] if seed in each[second]]
        return apart([each[first][seed] for seed in both], [each[second][seed] for seed in both], key)

    found = sentences(pooled, difference, paths)
    judge = next((row["judge"] for row in rows if row.get("judge")), None)
    asked = (
        f"the {rows[0]['pairs']} pairs of {plan.test}"
        if plan.test
        else f"the {rows[0]['pairs']} pairs that each seed held out"
    )
    budget = next((row["trained"] for row in rows if row.get("trained")), None)
    setting = (
        f"Model {config['model']}, pairs {config['pairs']}: {sizes['instruct'] + sizes['fit']} for training, {sizes['held_out']} "
        f"held out, judged on {asked} by {judge or 'nobody'}; seeds {', '.join(map(str, plan.seeds))}."
        + (f" Of the prompts to judge by {sizes['known']} are among those of the pairs." if sizes["known"] else "")
        + (f" Budget: {budget['steps']} optimiser steps of {budget['batch']} answers." if budget else "")
    )
    return {
        "rows": rows,
        "pooled": pooled,
        "paths": paths,
        "against": against(pooled, difference),
        "finding": found,
        "title": found[0] if found else "Win rate against divergence from the base",
        "setting": setting,
        "command": _command(config, plan),
        "judge": judge,
        "seeds": list(plan.seeds),
        "test": plan.test,
    }


def _paths(plan: Plan, made: dict[tuple[str, int], Run]) -> dict[str, list[dict[str, Any]]]:
    """What the looks during training saw, a method: step, of, win_rate and kl_from_base, means over the seeds, and
    win_rates, a seed each."""
    paths = {}
    for method in plan.methods:
        runs = [made[method, seed] for seed in plan.seeds if (method, seed) in made]
        looks = [_looks(run) for run in runs]
        shared = sorted(set.intersection(*(set(one) for one in looks))) if looks else []
        if len(shared) > 1:
            paths[method] = [
                {"step": step, "of": of}
                | {key: sum(one[step, of][key] for one in looks) / len(looks) for key in ("win_rate", "kl_from_base")}
                | {"win_rates": [one[step, of]["win_rate"] for one in looks]}
                for step, of in shared
            ]
    return paths


def _looks(run: Run) -> dict[tuple[int, int], dict[str, Any]]:
    """Figures on held-out answers by step, from the run's events."""
    found, since = {}, 0
    while True:
        events, after = run.events(since)
        for event in events:
            if event.stage == "align" and None not in (
                event.metrics.get("win_rate"),
                event.metrics.get("kl_from_base"),
            ):
                found[event.step, event.total] = event.metrics
        if after == since:
            return found
        since = after


UNJUDGED = dict.fromkeys(("win_rate", "win_rate_low", "win_rate_high", "coherence", "kl_from_base"))


def _command(config: dict[str, Any], plan: Plan) -> str:
    import shlex

    parts = ["python -m workbench study", "--model", config["model"], "--pairs", config["pairs"]]
    parts += ["--methods", ",".join(plan.methods), "--seeds", str(len(plan.seeds))]
    parts += ["--seed", str(plan.seeds[0])] * bool(plan.seeds[0]) + ["--limit", str(plan.limit)] * bool(plan.limit)
    parts += ["--test", str(config.get("test"))] * bool(config.get("test"))
    own = {key: value for key, value in (config.get("settings") or {}).items()}
    parts += [part for key, value in own.items() for part in ("--set", f"{key}={value}")]
    return " ".join([parts[0], *map(shlex.quote, parts[1:])])


def _written(result: dict[str, Any], plan: Plan, folder: Path) -> dict[str, Any]:
    """The result with its figure drawn, and the document written where one was asked for."""
    from workbench.baselines import report
    from workbench.baselines.figure import draw

    judged = any(row.get("win_rate") is not None for row in result["pooled"])
    note = (
        f"{len(plan.seeds)} seeds, means with 95% intervals; small rings are single seeds"
        if len(plan.seeds) > 1
        else "one seed"
    )
    picture = draw(result["pooled"], result["rows"], result["title"], note) if judged else ""
    if judged:
        files.write_whole(folder / FIGURE, picture)
    if plan.doc:
        report.write(result, picture, Path(plan.doc))
    return result | {"figure": str(folder / FIGURE) if judged else None, "doc": plan.doc}
