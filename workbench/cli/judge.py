"""The verb ``generate``: answers of base and aligned models."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import deque
from typing import TYPE_CHECKING, Any

from workbench.cli.common import blocks, count, number
from workbench.cli.terminal import ProgressLine
from workbench.errors import UserError
from workbench.progress import Progress
from workbench.runs import store

if TYPE_CHECKING:
    from workbench.generation import Speaker
    from workbench.models import LoadedModel

TOGETHER = 32  # prompts answered in one batch


def add_verbs(verb) -> None:
    """``generate``."""
    it = verb("generate", "Answer prompts with base and aligned models, side by side.", generate, show_generate)
    it.add_argument("runs", metavar="RUN", nargs="+", help="runs of one base model")
    it.add_argument("--prompt", nargs="+", action="extend", default=[], metavar="T")
    it.add_argument("--prompts", metavar="F", help="a file: a prompt a line, or a column prompt (JSONL, CSV, ...)")
    it.add_argument("--steer", type=number, metavar="ALPHA", help="steer the base instead of using the adapters")
    it.add_argument(
        "--layers", type=blocks, metavar="L", help="the blocks to steer at, such as 3,4 (all that are known)"
    )
    it.add_argument("--instruct", metavar="TEXT", help="one more answer: the base under this instruction")
    it.add_argument("--temperature", type=number, default=1.0, metavar="X", help="0 takes the likeliest token (1)")
    it.add_argument("--top-p", type=number, default=1.0, metavar="X")
    it.add_argument("--max-new-tokens", type=count, default=64, metavar="N")
    it.add_argument("--seed", type=int, default=0)
    it.add_argument("--device")


def generate(options: Namespace) -> dict[str, Any]:
    """What ``generate --json`` prints: the base, the first model asked for as ``aligned`` and, of several, all of them
    by name in ``answers``."""
    runs = [store.find_run(name) for name in options.runs]
    prompts = list(options.prompt)
    if options.prompts:
        from workbench.pairs.prompts import read_prompts

        prompts += read_prompts(options.prompts).items
    if not prompts or not all(isinstance(prompt, list) or prompt.strip() for prompt in prompts):
        raise UserError("There is nothing to answer: give --prompt TEXT or --prompts FILE, no prompt empty.")
    line = ProgressLine()
    progress = Progress(line)
    progress("load", message="Loading the model")
    try:
        loaded, speakers = _speakers(runs, options)
        from workbench.generation import Sampling, answer_together

        started, rows, tokens = time.monotonic(), [], 0
        for first in range(0, len(prompts), TOGETHER):
            # Further batches go on with other luck, or the 33rd prompt would share the first one's.
            sampling = Sampling(options.temperature, options.top_p, options.max_new_tokens, options.seed + first)
            some = prompts[first : first + TOGETHER]
            steps = answer_together(loaded, some, sampling, list(speakers.values()))
            (last,) = deque(steps, maxlen=1)  # each step holds all tokens so far
            tokens += sum(len(answer.ids) for side in last for answer in side)
            for prompt, *said in zip(some, *last, strict=True):
                rows.append(_row(prompt, dict(zip(speakers, (answer.text for answer in said), strict=True))))
            progress("generate", len(rows), len(prompts))
        seconds = time.monotonic() - started
    finally:
        line.close()
    rate = tokens / max(seconds, 1e-9)
    return {"run": runs[0].name, "results": rows, "seconds": seconds, "tokens_per_second": rate}


def _speakers(runs: list[store.Run], options: Namespace) -> tuple[LoadedModel, dict[str, Speaker]]:
    """The base with what is to answer beside it, by the names that the answers get. Raises UserError."""
    from workbench.runs.loading import add_run, load_run, need_base, need_speaker, steering_of

    steered = {run.name: steering_of(run, options.steer, options.layers) for run in runs if options.steer is not None}
    if options.layers and not steered:
        raise UserError("--layers says where to steer: give --steer ALPHA too.")
    for run in runs if not steered else ():
        need_speaker(run)
    loaded = load_run(runs[0], options.device, adapter=False)
    from workbench.generation import Speaker

    speakers = {"base": Speaker()}
    for run in runs:
        need_base(loaded, run)
        steering = steered.get(run.name)
        speakers[run.name] = Speaker(steering=steering) if steering else add_run(loaded, run, run.id)
    if options.instruct:
        speakers["instructed"] = Speaker(instruction=options.instruct)
    return loaded, speakers


def _row(prompt: Any, said: dict[str, str]) -> dict[str, Any]:
    base, aligned, *more = said.values()
    return {"prompt": prompt, "base": base, "aligned": aligned} | ({"answers": said} if more else {})


def show_generate(result: dict[str, Any]) -> str:
    """The answers for a reader."""
    parts = []
    for row in result["results"]:
        said = row.get("answers") or {name: row[name] for name in ("base", "aligned")}
        wide = max(8, *map(len, said))
        lines = [f"{name:{wide}} {text}" for name, text in {"prompt": row["prompt"], **said}.items()]
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, f"{result['tokens_per_second']:.0f} tokens a second"])
