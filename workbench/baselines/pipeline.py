"""One baseline from pairs to a model that can be judged: a resumable piece of work like RAHF's own pipeline, whose parts it
uses for all that is not the method itself, so that what differs between two runs is the method."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.baselines import supervised
from workbench.baselines.config import BaselineConfig
from workbench.errors import UserError
from workbench.generation import Speaker, Steering
from workbench.jsonfile import read_json, write_json
from workbench.judges import choose_judge
from workbench.progress import Progress, finite
from workbench.rahf.adapters import has_adapter, load_adapter, save_adapter, whole_adapter
from workbench.rahf.config import RunConfig
from workbench.rahf.pipeline import Bench, Notes, choose_layers, final, looking, peak_memory, save_vectors, set_up
from workbench.rahf.results import CHOSEN

STEERING = "steering.safetensors"
NO_TRL = "DPO needs the package trl, which is not installed here: pip install trl, or choose another method."


def run_baseline(config: BaselineConfig, folder: Path, progress: Progress) -> dict[str, Any]:
    """Do what ``config.method`` says and leave in ``folder``: adapter/ (or steering.safetensors), samples.jsonl, result.json.

    Trained are all pairs that are not held out: both the part that RAHF's step 1 learns from and the part of its steps 2
    and 3. Called again for a folder where it was stopped or killed, it goes on from what is whole there. Returns the figures
    of ``align``, and ``instruction``: what the model has to be told to answer as it was taught (HIR), or None; ``budget``:
    steps, answers a batch, answers and tokens seen. Raises UserError, and Stopped when asked to stop.
    """
    config = config.validate()
    folder.mkdir(parents=True, exist_ok=True)
    if (done := read_json(folder / "result.json")) and (
        has_adapter(folder / "adapter") or (folder / STEERING).exists()
    ):
        return done
    preference = _preference() if config.method == "dpo" else None
    bench = set_up(config, folder, progress)
    layers = choose_layers(bench) if config.method == "steering" else tuple(range(bench.loaded.n_blocks))
    judge = choose_judge(config.judge, config.pairs, bench.loaded, bench.split.instruct, probed(config, layers))
    told = {"layers": list(layers), "alpha": None, "relative_strength": {}, "calibration": None, "instructed": {}}
    told |= {"instruction": config.positive if config.uses_instructions else None, "adapter": None}
    notes = Notes(folder / "progress.json")
    if config.method == "steering":
        steering, made = notes.timed("calibrate", lambda: _steer(bench, layers))
        told |= made
        speaker = Speaker(steering=steering)
    else:
        made = _train(bench, bench.about() | told, notes, judge, preference)
        speaker = Speaker(made.pop("speaking"), told["instruction"])
        told |= made | {"adapter": str(folder / "adapter")}
    held_out = final(bench, judge, speaker)
    result = (
        bench.about()
        | told
        | {
            "seconds": {stage: notes.get(stage) for stage in ("instruct", "calibrate", "align")},
            "peak_memory_bytes": peak_memory(),
            "held_out": held_out,
        }
    )
    write_json(folder / "result.json", result)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return finite(result)


def probed(config: RunConfig, layers: Sequence[int]) -> int:
    """The block whose states judge answers where the pairs bring no oracle: the deepest that was named, else two thirds up,
    where preference usually reads well."""
    return max(config.layers) if config.layers else max(0, round(2 / 3 * max(layers)))


def _preference():
    try:
        from workbench.baselines import preference
    except ImportError as error:
        raise UserError(NO_TRL) from error
    return preference


def _steer(bench: Bench, layers: tuple[int, ...]) -> tuple[Steering, dict[str, Any]]:
    from workbench.baselines.steering import find

    steering, found = find(bench, layers)
    save_vectors(steering.vectors, bench.folder, bench.stamp)
    none = {"steps": 0, "loss_first": None, "loss_last": None, "budget": None}
    return steering, none | {
        "alpha": steering.alpha,
        "relative_strength": found.pop("relative_strength"),
        "calibration": found,
    }


def _train(bench: Bench, chosen: dict[str, Any], notes: Notes, judge, preference) -> dict[str, Any]:
    """Train what is not there yet, save it, and say what was spent; ``speaking`` is its name in the model."""
    budget = bench.config.budget(len(bench.split.instruct), len(bench.split.fit))
    pairs = list(bench.pairs.without(bench.split.held_out.dataset["id"]))
    lessons = supervised.lessons_of(pairs, bench.config)
    each = 2 if preference else 1  # answers an example
    config = bench.config.as_stage(budget, max(1, round(budget.batch / each)))
    write_json(bench.folder / CHOSEN, chosen)
    module = preference or supervised
    home, name, losses = bench.folder / "adapter", module.ADAPTER, read_json(bench.folder / "losses.json") or {}
    if losses and whole_adapter(home):
        load_adapter(bench.loaded, home, name)
    else:
        shutil.rmtree(home, ignore_errors=True)
        look = looking(bench, judge, config.align_steps)
        show = lambda step, adapter: look(Speaker(adapter, chosen["instruction"]))  # noqa: E731 - two words for the next line
        limits, folder = bench.limits, bench.folder / "checkpoints" / "aligned"
        examples = pairs if preference else lessons
        work = lambda: module.train(bench.loaded, examples, config, limits, folder, bench.progress, show)  # noqa: E731
        done = notes.timed("align", work)
        losses = {key: done[key] for key in ("steps", "loss_first", "loss_last")}
        bench.progress("save", message="Saving the adapter")
        write_json(bench.folder / "losses.json", losses)
        save_adapter(bench.loaded, name, home, bench.stamp)
    answers = losses["steps"] * config.align_batch * config.accumulation * each
    length = sum(len(lesson.encoded(bench.loaded, bench.limits).ids) for lesson in lessons) / len(lessons)
    spent = {"steps": losses["steps"], "batch": config.align_batch * each, "answers": answers}
    spent["tokens"] = round(answers * length)  # prompts included
    return losses | {"budget": spent, "speaking": name}
