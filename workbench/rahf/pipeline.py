"""The whole of RAHF as one resumable piece of work: what lies whole in the run's folder is not done again."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench import processes
from workbench.baselines import RAHF
from workbench.errors import UserError
from workbench.evaluation import Baseline, Measured, make_baseline, measure
from workbench.generation import Sampling, Speaker, generate
from workbench.jsonfile import read_json, sync_path, write_json, write_whole
from workbench.judges import Judge, RuleJudge, choose_judge
from workbench.models import LoadedModel, load_model
from workbench.pairs import PreferencePairs, Split, load_pairs, prompt_text
from workbench.progress import Progress, finite
from workbench.rahf.adapters import (
    has_adapter,
    join_adapters,
    load_adapter,
    read_weights,
    save_adapter,
    set_weights,
    whole_adapter,
    write_weights,
)
from workbench.rahf.align import ALIGNED, fit
from workbench.rahf.calibrate import STEEPEST, calibrate
from workbench.rahf.checkpoints import last_checkpoint
from workbench.rahf.collapse import Guard
from workbench.rahf.config import RunConfig
from workbench.rahf.estimate import write_down
from workbench.rahf.instruct import instruct, judge_step1
from workbench.rahf.patterns import Patterns, choose_alpha, make_examples
from workbench.rahf.results import CHOSEN, MADE_OF, number_format
from workbench.rahf.training import check_optimizer
from workbench.stamp import check, stamp
from workbench.tokens import Limits

SAMPLES = 6  # answers shown of each look
SIDES = 2  # prompts whose answers show what step 1 taught
MOST_SCORED = 400  # pairs that suffice to choose blocks by


@dataclass
class Bench:
    """What all stages work on."""

    config: RunConfig
    folder: Path
    progress: Progress
    loaded: LoadedModel
    pairs: PreferencePairs
    split: Split
    limits: Limits
    stamp: dict[str, Any]  # what everything in the folder is made of

    def about(self) -> dict[str, Any]:
        """What a result says of the run itself: its settings, model and pairs."""
        parts = {name: len(getattr(self.split, name)) for name in ("instruct", "fit", "held_out")}
        return {
            "run": self.folder.name,
            "method": self.config.method,
            "pairs": parts,
            "n_blocks": self.loaded.n_blocks,
            "model_fingerprint": self.loaded.fingerprint,
            "pairs_fingerprint": self.pairs.fingerprint,
            "versions": self.stamp["versions"],
            "config": self.config.to_dict(),
        }


def align(
    config: RunConfig, folder: Path, progress: Progress, history: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Run RAHF (rahf.md; arXiv 2312.15997) as ``config`` says and leave in ``folder``: estimate.json, layers.json,
    instructed/, steering.safetensors, chosen.json, adapter/, samples.jsonl, result.json.

    ``history``: what earlier runs teach of the time this one will take (see ``estimate.history_row``).
    Called again for a folder where it was stopped or killed, it goes on from what is whole there. Returns the figures
    that ``align --json`` prints. Raises UserError for what the user can mend, Stopped when asked to stop.
    """
    config = config.validate()
    if config.method not in RAHF:
        raise UserError(
            f"{config.method} is a baseline and no form of RAHF: python -m workbench baseline {config.method}."
        )
    if processes.first():
        folder.mkdir(parents=True, exist_ok=True)
    if (done := read_json(folder / "result.json")) and has_adapter(folder / "adapter"):
        return done
    bench = set_up(config, folder, progress)
    expected = write_down(config, folder, bench.pairs, history)
    timings = Notes(folder / "progress.json")
    layers = processes.agreed(choose_layers(bench))
    judge = choose_judge(config.judge, config.pairs, bench.loaded, bench.split.instruct, max(layers))
    steps = _instruct(bench, timings)
    checked = _check(bench, judge)
    examples = make_examples(bench.loaded, bench.split.fit, config, bench.limits)
    patterns = Patterns(bench.loaded, examples, config, layers)
    unit = processes.agreed(patterns.collect(progress))
    alpha, calibration = processes.agreed(_alpha(bench, unit, timings))
    strength = {block: round(alpha * share, 4) for block, share in unit.items()}
    said = _strength_sentence(alpha, strength, config.relative_strength)
    progress("patterns", message=said, relative_strength=strength, alpha=alpha)
    save_vectors(patterns.mean_shift(), folder, bench.stamp)
    chosen = bench.about() | {
        "layers": list(layers),
        "alpha": alpha,
        "relative_strength": strength,
        "calibration": calibration,
        "instructed": {"steps": steps} | checked,
    }
    write_json(folder / CHOSEN, chosen)
    fitted = _fit(bench, patterns, alpha, judge, timings)
    held_out = final(bench, judge, Speaker(ALIGNED))
    result = chosen | {
        "steps": fitted["steps"],
        "seconds": {stage: timings.get(stage) for stage in ("instruct", "calibrate", "align")},
        "steps_done": fitted.get("steps_done", fitted["steps"]),
        "ended": fitted["ended"],
        "collapse": fitted["collapse"],
        "loss_first": fitted["loss_first"],
        "loss_last": fitted["loss_last"],
        "fit": fitted["fit"],
        "peak_memory_bytes": peak_memory(),
        "estimated": expected,
        "adapter": str(folder / "adapter"),
        "held_out": held_out,
    }
    write_json(folder / "result.json", result)
    processes.meet()  # the others may still read there
    if processes.first():
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return finite(result)


