"""Step 1: instruct a model (or two) on the preferences. rahf.md, step 1; paper section 3.1 and 3.2.

The reference compares logits at t with the token at t, scores the mismatched input with the other input's labels, and
divides by the padded length. Here log pi(token | everything before it) is taken at the completion's own tokens of each
input, and means are over these tokens only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from workbench import processes
from workbench.likelihood import couple_logps, mean_logps, prompts_serve_both, score_completions
from workbench.models import LoadedModel
from workbench.pairs import Pair, PreferencePairs
from workbench.progress import Progress
from workbench.rahf.adapters import activate, add_adapter, add_full
from workbench.rahf.config import RunConfig
from workbench.rahf.training import StageTrainer, arguments
from workbench.tokens import Encoded, Limits


def scit_loss(match: Tensor, mismatch: Tensor, smoothing: float) -> Tensor:
    """The SCIT loss, averaged over examples (rahf.md, step 1; paper eq. 2 and 3).

    ``match`` and ``mismatch`` [B] are s = mean log pi of the same response under the instruction that fits it and under
    the other one. L = -s_match - (1 - eps) log sigmoid(s_match - s_mis) - eps log sigmoid(s_mis - s_match).
    """
    gap = match - mismatch
    return (-match - (1 - smoothing) * logsigmoid(gap) - smoothing * logsigmoid(-gap)).mean()


class ScitTrainer(StageTrainer):
    """Batches are four lists: chosen under p+ and p-, rejected under p- and p+ (fitting instruction first)."""

    smoothing = 0.2
    shares = False  # whether each prompt is read once for both responses

    def parts(self, inputs):
        """Pairs, each with its four sequences, or where a prompt is read for each: responses, under both instructions."""
        sides = inputs["sequences"]
        if self.shares:
            for rows in self.cut([_longest(four) for four in zip(*sides, strict=True)], copies=4):
                yield (
                    {"sequences": [[side[row] for row in rows] for side in sides]} if rows else {},
                    len(rows) / len(sides[0]),
                )
            return
        count = len(sides[0])
        both = [*zip(*sides[:2], strict=True), *zip(*sides[2:], strict=True)]
        for rows in self.cut([_longest(two) for two in both], copies=2):
            halves = [[both[row] for row in rows if (row < count) == first] for first in (True, False)]
            parts = [[two[place] for two in half] for half in halves for place in (0, 1)]
            yield {"sequences": parts} if rows else {}, len(rows) / len(both)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        chosen, chosen_other, rejected, rejected_other = inputs["sequences"]
        fits, others = [*chosen, *rejected], [*chosen_other, *rejected_other]
        where = (self.loaded.boundary.pad_id, self.loaded.device)
        if self.shares and all(item.start > 1 for item in fits):
            couples = [*zip(chosen, rejected_other, strict=True), *zip(chosen_other, rejected, strict=True)]
            plus, minus = couple_logps(model, couples, *where).chunk(2)  # chosen and rejected under each instruction
            match, mismatch = torch.cat([plus[:, 0], minus[:, 1]]), torch.cat([minus[:, 0], plus[:, 1]])
        else:
            match, mismatch = mean_logps(model, fits + others, *where).chunk(2)
        self.measured = {"gap": float((match - mismatch).detach().mean())}
        return scit_loss(match, mismatch, self.smoothing)


def _longest(items: Sequence[Encoded]) -> Encoded:
    return max(items, key=lambda item: len(item.ids))


class SftTrainer(StageTrainer):
    """Plain supervised fine-tuning: the mean negative log-likelihood of the completions' tokens, averaged over examples."""

    def parts(self, inputs):
        (items,) = inputs["sequences"]
        for rows in self.cut(items):
            yield {"sequences": [[items[row] for row in rows]]} if rows else {}, len(rows) / len(items)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        scores = mean_logps(model, inputs["sequences"][0], self.loaded.boundary.pad_id, self.loaded.device)
        return -scores.mean()


def scit_sequences(
    loaded: LoadedModel, pairs: Sequence[Pair], config: RunConfig, limits: Limits
) -> list[list[Encoded]]:
    """[chosen p+, chosen p-, rejected p-, rejected p+], each a list over the pairs."""
    plan = (("chosen", True), ("chosen", False), ("rejected", False), ("rejected", True))
    return [
        [
            loaded.boundary.encode(
                pair.prompt, getattr(pair, side), config.positive if plus else config.negative, limits
            )
            for pair in pairs
        ]
        for side, plus in plan
    ]


