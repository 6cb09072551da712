"""What can be known of a run before it starts, without loading the model's weights: the model's build, how long the
pairs are in its tokens, what the device has free and how fast it is.

>>> facts = gather(RunConfig())
>>> facts.shape.blocks, len(facts.lengths), facts.device.free
(8, 601, 15032385536)
"""

from __future__ import annotations

import shutil
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from workbench.models import Reader
    from workbench.pairs import PreferencePairs
    from workbench.rahf.config import RunConfig

MOST_COUNTED = 4000  # pairs whose tokens are counted: of more, a sample drawn evenly
MOST_BUSY = 3.0  # times slower: what works beside will not do so for ever
LARGE_FILE, FIRST_ROWS = 100 * 2**20, 20_000  # of a file larger than so many bytes, so many rows are read
KEPT = 8  # models and files of pairs that are remembered


@dataclass(frozen=True)
class Shape:
    """How a model is built.

    ``block_weights`` are the parameters of a block (the mean over blocks), ``active_weights`` those of them that one
    token meets, ``other_weights`` all outside the blocks. ``lora_rank`` is how many parameters an adapter has a block
    and a rank, ``lora_layers`` how many linear layers a block that get one. ``traffic`` is the sum of inputs and
    outputs of the linear layers that one token meets in a block. ``cache_width`` is what a block keeps a token while
    answering.
    """

    family: str
    blocks: int
    width: int
    vocabulary: int
    context: int
    block_weights: int
    active_weights: int
    other_weights: int
    lora_rank: int
    lora_layers: int
    traffic: int
    cache_width: int

    @property
    def weights(self) -> int:
        return self.blocks * self.block_weights + self.other_weights


@dataclass(frozen=True)
class Device:
    """Where the run will compute. ``free`` and ``total`` in bytes (None where it cannot be told); ``flops`` a second of
    a matrix product in the run's precision, ``bandwidth`` bytes a second of a pass over memory, ``call`` seconds that
    one small layer takes whatever its size; ``busy`` is how many times slower other work makes it."""

    kind: str
    name: str
    free: int | None
    total: int | None
    flops: float
    bandwidth: float
    call: float
    busy: float = 1.0


@dataclass(frozen=True)
class Facts:
    """All that an estimate and the list of problems are made from.

    ``lengths`` [N, 3] are the tokens of prompt, chosen and rejected of (a sample of) the pairs, uncut, and ``sides`` [N]
    where each goes: 0 to step 1, 1 to step 3, 2 held out; ``pairs`` counts all of them and ``parts`` all by side.
    ``instruction`` is how many tokens p+ or p- adds; ``same_answers`` the share of pairs whose two answers are equal;
    ``encode_seconds`` what making the token ids of one sequence takes; ``oracle`` whether rules judge the answers;
    ``missing_bytes`` what must be downloaded first; ``first_rows`` whether of a large file only those were read;
    ``too_few`` why the pairs cannot be split (else empty); ``history`` finished runs (see ``estimate.history_row``).
    """

    shape: Shape
    lengths: np.ndarray
    sides: np.ndarray
    pairs: int
    parts: tuple[int, int, int]
    instruction: int
    same_answers: float
    encode_seconds: float
    oracle: bool
    has_template: bool
    device: Device
    bytes_a_weight: float
    disk_free: int
    missing_bytes: int = 0
    first_rows: bool = False
    too_few: str = ""
    history: Sequence[dict[str, Any]] = field(default=())


