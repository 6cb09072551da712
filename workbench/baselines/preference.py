"""DPO (Rafailov et al. 2023), by TRL's own trainer and loss: -log sigmoid(beta ((log pi/pi_0)(chosen) - (log pi/pi_0)(rejected))),
log-probabilities summed over the answer's tokens, pi_0 the base.

Ours are the tokens (one boundary between prompt and answer everywhere, never a second tokenisation), the adapter's shape
and first weights, and the life of the training: events, stop, sealed checkpoints. TRL's telemetry stays off.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from workbench.baselines.config import BaselineConfig
from workbench.models import LoadedModel
from workbench.pairs import Pair
from workbench.progress import Progress
from workbench.rahf.adapters import activate, lora_config
from workbench.rahf.training import StageTrainer, arguments
from workbench.tokens import Limits

ADAPTER = "default"  # TRL looks for its adapter under this name


class _Trl(DPOTrainer):
    """TRL's trainer with what our stages do not pass on."""

    loaded: LoadedModel
    lora: Any

    def __init__(self, **rest: Any) -> None:
        tokenizer = self.loaded.tokenizer
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of fan_in_fan_out on Conv1D and sets it right itself
            super().__init__(processing_class=tokenizer, peft_config=self.lora, **rest)
        self.loaded.model = self.model

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        return dataset  # ids already

    def _send_telemetry(self) -> None:
        """Nobody is told what is trained here."""

    def create_model_card(self, *args, **kwargs) -> None:
        """Runs have a card of their own."""


class PreferenceTrainer(StageTrainer, _Trl):
    """DPO as a stage; tells how often and by how much chosen answers are ahead."""

    of = ""

    def __init__(self, *, lora: Any, **rest: Any) -> None:
        self.lora = lora
        super().__init__(**rest)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self._drop_nothing()
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        told = self._metrics["train"]
        self.measured = {
            name: told[f"rewards/{key}"][-1]
            for name, key in (("reward_accuracy", "accuracies"), ("reward_gap", "margins"))
            if told.get(f"rewards/{key}")
        }
        return loss

    def _drop_nothing(self) -> None:
        """Model and base are compared without dropout; TRL switches off its modules only, which some families do
        without. (Where memory is saved, a block that drops by itself, as OPT's, still does.)"""
        saving = {id(block) for block in self.loaded.blocks} if self.args.gradient_checkpointing else set()
        for module in self.model.modules():
            module.training = module is self.model or id(module) in saving  # blocks save in training only


def preference_data(loaded: LoadedModel, pairs: Sequence[Pair], limits: Limits) -> Dataset:
    """The pairs as TRL's trainer takes them once tokenised: ``prompt_ids``, ``chosen_ids``, ``rejected_ids``."""
    rows: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    for pair in pairs:
        chosen, rejected = (
            loaded.boundary.encode(pair.prompt, text, None, limits) for text in (pair.chosen, pair.rejected)
        )
        rows["prompt_ids"].append(chosen.ids[: chosen.start])
        rows["chosen_ids"].append(chosen.ids[chosen.start :])
        rows["rejected_ids"].append(rejected.ids[rejected.start :])
    return Dataset.from_dict(rows)


def make_trainer(
    loaded: LoadedModel,
    pairs: Sequence[Pair],
    config: BaselineConfig,
    limits: Limits,
    folder: Path,
    progress: Progress,
    look: Callable[[int], dict] | None = None,
) -> PreferenceTrainer:
    """The trainer of ``config.align_steps`` steps of ``align_batch`` pairs; ``loaded`` gets the adapter ``ADAPTER``."""
    saving: dict[str, Any] = {"gradient_checkpointing": config.gradient_checkpointing}
    if config.gradient_checkpointing:
        saving["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    return PreferenceTrainer(
        lora=lora_config(loaded, config, loaded.n_blocks),
        loaded=loaded,
        model=loaded.model,
        adapter=ADAPTER,
        stage="align",
        progress=progress,
        args=arguments(
            config, "align", len(pairs), folder, loaded.device, DPOConfig, beta=config.beta, max_length=None,
            bf16=False, router_aux_loss_coef=0.0, **saving,
        ),
        dataset=preference_data(loaded, pairs, limits),
        collator=None,  # TRL's own
        look=look,
        look_every=config.evaluate_every,
    )  # fmt: skip


def train(
    loaded: LoadedModel,
    pairs: Sequence[Pair],
    config: BaselineConfig,
    limits: Limits,
    folder: Path,
    progress: Progress,
    look: Callable[[int, str], dict] | None = None,
) -> dict[str, Any]:
    """Train an adapter in all blocks with DPO and leave it in ``loaded``, a plain base before, under the name ``ADAPTER``.

    As :func:`workbench.baselines.supervised.train` in all else.
    """
    base = loaded.model

    def looked(step: int) -> dict:
        try:
            return look(step, ADAPTER)
        finally:
            activate(loaded, [ADAPTER], train=ADAPTER)

    trainer = make_trainer(loaded, pairs, config, limits, folder, progress, looked if look else None)
    try:
        return trainer.run()
    finally:
        vars(base).pop("forward", None)  # TRL's, which gives log-probabilities in place of logits
        if config.gradient_checkpointing:
            base.gradient_checkpointing_disable()
        loaded.model.eval()
        activate(loaded, [])
