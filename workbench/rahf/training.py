"""What both training steps share: transformers' Trainer with our losses, events, stop, checkpoints and resume."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from workbench.errors import Stopped
from workbench.models import LoadedModel
from workbench.progress import Progress
from workbench.rahf.adapters import load_weights, save_adapter
from workbench.rahf.config import RunConfig

LOGGED = 1000  # at most about so many loss events a stage


def arguments(config: RunConfig, folder: Path, steps: int, batch: int, rate: float, device: Any) -> TrainingArguments:
    """The Trainer's settings for one stage."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=rate,
        warmup_steps=int(config.warmup * steps),
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(config.schedule, config.schedule),
        weight_decay=0.0,
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=max(1, steps // LOGGED),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        use_cpu=device.type == "cpu",
        optim="adamw_torch",
    )


class StageTrainer(Trainer):
    """Trains one adapter; subclasses give ``compute_loss`` and may put numbers into ``measured`` for the next event.

    ``look(step)`` is called every ``look_every`` steps, without gradients, and its numbers go into an event.
    """

    def __init__(
        self,
        *,
        loaded: LoadedModel,
        model: nn.Module,
        adapter: str,
        stage: str,
        progress: Progress,
        args: TrainingArguments,
        dataset: Any,
        collator: Callable,
        look: Callable[[int], dict] | None = None,
        look_every: int = 0,
    ) -> None:
        self.loaded, self.adapter, self.stage = loaded, adapter, stage
        self.measured: dict[str, Any] = {}
        self.watcher = _Watcher(self, progress, look, look_every)
        super().__init__(
            model=model, args=args, train_dataset=dataset, data_collator=collator, callbacks=[self.watcher]
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.model_accepts_loss_kwargs = False  # our losses are means over the batch: accumulation averages them

    def run(self) -> dict[str, Any]:
        """Train to the end, from the last whole checkpoint if there is one.

        Returns steps, seconds of this sitting, and the first and last loss. Raises Stopped after saving a checkpoint.
        """
        folder = Path(self.args.output_dir)
        started = time.monotonic()
        self.train(resume_from_checkpoint=last_checkpoint(folder))
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        if self.watcher.stopped:
            raise Stopped(f"stopped in {self.stage} at step {self.state.global_step} of {self.args.max_steps}")
        return {
            "steps": self.state.global_step,
            "seconds": round(time.monotonic() - started, 2),
            "loss_first": losses[0] if losses else None,
            "loss_last": losses[-1] if losses else None,
        }

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        save_adapter(self.loaded, self.adapter, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_weights(self.loaded, Path(resume_from_checkpoint), self.adapter)


class _Watcher(TrainerCallback):
    """Turns the Trainer's life into events, looks at answers now and then, and ends training when asked to."""

    def __init__(self, trainer: StageTrainer, progress: Progress, look: Callable | None, look_every: int) -> None:
        self.trainer, self.progress, self.look, self.look_every = trainer, progress, look, look_every
        self.stopped = False
        self.started, self.first_step = 0.0, 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.started, self.first_step = time.monotonic(), state.global_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not logs or "loss" not in logs:
            return
        numbers = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
        self._report(state, **numbers, **self.trainer.measured)

    def on_step_end(self, args, state, control, **kwargs):
        last = state.global_step >= state.max_steps
        if self.look and (state.global_step % self.look_every == 0 or last):
            self.trainer.model.eval()
            self._report(state, **self.look(state.global_step))
            self.trainer.model.train()
        if self.progress.stopping() and not last:
            self.stopped = control.should_save = control.should_training_stop = True
        return control

    def _report(self, state, **metrics) -> None:
        done = state.global_step - self.first_step
        each = (time.monotonic() - self.started) / max(done, 1)
        left = (state.max_steps - state.global_step) * each
        self.progress(
            self.trainer.stage, state.global_step, state.max_steps, check=False, seconds_left=round(left, 1), **metrics
        )


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint in the folder. The Trainer writes its state last, so one without a readable state was
    torn by a crash, and is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    whole = None
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        whole = whole or str(path)
    return whole
