"""What a run will need: seconds, memory, disk, told from its settings and from facts alone (no weights are loaded).

Memory is what stands in memory for the whole run (libraries, weights, adapters, optimiser, kept patterns) plus the
hungriest moment of any stage: a training batch with what its backward pass needs, a batch that is scored with its
logits, or answers being written with their cache. Time is, stage by stage, arithmetic over the measured speed of a
product, traffic over the measured speed of memory, and a measured price for every call of a block, plus tokenising and
start-up.

What a block keeps for the backward pass was counted on blocks of Llama, Qwen 2 and GPT-2 (the tensors that autograd
saves), and what a CPU's allocator takes beyond that was measured; assets/docs/sizing.md holds memory against real runs.
The constants of time were fitted on two CPU cores, to 17 runs: the demo with batches of 4 to 256 and both methods, random
Llamas of 4x128 to 12x512 and a GPT-2 with vocabularies of 1,500 to 32,768, short and long texts, with checkpointing and
without. Time came out between 0.6 and 0.95 of the work measured (on a machine that others used too; the demo with Dual
0.94), hence an interval of half to twice. Once a run of the same model has finished, its time sets the next one's right.
GPUs, full fine-tuning and quantised weights follow from the arithmetic alone: none was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.rahf.facts import Facts, gather

if TYPE_CHECKING:
    import numpy as np

    from workbench.pairs import PreferencePairs
    from workbench.rahf.config import RunConfig

ESTIMATE = "estimate.json"  # what was expected when the run began
LIBRARIES = 520e6  # bytes resident once everything is imported (CPU)
KEPT_A_WIDTH = 0.9  # numbers kept for the backward pass, for each input or output of a linear layer and token
KEPT_AN_ADAPTER = 2.0  # and bytes for each of an adapter's: half are inputs, which it keeps in float32
KEPT_DROPPED = {"cpu": 2.0, "cuda": 0.5}  # and bytes for each of those where some are dropped: which ones
HELD_BACK = {"cpu": 1.7, "cuda": 1.0}  # what the allocator takes over what is kept
LOGITS_TRAINED, LOGITS_SCORED, LOGITS_COMPARED = 3.5, 3.5, 6.0  # float32 copies of the logits
COMPARED_TOKENS, ANSWERED_ROWS = 4096, 64  # as in evaluation and generation
COMPARED_NUMBERS = 2**26  # of a distribution over the vocabulary: see evaluation
TARGET_BLOCKS = 2  # what the choice of blocks usually takes
OPTIMISER = {"adamw": 8.0, "adafactor": 0.1, "adamw_8bit": 2.0}  # bytes a trained weight that its states take
OTHER_FILES = 5e6  # bytes of events, answers, scores of blocks
DRAWN = 20  # batches that stand for all of a training
COLLECTED = 512  # examples that patterns are measured on
SCORED_PAIRS = 400  # pairs that blocks are chosen by

# settings that decide how long a difference is, and so what an alpha means
LIKE = ("model", "pairs", "method", "foundation", "states", "instruct_tuning", "positive", "negative")

START_SECONDS = 5.0  # imports and reading the model, on the machine the constants were fitted on
CALLS_A_BLOCK = 45.0  # small layers that a call of a block costs as much time as
CALLS_AN_ADAPTER = 5.0  # and each linear layer with an adapter on top
CALLS_A_STEP = 3000.0  # what the Trainer does a step, however small
UNSURE, UNSURE_GPU = 2.0, 3.0  # the interval's ends are the estimate over and times this; no GPU was measured
TRAFFIC_A_WIDTH = 8.0  # passes over memory for each input or output of a linear layer
TRAFFIC_A_LOGIT = 30.0  # and for each logit
TRAFFIC_TRAINED = 9.0  # how many times more of them a pass back makes, whose memory a CPU must be given anew
TRAFFIC_TRAINED_GPU = 2.0


@dataclass(frozen=True)
class Estimate:
    """What a run will need: ``seconds`` with the interval it will likely end in, and bytes.

    ``parts`` is {"seconds": by stage, "memory": by what takes it, "machine": its measured speed}, ``basis`` a sentence on
    what the time rests on, ``unscaled_seconds`` what it would be without earlier runs.
    """

    seconds: float
    seconds_low: float
    seconds_high: float
    memory_bytes: int
    disk_bytes: int
    parts: dict[str, dict[str, float]]
    basis: str
    unscaled_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def estimate(config: RunConfig, facts: Facts) -> Estimate:
    """The estimate of a run with these settings. Raises UserError where the context has no room for it."""
    plan = Plan(config, facts)
    seconds = stage_seconds(plan)
    memory = memory_parts(plan)
    told, low, high, basis = _scaled(sum(seconds.values()), config, facts)
    return Estimate(
        round(told, 1),
        round(low, 1),
        round(high, 1),
        round(memory["steady"] + max(memory["training"], memory["scoring"], memory["answering"])),
        round(disk_bytes(plan)),
        {
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "memory": {name: round(value) for name, value in memory.items()},
            "machine": {name: getattr(plan.device, name) for name in ("flops", "bandwidth", "call", "busy")},
        },
        basis,
        round(sum(seconds.values()), 1),
    )


def write_down(
    config: RunConfig, folder: Path, pairs: PreferencePairs, history: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Leave the estimate in ``folder``/estimate.json, unless one is there from when the run began, and return what of it
    is to be held against the end: {seconds, memory_bytes, unscaled_seconds}; empty for a model whose build cannot be
    told."""
    from workbench.jsonfile import read_json, write_json

    values = read_json(folder / ESTIMATE)
    if values is None:
        try:
            values = estimate(config, gather(config, pairs=pairs, folder=folder, history=history)).to_dict()
        except UserError as error:  # the run itself will tell whether that matters
            values = {"basis": str(error)}
        write_json(folder / ESTIMATE, values)
    return {name: values[name] for name in ("seconds", "memory_bytes", "unscaled_seconds") if name in values}


