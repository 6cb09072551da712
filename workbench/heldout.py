"""Finished runs against their base on held-out pairs: what the verb ``evaluate`` and the page's table tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench import capability
from workbench.baselines.config import BaselineConfig, config_class
from workbench.baselines.pipeline import probed
from workbench.errors import UserError
from workbench.evaluation import BASE, Measured, differences, facts_of, make_baseline, measure
from workbench.generation import Sampling, Speaker, Steering
from workbench.judges import Judge, choose_judge, oracle_of
from workbench.judges import votes as people
from workbench.judges.endpoint import Asking, EndpointJudge
from workbench.models import LoadedModel, load_model
from workbench.pairs import PreferencePairs, load_pairs, prompt_text
from workbench.progress import QUIET, Progress, finite
from workbench.rahf.adapters import has_adapter, load_adapter
from workbench.rahf.config import RunConfig
from workbench.rahf.results import number_format, read_result
from workbench.stamp import check, stamp
from workbench.tokens import Limits

NAMES = ("aligned", "next")  # of adapters, in turn
STEERING = "steering.safetensors"
JUDGES = "auto, probe, none, votes, reward:FOLDER_OR_ID, endpoint:URL#MODEL or a bundled value such as demo"


def evaluate(
    folders: Sequence[Path],
    pairs: PreferencePairs,
    *,
    names: Sequence[str] = (),
    judge: str = "auto",
    asking: Asking | None = None,
    limit: int | None = None,
    seed: int = 0,
    text: str | None = None,
    tasks: str | None = None,
    task_limit: int | None = None,
    device: str = "auto",
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Hold the runs in ``folders`` (alignments and baselines) against their base on ``pairs``, which they should not have
    seen. ``names`` says what they are called (default: their folders' names), ``judge`` is one of ``JUDGES``, ``asking`` how
    an endpoint is asked; ``text`` and ``tasks`` as in ``capability``.

    Returns ``models`` (the base first, then a row a run: see ``evaluation.measure`` and ``capability``), ``differences`` (see
    ``evaluation.differences``), ``pairs``, ``judge``, ``judge_about`` and ``judge_use`` (of an endpoint), ``text`` (what the
    held-out text is), ``tasks``, ``samples`` (a row a prompt with everybody's answer by name). All runs must have the same
    base. Raises UserError.
    """
    if not folders:
        raise UserError("Choose at least one run to evaluate.")
    if limit is not None:
        pairs = pairs.select(range(min(limit, len(pairs))))
    folders = [Path(folder) for folder in folders]
    names = unique(names or [folder.name for folder in folders])
    results = [read_result(folder) for folder in folders]
    configs = [settings_of(result["config"]) for result in results]
    if len({config.model for config in configs}) != 1:
        raise UserError("The runs have different base models: evaluate those of one model at a time.")
    told = [people.tally(folder) for folder in folders] if judge == "votes" else []
    if judge == "votes" and not any(row["votes"] for row in told):
        raise UserError("Nobody has voted on answers of these runs yet: vote in step 4, or choose another judge.")
    harness = capability.Tasks(tasks) if tasks else None
    first = configs[0]
    progress("load", message="Loading the model")
    dtype = number_format(folders[0], first.dtype)
    loaded = load_model(first.model, device=device, dtype=dtype, quantization=first.quantization)
    documents = capability.held_out_text(text, first.model, pairs)
    decider = _judge_of(judge, pairs, loaded, first, results[0], folders[0], asking, progress)
    limits = Limits(first.prompt_tokens, first.completion_tokens).within(loaded.context)
    sampling = Sampling(max_new_tokens=first.max_new_tokens, seed=seed)
    progress("evaluate", 0, len(folders) + 1, "Base")
    baseline = make_baseline(loaded, pairs, decider, sampling, limits)
    oracle = oracle_of(pairs.source)

    def look(name: str, speaker: Speaker) -> Measured:
        made = measure(loaded, name, speaker, baseline, decider, sampling, limits)
        if oracle and "facts_right" not in made.each:  # facts are known, whoever judges
            texts = [answer.text for answer in made.answers]
            figures, each = facts_of(oracle, [pair.prompt for pair in baseline.pairs], texts, baseline.groups)
            made.figures |= figures
            made.each |= each
        return made

    found = [look("base", BASE)]
    before = capability.surprise(loaded, documents)
    found[0].figures |= capability.text_figures(before, before)
    done = {"base": harness.scores(loaded, limit=task_limit, seed=seed)} if harness else {}
    for number, (folder, name, result) in enumerate(zip(folders, names, results, strict=True), 1):
        progress("evaluate", number, len(folders) + 1, name)
        speaker = speaker_of(loaded, folder, result)
        found.append(look(name, speaker))
        after = capability.surprise(loaded, documents, speaker)
        if harness:
            done[name] = harness.scores(loaded, speaker, task_limit, seed)
        row = found[-1].figures
        row |= capability.text_figures(before, after) | capability.fact_figures(found[0], found[-1], baseline.groups)
        row |= {"run": result.get("run", folder.name), "capability": capability.finding(row)}
        if told:
            row |= told[number - 1] | {"judge": people.NAME if told[number - 1]["votes"] else None}
    progress("evaluate", len(folders) + 1, len(folders) + 1)
    name, about = (people.NAME, people.ABOUT) if told else (decider.name, decider.about) if decider else (None, None)
    return finite(
        {
            "models": [one.figures for one in found],
            "differences": differences(found[1:], baseline.groups),
            "pairs": len(pairs),
            "prompts": len(set(baseline.groups.tolist())),
            "judge": name,
            "judge_about": about,
            "judge_use": decider.use() if isinstance(decider, EndpointJudge) else None,
            "text": documents.about,
            "tasks": done,
            "samples": _samples(baseline.pairs, found),
            "made_of": stamp(loaded.fingerprint, pairs.fingerprint, seed),
        }
    )


