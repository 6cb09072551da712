"""Models: loading them safely, finding their blocks by structure, and running only the first of those blocks.

Blocks are counted from 0, as in ``model.layers[l]`` and PEFT's ``layers_to_transform``; a block's output is what it
returns, before any final norm. (The RAHF paper's "layer k" is transformers' ``hidden_states[k]``, our block k - 1.)
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench import processes
from workbench.errors import UserError
from workbench.tokens import Boundary
from workbench.tuned import WeightSets

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEMO_MODEL = Path(__file__).parent.parent / "assets" / "model"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class LoadedModel:
    """A decoder with its tokenizer and what the rest of the workbench needs to know of it.

    ``context`` is the most tokens it reads at once, ``width`` the size of its hidden states, ``fingerprint`` tells
    other weights or another architecture.
    """

    name: str
    source: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    boundary: Boundary
    blocks: list[nn.Module]
    width: int
    context: int
    device: torch.device
    dtype: torch.dtype
    fingerprint: str
    tuned: WeightSets | None = None  # full fine-tunings of it, where there are any

    @property
    def n_blocks(self) -> int:
        return len(self.blocks)


def load_model(
    source: str = "demo", device: str = "auto", dtype: str = "auto", *, quantization: str = "none", local: bool = True
) -> LoadedModel:
    """Load a decoder: ``"demo"``, a local folder, or a Hub id.

    Only safetensors are read and no code of the model's repository is ever run. ``dtype`` "auto" is bfloat16 on a GPU
    that has it and float32 elsewhere. ``quantization`` "8bit" or "4bit" holds the linear layers' weights in so many bits
    (the package bitsandbytes); the passes are made in ``dtype``. ``local=False`` refuses folders (for callers that pass
    on a stranger's text).

    Raises UserError, with what to do, when the model is unknown, unreadable, not a decoder or does not fit.
    """
    path = _resolve(source, local)
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    held = _quantized(quantization, kind, where)
    if held and processes.here().sharded:
        raise UserError(
            "Weights in few bits cannot be shared out over processes: set quantization to none, or leave out --use_fsdp."
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=kind, use_safetensors=True, trust_remote_code=False, low_cpu_mem_usage=True, **held
        )
    except torch.OutOfMemoryError as error:
        raise UserError(f"{source} does not fit into the memory of {where}: choose a smaller model.") from error
    except Exception as error:  # what a model's files make its own code raise is of no one family
        raise UserError(_load_sentence(source, error)) from error
    for module in model.modules():
        # On some CPUs bitsandbytes packs weights anew in their first pass without gradients, and then passes none back.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    shared = processes.here().sharded
    model = (model if held or shared else model.to(where)).eval().requires_grad_(False)
    loaded = wrap_model(model, tokenizer, name=_display_name(source), source=source)
    if shared:
        processes.shard(loaded.blocks, where)
        model.to(where)
        loaded.device = where
    from workbench.suitability import check_decoder

    check_decoder(model, loaded.blocks, loaded.width, loaded.name)
    return loaded


@dataclass(frozen=True)
class Reader:
    """A model's tokenizer and how much it reads at once, without its weights: enough to count tokens."""

    boundary: Boundary
    context: int


def load_reader(source: str = "demo", *, local: bool = True) -> Reader:
    """The part of a model that reads text (see :func:`load_model` for ``source`` and ``local``). Raises UserError."""
    path = _resolve(source, local)
    from transformers import AutoConfig, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        config = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config(decoder=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise UserError(_load_sentence(source, error)) from error
    eos = getattr(config, "eos_token_id", None)
    return Reader(Boundary(tokenizer, [eos] if isinstance(eos, int) else eos), context_of(config, tokenizer))


def wrap_model(model: PreTrainedModel, tokenizer, name: str = "model", source: str = "") -> LoadedModel:
    """A LoadedModel around a model and a tokenizer that are in memory already. Raises UserError if it has no blocks."""
    config = model.config.get_text_config(decoder=True)
    eos = getattr(model.generation_config, "eos_token_id", None) if model.can_generate() else None
    weight = next(parameter for parameter in model.parameters() if parameter.is_floating_point())
    return LoadedModel(
        name=name,
        source=source or name,
        model=model,
        tokenizer=tokenizer,
        boundary=Boundary(tokenizer, [eos] if isinstance(eos, int) else eos),
        blocks=list(find_blocks(model)[2]),
        width=int(config.hidden_size),
        context=context_of(config, tokenizer),
        device=weight.device,
        dtype=weight.dtype,
        fingerprint=fingerprint(model),
    )


def _resolve(source: str, local: bool) -> str:
    if source == "demo":
        if not (DEMO_MODEL / "config.json").exists():
            raise UserError("The demo model is missing from assets/model: restore that folder from the repository.")
        return str(DEMO_MODEL)
    if local and (folder := Path(source).expanduser()).is_dir():
        if not (folder / "config.json").exists():
            raise UserError(f"The folder {source} holds no model: it has no config.json.")
        return str(folder)
    if not source or not HUB_ID.fullmatch(source) or ".." in source:
        raise UserError(
            f"There is no model {source[:80]!r}: give demo, a folder with a model in safetensors, or a Hub id such as org/name."
        )
    return source


def _load_sentence(source: str, error: Exception) -> str:
    text = str(error)
    if "safetensors" in text.lower() and Path(source).is_dir():
        return f"{source} has no weights in safetensors (other formats can run code and are refused): convert it first."
    if "Unrecognized configuration class" in text or "does not recognize this architecture" in text:
        return f"{source} is not a decoder that transformers knows: choose a causal language model."
    if isinstance(error, OSError) and not Path(source).is_dir() and source != "demo":
        return (
            f"The model {source} was not found, neither as a folder here nor on the Hub: check the name, "
            "the network, and whether it needs a sign-in."
        )
    return f"{source} could not be loaded ({' '.join(text.split())[:160]}): choose another model or repair its files."


def _display_name(source: str) -> str:
    return source if source == "demo" else Path(source).name or source


def context_of(config: Any, tokenizer) -> int:
    """The most tokens a model of this configuration reads at once."""
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")
    sizes = [value for name in names if isinstance(value := getattr(config, name, None), int) and value > 0][:1]
    if (longest := getattr(tokenizer, "model_max_length", None)) and longest < 10**9:
        sizes.append(int(longest))
    return min(sizes, default=4096)


def fingerprint(model: nn.Module) -> str:
    """A short hash that tells other weights: names, shapes and a spread sample of every parameter of the base.

    Of weights held in 8 or 4 bits their scales are read (the largest of each row or block, so the same wherever they
    were made), not the packed bits, whose order differs between devices.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if "lora_" in name or (tensor.dtype in (torch.int8, torch.uint8) and ".weight" in name):
            continue
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)][:64].to("cpu", torch.float32)
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _quantized(quantization: str, dtype: torch.dtype, where: torch.device) -> dict[str, Any]:
    """What ``from_pretrained`` needs to hold weights in few bits; {} for "none". Raises UserError."""
    if quantization == "none":
        return {}
    need_bitsandbytes(f"Holding a model in {quantization[0]} bits", "set quantization to none")
    # It would say of every layer in every pass that inputs are cast: a run's log would be that and nothing else.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if where.type == "mps":
        raise UserError("bitsandbytes holds no weights in few bits on mps: set quantization to none, or device to cpu.")
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": config, "device_map": {"": where}}


def need_bitsandbytes(what: str, otherwise: str) -> None:
    """Raise UserError where the optional package bitsandbytes is not installed, or cannot be loaded."""
    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{what} needs the package bitsandbytes: pip install bitsandbytes, or {otherwise}.") from error
    except Exception as error:  # its own libraries, or those of the GPU
        why = " ".join(str(error).split())[:120]
        raise UserError(f"{what} needs bitsandbytes, which cannot be loaded here ({why}): {otherwise}.") from error


# -- devices -----------------------------------------------------------------------------------------------------------


def pick_device(device: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU. Raises UserError for one that is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = device.split(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False) or not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        present = ", ".join(name for name, here in there.items() if here)
        raise UserError(f"There is no device {device!r} here: choose auto or one of {present}.")
    if kind == "cuda" and ":" in device and int(device.split(":")[1]) >= torch.cuda.device_count():
        raise UserError(f"There is no device {device!r} here: this machine has {torch.cuda.device_count()} GPU.")
    return torch.device(device)


def describe_device(device: str = "auto") -> str:
    """The device in words: "CPU, 2 cores", "NVIDIA H200, 139 GiB". Raises UserError for one that is not there."""
    where = pick_device(device)
    if where.type == "cuda":
        facts = torch.cuda.get_device_properties(where)
        return f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if where.type == "mps":
        return "Apple GPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"CPU, {cores} core{'s' if cores > 1 else ''}"


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The data type of that name; "auto" is bfloat16 on a GPU that has it, else float32. Raises UserError."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if dtype not in DTYPES:
        raise UserError(f"There is no data type {dtype!r} here: choose auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


# -- blocks ------------------------------------------------------------------------------------------------------------


def find_blocks(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """The module that runs the decoder's blocks, the name of its list of blocks, and that list.

    Decided by structure: the one list of modules that has as many members as the text model has layers and stands in
    no other such list. Raises UserError where that does not single one out.
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = model.config.get_text_config(decoder=True)
    count = getattr(config, "num_hidden_layers", None)
    found: list[tuple[str, nn.Module, str, nn.ModuleList]] = []
    for path, module in model.named_modules():
        for name, child in module.named_children():
            full = f"{path}.{name}" if path else name
            if isinstance(child, nn.ModuleList) and len(child) == count:
                found.append((full, module, name, child))
    outer = [f for f in found if not any(f[0].startswith(other[0] + ".") for other in found)]
    runs = [f for f in outer if "input_ids" in inspect.signature(f[1].forward).parameters]
    if len(runs) != 1:
        raise UserError(
            f"The blocks of a {type(model).__name__} could not be told from its structure "
            f"({len(runs)} lists of {count} modules fit): choose another model."
        )
    return runs[0][1:]


class Trunk(nn.Module):
    """The first ``depth`` blocks of a decoder: same modules, no later block, no final norm, no head.

    Because the blocks are shared and not copied, adapters placed in them act here too, and gradients reach them.

    ``site`` says whose outputs are read: the blocks' own, or those of a part within each ("attention", "mlp"; see
    ``workbench.sites``). Raises UserError for a depth, or a site, that the model has not.
    """

    def __init__(self, model: nn.Module, depth: int, site: str = "block") -> None:
        super().__init__()
        owner, name, blocks = find_blocks(model)
        if not 1 <= depth <= len(blocks):
            raise UserError(f"The model has blocks 0 to {len(blocks) - 1}: {depth - 1} is not one of them.")
        self.depth = depth
        self.decoder = _with_modules(owner, {name: nn.ModuleList(list(blocks)[:depth])})
        later = _called_after_blocks(owner, name)
        self.decoder = _with_modules(self.decoder, {child: nn.Identity() for child in later})
        self._list = name
        self._takes = inspect.signature(owner.forward).parameters
        config = getattr(owner, "config", None)  # some families can be told to read both ways
        self._causal = not getattr(config, "use_bidirectional_attention", False) and getattr(config, "is_causal", True)
        self._whole = site == "block"
        self._read = list(blocks)[:depth]
        if site != "block":
            from workbench.sites import site_modules

            self._read = site_modules(model, site, depth)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
        collect: Sequence[int] = (),
        reduce: Callable[[int, Tensor], Tensor] | None = None,
    ) -> dict[int, Tensor]:
        """The raw outputs of the blocks (or of their parts, see ``site``) in ``collect`` (by default the last one),
        each [B, T, d].

        ``reduce(block, output)`` is applied inside the hook, so that a pooled result is all that is kept. What comes out
        where ``attention_mask`` is 0 means nothing.
        """
        wanted = set(collect) or {self.depth - 1}
        kept: dict[int, Tensor] = {}

        def keep(index: int) -> Callable:
            def hook(module: nn.Module, args: tuple, output: Any) -> None:
                hidden = output[0] if isinstance(output, (tuple, list)) else output
                if hidden.ndim == 2:  # a part that sees all tokens in one row
                    hidden = hidden.view(*input_ids.shape, -1)
                if reduce:
                    kept[index] = reduce(index, hidden)
                else:  # a part's output may be added to in place, a block's is read by the next one only
                    kept[index] = hidden if self._whole else hidden.clone()

            return hook

        inputs = {"input_ids": input_ids, "use_cache": False}
        # Padding on the right is read by nothing that comes before it, and without a mask attention is about twice as fast.
        right = bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all()) and bool(attention_mask[:, 0].all())
        if not right or not self._causal:
            inputs["attention_mask"] = attention_mask
            if position_ids is not None and "position_ids" in self._takes:
                inputs["position_ids"] = position_ids
        hooks = [self._read[index].register_forward_hook(keep(index)) for index in sorted(wanted)]
        try:
            self.decoder(**inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return kept


def _with_modules(module: nn.Module, replaced: dict[str, nn.Module]) -> nn.Module:
    """A view of ``module`` with some children replaced; everything else is shared with the original."""
    view = copy.copy(module)
    view._modules = {**module._modules, **replaced}
    return view


@torch.no_grad()
def _called_after_blocks(owner: nn.Module, name: str) -> list[str]:
    """The children (final norm, output projection) that run after the last block: watched in a pass of two tokens
    through one block, since no naming convention covers every family."""
    blocks = getattr(owner, name)
    view = _with_modules(owner, {name: nn.ModuleList([blocks[0]])})
    order: list[str] = []
    hooks = [blocks[0].register_forward_hook(lambda *_: order.append(""))]
    for child_name, child in view.named_children():
        if child_name != name:
            hooks.append(child.register_forward_hook(lambda *_, which=child_name: order.append(which)))
    was_training = owner.training
    owner.eval()
    try:
        device = next(owner.parameters()).device
        view(
            input_ids=torch.zeros(1, 2, dtype=torch.long, device=device),
            attention_mask=torch.ones(1, 2, dtype=torch.long, device=device),
            use_cache=False,
        )
    finally:
        owner.train(was_training)
        for hook in hooks:
            hook.remove()
    last = max(index for index, which in enumerate(order) if not which)
    return sorted(set(order[last + 1 :]) - set(order[:last]))
