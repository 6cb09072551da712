"""Step 3: build the aligned model. rahf.md, step 3; paper section 3.4.

A LoRA in blocks 0..max(target) is fitted so that its own states at the target blocks become the shifted ones of the
foundation. The reference adapts one block more, which no gradient reaches, and lets padding into the mean; we do neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models import LoadedModel, Trunk
from workbench.progress import Progress
from workbench.rahf.adapters import activate, adapter_state, add_adapter, join_adapters, set_weights
from workbench.rahf.collapse import Guard
from workbench.rahf.config import RunConfig
from workbench.rahf.patterns import Pattern, Patterns, selected
from workbench.rahf.training import StageTrainer, arguments
from workbench.tokens import collate

ALIGNED = "aligned"


def align_loss(states: Tensor, foundation: Tensor, shift: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """L_align and the distance left (rahf.md, step 3): all inputs [blocks, n, d], no gradient in the last two.

    The loss is the mean over blocks and states of ||h - (h_0 + alpha v)||_2. The second result [blocks] is that mean
    per block as a share of the mean ||alpha v||: 1 before training, 0 when the target is met. Computed in float32
    whatever the inputs are: in bfloat16 the target itself would be rounded by a good part of a small shift.
    """
    wanted = alpha * shift.float()
    distance = torch.linalg.vector_norm(states.float() - (foundation.float() + wanted), dim=-1)
    start = torch.linalg.vector_norm(wanted, dim=-1)
    return distance.mean(), distance.detach().mean(1) / start.mean(1).clamp(min=1e-12)


class AlignTrainer(StageTrainer):
    """Batches are indices of examples; their targets come from :class:`Patterns`."""

    patterns: Patterns
    alpha: float
    acting: list[str]
    guard: Guard
    stops: bool  # whether a look that finds a collapse ends the training

    def memory(self) -> dict[str, Any]:
        return super().memory() | {"groups": self.patterns.groups, "guard": self.guard.memory()}

    def recall(self, memory: dict[str, Any], folder: Path) -> None:
        super().recall(memory, folder)
        self.patterns.recall(memory.get("groups") or [])
        self.guard.recall(memory.get("guard") or {}, folder)
        self.over = self.guard.said is not None

    def keep(self, folder: Path) -> None:
        self.guard.save(folder)

    def judge(self, step: int, figures: dict[str, Any], last: bool) -> dict[str, Any]:
        said = self.guard.look(step, figures, last, lambda: adapter_state(self.loaded, ALIGNED))
        if not self.stops:
            self.guard.said = said = None  # only what was sound is remembered: the loss may still be lost
        self.over = said is not None
        return {"collapsed": said} if said else {}

    def lost(self, step: int) -> None:
        """Judged in ``compute_loss``, before anything is made of it."""

    def parts(self, inputs):
        bare = [self.patterns.examples[index].bare for index in inputs["indices"]]
        parts = self.cut(bare)
        mine = sorted(row for rows in parts for row in rows)
        known = dict(zip(mine, self.patterns.get([inputs["indices"][row] for row in mine]), strict=True))
        activate(self.loaded, self.acting, train=ALIGNED)  # computing patterns switches adapters
        self._drop_in_adapters_only()
        states = [len(item.ids) - item.start for item in bare]
        for rows in parts:
            share = sum(states[row] for row in rows) / sum(states)
            yield (
                {"sequences": [bare[row] for row in rows], "patterns": [known[row] for row in rows]} if rows else {},
                share,
            )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        batch = collate(inputs["sequences"], self.loaded.boundary.pad_id, self.loaded.device)
        hidden = model(batch.input_ids, batch.attention_mask, batch.position_ids, collect=self.patterns.layers)
        mask = selected(batch, self.patterns.config.states)
        states = torch.stack([hidden[layer][mask] for layer in self.patterns.layers])
        foundation, shift = _joined(inputs["patterns"])
        loss, left = align_loss(states, foundation, shift, self.alpha)
        self.measured = {
            "fit": (left, lengths(shift)),
            "reached": (reached(states, foundation), lengths(foundation)),
        }
        return loss

    def together(self, measured):
        """Each block's shares, of the means over all states of the batch."""
        result: dict[str, Any] = {}
        for name in ("fit", "reached"):
            shares, weights = (
                torch.stack(list(some)) for some in zip(*(part[name] for part, _ in measured), strict=True)
            )
            mean = (shares * weights).sum(0) / weights.sum(0).clamp(min=1e-12)
            result[name] = dict(zip(self.patterns.layers, mean.tolist(), strict=True))
        if not all(map(math.isfinite, result["fit"].values())) and not self.over:
            self.over = True
            result["collapsed"] = self.guard.not_finite(self.state.global_step + 1)
        return result

    def _drop_in_adapters_only(self) -> None:
        """The base's own dropout would move its states by as much as a small shift does, and the targets know none."""
        blocks = {id(block) for block in self.loaded.blocks} if self.patterns.config.gradient_checkpointing else set()
        for name, module in self.model.named_modules():
            module.training = ".lora_dropout" in name or id(module) in blocks  # a block saves memory in training only