class Plan:
    """The sizes that all parts of an estimate are made of. Lengths are tokens after cutting, [N, 2]: both answers."""

    def __init__(self, config: RunConfig, facts: Facts) -> None:
        import numpy as np

        from workbench.rahf.calibrate import LADDER
        from workbench.tokens import Limits

        self.config, self.facts, self.shape, self.device = config, facts, facts.shape, facts.device
        self.limits = Limits(config.prompt_tokens, config.completion_tokens).within(
            self.shape.context or 4096, facts.instruction
        )
        self.prompts = np.minimum(facts.lengths[:, :1], self.limits.prompt)
        self.answers = np.minimum(facts.lengths[:, 1:], self.limits.completion)
        self.whole = self.prompts + self.answers
        self.in_step1, self.in_step3 = facts.sides == 0, facts.sides == 1
        self.instruct_pairs, self.fit_pairs, self.held_out = facts.parts
        self.models = len(config.instructed_adapters)
        self.depth = (max(config.layers) if config.layers else round(0.8 * self.shape.blocks)) + 1
        self.depth = min(self.depth, self.shape.blocks)
        self.targets = len(config.layers) if config.layers else min(TARGET_BLOCKS, self.shape.blocks)
        self.instruct_steps = config.steps_of("instruct", self.instruct_pairs)
        self.examples = config.answers_of(self.fit_pairs)
        self.align_steps = config.steps_of("align", self.examples)
        self.sides = 4 if config.method == "scit" else 1  # sequences a pair in step 1
        self.answer_tokens = int(min(config.max_new_tokens, 1.3 * float(np.max(self.answers, initial=1)) + 4))
        self.asked_tokens = float(np.max(self.prompts, initial=1)) + facts.instruction
        self.most_tokens = self.asked_tokens + config.max_new_tokens  # of an answer, as far as is known before it
        self.cached = self.shape.cache_width * self.shape.blocks * facts.bytes_a_weight  # bytes a token of an answer
        self.rungs = len(LADDER) + 1  # strengths that calibration answers with
        self.calibrates = config.alpha is None and config.relative_strength is None
        self.full = config.instruct_tuning == "full"

    def answered_rows(self) -> int:
        """How many answers of one speaker are written together."""
        from workbench.cache import rows_together

        return rows_together(ANSWERED_ROWS, self.most_tokens, self.cached)

    def sequences(self, side: int, instruction: int) -> np.ndarray:
        """Tokens before each answer of a side (see ``Facts.sides``) and of it, [N, 2]: both answers of every pair. Those
        of all pairs where none of the counted ones is on that side."""
        import numpy as np

        known = self.facts.sides == side
        known = known if known.any() else np.ones(len(known), dtype=bool)
        answers = self.answers[known]
        before = np.broadcast_to(self.prompts[known] + instruction, answers.shape)
        both = np.stack([before, answers], axis=-1).reshape(-1, 2)
        return both if len(both) else np.ones((1, 2), dtype=int)

    def longest_seen(self, lengths: np.ndarray, draws: int) -> float:
        """The longest of ``lengths`` [N, ...] (a row a pair) that so many draws of a pair will likely meet."""
        import numpy as np

        longest = np.sort(lengths.reshape(len(lengths), -1).max(1)) if len(lengths) else np.ones(1)
        missed = int(0.5 * len(longest) / max(1, draws))  # longer ones that are more likely than not never drawn
        return float(longest[-1 - min(missed, len(longest) - 1)])