def set_up(config: RunConfig, folder: Path, progress: Progress) -> Bench:
    """Pairs, split, model and limits of a run; a checked stamp in its folder. Raises UserError."""
    progress("pairs", message="Reading the pairs")
    pairs = load_pairs(config.pairs, progress=progress)
    split = config.split(pairs)
    progress("load", message="Loading the model")
    dtype = number_format(folder, config.dtype)
    loaded = load_model(config.model, config.device, dtype, quantization=config.quantization)
    check_optimizer(config.optimizer, loaded.device)
    config.check_layers(loaded.n_blocks)
    extra = loaded.boundary.instruction_tokens(config.positive, config.negative) if config.uses_instructions else 0
    limits = Limits(config.prompt_tokens, config.completion_tokens).within(loaded.context, extra)
    cut = sum(
        item.prompt_cut or item.completion_cut
        for pair in pairs
        for item in (loaded.boundary.encode(pair.prompt, max(pair.chosen, pair.rejected, key=len), None, limits),)
    )
    if cut:
        progress(
            "load",
            message=f"{cut} of {len(pairs)} pairs are longer than {limits.prompt} + {limits.completion} tokens and are cut.",
            cut=cut,
        )
    return Bench(
        config, folder, progress, loaded, pairs, split, limits, _made_of(config, folder, loaded, pairs, progress)
    )


def _made_of(
    config: RunConfig, folder: Path, loaded: LoadedModel, pairs: PreferencePairs, progress: Progress
) -> dict[str, Any]:
    """The stamp of everything this run makes, written down when it begins and checked whenever it goes on."""
    now = stamp(loaded.fingerprint, pairs.fingerprint, config.seed)
    before = read_json(folder / MADE_OF)
    if before is None:
        write_json(folder / MADE_OF, now | {"dtype": str(loaded.dtype).removeprefix("torch.")})
    elif said := check(before, now, "this run"):
        progress("load", message=said)
    return now