@torch.no_grad()
def reached(states: Tensor, foundation: Tensor) -> Tensor:
    """How far the adapter has moved the states by now, as a share of their length: mean ||h - h_0|| / mean ||h_0||,
    inputs [blocks, n, d], result [blocks]. At the target it is the relative strength of the shift."""
    moved = torch.linalg.vector_norm((states - foundation).float(), dim=-1).mean(1)
    return moved / torch.linalg.vector_norm(foundation.float(), dim=-1).mean(1).clamp(min=1e-12)


@torch.no_grad()
def lengths(vectors: Tensor) -> Tensor:
    """The sum of the vectors' lengths in each block: [blocks, n, d] to float32 [blocks]."""
    return torch.linalg.vector_norm(vectors.float(), dim=-1).sum(1)


def _joined(patterns: list[Pattern]) -> tuple[Tensor, Tensor]:
    return torch.cat([p.foundation for p in patterns], dim=1), torch.cat([p.shift for p in patterns], dim=1)


def fit(
    loaded: LoadedModel,
    patterns: Patterns,
    alpha: float,
    config: RunConfig,
    folder: Path,
    progress: Progress,
    look: Callable[[int], dict] | None = None,
) -> dict[str, Any]:
    """Train the adapter "aligned" and leave it in ``loaded``; with foundation "instructed" it holds step 1's adapter too,
    so that it works on the plain base.

    Checkpoints go to ``folder``; called again after a stop it goes on from the last one. Returns steps (those the
    adapter has seen), seconds, first and last loss, the last ``fit`` per block, and ``ended``: "steps", or "collapse"
    with the sentence ``collapse`` and the adapter of the last sound look (see ``workbench.rahf.collapse``). Raises
    Stopped, and UserError for a collapse that no sound look came before.
    """
    depth = max(patterns.layers) + 1
    below = list(config.instructed_adapters[:1]) if config.foundation == "instructed" else []
    add_adapter(loaded, ALIGNED, config, depth, config.seed + 1)
    acting = [*below, ALIGNED]
    activate(loaded, acting, train=ALIGNED)

    def looked(step: int) -> dict:
        joined = ALIGNED if not below else "joined"
        if below:
            join_adapters(loaded, acting, joined)
        else:
            activate(loaded, [])
        try:
            return look(step, joined)
        finally:
            if below:
                loaded.model.delete_adapter(joined)
            activate(loaded, acting, train=ALIGNED)  # a resume takes a broken-off look before it makes its optimiser

    trainer = AlignTrainer(
        loaded=loaded,
        model=Trunk(loaded.model, depth),
        adapter=ALIGNED,
        stage="align",
        progress=progress,
        args=arguments(config, "align", len(patterns.examples), folder, loaded.device),
        dataset=list(range(len(patterns.examples))),
        collator=lambda indices: {"indices": indices},
        look=looked if look else None,
        look_every=config.evaluate_every,
    )
    trainer.patterns, trainer.alpha, trainer.acting = patterns, alpha, acting
    trainer.guard, trainer.stops = Guard(), config.stop_on_collapse
    if config.gradient_checkpointing:
        loaded.model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    try:
        result = trainer.run()
    finally:
        loaded.model.eval()
        if config.gradient_checkpointing:
            loaded.model.get_base_model().gradient_checkpointing_disable()
        activate(loaded, [])
    result |= _kept(loaded, trainer.guard, alpha, result["steps"])
    if below:
        join_adapters(loaded, acting, "joined")
        loaded.model.delete_adapter(ALIGNED)
        join_adapters(loaded, ["joined"], ALIGNED)
        loaded.model.delete_adapter("joined")
    return result | {"fit": trainer.measured.get("fit", {})}


def _kept(loaded: LoadedModel, guard: Guard, alpha: float, steps: int) -> dict[str, Any]:
    """How training ended; after a collapse with the adapter of the last sound look put back. Raises UserError."""
    if guard.said is None:
        return {"ended": "steps", "collapse": None}
    if not guard.sound:
        raise UserError(
            f"{guard.said} Start again with a lower alpha (this run's was {alpha:g}) or a lower learning rate of step 3, "
            "or look more often."
        )
    set_weights(loaded, guard.weights, ALIGNED)
    return {"ended": "collapse", "collapse": guard.said, "steps": guard.sound, "steps_done": steps}