def _usual_longest(lengths: np.ndarray, rows: float) -> float:
    """The mean, over batches, of the longest of ``rows`` drawn lengths."""
    import numpy as np

    if not lengths.size:
        return 1.0
    ordered = np.sort(lengths, axis=None)
    below = np.linspace(0, 1, len(ordered) + 1) ** max(
        1.0, rows
    )  # the chance that all drawn are among the first so many
    return float((ordered * np.diff(below)).sum())


# -- memory ------------------------------------------------------------------------------------------------------------


def memory_parts(plan: Plan) -> dict[str, float]:
    """Bytes: ``libraries``, ``weights``, ``adapters``, ``optimiser``, ``patterns`` and their sum ``steady``; on top of
    these, one at a time, ``training``, ``scoring``, ``answering``."""
    config, shape, wide = plan.config, plan.shape, plan.facts.bytes_a_weight
    a_block_weight = {"8bit": 1.0, "4bit": 0.56}.get(config.quantization, wide)
    weights = shape.blocks * shape.block_weights * a_block_weight + shape.other_weights * wide
    adapter = shape.lora_rank * config.lora_rank * shape.blocks  # parameters
    trained = shape.weights if plan.full else adapter
    states = OPTIMISER[config.optimizer]
    # a full fine-tuning is a copy of all weights, in float32 while it is trained
    copies = plan.models * shape.weights * wide + shape.weights * (4.0 - wide) if plan.full else 0.0
    parts = {
        "libraries": LIBRARIES if plan.device.kind == "cpu" else 0.0,
        "weights": weights,
        "adapters": 4.0 * adapter * (1 if plan.full else plan.models + 1) + copies,
        "optimiser": trained * (4.0 + states),  # and the gradients
        "patterns": patterns_bytes(plan),
    }
    parts["steady"] = sum(parts.values())
    parts["training"] = max(instruct_bytes(plan), align_bytes(plan))
    parts["scoring"] = scoring_bytes(plan)
    parts["answering"] = answering_bytes(plan)
    return parts


def kept_bytes(plan: Plan, rows: float, tokens: float, blocks: int) -> float:
    """What a forward pass keeps for the backward one, and the gradients of a block, without the logits."""
    shape, config, wide, kind = plan.shape, plan.config, plan.facts.bytes_a_weight, plan.device.kind
    a_token = shape.traffic * KEPT_A_WIDTH * wide
    if plan.full:
        a_token += shape.traffic * wide / 2  # trained weights need their inputs
    else:
        dropped = KEPT_DROPPED.get(kind, KEPT_DROPPED["cuda"]) if config.lora_dropout else 0.0
        a_token += shape.lora_rank * (KEPT_AN_ADAPTER + dropped)
    a_token *= HELD_BACK.get(kind, HELD_BACK["cuda"])
    if config.gradient_checkpointing:
        return rows * tokens * (2 * a_token + blocks * shape.width * wide)
    return rows * tokens * (blocks + 1) * a_token