def instruct(
    loaded: LoadedModel,
    pairs: PreferencePairs,
    config: RunConfig,
    adapter: str,
    limits: Limits,
    folder: Path,
    progress: Progress,
    stage: str = "instruct",
) -> dict[str, Any]:
    """Train one adapter (or all weights) of step 1 on the pairs and leave it in ``loaded``: "instructed" (SCIT),
    "chosen" or "rejected" (Dual: the side it is fine-tuned on).

    Checkpoints go to ``folder``; called again after a stop it goes on from the last one. Events count the steps of all
    models of the stage. Returns steps, seconds and losses. Raises Stopped.
    """
    full = config.instruct_tuning == "full"
    if full:
        add_full(loaded, adapter)
    else:
        add_adapter(loaded, adapter, config, loaded.n_blocks, config.seed)
    activate(loaded, [adapter], train=adapter)
    base = loaded.model.get_base_model() if hasattr(loaded.model, "get_base_model") else loaded.model
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    kind = ScitTrainer if config.method == "scit" else SftTrainer

    def collate(batch: list[Pair]) -> dict[str, Any]:
        if config.method == "scit":
            return {"sequences": scit_sequences(loaded, batch, config, limits)}
        items = [loaded.boundary.encode(pair.prompt, getattr(pair, adapter), None, limits) for pair in batch]
        return {"sequences": [items]}

    trainer = kind(
        loaded=loaded,
        model=loaded.model,
        adapter=adapter,
        stage=stage,
        progress=progress,
        args=arguments(config, "instruct", len(pairs), folder, loaded.device),
        dataset=list(pairs),
        collator=collate,
    )
    if config.method == "scit":
        trainer.smoothing = config.label_smoothing
        # blocks that are shared out among processes must be called equally often in all
        trainer.shares = not processes.here().sharded and prompts_serve_both(loaded)
    each, place = config.steps_of("instruct", len(pairs)), config.instructed_adapters.index(adapter)
    trainer.before, trainer.after = each * place, each * (len(config.instructed_adapters) - 1 - place)
    try:
        return trainer.run()
    finally:
        if config.gradient_checkpointing:
            base.gradient_checkpointing_disable()
        loaded.model.eval()
        activate(loaded, [])
        if full:
            loaded.tuned.settle(adapter)


def judge_step1(
    loaded: LoadedModel,
    pairs: PreferencePairs,
    config: RunConfig,
    limits: Limits,
    progress: Callable[..., None],
) -> dict[str, Any]:
    """Did step 1 learn anything? On held-out pairs, how often the margin s(chosen) - s(rejected) is larger on the
    preferred side (under p+, or in the model tuned on chosen answers) than on the other.

    Returns ``separation`` (a share, 0.5 is chance) with its Wilson interval, ``margin_gap`` (mean difference of the two
    margins in nats a token) with its bootstrap interval, and ``pairs``.
    """
    from workbench.statistics import bootstrap, wilson

    rows = list(pairs)
    margins = []
    for plus in (True, False):
        if config.method == "scit":
            activate(loaded, ["instructed"])
            instruction = config.positive if plus else config.negative
        else:
            activate(loaded, ["chosen" if plus else "rejected"])
            instruction = None
        items = [
            loaded.boundary.encode(pair.prompt, answer, instruction, limits)
            for pair in rows
            for answer in (pair.chosen, pair.rejected)
        ]
        scores = score_completions(loaded, items, lambda done: progress("check", message="Judging step 1"))
        margins.append(scores[0::2] - scores[1::2])
    activate(loaded, [])
    gap = margins[0] - margins[1]
    wins = int((gap > 0).sum())
    low, high = wilson(wins, len(rows))
    gap_low, gap_high = bootstrap(gap.numpy())
    return {
        "separation": wins / len(rows),
        "separation_low": low,
        "separation_high": high,
        "margin_gap": float(gap.mean()),
        "margin_gap_low": gap_low,
        "margin_gap_high": gap_high,
        "pairs": len(rows),
    }
