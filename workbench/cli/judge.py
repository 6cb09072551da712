"""Verbs about what came of it: ``evaluate``, ``generate``."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections import deque
from pathlib import Path
from typing import Any

from workbench.cli.common import count, lasting, new_run, number, work_on
from workbench.cli.terminal import ProgressLine, table
from workbench.errors import UserError
from workbench.progress import Progress
from workbench.runs import store

FIGURES = ("name", "preference_accuracy", "reward_margin", "win_rate", "win_rate_low", "win_rate_high", "coherence")
FIGURES += ("win_rate_lc", "kl_from_base", "perplexity_chosen", "mean_tokens", "unfinished", "distinct_2")
TOGETHER = 32  # prompts answered in one batch


def add_verbs(verb) -> None:
    """``evaluate``, ``generate``."""
    it = verb("evaluate", "Judge runs and their base on held-out pairs.", evaluate, show_evaluate)
    it.add_argument("runs", metavar="RUN", nargs="+")
    it.add_argument("--pairs", help="pairs the runs have not seen (for a demo run: its test pairs)")
    it.add_argument("--limit", type=count, metavar="N", help="judge the first N pairs only")
    it.add_argument("--seed", type=int, metavar="N")
    it.add_argument("--out", metavar="DIR", help="the folder for the figures (default: one among the runs)")

    it = verb("generate", "Answer prompts with base and aligned model, side by side.", generate, show_generate)
    it.add_argument("run", metavar="RUN")
    it.add_argument("--prompt", nargs="+", action="extend", default=[], metavar="T")
    it.add_argument("--prompts", metavar="F", help="a file: a prompt a line, or JSONL with a column prompt")
    it.add_argument("--steer", type=number, metavar="ALPHA", help="steer the base instead of using the adapter")
    it.add_argument("--temperature", type=number, default=1.0, metavar="X", help="0 takes the likeliest token (1)")
    it.add_argument("--top-p", type=number, default=1.0, metavar="X")
    it.add_argument("--max-new-tokens", type=count, default=64, metavar="N")
    it.add_argument("--seed", type=int, default=0)
    it.add_argument("--device")


def evaluate(options: Namespace) -> dict[str, Any]:
    """What ``evaluate --json`` prints."""
    from workbench.runs.loading import need_adapter

    found = [store.find_run(name) for name in options.runs]
    for run in found:
        need_adapter(run)
    pairs = options.pairs or _test_pairs(found[0].config()["pairs"])
    config = {"runs": [str(run.path) for run in found], "pairs": lasting(pairs)}
    config |= {name: value for name in ("limit", "seed") if (value := getattr(options, name)) is not None}
    return work_on(new_run("evaluate", config, options.out), fresh=True)


def _test_pairs(source: str) -> str:
    if source.partition(":")[0].partition("/")[0] != "demo":
        raise UserError("Say which pairs to judge by: --pairs with pairs that the run has not seen.")
    return f"{source.partition(':')[0]}:test"


def show_evaluate(result: dict[str, Any]) -> str:
    """The figures for a reader."""
    return table(result["models"], FIGURES)


def generate(options: Namespace) -> dict[str, Any]:
    """What ``generate --json`` prints."""
    run = store.find_run(options.run)
    prompts = [*options.prompt, *(_read_prompts(options.prompts) if options.prompts else [])]
    if not prompts or not all(isinstance(prompt, list) or prompt.strip() for prompt in prompts):
        raise UserError("There is nothing to answer: give --prompt TEXT or --prompts FILE, no prompt empty.")
    from workbench.runs.loading import ALIGNED, load_run, steering_of

    line = ProgressLine()
    progress = Progress(line)
    progress("load", message="Loading the model")
    try:
        steering = None if options.steer is None else steering_of(run, options.steer)
        loaded = load_run(run, options.device, adapter=steering is None)
        from workbench.generation import BASE, Sampling, compare

        started, answers = time.monotonic(), []
        for first in range(0, len(prompts), TOGETHER):
            # Further batches go on with other luck, or the 33rd prompt would share the first one's.
            sampling = Sampling(options.temperature, options.top_p, options.max_new_tokens, options.seed + first)
            some = prompts[first : first + TOGETHER]
            steps = compare(loaded, some, sampling, BASE if steering else ALIGNED, steering)
            (last,) = deque(steps, maxlen=1)  # each step holds all tokens so far
            answers += zip(some, last.base, last.aligned, strict=True)
            progress("generate", len(answers), len(prompts))
        seconds = time.monotonic() - started
    finally:
        line.close()
    tokens = sum(len(base.ids) + len(aligned.ids) for _, base, aligned in answers)
    rows = [{"prompt": prompt, "base": base.text, "aligned": aligned.text} for prompt, base, aligned in answers]
    return {"run": run.name, "results": rows, "seconds": seconds, "tokens_per_second": tokens / max(seconds, 1e-9)}


def _read_prompts(name: str) -> list[Any]:
    """Prompts of a file: its lines, or the column prompt of its JSON lines. Raises UserError."""
    try:
        lines = [line for line in Path(name).expanduser().read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not a text file: give one prompt a line, or JSONL with a column prompt.") from error
    except OSError as error:
        raise UserError(f"The prompts {name} cannot be read: {error.strerror or error}.") from error
    if not lines:
        raise UserError(f"{name} is empty: give one prompt a line.")
    if not name.lower().endswith((".jsonl", ".json")):
        return lines
    prompts = []
    for row, line in enumerate(lines, 1):
        try:
            prompts.append(json.loads(line)["prompt"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'Line {row} of {name} is not of the form {{"prompt": ...}}.') from error
        if not isinstance(prompts[-1], (str, list)):
            raise UserError(f"The prompt in line {row} of {name} is neither a text nor a list of messages.")
    return prompts


def show_generate(result: dict[str, Any]) -> str:
    """The answers for a reader."""
    parts = [
        f"prompt   {row['prompt']}\nbase     {row['base']}\naligned  {row['aligned']}\n" for row in result["results"]
    ]
    return "\n".join([*parts, f"{result['tokens_per_second']:.0f} tokens a second"])
