"""The settings of a baseline: those of a RAHF run, which fix pairs, split and budget, and a few of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from workbench.baselines import METHODS
from workbench.errors import UserError
from workbench.rahf.config import RunConfig, setting

DPO_SHARE = (
    0.05  # of the learning rate of fine-tuning, as TRL's own defaults are: DPO breaks answers at rates that suit SFT
)


@dataclass(frozen=True)
class Budget:
    """Optimiser steps, answers that a loss sees in each of them (in ``accumulation`` batches), and answers in all."""

    steps: int
    batch: int
    answers: int


@dataclass(frozen=True)
class BaselineConfig(RunConfig):
    """The settings of one baseline run. Steps, batches and passes of RAHF's steps 1 and 3 are its budget."""

    method: str = setting(
        "sft", "SFT and HIR fine-tune on answers, DPO on pairs; steering trains nothing and adds a direction.", METHODS
    )
    steps: int | None = setting(
        None, "Optimiser steps; auto is as many as steps 1 and 3 of RAHF take together.", low=1, high=10**6
    )
    batch: int | None = setting(
        None,
        "Answers a batch (a pair has two); auto makes all steps see as many answers as steps 1 and 3 of RAHF do.",
        low=1,
        high=8192,
    )
    rate: float | None = setting(
        None, "The learning rate; auto is that of RAHF's step 1, and for DPO a twentieth of it.", low=1e-9, high=1
    )
    beta: float = setting(0.1, "DPO: how strongly it is held to the base; higher keeps it nearer.", low=1e-4, high=100)

    @property
    def uses_instructions(self) -> bool:
        return self.method == "hir"

    @property
    def instructed_adapters(self) -> tuple[str, ...]:
        return ()

    def validate(self) -> BaselineConfig:
        config = super().validate()
        if config.instruct_tuning == "full":
            raise UserError(
                "A baseline trains an adapter, as RAHF's result is one: set instruct_tuning to lora for a fair comparison."
            )
        return config

    def budget(self, instruct: int, fit: int) -> Budget:
        """What RAHF-SCIT with these settings would spend on so many pairs for step 1 and for steps 2 and 3.

        Counted are answers in a loss, each as often as it is seen: two a pair in step 1 (Dual: one in each of its two
        models), one an example in step 3. Passes without gradient (step 2, DPO's reference) are not counted.
        """
        told, fitted = self.steps_of("instruct", instruct), self.steps_of("align", self.answers_of(fit))
        answers = self.accumulation * (2 * told * self.instruct_batch + fitted * self.align_batch)
        steps = self.steps or told + fitted
        batch = self.batch or max(1, round(answers / (steps * self.accumulation)))
        return Budget(steps, batch, steps * batch * self.accumulation)

    def as_stage(self, budget: Budget, batch: int) -> BaselineConfig:
        """Itself with step 3 standing for the whole training, of so many examples a batch: what the trainer reads."""
        rate = self.rate or self.instruct_rate * (DPO_SHARE if self.method == "dpo" else 1)
        return replace(self, align_steps=budget.steps, align_epochs=None, align_batch=batch, align_rate=rate)


def config_class(values: dict[str, Any]) -> type[RunConfig]:
    """The class of these settings, told by their method."""
    return BaselineConfig if values.get("method") in METHODS else RunConfig