def gather(
    config: RunConfig,
    *,
    pairs: PreferencePairs | None = None,
    folder: Path | None = None,
    history: Sequence[dict[str, Any]] = (),
    local: bool = True,
) -> Facts:
    """Look at everything once. ``pairs`` are those of ``config.pairs`` where they are loaded already; ``folder`` is
    where the run will write; ``local=False`` refuses files of this machine (for a stranger's text).

    Tokenizer, build and lengths are remembered, so a second look with other settings takes milliseconds. Raises
    UserError for a model, pairs or a device that are not there.
    """
    from workbench.models import pick_device, pick_dtype

    where = pick_device(config.device)
    dtype = pick_dtype(config.dtype, where)
    reader = reader_of(config.model, local)
    first_rows = pairs is None and _state_of(config.pairs)[2] > LARGE_FILE
    pairs = pairs if pairs is not None else _pairs(config.pairs, local)
    shape = shape_of(config.model, config.lora_targets, reader.context, local)
    sides, too_few = _sides(config, pairs)
    text = _text_facts(pairs, config, reader)
    instruction = reader.boundary.instruction_tokens(config.positive, config.negative)
    return Facts(
        shape=shape,
        lengths=text["lengths"],
        sides=sides[text["rows"]],
        pairs=len(pairs),
        parts=tuple(int((sides == side).sum()) for side in range(3)),
        too_few=too_few,
        first_rows=first_rows and pairs.report.read >= FIRST_ROWS,
        instruction=instruction if config.uses_instructions else 0,
        same_answers=text["same"],
        encode_seconds=text["seconds"],
        oracle=_has_oracle(config),
        has_template=reader.boundary.has_template,
        device=device_of(where, dtype),
        bytes_a_weight=dtype.itemsize,
        disk_free=_disk_free(folder or Path.cwd()),
        missing_bytes=_missing(config.model, shape),
        history=history,
    )


# -- pairs -------------------------------------------------------------------------------------------------------------


class _Kept:
    """The last few things that were made, by key; making one is not done twice at once."""

    def __init__(self) -> None:
        self._lock, self._made = threading.RLock(), OrderedDict()

    def get(self, key: Any, make: Any) -> Any:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]


_readers, _shapes, _files, _devices = _Kept(), _Kept(), _Kept(), _Kept()
_texts: weakref.WeakKeyDictionary[PreferencePairs, dict[Any, dict[str, Any]]] = weakref.WeakKeyDictionary()


def _state_of(source: str) -> tuple[str, int, int]:
    """A name that changes when the file or folder of that name does."""
    from workbench.models import DEMO_MODEL

    path = DEMO_MODEL if source == "demo" else Path(source).expanduser()
    try:
        path = path / "config.json" if path.is_dir() else path
        found = path.stat()
    except OSError:
        return source, 0, 0
    return source, found.st_mtime_ns, found.st_size


def _pairs(source: str, local: bool) -> PreferencePairs:
    """The pairs of a source; of a large file the first rows, which stand for the others."""
    from workbench.pairs import load_pairs

    known = _state_of(source)
    limit = FIRST_ROWS if known[2] > LARGE_FILE else None
    return _files.get((known, local), lambda: load_pairs(source, local=local, limit=limit))


def _sides(config: RunConfig, pairs: PreferencePairs) -> tuple[np.ndarray, str]:
    """Where each pair goes, int8 [N] (-1: nowhere); and why they cannot be split, where they cannot."""
    import numpy as np

    from workbench.errors import UserError

    sides = np.full(len(pairs), -1, dtype=np.int8)
    try:
        split = config.split(pairs)
    except UserError as error:
        return sides, str(error)
    for code, part in enumerate((split.instruct, split.fit, split.held_out)):
        sides[np.isin(pairs.numbers, part.numbers)] = code
    return sides, ""


