"""Finished runs against their base on held-out pairs: what the verb ``evaluate`` and the page's table tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.evaluation import BASE, Measured, differences, make_baseline, measure
from workbench.generation import Sampling, Speaker
from workbench.judges import Judge, choose_judge
from workbench.models import LoadedModel, load_model
from workbench.pairs import PreferencePairs, load_pairs, prompt_text
from workbench.progress import QUIET, Progress
from workbench.rahf.adapters import is_full, load_adapter
from workbench.rahf.config import RunConfig
from workbench.rahf.results import number_format, read_result
from workbench.stamp import check, stamp
from workbench.tokens import Limits

ALIGNED = "aligned"
BASELINES = ("sft", "hir", "dpo")  # methods of runs of the kind "baseline"


def evaluate(
    folders: Sequence[Path],
    pairs: PreferencePairs,
    *,
    names: Sequence[str] = (),
    judge: str = "auto",
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Hold the runs in ``folders`` (alignments and baselines) against their base on ``pairs``, which they should not have
    seen. ``names`` says what they are called (default: their folders' names).

    Returns ``models`` (the base first, then a row a run, see ``evaluation.measure``), ``differences`` (see
    ``evaluation.differences``), ``pairs``, ``judge`` and ``judge_about``, ``samples`` (a row a prompt with everybody's
    answer by name). All runs must have the same base. Raises UserError.
    """
    if limit is not None:
        pairs = pairs.select(range(min(limit, len(pairs))))
    names = unique(names or [folder.name for folder in folders])
    results = [read_result(Path(folder)) for folder in folders]
    configs = [settings_of(result["config"]) for result in results]
    if len({config.model for config in configs}) != 1:
        raise UserError("The runs have different base models: evaluate those of one model at a time.")
    first = configs[0]
    progress("load", message="Loading the model")
    dtype = number_format(Path(folders[0]), first.dtype)
    loaded = load_model(first.model, device=device, dtype=dtype, quantization=first.quantization)
    decider = _judge_of(judge, pairs, loaded, first, results[0], folders[0])
    limits = Limits(first.prompt_tokens, first.completion_tokens).within(loaded.context)
    sampling = Sampling(max_new_tokens=first.max_new_tokens, seed=seed)
    progress("evaluate", 0, len(folders) + 1, "Base")
    baseline = make_baseline(loaded, pairs, decider, sampling, limits)
    base = measure(loaded, "base", BASE, baseline, decider, sampling, limits)
    found: list[Measured] = []
    for number, (folder, name, result) in enumerate(zip(folders, names, results, strict=True), 1):
        progress("evaluate", number, len(folders) + 1, name)
        with _loaded(loaded, Path(folder), result) as speaker:
            found.append(measure(loaded, name, speaker, baseline, decider, sampling, limits))
    progress("evaluate", len(folders) + 1, len(folders) + 1)
    samples = [
        {"prompt": prompt_text(pair.prompt)}
        | {one.figures["name"]: answer.text for one, answer in zip([base, *found], answers, strict=True)}
        for pair, *answers in zip(baseline.pairs, base.answers, *(one.answers for one in found), strict=True)
    ]
    return {
        "models": [one.figures for one in (base, *found)],
        "differences": differences(found, baseline.groups),
        "pairs": len(pairs),
        "judge": decider.name if decider else None,
        "judge_about": decider.about if decider else None,
        "samples": samples,
        "made_of": stamp(loaded.fingerprint, pairs.fingerprint, seed),
    }


def settings_of(values: dict[str, Any]) -> RunConfig:
    """The settings of an alignment or a baseline; of the latter those that it shares with every run."""
    shared = {key: value for key, value in values.items() if key != "method" or value not in BASELINES}
    return RunConfig.from_dict(shared)


def unique(names: Sequence[str]) -> list[str]:
    """The names, each with a number where it stood before; none is "base", which is the base's, or "prompt"."""
    taken, out = {"base", "prompt"}, []
    for name in names:
        number, told = 1, name
        while told in taken:
            number += 1
            told = f"{name} ({number})"
        taken.add(told)
        out.append(told)
    return out


@contextmanager
def _loaded(loaded: LoadedModel, folder: Path, result: dict[str, Any]) -> Iterator[Speaker]:
    """The run's model as a speaker, for as long as the context lasts."""
    load_adapter(loaded, folder / "adapter", ALIGNED)
    try:
        yield Speaker(ALIGNED, result.get("instruction"))
    finally:
        if not is_full(loaded, ALIGNED):  # the next full fine-tuning of that name replaces it
            loaded.model.delete_adapter(ALIGNED)


def _judge_of(
    name: str, pairs: PreferencePairs, loaded: LoadedModel, config: RunConfig, result: dict[str, Any], folder: Path
) -> Judge | None:
    """The judge of that name; a probe is made from the pairs that the first run was trained on."""
    found = choose_judge(name, pairs.source, loaded, None, None)
    if found is not None or name not in ("auto", "probe"):
        return found
    known = load_pairs(config.pairs)
    check({"pairs": result.get("pairs_fingerprint")}, {"pairs": known.fingerprint}, f"run {folder.name}")
    layers = result.get("layers") or [loaded.n_blocks - 1]
    return choose_judge(name, pairs.source, loaded, config.split(known).instruct, max(layers))
