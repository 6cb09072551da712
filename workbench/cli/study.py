"""Verbs about other methods: ``baseline`` trains one, ``study`` puts them all and RAHF beside each other."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench.baselines import METHODS
from workbench.baselines.config import BaselineConfig
from workbench.cli.common import count, lasting, new_run, work_on
from workbench.cli.method import run_options, settings, show_align
from workbench.cli.terminal import table
from workbench.errors import UserError
from workbench.runs.studying import ALL, Plan

FIGURES = (
    "method",
    "win_rate",
    "win_rate_low",
    "win_rate_high",
    "preferred",
    "facts_right",
    "coherence",
    "kl_from_base",
)
FIGURES += ("kl_from_base_low", "kl_from_base_high", "seconds", "cpu_seconds")


def add_verbs(verb) -> None:
    """``baseline`` and ``study``."""
    it = verb("baseline", "Another method on the pairs and budget of an alignment.", baseline, show_align)
    it.add_argument(
        "method", metavar="|".join(METHODS), help="fine-tuning on chosen answers, hindsight instruction, DPO, steering"
    )
    run_options(it, method=False)
    it.add_argument("--now", action="store_true", help="do not wait until other runs have left the device")

    it = verb(
        "study",
        "Is RAHF worth it? All methods on the same pairs and budget, judged on pairs none was trained on.",
        study,
        show_study,
    )
    it.add_argument("--methods", default=",".join(ALL), metavar="A,B", help=f"which of {', '.join(ALL)} (all)")
    it.add_argument("--seeds", type=count, default=3, metavar="N", help="how many seeds each (3)")
    it.add_argument(
        "--test", metavar="PAIRS", help="pairs to judge by (a demo's test pairs; else what each seed holds out)"
    )
    it.add_argument("--limit", type=count, metavar="N", help="judge by the first N of them only")
    it.add_argument("--doc", metavar="F.md", help="also write the finding, table and figure there")
    run_options(it, method=False)
    it.add_argument("--now", action="store_true", help="do not wait until other runs have left the device")


def baseline(options: Namespace) -> dict[str, Any]:
    """What ``baseline --json`` prints."""
    if options.method not in METHODS:
        raise UserError(f"There is no baseline {options.method[:40]!r}: choose one of {', '.join(METHODS)}.")
    return work_on(new_run("baseline", settings(options), options.out), fresh=True, wait=not options.now)


def study(options: Namespace) -> dict[str, Any]:
    """What ``study --json`` prints."""
    methods = [name.strip() for name in options.methods.split(",") if name.strip()]
    if any(item.partition("=")[0].strip() == "method" for item in options.set):
        raise UserError("A study has many methods: name them with --methods.")
    if options.steps is not None:  # of the whole study's budget, not of the baselines alone
        options.set.append(f"align_steps={options.steps}")
    options.method, options.steps = "sft", None  # whose settings are those of all members, and a few more
    every, usual = settings(options), BaselineConfig().to_dict()
    apart = ("model", "pairs", "seed", "method")
    config = {
        "model": every["model"],
        "pairs": every["pairs"],
        "methods": methods,
        "seeds": options.seeds,
        "seed": every["seed"],
        "test": lasting(options.test) if options.test else None,
        "limit": options.limit,
        "device": every["device"],
        "settings": {key: value for key, value in every.items() if value != usual[key] and key not in apart},
        "doc": str(Path(options.doc).expanduser().absolute()) if options.doc else None,
    }
    Plan.of(config)
    return work_on(new_run("study", config, options.out), fresh=True, wait=not options.now)


def show_study(result: dict[str, Any]) -> str:
    """The finding and the figures for a reader."""
    lines = [*result["finding"], "", table(result["pooled"], FIGURES), ""]
    lines += [f"{row['method']}, seed {row['seed']}: {row['error']}" for row in result["rows"] if "error" in row]
    lines += [result["setting"]]
    lines += [f"Figure: {result['figure']}"] if result["figure"] else []
    lines += [f"Written to {result['doc']}"] if result.get("doc") else []
    return "\n".join([*lines, f"Kept in run {result['run']}"]).strip()
