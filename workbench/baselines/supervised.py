"""Fine-tuning on answers: SFT on the chosen ones, and HIR, hindsight instruction relabelling (Zhang et al. 2023).

HIR keeps the rejected answers: every answer is trained under the instruction that it would have been right for, the chosen
one under p+, the rejected one under p-; the model then answers under p+. Here it is given the loss of SFT and no more, as
in the comparison of the RAHF paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.baselines.config import BaselineConfig
from workbench.models import LoadedModel
from workbench.pairs import Pair
from workbench.progress import Progress
from workbench.rahf.adapters import activate, add_adapter
from workbench.rahf.instruct import SftTrainer
from workbench.rahf.training import arguments
from workbench.tokens import Encoded, Limits

ADAPTER = "aligned"
SIDES = {  # answers of a pair that a method learns from, and the instruction before each
    "sft": (("chosen", None),),
    "hir": (("chosen", "positive"), ("rejected", "negative")),
    "dpo": (("chosen", None), ("rejected", None)),
}


@dataclass(frozen=True)
class Lesson:
    """An answer that is to become likelier after its prompt, under an instruction or without one."""

    prompt: Any
    answer: str
    instruction: str | None = None

    def encoded(self, loaded: LoadedModel, limits: Limits) -> Encoded:
        return loaded.boundary.encode(self.prompt, self.answer, self.instruction, limits)


class LessonTrainer(SftTrainer):
    """The loss of step 1's fine-tuning."""

    of = ""


def lessons_of(pairs: Sequence[Pair], config: BaselineConfig) -> list[Lesson]:
    """The answers that a method learns from, pair by pair, with what is said before them."""
    return [
        Lesson(pair.prompt, getattr(pair, side), getattr(config, instruction) if instruction else None)
        for pair in pairs
        for side, instruction in SIDES[config.method]
    ]


def train(
    loaded: LoadedModel,
    lessons: Sequence[Lesson],
    config: BaselineConfig,
    limits: Limits,
    folder: Path,
    progress: Progress,
    look: Callable[[int, str], dict] | None = None,
) -> dict[str, Any]:
    """Fine-tune an adapter in all blocks on the lessons, ``config.align_steps`` steps of ``align_batch``, and leave it in
    ``loaded`` under the name ``ADAPTER``.

    Checkpoints go to ``folder``; called again after a stop it goes on from the last one. ``look`` (step, adapter) is
    called now and then. Returns steps, seconds and losses. Raises Stopped, and UserError for a loss that is lost.
    """
    add_adapter(loaded, ADAPTER, config, loaded.n_blocks, config.seed)
    activate(loaded, [ADAPTER], train=ADAPTER)
    base = loaded.model.get_base_model()
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})

    def looked(step: int) -> dict:
        try:
            return look(step, ADAPTER)
        finally:
            activate(loaded, [ADAPTER], train=ADAPTER)

    trainer = LessonTrainer(
        loaded=loaded,
        model=loaded.model,
        adapter=ADAPTER,
        stage="align",
        progress=progress,
        args=arguments(config, "align", len(lessons), folder, loaded.device),
        dataset=list(lessons),
        collator=lambda batch: {"sequences": [[lesson.encoded(loaded, limits) for lesson in batch]]},
        look=looked if look else None,
        look_every=config.evaluate_every,
    )
    try:
        return trainer.run()
    finally:
        if config.gradient_checkpointing:
            base.gradient_checkpointing_disable()
        loaded.model.eval()
        activate(loaded, [])
