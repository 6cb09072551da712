"""What both training steps share: transformers' Trainer with our losses, events, stop, checkpoints and resume."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from workbench import processes
from workbench.errors import Stopped, UserError
from workbench.models import LoadedModel, need_bitsandbytes
from workbench.progress import Progress, finite
from workbench.rahf.adapters import is_full, load_weights, save_adapter
from workbench.rahf.checkpoints import Checkpoint, last_checkpoint, prune, seal
from workbench.rahf.config import RunConfig
from workbench.stamp import check, stamp
from workbench.tokens import Encoded, by_length, part_tokens

OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor", "adamw_8bit": "adamw_bnb_8bit"}
LOGGED = 1000  # at most about so many loss events a stage
SAVE_SECONDS = 60.0  # at most so much work lies between two checkpoints, where steps are slow
SAVE_SHARE = 0.1  # of the time at most goes into these: whole models take minutes to write


def arguments(
    config: RunConfig,
    stage: str,
    examples: int,
    folder: Path,
    device: torch.device,
    kind: type[TrainingArguments] = TrainingArguments,
    **more: Any,
) -> TrainingArguments:
    """The Trainer's settings for a stage, "instruct" or "align", that has so many examples; ``more`` are settings that
    only a trainer of another ``kind`` knows. Raises UserError for an optimiser that cannot work here."""
    check_optimizer(config.optimizer, device)
    steps = config.steps_of(stage, examples)
    schedule, warmup = config.course(stage)
    made = kind(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=getattr(config, f"{stage}_batch"),
        gradient_accumulation_steps=config.accumulation,
        learning_rate=getattr(config, f"{stage}_rate"),
        warmup_steps=int(warmup * steps),
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(schedule, schedule),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=max(1, steps // LOGGED),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        use_cpu=device.type == "cpu",
        optim=OPTIMIZERS[config.optimizer],
        **more,
    )
    made._n_gpu = min(1, made.n_gpu)  # the Trainer would copy the model onto every GPU that it sees
    return made


def check_optimizer(optimizer: str, device: torch.device) -> None:
    """Raise UserError, with what to do, for an optimiser that cannot take a step on the device."""
    if optimizer != "adamw_8bit":
        return
    need_bitsandbytes("The optimiser adamw_8bit", "choose adamw or adafactor")
    from bitsandbytes.optim import AdamW8bit

    weight = nn.Parameter(torch.zeros(4096, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        AdamW8bit([weight]).step()
    except Exception as error:  # what a device or a build lacks comes as errors of many kinds
        raise UserError(
            f"The optimiser adamw_8bit does not work on {device.type} with the bitsandbytes installed here "
            f"({' '.join(str(error).split())[:120]}): choose adamw or adafactor."
        ) from error


class StageTrainer(Trainer):
    """Trains one adapter; subclasses give ``compute_loss`` and may put numbers into ``measured`` for the next event.

    ``look(step)`` is called every ``look_every`` steps, without gradients, and its numbers go into an event. A subclass
    may judge them in ``judge`` and end the training for good by setting ``over``.
    """

    of = " of step 1"  # what is trained, as the user is told

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
        self.over = False
        self.before = self.after = 0  # steps of other models that are trained in the same stage
        self.watcher = _Watcher(self, progress, look, look_every)
        super().__init__(
            model=model, args=args, train_dataset=dataset, data_collator=collator, callbacks=[self.watcher]
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.model_accepts_loss_kwargs = False  # our losses are means over the batch: accumulation averages them

    def run(self) -> dict[str, Any]:
        """Train to the end, from the last whole checkpoint if there is one.

        Returns steps, seconds of this sitting, and the first and last loss. Raises Stopped after saving a checkpoint,
        and UserError if the checkpoint is of another model or seed.
        """
        started = time.monotonic()
        last = last_checkpoint(Path(self.args.output_dir))
        if last is not None:
            if said := check(last.about.get("stamp") or {}, self._stamp(), "this checkpoint"):
                self.watcher.progress(self.stage, last.step, self.args.max_steps, said, check=False)
            self.recall(last.about.get("memory") or {}, last.path)
            if last.step >= self.args.max_steps or self.over or not self.watcher.looked:
                self._take_up(last)
        if not self.over and (last is None or last.step < self.args.max_steps):
            with self.watcher.progress.whole():
                self.train(resume_from_checkpoint=str(last.path) if last else None)
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        if self.watcher.stopped:
            raise Stopped(f"stopped in {self.stage} at step {self.state.global_step} of {self.args.max_steps}")
        return {
            "steps": self.state.global_step,
            "seconds": round(time.monotonic() - started, 2),
            "loss_first": losses[0] if losses else None,
            "loss_last": losses[-1] if losses else None,
        }

    def parts(self, inputs: Any) -> Iterable[tuple[Any, float]]:
        """The parts in which a batch goes through the model, one after another, each with its share of the batch's loss:
        sequences of about one length, so that none is padded far and only one part's graph stands in memory."""
        raise NotImplementedError

    def cut(self, items: Sequence[Encoded], copies: int = 1) -> list[list[int]]:
        """Which of a batch's sequences this process puts through the model at once, a list for each part; of each
        sequence there are so many ``copies``. Where weights are shared out all processes have as many parts: some may
        be empty."""
        here, most = processes.here(), part_tokens(self.loaded.device.type) // copies
        if here.count == 1:
            return by_length(items, most)
        lengths = [len(item.ids) for item in items]
        parts = by_length(items, min(most, -(-sum(lengths) // here.count)))
        mine = [parts[place] for place in processes.shared_out([len(rows) * lengths[rows[0]] for rows in parts])]
        return mine + [[]] * (processes.most(len(mine)) - len(mine) if here.sharded else 0)

    def idle(self, model: nn.Module) -> Tensor:
        """A pass of one token that teaches nothing, for the sake of the others' blocks."""
        token = torch.zeros(1, 1, dtype=torch.long, device=self.loaded.device)
        output = model(token, torch.ones_like(token))
        return 0.0 * sum(states.float().sum() for states in (output.values() if type(output) is dict else [output[0]]))

    def together(self, measured: Sequence[tuple[dict[str, Any], float]]) -> dict[str, Any]:
        """What was measured of a whole batch, from what was of its parts, each with its share of the loss."""
        names = measured[0][0]
        return {name: sum(share * numbers[name] for numbers, share in measured) for name in names}

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """The Trainer's, part by part where there are parts: the gradient is the whole batch's."""
        if type(self).parts is StageTrainer.parts:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        total, measured = torch.zeros((), device=self.loaded.device), []
        for part, share in self.parts(inputs):
            with self.compute_loss_context_manager():
                loss = self.compute_loss(model, part) if part else self.idle(model)
            loss = loss * (share / self.current_gradient_accumulation_steps)
            self.accelerator.backward(loss)
            total = total + loss.detach()
            if part:
                measured.append((self.measured, share))
        if processes.here().count > 1:
            total, measured = self._everyones(total, measured)
            if self.accelerator.sync_gradients:
                processes.sum_gradients(p for group in self.optimizer.param_groups for p in group["params"])
        self.measured = self.together(measured)
        return total

    def _everyones(self, total: Tensor, measured: list) -> tuple[Tensor, list]:
        """The loss of the whole batch, and what was measured of all its parts."""
        on_cpu = torch.utils._pytree.tree_map_only(Tensor, lambda tensor: tensor.cpu(), measured)
        found = processes.everyones([(float(total), on_cpu)])
        return total.new_tensor(sum(loss for loss, _ in found)), [part for _, parts in found for part in parts]

    def memory(self) -> dict[str, Any]:
        """What a checkpoint keeps beside weights, optimiser and random numbers (plain JSON); :meth:`recall` gets it."""
        return {"measured": self.measured, "looked": self.watcher.looked}

    def recall(self, memory: dict[str, Any], folder: Path) -> None:
        """Take up again what :meth:`memory` kept, and :meth:`keep` in the checkpoint's ``folder``."""
        self.measured = dict(memory.get("measured") or {})
        self.watcher.looked = memory.get("looked", True) is not False

    def keep(self, folder: Path) -> None:
        """Put further files into a checkpoint before it is sealed."""

    def judge(self, step: int, figures: dict[str, Any], last: bool) -> dict[str, Any]:
        """What a look's figures mean, to stand beside them in the event."""
        return {}

    def lost(self, step: int) -> None:
        """The loss is no number any more, and nothing can be learned after that. Raises UserError."""
        raise UserError(
            f"The loss{self.of} is no number any more at step {step} of {self.args.max_steps}: start again with a lower "
            f"learning rate{self.of} (this run's was {self.args.learning_rate:g})."
        )

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        """All weights are trained in float32; the passes themselves stay in the model's own number format."""
        contexts = super().compute_loss_context_manager()
        if is_full(self.loaded, self.adapter) and self.loaded.dtype != torch.float32:
            contexts.enter_context(torch.autocast(self.loaded.device.type, dtype=self.loaded.dtype))
        return contexts

    def _stamp(self) -> dict[str, Any]:
        return stamp(self.loaded.fingerprint, "", self.args.seed) | {"pairs": None}

    def _take_up(self, last: Checkpoint) -> None:
        """Where no step is missing, or the look at the last one was broken off: only what comes after it."""
        load_weights(self.loaded, last.path, self.adapter)
        self.state = TrainerState.load_from_json(str(last.path / "trainer_state.json"))
        self.watcher.begin(self.state)
        self.watcher.look_again(self.state)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if not processes.first():
            return
        folder, began = Path(self.args.output_dir), time.monotonic()
        path = folder / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self.keep(path)
            about = {"stamp": self._stamp(), "step": self.state.global_step, "memory": self.memory()}
            seal(path, finite(about))
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)  # on a full disk its parts would only be in the way
            raise
        prune(folder)
        self.watcher.saved_at = time.monotonic()
        self.watcher.saving = self.watcher.saved_at - began

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        save_adapter(self.loaded, self.adapter, Path(output_dir or self.args.output_dir))

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """It is where it was loaded; the Trainer would take the first GPU."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_weights(self.loaded, Path(resume_from_checkpoint), self.adapter)


class _Watcher(TrainerCallback):
    """Turns the Trainer's life into events, looks at answers now and then, and ends training when asked to."""

    def __init__(self, trainer: StageTrainer, progress: Progress, look: Callable | None, look_every: int) -> None:
        self.trainer, self.progress, self.look, self.look_every = trainer, progress, look, look_every
        self.stopped = False
        self.looked = True  # whether the look that was due at the last step was finished
        self.started, self.first_step = 0.0, 0
        self.saved_at, self.saving = time.monotonic(), 0.0  # when a checkpoint was written last, and how long that took

    def begin(self, state) -> None:
        """Count time and steps of this sitting from here."""
        self.started, self.first_step = time.monotonic(), state.global_step
        self.saved_at = self.started

    def on_train_begin(self, args, state, control, **kwargs):
        self.begin(state)

    def look_again(self, state) -> None:
        """Take the look that a stop broke off."""
        if not self.looked and self.look:
            self._look(state)

    def _look(self, state) -> None:
        """Raises Stopped, in all processes, if the first was broken off."""
        self.looked, figures = False, None
        self.trainer.model.eval()
        try:
            with self.progress.whole(processes.here().count > 1):  # else it would leave alone
                figures = self.look(state.global_step)
        except Stopped:
            figures = None
        finally:
            self.trainer.model.train()
        if (figures := processes.agreed(figures)) is None:
            raise Stopped("stopped while answers were looked at")
        last = state.global_step >= state.max_steps
        self._report(state, **figures, **self.trainer.judge(state.global_step, figures, last))
        self.looked = True

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not logs or "loss" not in logs:
            return
        numbers = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
        self._report(state, **numbers, **self.trainer.measured)
        if not math.isfinite(logs["loss"]):
            self.trainer.lost(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        last = state.global_step >= state.max_steps
        due = time.monotonic() - self.saved_at >= max(SAVE_SECONDS, self.saving / SAVE_SHARE)
        stopping, due = processes.agreed((self.progress.stopping(), due))
        control.should_save = control.should_save or due
        if self.look and not self.trainer.over and (state.global_step % self.look_every == 0 or last):
            try:
                self._look(state)
            except Stopped:  # the step itself is done: what it gave is kept, and the look taken again later
                self.stopped = control.should_save = control.should_training_stop = True
        if self.trainer.over:
            control.should_log = control.should_save = control.should_training_stop = True
        elif stopping and not last:
            self.stopped = control.should_save = control.should_training_stop = True
        return control

    def _report(self, state, **metrics) -> None:
        done = state.global_step - self.first_step
        each = (time.monotonic() - self.started) / max(done, 1)
        before, after = self.trainer.before, self.trainer.after
        left = (state.max_steps - state.global_step + after) * each
        step, total = before + state.global_step, before + state.max_steps + after
        self.progress(self.trainer.stage, step, total, check=False, seconds_left=round(left, 1), **metrics)
