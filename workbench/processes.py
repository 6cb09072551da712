"""One run in several processes, as ``accelerate launch`` and ``torchrun`` start them: one for each GPU.

All processes do the same work in the same order. What is shared out is training: of each batch every process takes its
own sequences, and the gradients are summed, so that a step is that of one process but for rounding, however many there
are. Only the first process reports, writes into the run's folder and decides (``agreed``); the others do what it does.
With ``accelerate launch --use_fsdp`` the blocks' weights are shared out too (fully sharded data parallel): each process
holds its part, and a block is put together while it works.

The Trainer is told nothing of the others: a process makes as many passes as its sequences need, so that gradients cannot
be exchanged within a backward pass, and a whole adapter's are a few megabytes once a step. Alone, all of this is nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from workbench.errors import Stopped, UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

MEETING = timedelta(minutes=10)  # until all processes are there
PATIENCE = timedelta(days=7)  # the first process may wait for its turn, and the others for it
BUCKET = 2**24  # numbers that are summed at once
TOLD = ("ACCELERATE_", "FSDP_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # what launchers say


@dataclass(frozen=True)
class Here:
    """This process among all: its ``place`` from 0 of ``count``; ``sharded``: the blocks' weights are shared out."""

    place: int = 0
    count: int = 1
    sharded: bool = False


_here = Here()
_busy = False  # whether anything was agreed on yet
_asked: Callable[[], bool] = bool  # whether this process is to stop


def here() -> Here:
    """This process among all."""
    return _here


def join() -> None:
    """Meet the other processes, where this one was started among several. To be called before a GPU is touched: each
    sees its own only. Raises UserError for fewer GPUs than processes, and where the others do not come."""
    global _here
    if not launched():
        return forget()
    place, count = (_number(name) for name in ("RANK", "WORLD_SIZE"))
    if not 0 <= place < count:
        raise UserError(f"There is no process {place} of {count}: start them with accelerate launch or torchrun.")
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    backend = _own_gpu(_number("LOCAL_RANK", place), _number("LOCAL_WORLD_SIZE", count))
    import torch.distributed as dist

    try:
        store, *_ = next(dist.rendezvous("env://", place, count, timeout=MEETING))
        store.set_timeout(PATIENCE)
        dist.init_process_group(backend, store=store, rank=place, world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The {count} processes of this run did not meet ({' '.join(str(error).split())[:120]}): start them all with "
            "accelerate launch or torchrun."
        ) from error
    if place:  # who is asked to stop is the first; it tells the others at the end of a token or a step
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    forget()
    _here = Here(place, count, sharded)


def end(code: int) -> NoReturn:
    """End this process. One of several ends at once, without taking its connections down in order: that another does so
    at the same moment can abort it when all is long done."""
    if _here.count == 1:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def launched() -> bool:
    """Whether a launcher started this process among several, which have not met yet."""
    return bool(os.environ.get("RANK")) and _number("WORLD_SIZE", 1) > 1


def forget() -> None:
    """Take away what a launcher said, or transformers and accelerate would share the work out once more."""
    for name in [name for name in os.environ if name.startswith(TOLD)]:
        del os.environ[name]


def _number(name: str, otherwise: int | None = None) -> int:
    text = os.environ.get(name) or ("" if otherwise is None else str(otherwise))
    if not text.isdigit():
        raise UserError(
            f"{name} is {text!r} and should be a number: start with accelerate launch or torchrun, or unset it."
        )
    return int(text)


def heed(asked: Callable[[], bool]) -> None:
    """Let all processes stop within answers, at the same token, once this one (the first) is asked to."""
    global _asked
    _asked = asked


def _own_gpu(place: int, beside: int) -> str:
    """Let this process see one GPU only, where there are any; what is to carry messages."""
    import torch

    there = torch.cuda.device_count()  # asks the driver, touches none
    if not there:
        return "gloo"
    if there < beside:
        raise UserError(
            f"There are {beside} processes and {there} GPU here: start as many processes as GPUs (--num_processes)."
        )
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else None
    os.environ["CUDA_VISIBLE_DEVICES"] = seen[place] if seen else str(place)
    return "cpu:gloo,cuda:nccl"


def first() -> bool:
    """Whether this process is the one that writes and decides."""
    return _here.place == 0


def release() -> None:
    """Let the other processes go if they never were given anything to do."""
    if _here.count > 1 and first() and not _busy:
        agreed(None)


def agreed(value: Any) -> Any:
    """What the first process has, for all of them."""
    global _busy
    if _here.count == 1:
        return value
    _busy = True
    import torch
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def in_step(tokens: torch.Tensor) -> torch.Tensor:
    """The first process's next tokens: last bits differ between processes, and one that wrote a shorter answer would leave
    the others waiting. Raises Stopped in all of them if the first is to stop."""
    if _here.count == 1:
        return tokens
    found, stop = agreed((tokens.tolist(), _asked()))
    if stop:
        raise Stopped("stopped within an answer")
    return tokens.new_tensor(found)


def everyones(items: Sequence[Any]) -> list[Any]:
    """The items of all processes, in their order: plain data and tensors on the CPU."""
    if _here.count == 1:
        return list(items)
    import torch.distributed as dist

    found: list[Any] = [None] * _here.count
    dist.all_gather_object(found, list(items))
    return [item for some in found for item in some]


def meet() -> None:
    """Wait until all processes are here."""
    everyones(())


def most(count: int) -> int:
    """The largest of these counts, over all processes."""
    return max(everyones([count]))


def shared_out(costs: Sequence[float]) -> list[int]:
    """Which of these pieces of work are this process's, by their costs: dear ones first, each to who has least to do."""
    loads, mine = [0.0] * _here.count, []
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        place = loads.index(min(loads))
        loads[place] += costs[piece]
        if place == _here.place:
            mine.append(piece)
    return sorted(mine)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Make each parameter's gradient the sum of all processes' (none counts as zero)."""
    if _here.count == 1:
        return
    import torch
    import torch.distributed as dist

    waiting: list[torch.Tensor] = []

    def send() -> None:
        flat = torch.cat([gradient.reshape(-1).float() for gradient in waiting])
        dist.all_reduce(flat)
        for gradient, whole in zip(waiting, flat.split([gradient.numel() for gradient in waiting]), strict=True):
            gradient.copy_(whole.view_as(gradient))
        waiting.clear()

    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        waiting.append(parameter.grad)
        if sum(gradient.numel() for gradient in waiting) >= BUCKET:
            send()
    if waiting:
        send()


def shard(blocks: Sequence[nn.Module], device: torch.device) -> None:
    """Share the weights of frozen blocks out over the processes: each block is put together on the ``device`` when it is
    called, and taken apart after. Every process must then call blocks in the same order."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (_here.count,))
    for block in blocks:  # each for itself: passes through some blocks only, or past the model's own, must work too
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
