"""Every choice of a run, with its meaning, its default and its limits. The same YAML serves page and command line."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.rahf.instructions import INSTRUCTIONS

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs, Split

GENERAL = INSTRUCTIONS["general"]


def setting(
    default: Any, help: str, choices: tuple | None = None, low: float | None = None, high: float | None = None
) -> Any:
    """A field of settings: its default, its meaning, and what is allowed."""
    return field(default=default, metadata={"help": help, "choices": choices, "low": low, "high": high})


@dataclass(frozen=True)
class RunConfig:
    """The settings of one RAHF run (arXiv 2312.15997). ``None`` stands for "auto": chosen from measurements."""

    model: str = setting("demo", "The model to align: demo, a folder, or a Hub id.")
    pairs: str = setting("demo", "The preference pairs: demo, a file, or a Hub data set id.")
    judge: str = setting(
        "auto", "Who judges answers: auto (the pairs' own oracle, else a probe), probe, none, or a demo value's oracle."
    )
    method: str = setting(
        "scit", "SCIT trains one model to follow both instructions; Dual trains two, one per side.", ("scit", "dual")
    )
    layers: tuple[int, ...] | None = setting(
        None,
        "Blocks whose outputs are moved, counted from 0; auto takes those where held-out probes read preference best.",
    )
    alpha: float | None = setting(
        None,
        "How far states are moved along the difference; auto sets it from the relative strength, or by calibration.",
        low=0,
        high=100,
    )
    relative_strength: float | None = setting(
        None,
        "The mean length of the shift as a share of the state's own length; auto tries a ladder of strengths and takes "
        "the one that moves most answers while they stay fluent.",
        low=0.01,
        high=2,
    )
    calibration_prompts: int = setting(48, "Prompts answered at every strength of the ladder.", low=4, high=1000)
    drift_limit: float = setting(
        0.1,
        "The share of answers, beyond the base's own, that may become unlike language (unlikely under the base, stuck, far too "
        "long).",
        low=0,
        high=1,
    )
    foundation: str = setting(
        "base", "The model that gets the adapter: base, or the instructed model of step 1.", ("base", "instructed")
    )
    states: str = setting(
        "predicting",
        "States that are fitted: those that produce the answer's tokens, or those at its tokens (the paper).",
        ("predicting", "completion"),
    )
    response: str = setting(
        "both",
        "Answers on which states are fitted: chosen, rejected, both, or one of the two at random.",
        ("chosen", "rejected", "both", "random"),
    )
    positive: str = setting(GENERAL.positive, "The instruction p+ that stands for preferred answers (SCIT).")
    negative: str = setting(GENERAL.negative, "The instruction p- that stands for dispreferred answers (SCIT).")
    seed: int = setting(0, "Fixes the split, the order of training and every draw.", low=0, high=2**31 - 1)
    held_out: int = setting(
        200, "The most pairs kept from training to judge it by, never more than a third.", low=2, high=100_000
    )
    step1_share: float = setting(
        0.5, "The share of training pairs that step 1 learns from; steps 2 and 3 use the others.", low=0.05, high=0.95
    )
    lora_rank: int = setting(
        8, "The rank of the adapters: a higher one can learn more, and takes more memory.", low=1, high=1024
    )
    lora_alpha: int = setting(
        16, "The scale of the adapters: their effect is multiplied by this over the rank.", low=1, high=4096
    )
    lora_dropout: float = setting(0.0, "The share of adapter inputs dropped in training.", low=0, high=0.9)
    lora_targets: str = setting(
        "all",
        "The layers that get adapters: all linear ones, or only the query and value projections (the paper).",
        ("all", "attention"),
    )
    label_smoothing: float = setting(
        0.2,
        "Label smoothing of SCIT's contrastive term: 0 trusts every pair, more allows for pairs labelled the wrong way round.",
        low=0,
        high=0.5,
    )
    instruct_tuning: str = setting(
        "lora",
        "What step 1 trains: an adapter, or all weights, embeddings and head too (the paper: several times the memory, and "
        "a learning rate that is several times lower).",
        ("lora", "full"),
    )
    instruct_steps: int = setting(80, "Optimiser steps of step 1 (for each model of Dual).", low=1, high=10**6)
    instruct_epochs: float | None = setting(
        None, "Passes over the pairs in step 1, in place of a number of steps.", low=0.01, high=1000
    )
    instruct_batch: int = setting(8, "Pairs a batch in step 1.", low=1, high=4096)
    instruct_rate: float = setting(
        2e-3,
        "How far every optimiser step of step 1 moves the weights; lower it where the loss jumps.",
        low=1e-9,
        high=1,
    )
    instruct_warmup: float | None = setting(
        None, "The share of step 1's steps over which its learning rate rises; auto is that of step 3.", low=0, high=1
    )
    instruct_schedule: str = setting(
        "same", "How step 1's learning rate goes on after warm-up.", ("same", "constant", "linear", "cosine")
    )
    align_steps: int = setting(200, "Optimiser steps of step 3: how long the adapter is fitted.", low=1, high=10**6)
    align_epochs: float | None = setting(
        None, "Passes over the answers in step 3, in place of a number of steps.", low=0.01, high=1000
    )
    align_batch: int = setting(16, "Answers a batch in step 3.", low=1, high=4096)
    align_rate: float = setting(
        3e-3,
        "How far every optimiser step of step 3 moves the weights; lower it where the loss jumps.",
        low=1e-9,
        high=1,
    )
    warmup: float = setting(0.1, "The share of steps over which the learning rate rises.", low=0, high=1)
    schedule: str = setting("cosine", "How the learning rate goes on after warm-up.", ("constant", "linear", "cosine"))
    optimizer: str = setting(
        "adamw",
        "The optimiser: AdamW, Adafactor (less memory), or AdamW with 8-bit states (needs the package bitsandbytes).",
        ("adamw", "adafactor", "adamw_8bit"),
    )
    weight_decay: float = setting(
        0.0, "The share by which weights shrink a step, times the learning rate.", low=0, high=1
    )
    max_grad_norm: float = setting(1.0, "Longer gradients are shortened to this length.", low=1e-6, high=1e6)
    accumulation: int = setting(
        1, "Batches whose gradients are added up for one step, to save memory.", low=1, high=4096
    )
    gradient_checkpointing: bool = setting(False, "Saves memory in training at the price of a second forward pass.")
    prompt_tokens: int = setting(
        256, "The most tokens of a prompt; longer ones lose their beginning.", low=8, high=10**6
    )
    completion_tokens: int = setting(
        512, "The most tokens of an answer; longer ones lose their end.", low=2, high=10**6
    )
    align_completion_tokens: int | None = setting(
        None, "The most tokens of an answer in steps 2 and 3; auto is as many as elsewhere.", low=2, high=10**6
    )
    evaluate_every: int = setting(40, "Steps between two looks at held-out answers.", low=1, high=10**6)
    evaluate_prompts: int = setting(64, "Held-out prompts answered at each look.", low=2, high=10_000)
    max_new_tokens: int = setting(64, "The longest answer generated when judging.", low=1, high=4096)
    checkpoint_every: int = setting(50, "Steps between two checkpoints.", low=1, high=10**6)
    device: str = setting("auto", "Where to compute: auto, cpu, cuda or mps.")
    dtype: str = setting("auto", "Number format of the weights: auto, float32, bfloat16 or float16.")
    quantization: str = setting(
        "none", "Holds the base's weights in 8 or 4 bits, to save memory (bitsandbytes).", ("none", "8bit", "4bit")
    )
    stop_on_collapse: bool = setting(
        True, "Ends step 3 when a look finds that answers have fallen apart, and keeps the last adapter that was sound."
    )
    force: bool = setting(False, "Goes on to step 3 even when step 1 is judged to have learned nothing.")

    @property
    def uses_instructions(self) -> bool:
        return self.method == "scit"

    @property
    def instructed_adapters(self) -> tuple[str, ...]:
        """Names of the adapters that step 1 trains: one for SCIT, one a side for Dual."""
        return ("instructed",) if self.method == "scit" else ("chosen", "rejected")

    def validate(self) -> RunConfig:
        """Itself with plain types; raises UserError that names the field, the value and what is allowed."""
        values = {}
        for entry in fields(self):
            values[entry.name] = _checked(entry, getattr(self, entry.name))
        config = replace(self, **values)
        if config.instruct_tuning == "full":
            config._check_full()
        if config.uses_instructions and config.positive.strip() == config.negative.strip():
            raise UserError("The instructions p+ and p- are the same: write two that ask for opposite answers.")
        return config

    def split(self, pairs: PreferencePairs) -> Split:
        """The run's split of its pairs, the same for training, judging and showing: never more than a third is held
        out. Raises UserError for too few pairs."""
        return pairs.split(self.seed, min(self.held_out, max(1, round(len(pairs) / 3))), self.step1_share)

    def _check_full(self) -> None:
        if self.quantization != "none":
            raise UserError(
                f"All weights cannot be trained while they are held in {self.quantization[0]} bits: "
                "set instruct_tuning to lora, or quantization to none."
            )
        if self.foundation == "instructed":
            raise UserError(
                "With instruct_tuning full the instructed model is no adapter on the base, so step 3 cannot build on it: "
                "set foundation to base, or instruct_tuning to lora."
            )
        if self.dtype == "float16":
            raise UserError("All weights cannot be trained in float16: set dtype to bfloat16 or float32.")

    def answers_of(self, pairs: int) -> int:
        """How many answers step 3 is fitted on, of so many pairs."""
        return pairs * (2 if self.response == "both" else 1)

    def steps_of(self, stage: str, examples: int) -> int:
        """Optimiser steps of a stage: those that were set, or as many as the set passes over the examples take.

        "instruct" (for one model) has one example a pair of its part of the split; "align" has :meth:`answers_of` the
        pairs of its own. As in every training, the last batch of a pass may be smaller, and so may its last step.
        """
        epochs, batch = getattr(self, f"{stage}_epochs"), getattr(self, f"{stage}_batch")
        if epochs is None:
            return getattr(self, f"{stage}_steps")
        steps_a_pass = math.ceil(math.ceil(max(examples, 1) / batch) / self.accumulation)
        return max(1, math.ceil(epochs * steps_a_pass - 1e-9))

    def course(self, stage: str) -> tuple[str, float]:
        """How a stage's learning rate goes: (schedule, share of steps to warm up)."""
        if stage == "align":
            return self.schedule, self.warmup
        schedule = self.schedule if self.instruct_schedule == "same" else self.instruct_schedule
        return schedule, self.warmup if self.instruct_warmup is None else self.instruct_warmup

    def check_layers(self, n_blocks: int) -> None:
        """Raises UserError if a chosen block is not one of the model's."""
        if wrong := [block for block in self.layers or () if not 0 <= block < n_blocks]:
            raise UserError(f"The model has blocks 0 to {n_blocks - 1}: {wrong[0]} is not one of them.")

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values["layers"] = list(self.layers) if self.layers is not None else None
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """A validated config, that of a baseline where ``method`` is one; raises UserError for unknown names or values."""
        if cls is RunConfig:
            from workbench.baselines.config import config_class

            cls = config_class(values)
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(_quoted(name) for name in set(values) - known):
            raise UserError(f"There is no setting {unknown[0]}; the settings are {', '.join(sorted(known))}.")
        return cls(**values).validate()

    @classmethod
    def from_yaml(cls, path: Path) -> RunConfig:
        """The config in a YAML file; raises UserError if it cannot be read."""
        return cls.from_dict(cls.values_in(path))

    @staticmethod
    def values_in(path: Path) -> dict[str, Any]:
        """The settings that a YAML file names, as they stand there; raises UserError if it cannot be read."""
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: a day that does not exist
            raise UserError(f"The settings file {path} could not be read ({str(error)[:120]}).") from error
        if not isinstance(values, dict):
            raise UserError(f"The settings file {path} must hold lines of the form name: value.")
        return values

    def to_yaml(self, path: Path) -> None:
        import yaml

        Path(path).write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")