class Notes:
    """Small numbers that must outlive a restart: seconds spent in a stage, summed over sittings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = read_json(path) or {}

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def add(self, name: str, seconds: float) -> None:
        self.values[name] = round(self.values.get(name, 0.0) + seconds, 2)
        write_json(self.path, self.values)

    def timed(self, name: str, work) -> Any:
        started = time.monotonic()
        try:
            return work()
        finally:
            self.add(name, time.monotonic() - started)


def choose_layers(bench: Bench) -> tuple[int, ...]:
    """The blocks the user named, or those that held-out probes on the training pairs suggest."""
    if bench.config.layers is not None:
        return bench.config.layers
    from workbench.representations import analyse

    path = bench.folder / "layers.json"
    values = read_json(path)
    if values is None:
        training = bench.pairs.without(bench.split.held_out.dataset["id"])
        limits = bench.limits
        analysis = analyse(
            bench.loaded,
            training,
            limit=min(MOST_SCORED, len(training)),
            limits=limits,
            seed=bench.config.seed,
            untrained=False,
            progress=bench.progress,
        )
        made = analysis.to_dict()
        values = {key: made[key] for key in ("layers", "suggested_layers", "reason", "finding", "pairs")}
        write_json(path, values | {"made_of": bench.stamp})
    bench.progress("score", message=values["reason"], layers=values["suggested_layers"])
    return tuple(values["suggested_layers"])


def _instruct(bench: Bench, notes: Notes) -> int:
    """Step 1: train the instructed adapters that are not in the folder yet. Returns optimiser steps."""
    config = bench.config
    steps = config.steps_of("instruct", len(bench.split.instruct))
    total = steps * len(config.instructed_adapters)
    for number, adapter in enumerate(config.instructed_adapters, 1):
        home = bench.folder / "instructed" / adapter
        if whole_adapter(home):
            load_adapter(bench.loaded, home, adapter)
            continue
        if processes.first():
            shutil.rmtree(home, ignore_errors=True)
        checkpoints = bench.folder / "checkpoints" / adapter
        notes.timed(
            "instruct",
            lambda adapter=adapter, checkpoints=checkpoints: instruct(
                bench.loaded, bench.split.instruct, config, adapter, bench.limits, checkpoints, bench.progress
            ),
        )
        save_adapter(bench.loaded, adapter, home, bench.stamp)
        bench.progress("instruct", number * steps, total, f"{adapter} is trained")
    return total


def _check(bench: Bench, judge: Judge | None) -> dict[str, Any]:
    """Whether step 1 gave a direction worth fitting. Raises UserError if not, unless ``force``."""
    config, held_out = bench.config, bench.split.held_out
    checked = processes.agreed(judge_step1(bench.loaded, held_out, config, bench.limits, bench.progress))
    shares, sides = _answers_by_side(bench, judge)
    checked |= shares
    learned = checked["separation_low"] > 0.5
    percent = f"{checked['separation']:.0%} [{checked['separation_low']:.0%}, {checked['separation_high']:.0%}]"
    differ = "under p+ than under p-" if config.method == "scit" else "in the model tuned on chosen answers"
    bench.progress(
        "check",
        message=f"Step 1 {'worked' if learned else 'did not work'}: {percent} of held-out pairs lean further to chosen {differ}.",
        **checked,
        sides=sides,
    )
    if not learned and not config.force:
        raise UserError(
            f"Step 1 taught the model no preference: only {percent} of held-out pairs lean further to chosen {differ} "
            "(50% is chance), so step 3 has nothing to fit. Give it more steps or pairs, or set force to go on anyway."
        )
    return checked


def _answers_by_side(bench: Bench, judge: Judge | None) -> tuple[dict[str, float], list[dict[str, str]]]:
    """Answers to held-out prompts on the preferred side of step 1 and on the other: how often an oracle prefers them,
    and a few of them to read side by side."""
    config, oracle = bench.config, isinstance(judge, RuleJudge)
    count = config.evaluate_prompts if oracle else SIDES
    prompts = [pair.prompt for pair in bench.split.held_out.select(range(min(count, len(bench.split.held_out))))]
    sampling = Sampling(max_new_tokens=config.max_new_tokens, seed=config.seed)
    plan = {
        "plus": (config.instructed_adapters[0], config.positive),
        "minus": (config.instructed_adapters[-1], config.negative),
    }
    texts, shares = {}, {}
    for side, (adapter, instruction) in plan.items():
        answers = generate(bench.loaded, prompts, sampling, adapter, instruction if config.uses_instructions else None)
        texts[side] = [answer.text for answer in answers]
        if oracle:
            shares[f"preferred_{side}"] = judge.labels(texts[side]).count("preferred") / len(prompts)
    rows = list(zip(prompts, texts["plus"], texts["minus"], strict=True))[:SIDES]
    sides = [{"prompt": prompt_text(prompt), "plus": plus, "minus": minus} for prompt, plus, minus in rows]
    return shares | ({"prompts": len(prompts)} if oracle else {}), sides


def _alpha(bench: Bench, unit: dict[int, float], notes: Notes) -> tuple[float, dict[str, Any] | None]:
    """The strength of step 3, and the calibration that found it (None: the user named alpha or a relative strength)."""
    config = bench.config
    if config.alpha is not None:
        return config.alpha, None
    if config.relative_strength is not None:
        return choose_alpha(unit, config.relative_strength, STEEPEST), None
    path = bench.folder / "calibration.json"
    found = read_json(path)
    if found is None:
        loaded, fit = bench.loaded, bench.split.fit
        found = notes.timed("calibrate", lambda: calibrate(loaded, fit, unit, config, bench.limits, bench.progress))
        found["seconds"] = notes.get("calibrate")
        write_json(path, found | {"made_of": bench.stamp})
    found = {key: value for key, value in found.items() if key != "made_of"}
    bench.progress("calibrate", found["prompts"], found["prompts"], found["reason"], calibration=found)
    return found["chosen"], found


def _fit(bench: Bench, patterns: Patterns, alpha: float, judge: Judge | None, notes: Notes) -> dict[str, Any]:
    """Step 3, looking at held-out answers on the way."""
    config, loaded = bench.config, bench.loaded
    look = looking(bench, judge, config.steps_of("align", len(patterns.examples)))
    folder = bench.folder / "checkpoints" / "aligned"
    shown = lambda step, adapter: look(Speaker(adapter))  # noqa: E731 - two words for the line below
    fitted = notes.timed("align", lambda: fit(loaded, patterns, alpha, config, folder, bench.progress, shown))
    bench.progress("save", message=fitted["collapse"] or "Saving the adapter")
    save_adapter(loaded, ALIGNED, bench.folder / "adapter", bench.stamp)
    return fitted


def looking(bench: Bench, judge: Judge | None, steps: int) -> Callable[[Speaker], dict[str, Any]]:
    """What looks at held-out answers while a training of so many steps goes on, after a first event about the base's."""
    config, loaded = bench.config, bench.loaded
    looked_at = bench.split.held_out.select(range(min(config.evaluate_prompts, len(bench.split.held_out))))
    sampling = Sampling(max_new_tokens=config.max_new_tokens, seed=config.seed)
    baseline = make_baseline(loaded, looked_at, judge, sampling, bench.limits)

    def looked(speaker: Speaker) -> dict[str, Any]:
        return _look(baseline, measure(loaded, "", speaker, baseline, judge, sampling, bench.limits))

    first = looked(Speaker())
    base = {"base_coherence": first["coherence"], "base_mean_tokens": first["mean_tokens"]}
    bench.progress("align", 0, steps, **first, **base)
    return lambda speaker: looked(speaker) | base


