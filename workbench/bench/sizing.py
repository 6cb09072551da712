"""What fits where: the memory that a run needs, for models of the usual sizes, told as before any run
(``workbench.rahf.estimate``), and held against real runs on a CPU.

    python -m workbench.bench.sizing            # writes assets/docs/sizing.md, with the runs as they were measured last
    python -m workbench.bench.sizing --check    # measures them anew first: a quarter of an hour on two cores

No weights are needed: a model's build is read from the settings of its public configuration.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.bench.synthetic import INSTRUCTION, feedback_lengths
from workbench.cache import MOST_BYTES
from workbench.rahf.calibrate import ROWS
from workbench.rahf.config import RunConfig
from workbench.rahf.estimate import ANSWERED_ROWS, Estimate, estimate
from workbench.rahf.facts import Device, Facts, Shape, built
from workbench.rahf.presets import preset_values

if TYPE_CHECKING:
    from workbench.bench.sizing_check import Found

DOCUMENT = Path(__file__).parents[2] / "assets" / "docs" / "sizing.md"
MEASURED = "## Held against real runs\n"  # what comes after it is measured, all before it computed
DEVICES = (8, 16, 24, 48, 80, 141)  # GB
METHODS = {"scit": "SCIT", "dual": "Dual"}
PRECISIONS = {"none": "bfloat16", "8bit": "8 bits", "4bit": "4 bits"}
SMALL = 5e9  # weights: models below are trained as the preset "small" says, others as the paper's
PAIRS, COUNTED = 10_000, 2_000  # pairs of a run, and those whose lengths are drawn
GPU = Device("cuda", "a GPU", None, None, 1e14, 1e12, 1e-5)  # its speed does not matter here


def _llama(blocks: int, width: int, heads: int, inner: int, tied: bool = False) -> dict[str, Any]:
    return {
        "model_type": "llama", "num_hidden_layers": blocks, "hidden_size": width, "num_attention_heads": heads,
        "num_key_value_heads": 8, "intermediate_size": inner, "vocab_size": 128_256, "tie_word_embeddings": tied,
    }  # fmt: skip


def _qwen(blocks: int, width: int, heads: int, kept: int, inner: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "qwen2", "num_hidden_layers": blocks, "hidden_size": width, "num_attention_heads": heads,
        "num_key_value_heads": kept, "intermediate_size": inner, "vocab_size": vocabulary, "tie_word_embeddings": tied,
    }  # fmt: skip


MODELS: dict[str, dict[str, Any]] = {
    "Qwen2.5-0.5B": _qwen(24, 896, 14, 2, 4864, 151_936, True),
    "Llama-3.2-1B": _llama(16, 2048, 32, 8192, True),
    "Llama-3.2-3B": _llama(28, 3072, 24, 8192, True),
    "Llama-3.1-8B": _llama(32, 4096, 32, 14336),
    "Qwen2.5-14B": _qwen(48, 5120, 40, 8, 13824, 152_064, False),
    "Qwen2.5-32B": _qwen(64, 5120, 40, 8, 27648, 152_064, False),
    "Llama-3.1-70B": _llama(80, 8192, 64, 28672),
}


@cache
def shape(model: str, targets: str = "all") -> Shape:
    """The build of one of ``MODELS``, with adapters on all linear layers or on the attention's."""
    from transformers import AutoConfig

    values = dict(MODELS[model])
    return built(AutoConfig.for_model(values.pop("model_type"), **values), targets, context=4096)


def preset(model: str, method: str) -> str:
    """The preset that suits the model's size."""
    return "small" if shape(model).weights < SMALL else f"paper-{method}"