KINDS = {"bool": bool, "int": int, "float": float, "str": str}
FIELD_HELP: dict[str, str] = {entry.name: entry.metadata["help"] for entry in fields(RunConfig)}


def _checked(entry, value: Any) -> Any:
    """``value`` as the field's type and within its limits."""
    name, limits = entry.name, entry.metadata
    if name == "layers":
        return _checked_layers(value)
    if value is None or (value == "auto" and entry.default is None):
        if entry.default is None:
            return None
        raise UserError(f"{name} needs a value: {limits['help']}")
    kind = KINDS[entry.type.partition(" |")[0]]
    if kind is bool:
        text = str(value).strip().lower() if isinstance(value, (bool, str)) else ""
        if text not in ("true", "false"):
            raise UserError(f"{name} must be true or false, not {_quoted(value)}.")
        return text == "true"
    if kind in (int, float):
        return _checked_number(name, value, kind, limits)
    if not isinstance(value, str):
        raise UserError(f"{name} must be text, not {_quoted(value)}.")
    if limits["choices"] and value not in limits["choices"]:
        raise UserError(f"{name} must be one of {', '.join(limits['choices'])}, not {value[:80]!r}.")
    return value


def _quoted(value: Any) -> str:
    """The beginning of a value, for a sentence that refuses it."""
    try:
        return repr(str(value)[:40])
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a number of thousands of digits"


def _checked_number(name: str, value: Any, kind: type, limits: Any) -> int | float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise UserError(f"{name} must be a {'whole ' * (kind is int)}number, not {_quoted(value)}.")
    low, high = limits["low"], limits["high"]
    if not low <= number <= high:
        raise UserError(f"{name} must be between {low:.10g} and {high:.10g}, not {number:g}.")
    return kind(number)


def _checked_layers(value: Any) -> tuple[int, ...] | None:
    if value is None or value == "auto":
        return None
    items = value.split(",") if isinstance(value, str) else value
    try:
        blocks = sorted({int(str(item).strip()) for item in items})
    except (TypeError, ValueError):
        raise UserError(f"layers must be auto or block numbers such as 3,5, not {_quoted(value)}.") from None
    if not blocks or blocks[0] < 0:
        raise UserError(f"layers must name at least one block, counted from 0, not {_quoted(value)}.")
    return tuple(blocks)