def _text_facts(pairs: PreferencePairs, config: RunConfig, reader: Reader) -> dict[str, Any]:
    """``rows`` that were counted, their ``lengths`` [N, 3], ``same`` (share of equal answers), and ``seconds`` (of making
    one sequence's ids)."""
    known = _texts.setdefault(pairs, {})
    key = _state_of(config.model)
    if key not in known:
        import numpy as np

        from workbench.pairs.lengths import token_lengths

        rows = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_COUNTED)).astype(int))
        pairs = pairs.select(rows) if len(rows) < len(pairs) else pairs
        plain = [(_plain(pair.chosen), _plain(pair.rejected)) for pair in pairs]
        known[key] = {
            "rows": rows,
            "lengths": token_lengths(pairs, reader),  # type: ignore[arg-type]  # a Reader has what it needs
            "same": sum(chosen == rejected for chosen, rejected in plain) / max(1, len(plain)),
            "seconds": _encode_seconds(pairs, config, reader),
        }
    return known[key]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _encode_seconds(pairs: PreferencePairs, config: RunConfig, reader: Reader) -> float:
    from workbench.errors import UserError

    some = [pairs[row] for row in range(min(12, len(pairs)))]
    instruction = config.positive if config.uses_instructions else None
    took = []
    for pair in some:
        started = time.perf_counter()
        try:
            reader.boundary.encode(pair.prompt, pair.chosen, instruction)
        except UserError:  # the template refuses this dialogue: reading the pairs will say so
            return 1e-3
        took.append(time.perf_counter() - started)
    return sorted(took)[len(took) // 2] if took else 1e-3


def _has_oracle(config: RunConfig) -> bool:
    from workbench.judges import oracle_of

    name = config.pairs if config.judge == "auto" else config.judge
    return name not in ("probe", "none") and oracle_of(name) is not None


# -- the model ---------------------------------------------------------------------------------------------------------


def reader_of(source: str, local: bool = True) -> Reader:
    """The model's tokenizer and context, remembered. Raises UserError."""
    from workbench.models import load_reader

    return _readers.get((_state_of(source), local), lambda: load_reader(source, local=local))


def shape_of(source: str, targets: str = "all", context: int = 0, local: bool = True) -> Shape:
    """The build of a model, from its config: its modules are made without memory. Raises UserError."""
    return _shapes.get((_state_of(source), targets, local), lambda: _shape(source, targets, context, local))


def _shape(source: str, targets: str, context: int, local: bool) -> Shape:
    from transformers import AutoConfig

    from workbench.errors import UserError
    from workbench.models import DEMO_MODEL

    reader_of(source, local)  # refuses what is no model
    try:
        config = AutoConfig.from_pretrained(DEMO_MODEL if source == "demo" else source, trust_remote_code=False)
        return built(config, targets, context)
    except UserError:
        raise
    except Exception as error:  # whatever a family's own code raises where there is no memory behind its tensors
        raise UserError(
            f"The build of {source} could not be read ({' '.join(str(error).split())[:120]}), so nothing can be "
            "estimated: choose a causal language model."
        ) from error


def built(config: PretrainedConfig, targets: str = "all", context: int = 0) -> Shape:
    """The build of the model of this configuration. Raises UserError, and whatever the family's own code raises."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return _measured(model, targets, context)


def _measured(model: PreTrainedModel, targets: str, context: int) -> Shape:
    from workbench.models import find_blocks
    from workbench.rahf.adapters import linear_names

    text = model.config.get_text_config(decoder=True)
    blocks = list(find_blocks(model)[2])
    share = _share_of_experts(text)
    inside = {id(weight) for block in blocks for weight in block.parameters()}
    adapted = [model.get_submodule(name) for name in linear_names(model, len(blocks), targets)]
    linear = [module for block in blocks for name, module in _linear(block)]
    sizes = [_sizes(module) for module in linear]
    heads = getattr(text, "num_attention_heads", None) or 1
    kept = getattr(text, "num_key_value_heads", None) or heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    count = len(blocks)
    active = sum(
        weight.numel() * (share if _of_experts(name) else 1.0)
        for block in blocks
        for name, weight in block.named_parameters()
    )
    expert_traffic = sum(
        weight.shape[0] * share * sum(weight.shape[1:])
        for block in blocks
        for weight in block.parameters()
        if weight.ndim == 3
    )
    return Shape(
        family=str(text.model_type),
        blocks=count,
        width=int(text.hidden_size),
        vocabulary=int(text.vocab_size),
        context=context,
        block_weights=sum(weight.numel() for block in blocks for weight in block.parameters()) // count,
        active_weights=round(active / count),
        other_weights=sum(weight.numel() for weight in model.parameters() if id(weight) not in inside),
        lora_rank=sum(sum(_sizes(module)) for module in adapted) // count,
        lora_layers=max(1, len(adapted) // count),
        traffic=round((sum(map(sum, sizes)) + expert_traffic) / count),
        cache_width=2 * int(kept) * int(head),
    )


def _linear(block: Any) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in block.named_modules() if type(module).__name__ in ("Linear", "Conv1D")]


def _sizes(module: Any) -> tuple[int, int]:
    return tuple(module.weight.shape)


def _of_experts(name: str) -> bool:
    return ".experts." in name and "shared" not in name


def _share_of_experts(config: Any) -> float:
    """The share of a mixture's experts that one token meets; 1 for other models."""
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    count = next((getattr(config, name) for name in names if getattr(config, name, None)), 1)
    used = getattr(config, "num_experts_per_tok", None) or getattr(config, "moe_top_k", None) or count
    return min(1.0, used / count)


def _missing(source: str, shape: Shape) -> int:
    """Bytes of a Hub model that must be downloaded first (two a weight, as most are stored); 0 for one that is here."""
    if source == "demo" or Path(source).expanduser().is_dir():
        return 0
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "model.safetensors.index.json")
    here = any(isinstance(try_to_load_from_cache(source, name), str) for name in names)
    return 0 if here else 2 * shape.weights


