"""Verbs that measure: ``separability`` (blocks) and ``bench`` (speed)."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from workbench.cli.common import blocks, count, lasting, new_run, work_on
from workbench.cli.terminal import ProgressLine, duration, plain, table
from workbench.errors import UserError
from workbench.progress import Progress

SCORES = ("layer", "probe_auc", "probe_auc_low", "probe_auc_high", "null_auc_p95", "paired_accuracy", "d_prime")
CONTROLS = ("name", "auc", "low", "high", "null_low", "null_high")
MOVES = ("layer", "shift", "shift_chosen", "shift_rejected", "relative", "cosine", "probe_auc_after", "low", "high")
MEASURES = ("name", "seconds", "over_floor", "speedup_over_naive", "memory_over_naive", "tokens_per_second")
POOLINGS = ("mean", "last", "predicting", "difference")
SITES = ("block", "attention", "mlp")


def add_verbs(verb) -> None:
    """``separability`` and ``bench``."""
    it = verb("separability", "Score how well each block tells chosen from rejected.", separability, show_separability)
    it.add_argument("--model", default="demo")
    it.add_argument("--pairs", default="demo")
    it.add_argument("--layers", type=blocks, metavar="all|3,4", help="which blocks to report (all)")
    it.add_argument("--pool", choices=POOLINGS, default="mean", help="how an answer's states become one (mean)")
    it.add_argument("--site", choices=SITES, default="block", help="a block's output, or what a part adds (block)")
    it.add_argument("--run", metavar="RUN", help="an alignment: also capture its model, and say what it moved")
    it.add_argument("--no-random", action="store_true", help="leave out the control with random weights")
    it.add_argument("--limit", type=count, metavar="N", help="take N pairs at random")
    it.add_argument("--seed", type=int, default=0)
    it.add_argument("--device", default="auto")
    it.add_argument("--dtype", default="auto")
    it.add_argument("--out", metavar="DIR", help="the folder for the scores (default: one among the runs)")

    it = verb("bench", "Measure speed and memory against the naive way and against a floor.", bench, show_bench)
    it.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="which of: capture, capture_24, step1_scit, step3_scit, "
        "step3_dual, compare_1, compare_16, scores, page_start, page_slider and page_many (in a browser), coverage, "
        "growth (all but capture_24, page_slider, page_many, coverage and growth)",
    )


def separability(options: Namespace) -> dict[str, Any]:
    """What ``separability --json`` prints."""
    config = {
        "model": lasting(options.model),
        "pairs": lasting(options.pairs),
        "pooling": options.pool,
        "site": options.site,
        "run": lasting(options.run) if options.run else None,
        "untrained": not options.no_random,
        "limit": options.limit,
        "seed": options.seed,
        "device": options.device,
        "dtype": options.dtype,
    }
    result = work_on(new_run("separability", config, options.out), fresh=True)
    if options.layers is not None:
        known = [row["layer"] for row in result["layers"]]
        if wrong := [layer for layer in options.layers if layer not in known]:
            raise UserError(f"The model has blocks {known[0]} to {known[-1]}: {wrong[0]} is not one of them.")
        result["layers"] = [row for row in result["layers"] if row["layer"] in options.layers]
    return result


def show_separability(result: dict[str, Any]) -> str:
    """The scores for a reader."""
    lines = [result.get("finding", ""), "", table(result["layers"], SCORES), ""]
    if result.get("controls"):
        lines += [result.get("shortcut", ""), "", table(result["controls"], CONTROLS), ""]
    if moved := result.get("movement"):
        lines += [moved["finding"], "", table(moved["layers"], MOVES), ""]
    lines += [f"Note: {note}" for note in result.get("notes", [])]
    lines += [
        f"Suggested blocks: {plain(result['suggested_layers'])}. {result.get('reason', '')}",
        f"{result['pairs']} pairs in {duration(sum(result['seconds'].values()))}; kept in run {result['run']}",
    ]
    return "\n".join(lines).strip()


def bench(options: Namespace) -> dict[str, Any]:
    """What ``bench --json`` prints."""
    from workbench.bench import run

    line = ProgressLine()
    try:
        return {"measures": [found.to_dict() for found in run(options.names, Progress(line))]}
    finally:
        line.close()


def show_bench(result: dict[str, Any]) -> str:
    """The figures for a reader."""
    goals = [f"{row['name']}: {_held(row, name)}" for row in result["measures"] for name in row["goals"]]
    details = [row["details"].get("text") or f"{row['name']}: {plain(row['details'])}" for row in result["measures"]]
    return "\n".join([table(result["measures"], MEASURES), "", *goals, "", *details])


def _held(row: dict[str, Any], name: str) -> str:
    """A figure beside its goal, in words."""
    value, goal = row[name], row["goals"][name]
    asked = f"{name} {'at least' if name == 'speedup_over_naive' else 'at most'} {goal:.3g}"
    if value is None:
        return f"{asked}: not measured"
    return f"{asked}: {value:.3g}, {'missed' if name in row['missed'] else 'reached'}"
