"""Checked before a start: what stands in the way of a run, what deserves a thought, and what it will cost.

>>> outlook(RunConfig(method="dual"))["problems"]
[]
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.rahf.estimate import LIKE, Estimate, Plan, estimate, memory_parts
from workbench.rahf.facts import Facts, gather, reader_of, shape_of
from workbench.statistics import rounded_down

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs
    from workbench.rahf.config import RunConfig

SEVERITIES = ("stop", "warn", "note")
FAR_TOO_MUCH, TIGHT = 1.5, 0.8  # the memory estimate over what is free
COLLAPSE, RISK = 1.0, 0.5  # relative strengths at which answers collapse, and begin to
USUAL_ALPHA = 1.0  # what calibration has chosen lies below
CUT_SHARE = 0.02  # of pairs: fewer long ones are not worth a word
FEW_HELD_OUT, FEW_LEARNED = 60, 40  # pairs
FEW_LOOKED = 8  # prompts: of fewer, all may be broken and the interval of coherence still reach half of a good base's
LEARNS = {"lora": 5e-3, "full": 3e-4}  # steps times rate below which step 1 was never seen to learn
ALIKE = 0.9  # share of words that p+ and p- have in common
SAME_ANSWERS = 0.5  # share of pairs with two equal answers
LONG = 3600.0  # seconds on a CPU that deserve a word


@dataclass(frozen=True)
class Problem:
    """One thing to know before a start. ``severity``: "stop" (it cannot work), "warn" (it may disappoint), "note" (good
    to know); ``field`` is the setting it is about; ``text`` one sentence: what, and what to do."""

    severity: str
    field: str
    text: str


def outlook(
    config: RunConfig,
    *,
    pairs: PreferencePairs | None = None,
    folder: Path | None = None,
    history: Sequence[dict[str, Any]] = (),
    local: bool = True,
) -> dict[str, Any]:
    """Everything to be told before a start, as plain JSON values: ``problems`` (worst first), ``seconds``,
    ``seconds_low``, ``seconds_high``, ``memory_bytes``, ``free_memory_bytes``, ``disk_bytes``, ``free_disk_bytes``,
    ``run_bytes`` (what of the disk's goes into the run's own folder), ``parts`` and ``basis``; figures that cannot be
    told are None. For the arguments see :func:`facts.gather`.

    Never raises UserError: what would be one is a problem that stops.
    """
    found: dict[str, Any] = {"problems": []}
    facts, refused = _facts(config, pairs=pairs, folder=folder, history=history, local=local)
    told = None
    if facts is not None:
        if not refused and not facts.too_few:
            told = estimate(config, facts)
        refused += preflight(config, facts, told)
    refused.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    found["problems"] = [asdict(problem) for problem in refused]
    names = ("seconds", "seconds_low", "seconds_high", "unscaled_seconds", "memory_bytes", "disk_bytes")
    found |= {name: getattr(told, name, None) for name in names}
    found["free_memory_bytes"] = facts.device.free if facts else None
    found["free_disk_bytes"] = facts.disk_free if facts else None
    found["run_bytes"] = told.disk_bytes - facts.missing_bytes if told else None
    return found | {"parts": told.parts if told else {}, "basis": told.basis if told else ""}


def _facts(config: RunConfig, **where: Any) -> tuple[Facts | None, list[Problem]]:
    """The facts, or why there are none."""
    from workbench.models import pick_device, pick_dtype

    facts, field = None, "device"
    try:
        device = pick_device(config.device)
        field = "dtype"
        pick_dtype(config.dtype, device)
        field = "model"
        reader = reader_of(config.model, where["local"])
        field = "lora_targets" if config.lora_targets != "all" else "model"
        shape = shape_of(config.model, config.lora_targets, reader.context, where["local"])
        field = "pairs"
        facts = gather(config, **where)
        field = "layers"
        config.check_layers(shape.blocks)
        field = "positive" if config.uses_instructions else "prompt_tokens"
        Plan(config, facts)
    except UserError as error:
        return facts, [Problem("stop", field, str(error))]
    return facts, []


def preflight(config: RunConfig, facts: Facts, told: Estimate | None = None) -> list[Problem]:
    """What is wrong, or may go wrong, with these settings on these facts; ``told`` is their estimate where there is
    one."""
    found = [*_pairs(config, facts), *_packages(config, facts), *_strength(config, facts), *_step1(config, facts)]
    if told is not None:
        found += [*_memory(config, facts, told), *_disk(facts, told), *_cut(config, facts), *_time(facts, told)]
    return found


# -- the pairs ---------------------------------------------------------------------------------------------------------


def _pairs(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    if facts.too_few:
        yield Problem("stop", "pairs", facts.too_few)
        return
    instruct, fit, held_out = facts.parts
    if facts.first_rows and (config.instruct_epochs or config.align_epochs):
        yield Problem(
            "note",
            "pairs",
            f"Only the first rows of this large file were read ({facts.pairs} pairs), so passes over all of it will take "
            "longer than is told here; a number of steps in place of passes can be told.",
        )
    if held_out < FEW_HELD_OUT:
        from workbench.statistics import wilson

        low, high = wilson(held_out / 2, held_out)
        room = config.held_out <= held_out  # else a third of the pairs is not more
        yield Problem(
            "warn",
            "held_out",
            f"Only {held_out} pairs are held out, so every share of them is known to +-{50 * (high - low):.0f} points at "
            f"best: {'hold out more' if room else 'add pairs'}.",
        )
    looked = min(config.evaluate_prompts, held_out)
    if config.stop_on_collapse and looked < FEW_LOOKED:
        yield Problem(
            "warn",
            "evaluate_prompts" if held_out >= FEW_LOOKED else "held_out",
            f"A look at {looked} prompts is too little to find that answers have fallen apart, so nothing would stop such a "
            f"run: look at {FEW_LOOKED} or more.",
        )
    if min(instruct, fit) < FEW_LEARNED:
        part, count = ("step 1", instruct) if instruct <= fit else ("steps 2 and 3", fit)
        yield Problem(
            "warn",
            "pairs",
            f"Only {count} pairs are left for {part}, which will learn them by heart rather than what they have in "
            "common: add pairs, or hold out fewer.",
        )
    if facts.same_answers >= SAME_ANSWERS:
        yield Problem(
            "warn",
            "pairs",
            f"In {facts.same_answers:.0%} of the pairs the chosen and the rejected answer are the same text, which "
            "teaches nothing: drop those pairs, or check how the columns were mapped.",
        )


def _cut(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Pairs that lose tokens to the limits, or to the context."""
    import numpy as np

    plan = Plan(config, facts)
    limits = plan.limits
    over = facts.lengths - np.array([limits.prompt, limits.completion, limits.completion])
    cut = (over > 0).any(axis=1)
    share = float(cut.mean()) if len(cut) else 0.0
    if share < CUT_SHARE:
        return
    lost = int(np.median(np.clip(over[cut], 0, None).max(axis=1)))
    what = (
        f"{share:.0%} of the pairs are longer than prompts of {limits.prompt} and answers of {limits.completion} tokens "
        f"and lose {lost} tokens at the median"
    )
    prompts = (over[:, 0] > 0).sum() > (over[:, 1:] > 0).any(axis=1).sum()
    field, limit = ("prompt_tokens", limits.prompt) if prompts else ("completion_tokens", limits.completion)
    if limit == getattr(config, field):
        yield Problem("warn", field, f"{what}: raise {field}, or drop those pairs.")
        return
    shorter = "shorten p+ and p-, " if facts.instruction > 16 else ""
    yield Problem(
        "warn",
        "model",
        f"The model reads only {facts.shape.context} tokens at once{_beside(facts)}, so {what}: drop those pairs, "
        f"{shorter}or choose a model with a longer context.",
    )


