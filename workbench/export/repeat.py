"""A script and notebooks that repeat a run with public packages alone, the run's pairs and adapter beside them.

They are written from one template in cells (``repeat.template``), with the run's own settings put in: ``repeat.py`` and
``repeat.ipynb`` train again, ``compare.ipynb`` loads the adapter and shows answers side by side.
"""

from __future__ import annotations

import json
import pprint
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.export.facts import method_name, named, on_hub
from workbench.export.vectors import blocks_path
from workbench.export.weights import adapted_names, write_adapter
from workbench.progress import Progress
from workbench.stamp import PACKAGES, check

if TYPE_CHECKING:
    from workbench.models import Reader
    from workbench.pairs import Split
    from workbench.rahf.config import RunConfig
    from workbench.tokens import Limits

TEMPLATE = Path(__file__).with_name("repeat.template")
TRAINED = (  # of the Trainer's settings, those that a run sets
    "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "warmup_steps",
    "lr_scheduler_type", "weight_decay", "max_grad_norm", "seed", "data_seed", "optim",
)  # fmt: skip


def why_not(config: RunConfig) -> str:
    """Why the script cannot repeat a run with these settings, as a sentence; empty if it can."""
    unlike = {
        "train all weights in step 1": config.instruct_tuning != "lora",
        "hold the base in few bits": config.quantization != "none",
        "use 8-bit AdamW": config.optimizer == "adamw_8bit",
    }
    for what, does in unlike.items():
        if does:
            return f"The script that repeats a run does not {what}, as this run did: repeat it with its config.yaml."
    return ""