def _look(baseline: Baseline, now: Measured) -> dict[str, Any]:
    """What the model answers now: the figures of an evaluation event, with a few answers to read."""
    rows = list(zip(baseline.pairs, baseline.answers, now.answers, strict=True))[:SAMPLES]
    samples = [{"prompt": prompt_text(pair.prompt), "base": old.text, "aligned": new.text} for pair, old, new in rows]
    kept = {name: value for name, value in now.figures.items() if name not in ("name", "pairs")}
    return kept | {"samples": samples, "memory_bytes": peak_memory()}


def final(bench: Bench, judge: Judge | None, speaker: Speaker) -> dict[str, Any]:
    """Base and aligned model on all held-out pairs; their answers go to samples.jsonl."""
    config, loaded = bench.config, bench.loaded
    bench.progress("evaluate", 0, 2, "Judging on held-out pairs", check=False)
    sampling = Sampling(max_new_tokens=config.max_new_tokens, seed=config.seed)
    baseline = make_baseline(loaded, bench.split.held_out, judge, sampling, bench.limits)
    base = measure(loaded, "base", Speaker(), baseline, judge, sampling, bench.limits)
    bench.progress("evaluate", 1, 2, "Judging on held-out pairs", check=False)
    aligned = measure(loaded, ALIGNED, speaker, baseline, judge, sampling, bench.limits)
    lines = []
    for pair, old, new in zip(baseline.pairs, baseline.answers, aligned.answers, strict=True):
        row = {"id": pair.id, "prompt": prompt_text(pair.prompt), "base": old.text, "aligned": new.text}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_whole(bench.folder / "samples.jsonl", "".join(lines))
    bench.progress("evaluate", 2, 2, "Judged", check=False)
    return {"base": base.figures, "aligned": aligned.figures}


