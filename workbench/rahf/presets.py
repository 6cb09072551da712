"""Settings that belong together, by name: sizes that suit the bundled model, small models, and the paper's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import UserError


@dataclass(frozen=True)
class Preset:
    """A name to show, what it is for, and the settings it makes; all others keep their defaults."""

    label: str
    help: str
    values: Mapping[str, Any]


# rahf.md and the paper count layers as transformers' hidden_states do: their layer k is our block k - 1.
_PAPER = {
    "instruct_tuning": "full",
    "instruct_rate": 2e-5,
    "instruct_warmup": 0.1,
    "label_smoothing": 0.2,
    "foundation": "base",
    "states": "completion",
    "response": "random",
    "alpha": 5.0,
    "step1_share": 0.5,
    "held_out": 1000,
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "lora_targets": "attention",
    "schedule": "constant",
    "warmup": 0.0,
    "optimizer": "adamw",
    "prompt_tokens": 256,
    "completion_tokens": 512,
    "gradient_checkpointing": True,
    "evaluate_every": 50,
    "max_new_tokens": 256,
}
_PAPER_HELP = (
    "The paper's numbers for 7B models with 32 blocks on UltraFeedback. Step 1 trains all weights: count on 18 bytes a "
    "weight in bfloat16, {memory}; several GPUs are not used together, so a smaller batch with accumulation is the way to "
    "fit. The model you name is the foundation, as in the paper's formula, and should be tuned on instructions already "
    "(the paper's code starts step 3 from {code} instead, which is no adapter on the base after full tuning). Alpha 5 "
    "makes most models collapse: watch the relative strength, or let alpha be chosen."
)

PRESETS: dict[str, Preset] = {
    "demo": Preset(
        "Demo",
        "Sizes for the bundled model of 1.9 million weights: high learning rates, a minute or two on a laptop.",
        {
            "method": "scit",
            "instruct_steps": 80,
            "instruct_batch": 8,
            "instruct_rate": 2e-3,
            "align_steps": 200,
            "align_batch": 16,
            "align_rate": 3e-3,
            "lora_rank": 8,
            "lora_alpha": 16,
            "evaluate_every": 40,
            "evaluate_prompts": 64,
            "max_new_tokens": 64,
        },
    ),
    "small": Preset(
        "Small model",
        "For models of 0.1 to 1 billion weights on one GPU, or on a CPU with patience: adapters on all linear layers, "
        "learning rates ten times below the demo's, blocks and strength chosen from measurements.",
        {
            "method": "scit",
            "instruct_steps": 200,
            "instruct_batch": 4,
            "instruct_rate": 2e-4,
            "align_steps": 300,
            "align_batch": 4,
            "align_rate": 3e-4,
            "accumulation": 4,
            "lora_rank": 16,
            "lora_alpha": 32,
            "lora_dropout": 0.05,
            "completion_tokens": 256,
            "evaluate_every": 100,
            "evaluate_prompts": 32,
            "max_new_tokens": 128,
            "checkpoint_every": 25,
        },
    ),
    "paper-scit": Preset(
        "Paper, SCIT, 7B",
        _PAPER_HELP.format(memory="126 GB for 7B", code="the SCIT model"),
        _PAPER
        | {
            "method": "scit",
            "instruct_epochs": 2.0,
            "instruct_batch": 64,
            "instruct_schedule": "linear",  # the paper names none here; this is transformers' own default
            "align_steps": 450,
            "align_batch": 64,
            "align_rate": 3e-4,
            "layers": (9, 11, 13, 15, 17),
        },
    ),
    "paper-dual": Preset(
        "Paper, Dual, 7B",
        _PAPER_HELP.format(
            memory="140 GB for 7B with the model of the other side", code="the model of the chosen side"
        ),
        _PAPER
        | {
            "method": "dual",
            "instruct_epochs": 3.0,
            "instruct_batch": 128,
            "instruct_schedule": "cosine",
            "align_steps": 2500,
            "align_batch": 8,
            "align_rate": 9e-6,
            "align_completion_tokens": 64,
            "layers": (9, 11, 13, 15, 17, 19),
        },
    ),
}


def preset_values(name: str) -> dict[str, Any]:
    """What the preset of that name sets. Raises UserError if there is none."""
    if name not in PRESETS:
        raise UserError(f"There is no preset {name[:40]!r}: choose one of {', '.join(PRESETS)}.")
    return dict(PRESETS[name].values)