def write_repeat(folder: Path, to: Path, result: dict[str, Any], progress: Progress) -> None:
    """Write repeat.py, repeat.ipynb, compare.ipynb, pairs.jsonl and adapter/. Raises UserError for what the script does not
    cover, for pairs that have changed, and for a model whose tokenizer cannot be read."""
    from workbench.models import load_reader
    from workbench.pairs import load_pairs
    from workbench.rahf.config import RunConfig
    from workbench.tokens import Limits

    if result["method"] not in ("scit", "dual"):
        raise UserError(
            f"The script repeats RAHF (scit, dual), and this run was made with {result['method']}: repeat it with its config.yaml."
        )
    config = RunConfig.from_dict(result["config"])
    if reason := why_not(config):
        raise UserError(reason)
    progress("pairs", message="Reading the pairs")
    pairs = load_pairs(config.pairs)
    check({"pairs": result.get("pairs_fingerprint")}, {"pairs": pairs.fingerprint}, f"run {folder.name}")
    split, reader = config.split(pairs), load_reader(config.model)
    extra = reader.boundary.instruction_tokens(config.positive, config.negative) if config.uses_instructions else 0
    limits = Limits(config.prompt_tokens, config.completion_tokens).within(reader.context, extra)
    _write_pairs(to / "pairs.jsonl", split, config, reader, limits)
    (to / "adapter").mkdir()
    write_adapter(folder, to / "adapter", progress)
    cells = _cells(folder, result, config, split, reader, limits)
    (to / "repeat.py").write_text(script(cells), encoding="utf-8")
    for name, part in (("repeat.ipynb", "repeat"), ("compare.ipynb", "compare")):
        (to / name).write_text(json.dumps(notebook(cells, part), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_pairs(path: Path, split: Split, config: RunConfig, reader: Reader, limits: Limits) -> None:
    """The pairs by their part, their prompts as messages, cut as the run cut them."""
    draw = random.Random(config.seed)
    with open(path, "w", encoding="utf-8") as file:
        for part in ("instruct", "fit", "held_out"):
            for pair in getattr(split, part):
                messages, _ = reader.boundary.fit(pair.prompt, limits.prompt)
                row = {"part": part, "prompt": messages, "chosen": pair.chosen, "rejected": pair.rejected}
                if part == "fit":
                    sides = {"both": ["chosen", "rejected"], "random": [draw.choice(("chosen", "rejected"))]}
                    row["sides"] = sides.get(config.response, [config.response])
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _settings(
    folder: Path, result: dict[str, Any], config: RunConfig, split: Split, reader: Reader, limits: Limits
) -> dict[str, Any]:
    """What the script has to know: the run's settings, and how the base's tokenizer writes a dialogue."""
    import torch

    from workbench.rahf.results import number_format
    from workbench.rahf.training import arguments

    boundary, tokenizer, blocks = reader.boundary, reader.boundary.tokenizer, blocks_path(folder)
    begins = tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id] and not boundary.has_template
    instruction = "\u2402"
    joined = f"{instruction}\n\nx" in boundary.render([{"role": "user", "content": "x"}], instruction)
    of_step1 = folder / "instructed" / config.instructed_adapters[0]
    adapted = adapted_names(of_step1 if of_step1.is_dir() else folder / "adapter")
    inner = {re.sub(rf"^{re.escape(blocks)}\.\d+\.", "", name) for name in adapted}
    stages = {}
    for stage, count in (("instruct", len(split.instruct)), ("align", config.answers_of(len(split.fit)))):
        made = arguments(config, stage, count, folder, torch.device("cpu"))
        stages[stage] = {name: getattr(getattr(made, name), "value", getattr(made, name)) for name in TRAINED}
    longest = min(limits.completion, config.align_completion_tokens or limits.completion)
    backbone, _, _ = blocks.rpartition(".")
    return {
        "method": config.method, "layers": list(result["layers"]), "alpha": result["alpha"], "seed": config.seed,
        "foundation": config.foundation, "states": config.states, "label_smoothing": config.label_smoothing,
        "positive": config.positive, "negative": config.negative, "adapters": list(config.instructed_adapters),
        "dtype": number_format(folder, config.dtype), "backbone": backbone, "blocks": blocks, "targets": sorted(inner),
        "lora": {"r": config.lora_rank, "lora_alpha": config.lora_alpha, "lora_dropout": config.lora_dropout},
        "template": boundary.has_template, "system_role": boundary.has_template and not joined,
        "bos": [tokenizer.bos_token_id] if begins else [], "lead": boundary.lead, "end_ids": boundary.end_ids,
        "eos_ids": sorted(boundary.eos_ids), "pad_id": boundary.pad_id, "completion_tokens": limits.completion,
        "align_completion_tokens": longest, "max_new_tokens": config.max_new_tokens, **stages,
        "the_run": {"loss_first": result.get("loss_first"), "loss_last": result.get("loss_last")},
    }  # fmt: skip


def _cells(
    folder: Path, result: dict[str, Any], config: RunConfig, split: Split, reader: Reader, limits: Limits
) -> list[tuple[str, str, str]]:
    """(kind, where it goes, text) of every cell, the run's settings put in."""
    here = on_hub(config.model)
    versions = result.get("versions") or {}
    packages = " ".join(
        f"{name}=={versions[name].partition('+')[0]}" if name in versions else name for name in PACKAGES
    )
    taught = (
        "One adapter learns both instructions: p+ for chosen answers, p- for rejected ones (SCIT)."
        if config.method == "scit"
        else "Two adapters are fine-tuned, one on each side (Dual)."
    )
    text = TEMPLATE.read_text(encoding="utf-8").format(
        name=" ".join(folder.name.split()),
        method=method_name(result),
        exactness="Equal packages on a CPU give the run's losses to several digits (its batches are put together otherwise, so "
        "not bit for bit). Calibration, the choice of blocks and judging are not repeated: their outcomes are in S.",
        packages=packages,
        model=config.model if here else named(config.model),
        model_note="the Hub id of the base" if here else "the folder of the base: say where it lies",
        settings=pprint.pformat(_settings(folder, result, config, split, reader, limits), width=110, sort_dicts=False),
        step1=taught,
    )
    found = re.findall(r"^# %% (\w+) (\w+)\n(.*?)(?=^# %% |\Z)", text, flags=re.S | re.M)
    return [(kind, where, body.strip("\n")) for kind, where, body in found]


def script(cells: list[tuple[str, str, str]]) -> str:
    """The cells that train again, as one script."""
    bodies = [body for _, where, body in cells if where in ("both", "repeat")]
    return "\n\n\n".join(bodies) + "\n"


def notebook(cells: list[tuple[str, str, str]], part: str) -> dict[str, Any]:
    """The cells of a part ("repeat" or "compare") as a notebook (nbformat 4.5)."""
    made = []
    for at, (kind, where, body) in enumerate(cells):
        if where not in ("both", part):
            continue
        if kind == "text":
            body = "\n".join(line.removeprefix("# ").removeprefix("#") for line in body.splitlines())
        if kind == "install":
            body = body.replace("# pip install", "%pip install")
        lines = body.splitlines(keepends=True)
        cell = {
            "cell_type": "markdown" if kind == "text" else "code",
            "id": f"cell-{at}",
            "metadata": {},
            "source": lines,
        }
        made.append(cell | ({} if kind == "text" else {"execution_count": None, "outputs": []}))
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": about | {"language_info": {"name": "python"}},
        "cells": made,
    }
