"""Step 3: build the aligned model. rahf.md, step 3; paper section 3.4.

A LoRA in blocks 0..max(target) is fitted so that its own states at the target blocks become the shifted ones of the
foundation. The reference adapts one block more, which no gradient reaches, and lets padding into the mean; we do neither.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.models import LoadedModel, Trunk
from workbench.progress import Progress
from workbench.rahf.adapters import activate, add_adapter, join_adapters
from workbench.rahf.config import RunConfig
from workbench.rahf.patterns import Pattern, Patterns, selected
from workbench.rahf.training import StageTrainer, arguments
from workbench.tokens import collate

ALIGNED = "aligned"


def align_loss(states: Tensor, foundation: Tensor, shift: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """L_align and the distance left (rahf.md, step 3): all inputs [blocks, n, d], no gradient in the last two.

    The loss is the mean over blocks and states of ||h - (h_0 + alpha v)||_2. The second result [blocks] is that mean
    per block as a share of the mean ||alpha v||: 1 before training, 0 when the target is met.
    """
    distance = torch.linalg.vector_norm((states - (foundation + alpha * shift)).float(), dim=-1)
    start = torch.linalg.vector_norm((alpha * shift).float(), dim=-1)
    return distance.mean(), distance.detach().mean(1) / start.mean(1).clamp(min=1e-12)


class AlignTrainer(StageTrainer):
    """Batches are indices of examples; their targets come from :class:`Patterns`."""

    patterns: Patterns
    alpha: float
    acting: list[str]

    def memory(self) -> dict[str, Any]:
        return super().memory() | {"groups": self.patterns.groups}

    def recall(self, memory: dict[str, Any]) -> None:
        super().recall(memory)
        self.patterns.recall(memory.get("groups") or [])

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        indices = inputs["indices"]
        known = self.patterns.get(indices)
        activate(self.loaded, self.acting, train=ALIGNED)  # computing patterns switches adapters
        batch = collate(
            [self.patterns.examples[index].bare for index in indices], self.loaded.boundary.pad_id, self.loaded.device
        )
        hidden = model(batch.input_ids, batch.attention_mask, batch.position_ids, collect=self.patterns.layers)
        mask = selected(batch, self.patterns.config.states)
        states = torch.stack([hidden[layer][mask] for layer in self.patterns.layers])
        loss, left = align_loss(states, *_joined(known), self.alpha)
        self.measured = {"fit": dict(zip(self.patterns.layers, left.tolist(), strict=True))}
        return loss


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

    Checkpoints go to ``folder``; called again after a stop it goes on from the last one. Returns steps, seconds, first
    and last loss, and the last ``fit`` per block. Raises Stopped.
    """
    depth = max(patterns.layers) + 1
    below = list(config.instructed_adapters[:1]) if config.foundation == "instructed" else []
    add_adapter(loaded, ALIGNED, config, depth, config.seed + 1)
    acting = [*below, ALIGNED]
    activate(loaded, acting, train=ALIGNED)

    def looked(step: int) -> dict:
        if not below:
            activate(loaded, [])
            return look(step, ALIGNED)
        join_adapters(loaded, acting, "joined")
        try:
            return look(step, "joined")
        finally:
            loaded.model.delete_adapter("joined")

    trainer = AlignTrainer(
        loaded=loaded,
        model=Trunk(loaded.model, depth),
        adapter=ALIGNED,
        stage="align",
        progress=progress,
        args=arguments(config, folder, config.align_steps, config.align_batch, config.align_rate, loaded.device),
        dataset=list(range(len(patterns.examples))),
        collator=lambda indices: {"indices": indices},
        look=looked if look else None,
        look_every=config.evaluate_every,
    )
    trainer.patterns, trainer.alpha, trainer.acting = patterns, alpha, acting
    if config.gradient_checkpointing:
        loaded.model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    try:
        result = trainer.run()
    finally:
        loaded.model.eval()
        if config.gradient_checkpointing:
            loaded.model.get_base_model().gradient_checkpointing_disable()
        activate(loaded, [])
    if below:
        join_adapters(loaded, acting, "joined")
        loaded.model.delete_adapter(ALIGNED)
        join_adapters(loaded, ["joined"], ALIGNED)
        loaded.model.delete_adapter("joined")
    return result | {"fit": trainer.measured.get("fit", {})}