# -- the device --------------------------------------------------------------------------------------------------------


def device_of(where: torch.device, dtype: torch.dtype) -> Device:
    """What the device has free now, and how fast it is (measured once in this process, some 50 ms)."""
    import os

    from workbench.models import describe_device
    from workbench.representations.untrained import free_memory

    flops, bandwidth, call = _devices.get((str(where), str(dtype)), lambda: _speed(where, dtype))
    try:
        free = free_memory(where)
        total = _total_memory(where)
    except (RuntimeError, AssertionError):  # a GPU that is only lent to single calls answers no questions
        free = total = None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = where.type == "cpu" and hasattr(os, "getloadavg")
    busy = min(MOST_BUSY, max(1.0, (os.getloadavg()[0] + 1) / cores)) if shared else 1.0
    return Device(where.type, describe_device(str(where)), free, total, flops, bandwidth, call, busy)


def _total_memory(where: torch.device) -> int:
    import psutil
    import torch

    if where.type == "cuda":
        return int(torch.cuda.mem_get_info(where)[1])
    return int(psutil.virtual_memory().total)


def _speed(where: torch.device, dtype: torch.dtype) -> tuple[float, float, float]:
    """Flops of a product, bytes a second, and seconds of a small layer: the best of several short tries, so that other work
    does not count."""
    import torch

    big = 4096 if where.type == "cuda" else 256
    left, right = (torch.randn(big, big, device=where).to(dtype) for _ in range(2))
    long = torch.zeros(2**24 if where.type == "cuda" else 2**20, device=where)
    small, layer = torch.zeros(1, 16, device=where, dtype=dtype), torch.nn.Linear(16, 16).to(where, dtype)
    with torch.inference_mode():
        product = _best(where, lambda: left @ right)
        copy = _best(where, lambda: long * 1.5)
        call = _best(where, lambda: [layer(small) for _ in range(50)]) / 50
    return 2 * big**3 / product, 2 * long.numel() * long.element_size() / copy, call


def _best(where: torch.device, work: Any, tries: int = 20) -> float:
    import torch

    def once() -> float:
        started = time.perf_counter()
        work()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        return time.perf_counter() - started

    once()
    return max(1e-9, min(once() for _ in range(tries)))


def _disk_free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