def save_vectors(by_block: dict[int, torch.Tensor], folder: Path, made_of: dict[str, Any]) -> None:
    """The mean difference vector of each block, float32 [d], named by its block; whole or not at all."""
    if not processes.first():
        return
    from safetensors.torch import save_file

    vectors = {str(block): vector.contiguous() for block, vector in by_block.items()}
    partial = folder / "steering.safetensors.partial"
    save_file(vectors, partial, metadata={"made_of": json.dumps(made_of, sort_keys=True)})
    sync_path(partial)
    partial.replace(folder / "steering.safetensors")


def _strength_sentence(alpha: float, strength: dict[int, float], aim: float | None = None) -> str:
    mean = sum(strength.values()) / len(strength)
    if aim is not None and alpha == STEEPEST and mean < 0.95 * aim:
        return (
            f"What step 1 taught is so small a difference that alpha {alpha:g}, the highest that is taken, moves states by "
            f"{mean:.2g} of their own length and not by the {aim:g} aimed at."
        )
    zone = "above 1 every answer collapses" if mean > 1 else "above 0.5 answers begin to collapse" if mean > 0.5 else ""
    return f"Alpha {alpha:g} moves states by {mean:.2f} of their own length{'; ' if zone else ''}{zone}."


def keep_partial(config: RunConfig, folder: Path) -> dict[str, int] | None:
    """Make the last checkpoint of step 3 the run's adapter, marked as partial: a plain adapter like a finished one. Where
    answers had fallen apart, it is that of the last sound look.

    Returns {"steps", "of"}; None if step 3 has no (sound) checkpoint yet. Nothing may work on the folder meanwhile. Raises
    UserError if what it needs is damaged or the disk refuses.
    """
    last = last_checkpoint(folder / "checkpoints" / "aligned")
    home = folder / "adapter"
    if last is None:  # step 3 is over, or has not come so far
        steps = (read_json(folder / "result.json") or {}).get("steps") or config.align_steps
        done = {"steps": steps, "of": steps}
        return done if whole_adapter(home) and "partial" not in read_weights(home)[1] else None
    state = read_json(last.path / "trainer_state.json") or {}
    guard = Guard()
    guard.recall((last.about.get("memory") or {}).get("guard") or {}, last.path)
    if guard.said and not guard.sound:
        return None
    kept = {"steps": guard.sound if guard.said else last.step, "of": state.get("max_steps") or config.align_steps}
    about = (read_json(folder / MADE_OF) or {}) | {"partial": kept}
    try:
        if config.foundation == "base":
            tensors = guard.weights if guard.said else read_weights(last.path)[0]
            home.mkdir(exist_ok=True)
            write_whole(home / "adapter_config.json", (last.path / "adapter_config.json").read_text(encoding="utf-8"))
            write_weights(home, tensors, about)
        else:
            dtype = number_format(folder, config.dtype)
            loaded = load_model(config.model, "cpu", dtype, quantization=config.quantization)
            below = config.instructed_adapters[0]
            load_adapter(loaded, folder / "instructed" / below, below)
            load_adapter(loaded, last.path, ALIGNED)
            if guard.said:
                set_weights(loaded, guard.weights, ALIGNED)
            join_adapters(loaded, [below, ALIGNED], "joined")
            save_adapter(loaded, "joined", home, about)
    except OSError as error:
        raise UserError(f"The adapter could not be kept ({error.strerror or error}): free some disk space.") from error
    return kept


def peak_memory() -> int:
    """The most memory this process has held, in bytes: on the GPU where there is one, else resident."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError, StopIteration, ValueError):  # Linux: ru_maxrss would count whoever started us
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