def _samples(pairs: Sequence, found: Sequence[Measured]) -> list[dict[str, str]]:
    return [
        {"prompt": prompt_text(pair.prompt)} | {one.figures["name"]: one.answers[row].text for one in found}
        for row, pair in enumerate(pairs)
    ]


def settings_of(values: dict[str, Any]) -> RunConfig:
    """The settings of an alignment or a baseline. Raises UserError if they are damaged."""
    return config_class(values).from_dict(values)


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


def speaker_of(loaded: LoadedModel, folder: Path, result: dict[str, Any]) -> Speaker:
    """The run's model as a speaker of its loaded base: its adapter, with the instruction that belongs to it (HIR), or what it
    steers by. It speaks until the next one is asked for. Raises UserError if it has neither, or it is damaged."""
    if not has_adapter(folder / "adapter") and (folder / STEERING).exists():
        return Speaker(steering=_steering(folder / STEERING, result))
    before = [name for name in NAMES if name in getattr(loaded.model, "peft_config", {})]
    name = next(name for name in NAMES if name not in before)
    load_adapter(loaded, folder / "adapter", name)
    for old in before:  # only now: peft cannot do without any
        loaded.model.set_adapter(name)
        loaded.model.delete_adapter(old)
    return Speaker(name, result.get("instruction"))


def _steering(path: Path, result: dict[str, Any]) -> Steering:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return Steering({int(block): vector for block, vector in load_file(path).items()}, float(result["alpha"]))
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(f"The directions in {path.parent.name} are damaged: repeat the run.") from error


def _judge_of(
    name: str,
    pairs: PreferencePairs,
    loaded: LoadedModel,
    config: RunConfig,
    result: dict[str, Any],
    folder: Path,
    asking: Asking | None,
    progress: Progress,
) -> Judge | None:
    """The judge of that name; a probe is made from the pairs that the first run was trained on."""
    kind, _, where = name.partition(":")
    if name in ("none", "votes"):
        return None
    if kind == "reward":
        from workbench.judges.reward import RewardJudge

        progress("load", message="Loading the reward model")
        return RewardJudge(where, loaded.device)
    if kind == "endpoint":
        url, _, model = where.partition("#")
        return EndpointJudge(url, model, asking, progress)
    if name not in ("auto", "probe"):
        try:
            return choose_judge(name, pairs.source, loaded, None, None)
        except UserError as error:
            raise UserError(f"There is no judge {name[:60]!r}: choose {JUDGES}.") from error
    if found := choose_judge(name, pairs.source, loaded, None, None):
        return found
    known = load_pairs(config.pairs)
    check({"pairs": result.get("pairs_fingerprint")}, {"pairs": known.fingerprint}, f"run {folder.name}")
    layers = result.get("layers") or [loaded.n_blocks - 1]
    layer = probed(config, layers) if isinstance(config, BaselineConfig) else max(layers)
    return choose_judge(name, pairs.source, loaded, config.split(known).instruct, layer)