def settings(model: str, method: str, quantization: str, lean: bool = False, full: bool = False) -> RunConfig:
    """The run that is sized: the preset's batches, adapters and optimiser, answers of up to 512 tokens, blocks and
    strength left on auto. ``full``: step 1 trains all weights where the paper does, else an adapter. ``lean``: batches
    as small as one accumulation for both steps lets them be, and blocks run twice instead of kept."""
    values = preset_values(preset(model, method))
    values |= {"method": method, "quantization": quantization, "dtype": "bfloat16", "completion_tokens": 512}
    values |= {"layers": None, "alpha": None} | ({} if full else {"instruct_tuning": "lora"})
    if lean:
        fewer = min(values["instruct_batch"], values["align_batch"])
        values |= {f"{step}_batch": values[f"{step}_batch"] // fewer for step in ("instruct", "align")}
        values |= {"accumulation": values.get("accumulation", 1) * fewer, "gradient_checkpointing": True}
    return RunConfig.from_dict(values)


@cache
def lengths() -> np.ndarray:
    """Tokens of prompt, chosen and rejected of so many pairs as in UltraFeedback, [N, 3]."""
    drawn = np.array(feedback_lengths(2 * COUNTED))
    return np.stack([drawn[:COUNTED, 0], drawn[:COUNTED, 1], drawn[COUNTED:, 1]], axis=1)


def facts(model: str, config: RunConfig) -> Facts:
    """What would be known of that run on a GPU."""
    held_out = config.held_out
    first = round((PAIRS - held_out) * config.step1_share)
    parts = (first, PAIRS - held_out - first, held_out)
    counts = [round(COUNTED * part / PAIRS) for part in parts[:2]]
    sides = np.repeat([0, 1, 2], [*counts, COUNTED - sum(counts)])
    return Facts(
        shape=shape(model, config.lora_targets),
        lengths=lengths(),
        sides=sides,
        pairs=PAIRS,
        parts=parts,
        instruction=INSTRUCTION if config.uses_instructions else 0,
        same_answers=0.0,
        encode_seconds=1e-3,
        oracle=False,
        has_template=True,
        device=GPU,
        bytes_a_weight=2.0,
        disk_free=2**40,
    )


@cache
def needs(model: str, method: str, quantization: str = "none", lean: bool = False, full: bool = False) -> Estimate:
    """What a run on this model needs (see :func:`settings`)."""
    config = settings(model, method, quantization, lean, full)
    return estimate(config, facts(model, config))


def smallest(needed: float) -> int | None:
    """The smallest of ``DEVICES`` with so many bytes; None where there is none. (A device of 24 GB is taken to have 24e9
    bytes, though most have 7% more: that is left to CUDA itself.)"""
    return next((size for size in DEVICES if needed <= size * 1e9), None)


# -- the document ------------------------------------------------------------------------------------------------------

HEAD = f"""# What fits where

What a run of RAHF needs of a GPU's memory, by model, method and how the base's weights are held. **No GPU was measured:**
the tables follow from arithmetic alone, the same that `python -m workbench plan` and the page show before a start
(`workbench/rahf/estimate.py`), over the models' public shapes. What of it a CPU can check is checked at the end. This page
is written by `python -m workbench.bench.sizing`.

Taken for granted: {PAIRS:,} pairs with the lengths of UltraFeedback (prompts of 100 tokens on the median and at most 256,
answers of 250 and at most 512), instructions of {INSTRUCTION} tokens, adapters in both steps, blocks and strength on auto. Models
below {SMALL / 1e9:.0f}B run with the preset `small`, larger ones with `paper-scit` and `paper-dual` but for
`instruct_tuning=lora` (adapters on the attention only, gradient checkpointing). GB are 10^9 bytes; in brackets stands the
smallest of the usual devices ({", ".join(map(str, DEVICES))} GB) that has them. Weights in 8 or 4 bits need bitsandbytes;
embeddings and head stay in bfloat16. Time is not told: no GPU's speed was measured.
"""
AS_SET = """
## As the preset says

"""
LEAN = """
## As lean as settings make it

The same training in smaller batches: `gradient_checkpointing=true`, and `instruct_batch` and `align_batch` divided by the
smaller of the two, `accumulation` times that.

"""
PARTS = f"""
## What it goes to

GB in bfloat16, SCIT, lean. Training, scoring and answering come one after another: the largest counts. No setting but shorter
texts makes the last two smaller: held-out answers are scored with their logits over the whole vocabulary, so many at once
that these are 2^28 numbers, and up to {ROWS} answers at once are written while the strength is calibrated, each with three
caches (with `alpha` given, {ANSWERED_ROWS} with one); fewer where these would take more than {MOST_BYTES / 1e9:.0f} GB,
but at least one prompt's answers at all strengths of the ladder.

"""
FULL = """
## All weights in step 1, as in the paper

`paper-scit` and `paper-dual` as they are, in bfloat16.

"""
MANY = """
## More than one GPU

`accelerate launch --multi_gpu` shares training out and brings time, no room: every process holds its own copy, {copy:.0f} GB for
{model} with SCIT, lean. With `--use_fsdp` the blocks' weights are shared out too: each of {processes} processes then holds
{each:.0f} GB of their {weights:.0f} GB, and needs {sharded:.0f} GB in all with the one block that is put together at the moment.
Embeddings and head, answers and scores are every process's own. (Tried on two CPU processes, where the result is that of
one; on no GPU.)

"""


def computed() -> str:
    """The part of the document that follows from shapes and settings."""
    return (
        HEAD + AS_SET + _by_precision(False) + LEAN + _by_precision(True) + PARTS + _parts() + FULL + _full() + _many()
    )


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(needed: float) -> str:
    size = smallest(needed)
    return f"{needed / 1e9:.1f} ({size})" if size else f"{needed / 1e9:.0f} (none)"


def _by_precision(lean: bool) -> str:
    rows = [
        [model, METHODS[method], *(_cell(needs(model, method, bits, lean).memory_bytes) for bits in PRECISIONS)]
        for model in MODELS
        for method in METHODS
    ]
    return _table(["model", "method", *PRECISIONS.values()], rows)


def _parts() -> str:
    names = ("weights", "adapters", "optimiser", "patterns", "training", "scoring", "answering")
    rows = []
    for model in MODELS:
        memory = needs(model, "scit", lean=True).parts["memory"]
        rows.append([model, *(f"{memory[name] / 1e9:.2f}" for name in names)])
    return _table(["model", *names], rows)


def _full() -> str:
    models = [model for model in MODELS if preset(model, "scit") != "small"]
    rows = [[model, *(_cell(needs(model, method, full=True).memory_bytes) for method in METHODS)] for model in models]
    return _table(["model", *METHODS.values()], rows)


def _many() -> str:
    model, processes = list(MODELS)[-1], 8
    found, build = needs(model, "scit", lean=True), shape(model)
    block = 2 * build.block_weights
    weights = build.blocks * block
    return MANY.format(
        model=model,
        processes=processes,
        copy=found.memory_bytes / 1e9,
        weights=weights / 1e9,
        each=weights / processes / 1e9,
        sharded=(found.memory_bytes - weights + weights / processes + block) / 1e9,
    )


def held_against(found: Sequence[Found]) -> str:
    """The part of the document that tells of real runs."""
    off = sorted(one.error for one in found)
    within = sum(abs(error) <= 0.15 for error in off)
    rows = [
        [one.name, ", ".join(f"{name}={value}" for name, value in one.settings.items()) or "-",
         f"{one.told / 1e9:.2f}", f"{one.held / 1e9:.2f}", f"{one.error:+.0%}"]
        for one in found
    ]  # fmt: skip
    return f"""
Real runs of `align` on a CPU, from beginning to end, on random models with the preset `small` (answers of up to 512 tokens,
a few steps): what was told before they began, and the most that the process held. {len(found)} runs, {within} of them within
15%; the worst {off[0]:+.0%} and {off[-1]:+.0%}. A CPU's process also holds the libraries, and what its allocator does not give
back; both are constants of the CPU alone (`LIBRARIES`, `HELD_BACK`), so this checks what is kept and for how many tokens,
not how a GPU's allocator behaves. The constants were set with these shapes in view: others may be further off.

""" + _table(["model", "settings", "told, GB", "held, GB", "error"], rows)


def main(arguments: Sequence[str]) -> None:
    """Write the document."""
    if "--check" in arguments:
        from workbench.bench.sizing_check import check
        from workbench.progress import Progress

        say = lambda event: print(event.stage, event.step, event.total, event.message, file=sys.stderr)  # noqa: E731
        measured = held_against(check(Progress(say)))
    else:
        measured = DOCUMENT.read_text(encoding="utf-8").partition(MEASURED)[2]
    DOCUMENT.write_text(computed() + MEASURED + measured, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
