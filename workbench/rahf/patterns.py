"""Step 2: collect activity patterns, the differences that step 3 makes the model's own. rahf.md, step 2; paper 3.3.

For a response r the pattern at block l is v_l = h_l(pi, p+ q r) - h_l(pi, p- q r) (SCIT; the inputs differ in the
instruction only) or h_l(pi_w, q r) - h_l(pi_l, q r) (Dual): one vector per response token, never averaged. Which states
count is ``config.states``: "predicting" takes those that produce the response's tokens, from the last token before it to
its last but one; "completion" takes those at its tokens, as the paper does, and then the state that chooses the first
token is never fitted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench import processes
from workbench.models import LoadedModel, Trunk
from workbench.pairs import PreferencePairs
from workbench.progress import Progress
from workbench.rahf.adapters import activate
from workbench.rahf.config import RunConfig
from workbench.tokens import Encoded, Limits, by_length, collate

CACHE_BYTES = 2 * 2**30  # patterns beyond this are computed again when their batch comes


@dataclass(frozen=True)
class Example:
    """One response to one prompt: as the aligned model will read it, and as the instructed models read it."""

    bare: Encoded
    plus: Encoded
    minus: Encoded


@dataclass(frozen=True)
class Pattern:
    """States of the foundation and the shift, at the selected positions of one example: each [blocks, n, d]."""

    foundation: Tensor
    shift: Tensor


def make_examples(loaded: LoadedModel, pairs: PreferencePairs, config: RunConfig, limits: Limits) -> list[Example]:
    """The responses that step 3 is fitted on: those of one side, of both, or of a side drawn for each pair."""
    if config.align_completion_tokens:
        limits = replace(limits, completion=min(limits.completion, config.align_completion_tokens))
    draw = random.Random(config.seed)
    encode = loaded.boundary.encode
    examples = []
    for pair in pairs:
        sides = {"both": ("chosen", "rejected"), "random": (draw.choice(("chosen", "rejected")),)}
        for side in sides.get(config.response, (config.response,)):
            answer = getattr(pair, side)
            bare = encode(pair.prompt, answer, None, limits)
            if config.method == "scit":
                plus = encode(pair.prompt, answer, config.positive, limits)
                minus = encode(pair.prompt, answer, config.negative, limits)
                examples.append(Example(bare, plus, minus))
            else:
                examples.append(Example(bare, bare, bare))
    return examples


class Patterns:
    """Patterns of examples at the target blocks, computed when asked for and kept while memory lasts."""

    def __init__(
        self, loaded: LoadedModel, examples: Sequence[Example], config: RunConfig, layers: Sequence[int]
    ) -> None:
        self.loaded, self.examples, self.config, self.layers = loaded, examples, config, tuple(layers)
        self.trunk = Trunk(loaded.model, max(layers) + 1)
        self._kept: dict[int, Pattern] = {}
        self._room = CACHE_BYTES
        self.groups: list[list[int]] = []  # which examples were computed together, in order
        self._together: dict[int, list[int]] = {}

    def recall(self, groups: Sequence[Sequence[int]]) -> None:
        """Compute together again what was computed together before a run was resumed: the last bits of a state depend
        on what else is in its batch, and the resumed run is to have the same. (Of several processes each has its own.)"""
        if processes.here().count > 1:
            return
        self.groups = [list(group) for group in groups]
        self._together = {index: group for group in self.groups for index in group}

    def get(self, indices: Sequence[int]) -> list[Pattern]:
        """The patterns of these examples. Leaves no adapter active if any had to be computed."""
        wanted = dict.fromkeys(indices)
        for index in wanted:
            if index not in self._kept and index in self._together:
                self._keep(self._together[index], self._compute(self._together[index]))
        missing = [index for index in wanted if index not in self._kept]
        several = processes.here().sharded and processes.most(len(missing))  # all must come along
        new = dict(zip(missing, self._compute(missing), strict=True)) if missing or several else {}
        found = [self._kept.get(index) or new[index] for index in indices]
        self._keep(list(new), list(new.values()))
        if missing and missing[0] in self._kept:
            self.groups.append(missing)
        return found

    def _keep(self, indices: Sequence[int], patterns: Sequence[Pattern]) -> None:
        for index, pattern in zip(indices, patterns, strict=True):
            size = 2 * pattern.shift.numel() * pattern.shift.element_size()
            if size <= self._room and index not in self._kept:
                self._kept[index] = pattern
                self._room -= size

    def collect(self, progress: Progress, budget: int = 512) -> dict[int, float]:
        """Compute (and keep) the patterns of up to ``budget`` examples, and return each target block's mean length of
        the shift as a share of the state's: mean ||v_l|| / mean ||h_l||, at alpha 1."""
        count = min(len(self.examples), budget)
        lengths = torch.zeros(2, len(self.layers), dtype=torch.float64)
        batches = list(by_length([example.plus for example in self.examples[:count]]))
        for done, rows in enumerate(batches):
            for pattern in self.get(rows):
                lengths[0] += pattern.shift.float().norm(dim=-1).sum(1).double().cpu()
                lengths[1] += pattern.foundation.float().norm(dim=-1).sum(1).double().cpu()
            progress("patterns", done + 1, len(batches))
        shares = lengths[0] / lengths[1].clamp(min=1e-12)
        return dict(zip(self.layers, shares.tolist(), strict=True))

    def mean_shift(self) -> dict[int, Tensor]:
        """The mean difference vector of each target block over the kept examples, float32 [d]: a steering vector."""
        flat = torch.cat([pattern.shift.float() for pattern in self._kept.values()], dim=1)
        return dict(zip(self.layers, flat.mean(1).cpu(), strict=True))

    @torch.no_grad()
    def _compute(self, indices: Sequence[int]) -> list[Pattern]:
        some = [self.examples[index] for index in indices]
        scit = self.config.method == "scit"
        instructed = self.config.foundation == "instructed"
        winner = "instructed" if scit else "chosen"
        modes = [(module, module.training) for module in self.loaded.model.modules()]  # step 3 trains some of them only
        self.loaded.model.eval()
        plus = self._states([e.plus for e in some], [winner])
        minus = self._states([e.minus for e in some], [winner if scit else "rejected"])
        same = plus if instructed and not scit else None  # Dual's foundation pi_w read the same tokens already
        bare = same if same is not None else self._states([e.bare for e in some], [winner] if instructed else [])
        for module, training in modes:
            module.training = training
        activate(self.loaded, [])
        return [Pattern(h, p - m) for h, p, m in zip(bare, plus, minus, strict=True)]

    def _states(self, items: Sequence[Encoded], adapters: Sequence[str]) -> list[Tensor]:
        """States at the selected positions of each sequence, [blocks, n, d] in the model's own precision."""
        activate(self.loaded, adapters)
        result: list[Tensor | None] = [None] * len(items)
        batches = by_length(items)
        idle = processes.most(len(batches)) - len(batches) if processes.here().sharded else 0
        for rows in [*batches, *[[]] * idle]:
            batch = collate(
                [items[row] for row in rows] or [Encoded([0], 0)], self.loaded.boundary.pad_id, self.loaded.device
            )
            hidden = self.trunk(batch.input_ids, batch.attention_mask, batch.position_ids, collect=self.layers)
            mask = selected(batch, self.config.states)
            stacked = torch.stack([hidden[layer] for layer in self.layers])
            for place, row in enumerate(rows):
                result[row] = stacked[:, place, mask[place]].clone()  # a copy: a view would keep the batch alive
        return result  # type: ignore[return-value]


def selected(batch, states: str) -> Tensor:
    """The mask [B, T] of the states that are fitted."""
    return batch.predicting_mask if states == "predicting" else batch.completion_mask


def choose_alpha(unit: dict[int, float], target: float, most: float = 0.75) -> float:
    """The alpha at which the mean relative strength ||alpha v|| / ||h|| over the target blocks is ``target``, but at
    most ``most``: halfway between two opposite models, alpha 0.5 already lands on the preferred one, and what lies far
    beyond it is where answers fall apart first."""
    mean = sum(unit.values()) / len(unit)
    return short_alpha(min(most, target / max(mean, 1e-9)))


def short_alpha(alpha: float) -> float:
    """Alpha with no more digits than mean anything: three decimals, and of a small one three digits, so that a long
    difference never makes it 0."""
    return round(alpha, 3) if alpha >= 0.1 else float(f"{alpha:.3g}")
