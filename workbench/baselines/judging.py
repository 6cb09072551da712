"""Judging what a study has trained: every method's model on pairs that none of them was trained on, seed by seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.baselines.pipeline import STEERING, probed
from workbench.evaluation import BASE, make_baseline, measure
from workbench.generation import Sampling, Speaker, Steering
from workbench.jsonfile import read_json, write_json
from workbench.judges import choose_judge
from workbench.models import load_model
from workbench.pairs import PreferencePairs, load_pairs, prompt_key
from workbench.progress import Progress, finite
from workbench.rahf.adapters import load_adapter
from workbench.rahf.config import RunConfig
from workbench.rahf.results import number_format, read_result
from workbench.stamp import check
from workbench.tokens import Limits

ANSWERING = "member"  # the adapter whose answers are judged


@dataclass(frozen=True)
class Ballot:
    """What is judged in a study: settings that all members share (of RAHF), pairs to judge by (None: those each seed held
    out), at most ``limit`` of them, methods and seeds in order, and where a method's run of a seed lies (none for base and
    prompt)."""

    settings: dict[str, Any]
    test: str | None
    limit: int | None
    methods: Sequence[str]
    seeds: Sequence[int]
    runs: Mapping[tuple[str, int], Path]


def judge_members(
    ballot: Ballot, without: Collection[tuple[str, int]], folder: Path, progress: Progress
) -> list[dict[str, Any]]:
    """A row a method and seed, in the order of seeds: ``row`` (figures of ``evaluation.measure``) and ``each`` (its values
    an answer, with ``groups``, the prompts), for all but those ``without``. Rows are kept in ``folder`` and not made again.
    Raises UserError, Stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(method, seed) for seed in ballot.seeds for method in ballot.methods]
    wanted = [member for member in wanted if member not in without]
    kept = {member: read_json(folder / f"{member[0]}-{member[1]}.json") for member in wanted}
    if missing := [member for member in wanted if kept[member] is None]:
        court = _Court(ballot, progress)
        for seed in dict.fromkeys(seed for _, seed in missing):
            court.open(seed)
            for method in [method for method, its in missing if its == seed]:
                done = sum(row is not None for row in kept.values())
                progress("evaluate", done, len(wanted), f"Judging {method}, seed {seed}")
                kept[method, seed] = court.judge(method)
                write_json(folder / f"{method}-{seed}.json", kept[method, seed])
    progress("evaluate", len(wanted), len(wanted), "Judged")
    return [kept[member] for member in wanted]


class _Court:
    """The base, loaded once, and the pairs and answers that a seed's members are held against."""

    def __init__(self, ballot: Ballot, progress: Progress) -> None:
        self.ballot, self.progress = ballot, progress
        progress("load", message="Loading the model")
        self.config = RunConfig.from_dict(ballot.settings)
        self.pairs = load_pairs(self.config.pairs)
        self.test = load_pairs(ballot.test) if ballot.test else None
        dtype = next((number_format(path, self.config.dtype) for path in ballot.runs.values()), self.config.dtype)
        self.loaded = load_model(self.config.model, self.config.device, dtype, quantization=self.config.quantization)
        self.limits = Limits(self.config.prompt_tokens, self.config.completion_tokens).within(self.loaded.context)

    def open(self, seed: int) -> None:
        """Let the base answer the prompts of this seed."""
        self.seed = seed
        split = replace(self.config, seed=seed).split(self.pairs)
        held: PreferencePairs = split.held_out if self.test is None else self.test
        held = held.select(range(min(self.ballot.limit or len(held), len(held))))
        blocks = tuple(range(self.loaded.n_blocks))
        source = self.ballot.test or self.config.pairs
        self.judge_of = choose_judge(
            self.config.judge, source, self.loaded, split.instruct, probed(self.config, blocks)
        )
        self.sampling = Sampling(max_new_tokens=self.config.max_new_tokens, seed=seed)
        self.progress("evaluate", message=f"The base answers, seed {seed}")
        self.base = make_baseline(self.loaded, held, self.judge_of, self.sampling, self.limits)

    def judge(self, method: str) -> dict[str, Any]:
        with self._speaking(method) as (speaker, about):
            found = measure(self.loaded, method, speaker, self.base, self.judge_of, self.sampling, self.limits)
        row = {"method": method, "seed": self.seed} | {key: it for key, it in found.figures.items() if key != "name"}
        extra = self.loaded.boundary.instruction_tokens(speaker.instruction) if speaker.instruction else 0
        each = {key: values.tolist() for key, values in found.each.items()}
        each["groups"] = [prompt_key(pair.prompt) for pair in self.base.pairs]
        return finite({"row": row | about | {"instruction_tokens": extra}, "each": each})

    @contextmanager
    def _speaking(self, method: str):
        """The method's model as a speaker for as long as the context lasts, and what its run says of it."""
        if method in ("base", "prompt"):
            yield (
                (BASE if method == "base" else Speaker(instruction=self.config.positive)),
                {"alpha": None, "highest_tried": False, "trained": None},
            )
            return
        path = self.ballot.runs[method, self.seed]
        result = read_result(path)
        check({"model": result["model_fingerprint"]}, {"model": self.loaded.fingerprint}, f"the run of {method}")
        about = {"alpha": result.get("alpha"), "trained": result.get("budget"), "highest_tried": highest_tried(result)}
        if method == "steering":
            yield Speaker(steering=_steering(path, result["alpha"])), about
            return
        load_adapter(self.loaded, path / "adapter", ANSWERING)
        try:
            yield Speaker(ANSWERING, result.get("instruction")), about
        finally:
            self.loaded.model = self.loaded.model.unload()  # peft cannot say what a model without any adapter is


def highest_tried(result: dict[str, Any]) -> bool:
    """Whether a run took the top of the ladder of strengths that it tried: a stronger one might have done more."""
    points = (result.get("calibration") or {}).get("points")
    return bool(points) and result["alpha"] >= max(point["alpha"] for point in points)


def _steering(path: Path, alpha: float) -> Steering:
    from safetensors.torch import load_file

    return Steering({int(block): vector for block, vector in load_file(path / STEERING).items()}, alpha)