def instruct_bytes(plan: Plan) -> float:
    """The largest part of a batch of step 1. (That a prompt's states serve both responses is not counted: families whose
    cache forgets read it twice.)"""
    import numpy as np

    config, shared = plan.config, plan.config.method == "scit" and not plan.config.gradient_checkpointing
    alone = (4 if shared else 2) if config.method == "scit" else 1

    def cost(rows: int, tokens: int, answer: int) -> float:
        logits = rows * (answer + 1) * plan.shape.vocabulary * 4.0 * LOGITS_TRAINED
        return kept_bytes(plan, rows, tokens, plan.shape.blocks) + logits

    lengths = plan.sequences(0, plan.facts.instruction)
    if shared:  # a pair's sequences go together
        both = lengths.reshape(-1, 2, 2) if len(lengths) > 1 else lengths[:, None]
        lengths = both[np.arange(len(both)), both.sum(2).argmax(1)]
    rows = min(config.instruct_batch, plan.instruct_pairs) * (2 if alone == 2 else 1)
    draws = plan.instruct_steps * config.accumulation
    return largest_part(plan, lengths, rows, draws, cost, alone)


def align_bytes(plan: Plan) -> float:
    """The largest part of a batch of step 3: no head, no block after the last target."""
    config = plan.config
    rows = min(config.align_batch, plan.examples)
    draws = plan.align_steps * config.accumulation
    return largest_part(
        plan, plan.sequences(1, 0), rows, draws, lambda rows, tokens, _: kept_bytes(plan, rows, tokens, plan.depth)
    )