def _beside(facts: Facts) -> str:
    return f" and an instruction takes {facts.instruction} of them" if facts.instruction else ""


# -- the machine -------------------------------------------------------------------------------------------------------


def _packages(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Packages that a setting needs and this machine has not."""
    from workbench.models import need_bitsandbytes

    if config.quantization != "none":
        try:
            need_bitsandbytes(f"Holding weights in {config.quantization[0]} bits", "set quantization to none")
        except UserError as error:
            yield Problem("stop", "quantization", str(error))
    if config.optimizer == "adamw_8bit":
        try:
            need_bitsandbytes("AdamW with 8-bit states", "set optimizer to adamw or adafactor")
        except UserError as error:
            yield Problem("stop", "optimizer", str(error))


def _memory(config: RunConfig, facts: Facts, told: Estimate) -> Iterator[Problem]:
    free = facts.device.free
    if not free or told.memory_bytes <= TIGHT * free:
        return
    parts = memory_parts(Plan(config, facts))
    amounts = f"about {amount(told.memory_bytes)} and {amount(free)} are free"
    field, mend = _relief(config, facts, parts)
    if told.memory_bytes > FAR_TOO_MUCH * free:
        yield Problem("stop", field, f"This run needs {amounts}: {mend}.")
    else:
        yield Problem("warn", field, f"Memory is tight, this run needs {amounts}: {mend}.")


def _relief(config: RunConfig, facts: Facts, parts: dict[str, float]) -> tuple[str, str]:
    """The setting that saves most, and what to do with it."""
    if parts["training"] > parts["steady"]:
        more = "" if config.gradient_checkpointing else "turn on gradient_checkpointing, or "
        half = {name: max(1, getattr(config, name) // 2) for name in ("instruct_batch", "align_batch")}
        halved = memory_parts(Plan(replace(config, **half), facts))["training"]
        if halved < 0.75 * parts["training"]:  # a batch goes in parts: often its size does not matter
            field = "instruct_batch" if config.instruct_batch >= config.align_batch / 4 else "align_batch"
            return field, f"halve the batches and double accumulation, {more}or shorten completion_tokens"
        return "completion_tokens", f"{more}shorten completion_tokens"
    if config.instruct_tuning == "full":
        return "instruct_tuning", "set instruct_tuning to lora"
    if config.quantization == "none" and parts["weights"] > parts["steady"] / 2:
        return "model", "choose a smaller model, or hold it in 4 bits on a GPU (quantization)"
    return "model", "choose a smaller model, or close what else uses the memory"


def _disk(facts: Facts, told: Estimate) -> Iterator[Problem]:
    if told.disk_bytes > 0.8 * facts.disk_free:
        severity = "stop" if told.disk_bytes > facts.disk_free else "warn"
        yield Problem(
            severity,
            "model",
            f"This run writes up to {amount(told.disk_bytes)} and the disk has {amount(facts.disk_free)} free: free "
            "some space.",
        )
    if facts.missing_bytes > 2e9:
        yield Problem(
            "note",
            "model",
            f"The model is not on this machine yet: about {amount(facts.missing_bytes)} are downloaded first.",
        )


def _time(facts: Facts, told: Estimate) -> Iterator[Problem]:
    alone = told.seconds / facts.device.busy
    if facts.device.kind == "cpu" and alone > LONG:
        yield Problem(
            "note",
            "device",
            f"On this CPU the run takes about {alone / 3600:.0f} hours: a GPU or a smaller model takes minutes, "
            "fewer steps or shorter answers help too.",
        )


# -- the method --------------------------------------------------------------------------------------------------------


def _strength(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """A strength that was set by hand and will ruin answers."""
    if config.alpha is None:
        if config.relative_strength is not None and config.relative_strength > RISK:
            over = config.relative_strength > COLLAPSE
            yield Problem(
                "stop" if over else "warn",
                "relative_strength",
                f"A relative strength of {config.relative_strength:g} is one at which "
                f"{'every answer collapses' if over else 'answers begin to collapse'}: choose about 0.3, or leave it on "
                "auto.",
            )
        return
    known = _measured(config, facts)
    if known is not None:
        strength = config.alpha * known
        if strength > RISK:
            over = strength > COLLAPSE
            yield Problem(
                "stop" if over else "warn",
                "alpha",
                f"Alpha {config.alpha:g} moves states by {strength:.2f} of their own length, as an earlier run measured, "
                f"and {'above 1 every answer collapses' if over else 'above 0.5 answers begin to collapse'}: choose "
                f"{rounded_down(RISK / known):g} or less, or leave alpha on auto.",
            )
    elif config.alpha > USUAL_ALPHA:
        yield Problem(
            "warn",
            "alpha",
            f"Alpha {config.alpha:g} is far above what usually works (0.5 to 0.8), and no earlier run tells how far it "
            "moves the states: leave alpha on auto, or watch the answers from the first look on.",
        )


def _measured(config: RunConfig, facts: Facts) -> float | None:
    """The mean relative strength a unit of alpha, from the newest earlier run that is like this one."""
    for row in facts.history:
        like = all(row.get(name) == getattr(config, name) for name in LIKE)
        blocks = config.layers is None or list(config.layers) == list(row.get("layers") or [])
        if like and blocks and row.get("strength"):
            return float(row["strength"])
    return None


def _step1(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Why step 1 may teach the model no difference."""
    if config.uses_instructions:
        first, second = config.positive.casefold().split(), config.negative.casefold().split()
        if difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() > ALIKE:
            yield Problem(
                "warn",
                "negative",
                "The instructions p+ and p- are nearly the same text, so that the model can hardly tell them apart: let "
                "them ask for opposite answers in several words.",
            )
        if not facts.has_template:
            yield Problem(
                "note",
                "model",
                "The model has no chat template, so dialogues are written as Human: and Assistant: turns with the "
                "instruction before them, which a model that never saw that learns slowly: give step 1 more steps if its "
                "check fails.",
            )
    elif not facts.has_template:
        yield Problem(
            "note", "model", "The model has no chat template: dialogues are written as Human: and Assistant: turns."
        )
    pairs = facts.parts[0]
    if not pairs:
        return
    steps = config.steps_of("instruct", pairs)
    if steps * config.instruct_rate < LEARNS[config.instruct_tuning]:
        wanted = LEARNS[config.instruct_tuning] / steps
        yield Problem(
            "warn",
            "instruct_rate",
            f"{steps} steps at a learning rate of {config.instruct_rate:g} hardly move the weights, so step 1 may learn "
            f"too little: give it a rate above {wanted:.1g}, or more steps.",
        )
    seen = steps * config.instruct_batch * config.accumulation
    if seen < pairs / 2 and seen < 500:
        yield Problem(
            "warn",
            "instruct_steps",
            f"Step 1 reads only {seen} of its {pairs} pairs in {steps} steps: give it {-(-pairs // max(1, seen // steps))} "
            "steps for one pass over them.",
        )


def amount(count: float) -> str:
    """Bytes in words: GB of a thousand MB, as disks and the page count them."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{count / 1e6:.0f} MB"
