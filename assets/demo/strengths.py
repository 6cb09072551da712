"""Does the preview tell what a fit will do? One run, calibrated, then further fits of the same step 1 at other strengths.

``python -m assets.demo.strengths [--model M] [--pairs P] [--method scit|dual] [--seed N] [--factors 0.5,1,2,3]`` prints a
row a strength: what preview answered there, and what the adapter fitted there answers, to the same prompts with the same
luck. ``--shuffle`` draws at random which answer of a pair is called chosen: then there is nothing to learn.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.evaluation import repeats
from workbench.generation import Answer, Sampling, generate
from workbench.judges import RuleJudge, oracle_of
from workbench.pairs import load_pairs
from workbench.preview import preview
from workbench.progress import QUIET
from workbench.rahf.adapters import load_adapter
from workbench.rahf.align import ALIGNED, fit
from workbench.rahf.calibrate import shift_of
from workbench.rahf.config import RunConfig
from workbench.rahf.patterns import Patterns, make_examples
from workbench.rahf.pipeline import align
from workbench.tokens import Limits

TOLD = "preferred | neither | stuck | tokens"
HEAD = (
    f"| pairs | method | alpha | strength | chosen | preview: {TOLD} | fit: {TOLD} |",
    "| --- " * 13 + "|",
)
PROMPTS = 100


def told(judge: RuleJudge | None, answers: list[Answer]) -> list[str]:
    """Preferred, neither (where an oracle judges), stuck, mean length."""
    count = len(answers)
    shares = ["", ""]
    if judge:
        labels = judge.labels([answer.text for answer in answers])
        shares = [f"{labels.count(label) / count:.0%}" for label in ("preferred", "neither")]
    stuck = sum(repeats(answer.ids) for answer in answers) / count
    return [*shares, f"{stuck:.0%}", f"{sum(len(answer.ids) for answer in answers) / count:.0f}"]


def shuffled(source: str, folder: Path, seed: int) -> str:
    """The same pairs with the sides of each drawn at random."""
    draw, path = random.Random(seed), folder / "shuffled.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for pair in load_pairs(source):
            chosen, rejected = (pair.chosen, pair.rejected) if draw.random() < 0.5 else (pair.rejected, pair.chosen)
            prompt = pair.prompt[-1]["content"]
            file.write(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}) + "\n")
    return str(path)


def rows(config: RunConfig, name: str, folder: Path, factors: list[float]) -> list[str]:
    """The table's rows of one run."""
    result = align(config, folder, QUIET)
    from workbench.models import load_model

    loaded = load_model(config.model)
    for adapter in config.instructed_adapters:
        load_adapter(loaded, folder / "instructed" / adapter, adapter)
    split = config.split(load_pairs(config.pairs))
    prompts = [pair.prompt for pair in split.held_out][:PROMPTS]
    extra = loaded.boundary.instruction_tokens(config.positive, config.negative) if config.uses_instructions else 0
    limits = Limits(config.prompt_tokens, config.completion_tokens).within(loaded.context, extra)
    patterns = Patterns(loaded, make_examples(loaded, split.fit, config, limits), config, result["layers"])
    mean = sum(patterns.collect(QUIET).values()) / len(result["layers"])
    sampling, judge = Sampling(max_new_tokens=config.max_new_tokens, seed=config.seed), oracle_of(name)
    shift = shift_of(config, result["layers"])
    lines = []
    for factor in factors:
        alpha = result["alpha"] * factor
        *_, seen = preview(loaded, prompts, [alpha] * len(prompts), shift, sampling)
        fit(loaded, patterns, alpha, config, folder / f"fit-{factor:g}", QUIET)
        answers = generate(loaded, prompts, sampling, ALIGNED)
        loaded.model.delete_adapter(ALIGNED)
        cells: list[Any] = [name, config.method, f"{alpha:.2f}", f"{alpha * mean:.2f}", "yes" if factor == 1 else ""]
        cells += [*told(judge, seen.answers), *told(judge, answers)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--pairs", default="demo")
    parser.add_argument("--method", default="scit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--factors", default="0.5,1,2,3")
    parser.add_argument("--shuffle", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name = options.pairs
        source = shuffled(name, Path(folder), options.seed) if options.shuffle else name
        config = RunConfig(
            model=options.model, pairs=source, method=options.method, seed=options.seed, judge="none"
        ).validate()
        try:
            lines = rows(config, name, Path(folder) / "run", [float(factor) for factor in options.factors.split(",")])
        except UserError as error:
            print(error)
            return
        print("\n".join([*HEAD, *lines]))


if __name__ == "__main__":
    main()