def largest_part(
    plan: Plan, lengths: np.ndarray, rows: int, draws: int, cost: Callable[[int, int, int], float], alone: int = 1
) -> float:
    """What the costliest part costs, of so many drawn batches of ``rows`` sequences: see ``StageTrainer.parts``. Each
    sequence goes through the model ``alone`` times at once. ``cost`` is told the rows of a part, its longest sequence
    and its longest answer."""
    import numpy as np

    from workbench.tokens import part_tokens

    draw = np.random.default_rng(0)
    most = [cost(alone, int(plan.longest_seen(lengths.sum(1), draws * rows)), int(np.median(lengths[:, 1])))]
    for _ in range(min(draws, DRAWN)):
        some = lengths[draw.choice(len(lengths), rows, replace=rows > len(lengths))]
        parts = batches(some, part_tokens(plan.device.kind) // alone)
        most += [cost(count * alone, longest, answer) for count, longest, answer in parts]
    return max(most)


def scoring_bytes(plan: Plan) -> float:
    """A batch of held-out answers that is scored, or compared with the base's distributions."""
    import numpy as np

    from workbench.likelihood import scored_tokens

    shape, wide = plan.shape, plan.facts.bytes_a_weight
    answers = np.resize(plan.sequences(2, plan.facts.instruction), (2 * max(1, plan.held_out), 2))
    written = answers.copy()
    written[:, 1] = written[:, 1].clip(max=plan.answer_tokens)
    compared = max(1, min(COMPARED_TOKENS, COMPARED_NUMBERS // shape.vocabulary))
    most = 0.0
    scored = scored_tokens(shape.vocabulary)
    for lengths, tokens, copies in ((answers, scored, LOGITS_SCORED), (written, compared, LOGITS_COMPARED)):
        for rows, longest, answer in batches(lengths, tokens):
            logits = rows * (answer + 1) * shape.vocabulary * 4.0 * copies
            most = max(most, rows * longest * shape.traffic * wide + logits)
    return most


def batches(lengths: np.ndarray, tokens: int) -> list[tuple[int, int, int]]:
    """How sequences of these lengths [N, 2] (before the answer, and the answer) are put together: of each batch the rows,
    the longest sequence and the longest answer."""
    return _batches(lengths.astype("int64").tobytes(), tokens)


@lru_cache(maxsize=256)  # the same pairs are asked about with many settings
def _batches(lengths: bytes, tokens: int) -> list[tuple[int, int, int]]:
    import numpy as np

    from workbench.tokens import Encoded, by_length

    both = np.frombuffer(lengths, dtype="int64").reshape(-1, 2)
    items = [Encoded(range(before + answer), before) for before, answer in both.tolist()]
    return [(len(rows), int(both[rows].sum(1).max()), int(both[rows, 1].max())) for rows in by_length(items, tokens)]


def answering_bytes(plan: Plan) -> float:
    """A batch of answers being written, with its cache of keys and values; in calibration several side by side."""
    from workbench.rahf.calibrate import LANES, prompts_together

    rows, lanes = min(plan.answered_rows(), max(plan.held_out, 1)), 1
    if plan.calibrates:
        rows, lanes = plan.rungs * prompts_together(plan.rungs, plan.most_tokens, plan.cached), LANES
    cache = 1.2 * plan.cached * (plan.asked_tokens + plan.answer_tokens)  # one block's is copied while it grows
    return rows * (lanes * cache + plan.shape.vocabulary * (32.0 + 8.0 * lanes))


def patterns_bytes(plan: Plan) -> float:
    """States and shifts that are kept, at the states that are fitted."""
    from workbench.rahf.patterns import CACHE_BYTES

    each = float(plan.answers.mean()) * plan.targets * plan.shape.width * 2 * plan.facts.bytes_a_weight
    seen = max(COLLECTED, plan.align_steps * plan.config.accumulation * plan.config.align_batch)
    return min(float(CACHE_BYTES), min(plan.examples, seen) * each)


def disk_bytes(plan: Plan) -> float:
    """What the run's folder will hold at most, and what must be downloaded: each model of step 1 and two checkpoints of
    it with their optimiser (they stay to the end, to make a damaged one again), and while the last of the run's own is
    written three of it, or of step 3."""
    adapter = 4.0 * plan.shape.lora_rank * plan.config.lora_rank * plan.shape.blocks
    states = OPTIMISER[plan.config.optimizer]
    fitted = adapter * (4.0 + states) / 4.0 + adapter  # and the adapter of the last sound look
    instructed = plan.shape.weights * plan.facts.bytes_a_weight if plan.full else adapter
    checkpoint = (4.0 + states) * plan.shape.weights if plan.full else adapter * (4.0 + states) / 4.0
    kept = plan.models * (instructed + 2 * checkpoint)
    return kept + max(checkpoint, 3 * fitted + adapter) + OTHER_FILES + plan.facts.missing_bytes


# -- time --------------------------------------------------------------------------------------------------------------


def stage_seconds(plan: Plan) -> dict[str, float]:
    """Seconds of each stage, in the order of a run."""
    config = plan.config
    speed = Speed(plan)
    bare = float(plan.whole.mean()) if plan.whole.size else 1.0  # batches of similar length hold little padding
    instructed = bare + plan.facts.instruction
    answer = _usual_longest(plan.answers, 32) + 1
    found = {
        "load": START_SECONDS + plan.shape.weights * plan.facts.bytes_a_weight / 1e9 + plan.facts.pairs * speed.encode
    }
    if config.layers is None:
        pairs = min(SCORED_PAIRS, plan.instruct_pairs + plan.fit_pairs)
        found["layers"] = speed.read(2 * pairs, bare, plan.shape.blocks, adapters=False)
        found["layers"] += plan.shape.blocks * (0.25 + 0.25 * plan.shape.width / 4096)
    if not plan.facts.oracle and config.judge != "none":
        found["judge"] = speed.read(2 * plan.instruct_pairs, bare, plan.shape.blocks, adapters=False)
    rows = min(config.instruct_batch, plan.instruct_pairs) * plan.sides
    tokens = _usual_longest(plan.whole[plan.in_step1], rows / 2) + plan.facts.instruction
    step = speed.step(rows, tokens, plan.shape.blocks, plan.full) + speed.head(rows * answer) * 3
    step += rows * speed.encode
    found["instruct"] = plan.models * plan.instruct_steps * (config.accumulation * step + speed.small_step())
    looked = min(config.evaluate_prompts, plan.held_out)
    found["check"] = speed.score(4 * plan.held_out, instructed, answer)
    if plan.facts.oracle:
        found["check"] += 2 * speed.answer(looked)
    measured = min(plan.examples, COLLECTED)
    found["patterns"] = speed.collect(measured, bare, instructed)
    found["patterns"] += plan.examples * (3 if config.method == "scit" else 1) * speed.encode
    if plan.calibrates:
        found["calibrate"] = calibrate_seconds(plan, speed)
    steps = plan.align_steps * config.accumulation
    rows = min(config.align_batch, plan.examples)
    align = steps * speed.step(rows, _usual_longest(plan.whole[plan.in_step3], rows), plan.depth, False)
    unseen = max(0, min(plan.examples, steps * config.align_batch) - measured)
    align += speed.collect(unseen, bare, instructed) + plan.align_steps * speed.small_step()
    looks = 1 + math.ceil(plan.align_steps / config.evaluate_every)
    each = speed.answer(looked) + speed.score(2 * looked + 2 * looked, bare, answer)
    found["align"] = align + looks * each
    found["evaluate"] = 2 * speed.answer(plan.held_out) + speed.score(7 * plan.held_out, bare, answer)
    return {name: value * plan.device.busy for name, value in found.items()}


def calibrate_seconds(plan: Plan, speed: Speed) -> float:
    """Answers at every strength of the ladder and without any, three passes a token, and their scores."""
    from workbench.rahf.calibrate import LANES, prompts_together

    prompts, rungs = min(plan.config.calibration_prompts, max(plan.fit_pairs, 1)), plan.rungs
    together = prompts_together(rungs, plan.most_tokens, plan.cached)
    batches = math.ceil(prompts / together)
    answers = LANES * batches * speed.answer(together * rungs, together * rungs, plan.facts.instruction)
    answer = _usual_longest(plan.answers, 32) + 1
    return answers + speed.score(rungs * prompts, float(plan.whole.mean()), answer)


class Speed:
    """Seconds of the pieces that stages are made of, on the device as measured."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.shape, self.device = plan, plan.shape, plan.device
        self.encode = plan.facts.encode_seconds

    def blocks(self, rows: float, tokens: float, blocks: int, adapters: bool = True, trained: float = 0.0) -> float:
        """One forward pass of a batch through so many blocks, and ``trained`` passes back."""
        shape, device = self.shape, self.device
        count = rows * tokens
        attention = 4 * count * tokens * shape.width
        arithmetic = (2 * count * shape.active_weights + attention) / device.flops
        traffic = count * shape.traffic * self.plan.facts.bytes_a_weight * TRAFFIC_A_WIDTH / device.bandwidth
        weights = shape.active_weights * self.plan.facts.bytes_a_weight / device.bandwidth  # read whatever the batch
        calls = (CALLS_A_BLOCK + CALLS_AN_ADAPTER * shape.lora_layers * adapters) * device.call
        passes = 1 + trained
        moved = traffic * (1 + (TRAFFIC_TRAINED if device.kind == "cpu" else TRAFFIC_TRAINED_GPU) * trained)
        return blocks * (max(arithmetic * passes + moved, weights * passes) + calls * passes)

    def head(self, positions: float) -> float:
        """Logits of so many positions, and their softmax."""
        arithmetic = 2 * positions * self.shape.vocabulary * self.shape.width / self.device.flops
        return arithmetic + positions * self.shape.vocabulary * 4.0 * TRAFFIC_A_LOGIT / self.device.bandwidth

    def step(self, rows: float, tokens: float, blocks: int, full: bool) -> float:
        """Forward and backward pass of a batch, and the making of its token ids."""
        back = 1.2 + (1.0 if full else 0.0) + (1.0 if self.plan.config.gradient_checkpointing else 0.0)
        return self.blocks(rows, tokens, blocks, trained=back)

    def small_step(self) -> float:
        """What an optimiser step costs beside the passes."""
        return CALLS_A_STEP * self.device.call

    def read(self, sequences: float, tokens: float, blocks: int, adapters: bool = True, encoded: bool = False) -> float:
        """Forward passes over many sequences in batches, and the making of their ids unless they are there."""
        from workbench.likelihood import scored_tokens

        rows = min(sequences, max(1.0, scored_tokens(self.shape.vocabulary) / tokens))
        if not sequences:
            return 0.0
        return math.ceil(sequences / rows) * self.blocks(rows, tokens, blocks, adapters) + sequences * self.encode * (
            not encoded
        )

    def score(self, sequences: float, tokens: float, answer: float) -> float:
        """Likelihoods of so many answers."""
        return self.read(sequences, tokens, self.shape.blocks) + self.head(sequences * answer)

    def collect(self, examples: float, bare: float, instructed: float) -> float:
        """Patterns of so many examples: three passes each, two of them with an instruction (SCIT)."""
        depth = self.plan.depth
        two = self.read(2 * examples, instructed if self.plan.config.method == "scit" else bare, depth, encoded=True)
        return two + self.read(examples, bare, depth, encoded=True)

    def answer(self, prompts: float, together: int | None = None, instruction: int = 0) -> float:
        """Answers to so many prompts, so many at once, token by token."""
        if not prompts:
            return 0.0
        rows = min(prompts, together or self.plan.answered_rows())
        prompt = _usual_longest(self.plan.prompts, rows) + instruction
        one = self.blocks(rows, 1, self.shape.blocks) + self.head(2 * rows)
        kept = rows * prompt * self.shape.cache_width * self.plan.facts.bytes_a_weight * self.shape.blocks
        one += kept / self.device.bandwidth
        batch = self.blocks(rows, prompt, self.shape.blocks) + self.plan.answer_tokens * one
        return math.ceil(prompts / rows) * batch


# -- earlier runs ------------------------------------------------------------------------------------------------------


def history_row(config: dict[str, Any], result: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """What a finished run teaches: its device, blocks, and settings of ``LIKE``; ``ratio``, its ``seconds`` over the
    unscaled estimate it began with, None where it had none or ended early; and ``strength``, the mean relative strength a
    unit of alpha, None where it was not measured. None if it teaches neither."""
    guess = (result.get("estimated") or {}).get("unscaled_seconds")
    early = result.get("ended") == "collapse"
    row = {name: config.get(name) for name in (*LIKE, "device")}
    row |= {"layers": result.get("layers"), "ratio": None if early or not guess or not seconds else seconds / guess}
    strength, alpha = result.get("relative_strength"), result.get("alpha")
    known = isinstance(strength, dict) and strength and alpha
    row["strength"] = sum(map(float, strength.values())) / len(strength) / alpha if known else None
    return row if row["ratio"] or row["strength"] else None


def _scaled(seconds: float, config: RunConfig, facts: Facts) -> tuple[float, float, float, str]:
    """Seconds, the interval and the basis, with what earlier runs taught."""
    mine = {"model": config.model, "device": config.device}
    like = [row for row in facts.history if row.get("ratio")]
    like = [row for row in like if all(row.get(name) == value for name, value in mine.items())]
    same = [row["ratio"] for row in like if row.get("method") == config.method] or [row["ratio"] for row in like]
    if not same:
        wide = UNSURE if facts.device.kind == "cpu" else UNSURE_GPU
        basis = "Told from the model's size and a measured speed; no run of this model has finished here yet."
        return seconds, seconds / wide, seconds * wide, basis
    ratios = sorted(same[:7])
    ratio = ratios[len(ratios) // 2]
    spread = max(1.3, *(max(value / ratio, ratio / value) for value in ratios))
    told = seconds * ratio
    count = len(ratios)
    basis = (
        f"Told from the model's size and a measured speed, set right by {count} finished run{'s' * (count > 1)} of it."
    )
    return told, told / spread, told * spread, basis
