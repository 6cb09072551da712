"""LoRA adapters on one frozen base: the instructed models and the aligned model are no copies of the weights.

Only where step 1 trains all weights are the instructed models sets of weights (``workbench.tuned``); what is said of an
adapter here goes for them too, by their name.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workbench import processes
from workbench.errors import UserError
from workbench.jsonfile import sync_path
from workbench.models import LoadedModel, find_blocks
from workbench.rahf.config import RunConfig
from workbench.tuned import WeightSets

WEIGHTS = "adapter_model.safetensors"
FULL = "full_weights.safetensors"  # of a full fine-tuning, in the place of an adapter's


def linear_names(model: nn.Module, depth: int, targets: str = "all") -> list[str]:
    """Full names of the linear layers in blocks 0..depth-1 that get an adapter.

    ``targets`` "attention" keeps the query and value projections, as PEFT knows them for the family. Raises UserError
    for a family where it does not.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    blocks = find_blocks(base)[2]
    inside = {id(module) for block in list(blocks)[:depth] for module in block.modules()}
    names = [
        name.removesuffix(".base_layer")
        for name, module in base.named_modules()
        if id(module) in inside
        and ".lora_" not in name  # the insides of adapters that are there already
        and (_is_plain_linear(module) or type(module).__name__ == "Conv1D")
        and not _is_fused_away(base, name.removesuffix(".base_layer"))
    ]
    if targets == "attention":
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

        suffixes = tuple(f".{suffix}" for suffix in KNOWN.get(base.config.model_type, ()))
        names = [name for name in names if suffixes and name.endswith(suffixes)]
    if not names:
        raise UserError(
            f"No {targets} layers of a {base.config.model_type} model can take an adapter: use targets all."
        )
    return names


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether a module gives one matrix product and nothing more; some routers of experts are linear layers that give
    scores and choices."""
    if not isinstance(module, nn.Linear):
        return False
    if not type(module).__module__.startswith("transformers.models.") or "forward" not in vars(type(module)):
        return True
    with torch.no_grad():
        given = module(module.weight.new_zeros(1, module.in_features))
    return isinstance(given, torch.Tensor) and given.shape == (1, module.out_features)


def _is_fused_away(base: nn.Module, name: str) -> bool:
    """Whether a fast kernel may read the layer's weight itself, past any adapter: the last projection of a state-space
    mixer. PEFT refuses layers of that name altogether in the families that it knows to have such mixers."""
    parent, _, leaf = name.rpartition(".")
    if leaf != "out_proj":
        return False
    mixer = base.get_submodule(parent)
    return all(hasattr(mixer, part) for part in ("conv1d", "A_log", "D")) or (
        base.config.model_type in ("falcon_h1", "nemotron_h")
    )


def lora_config(loaded: LoadedModel, config: RunConfig, depth: int):
    """The shape of an adapter in blocks 0..depth-1, as PEFT wants it."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=linear_names(loaded.model, depth, config.lora_targets),
        task_type="CAUSAL_LM",
    )


def add_adapter(loaded: LoadedModel, name: str, config: RunConfig, depth: int, seed: int) -> None:
    """Put a new, effectless adapter into blocks 0..depth-1; ``loaded.model`` becomes a ``PeftModel`` the first time."""
    from peft import PeftModel, get_peft_model

    lora = lora_config(loaded, config, depth)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of fan_in_fan_out on Conv1D and sets it right itself
        torch.manual_seed(seed)
        if isinstance(loaded.model, PeftModel):
            loaded.model.add_adapter(name, lora)
        else:
            loaded.model = get_peft_model(loaded.model, lora, adapter_name=name)
    loaded.model.eval()


def add_full(loaded: LoadedModel, name: str) -> None:
    """A full fine-tuning that equals the base as yet, in float32: below that, small steps would be rounded away."""
    if processes.here().sharded:
        raise UserError(
            "All weights cannot be trained where they are shared out: set instruct_tuning to lora, or leave out --use_fsdp."
        )
    if loaded.tuned is None:
        base = loaded.model.get_base_model() if hasattr(loaded.model, "get_base_model") else loaded.model
        loaded.tuned = WeightSets(base)
    loaded.tuned.add(name, torch.float32)


def is_full(loaded: LoadedModel, name: str | None) -> bool:
    """Whether the name is that of a full fine-tuning."""
    return loaded.tuned is not None and name in loaded.tuned


def activate(loaded: LoadedModel, names: Sequence[str], train: str | None = None) -> None:
    """Let these adapters act together (none: the bare base), and gradients reach ``train`` only."""
    from peft import PeftModel

    full = next((name for name in names if is_full(loaded, name)), None)
    if full and len(names) > 1:
        raise RuntimeError(f"nothing acts together with a full fine-tuning: {names}")
    if loaded.tuned is not None:
        loaded.tuned.use(full)
    if isinstance(loaded.model, PeftModel):
        tuner = loaded.model.base_model
        if names and not full:
            tuner.enable_adapter_layers()
            tuner.set_adapter(list(names))
        else:
            tuner.disable_adapter_layers()
    elif names and not full:
        raise RuntimeError(f"no adapter {names} on a model without adapters")
    for name, parameter in loaded.model.named_parameters():
        of_adapter = ".lora_" in name
        wanted = full == train if not of_adapter else f".{train}." in name
        parameter.requires_grad_(train is not None and wanted)


def adapter_state(loaded: LoadedModel, name: str) -> dict[str, torch.Tensor]:
    """The adapter's weights under the names that PEFT files use, on the CPU."""
    from peft import get_peft_model_state_dict

    full = is_full(loaded, name)
    state = loaded.tuned.state(name) if full else get_peft_model_state_dict(loaded.model, adapter_name=name)
    return {key: tensor.detach().to("cpu").contiguous() for key, tensor in state.items()}


def save_adapter(loaded: LoadedModel, name: str, folder: Path, about: dict[str, Any] | None = None) -> None:
    """Write the adapter so that plain ``PeftModel.from_pretrained(model, folder)`` loads it (a full fine-tuning: its
    weights by the model's own names).

    ``about`` (a stamp, see ``workbench.stamp``, and what else is to be known of it) goes into the weights' header. Of
    several processes the first one writes.
    """
    if not processes.first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    about = {"model": loaded.fingerprint} | (about or {})
    if is_full(loaded, name):
        write_weights(folder, adapter_state(loaded, name), about, FULL)
        return
    lora = loaded.model.peft_config[name]
    before = lora.inference_mode, lora.base_model_name_or_path
    lora.inference_mode = True
    # a folder's path is this machine's own business: only Hub ids are written
    lora.base_model_name_or_path = None if Path(loaded.source).exists() or loaded.source == "demo" else loaded.source
    lora.save_pretrained(folder)
    lora.inference_mode, lora.base_model_name_or_path = before
    # last: where the weights are, all is
    write_weights(folder, adapter_state(loaded, name), about)


def write_weights(
    folder: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any], file_name: str = WEIGHTS
) -> None:
    """Write an adapter's weights, whole or not at all, with their digest and ``about`` in the header."""
    from safetensors.torch import save_file

    partial = folder / (file_name + ".partial")
    # One key only: safetensors writes several in any order, and equal adapters are to be equal files.
    header = {"made_of": json.dumps(about | {"digest": _digest(tensors)}, sort_keys=True)}
    try:
        save_file(tensors, partial, metadata=header)
        sync_path(partial)
        partial.replace(folder / file_name)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_path(folder)


def read_weights(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An adapter's weights and what its header says it was made of. Raises UserError if they are damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / (FULL if (folder / FULL).exists() else WEIGHTS), "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(header.get("made_of") or "{}")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"The adapter in {folder.name} could not be read ({str(error)[:120]}): resume or repeat the run."
        ) from error
    if about.get("digest", "") not in ("", _digest(tensors)):
        raise UserError(f"The adapter in {folder.name} is damaged (its bytes have changed): resume or repeat the run.")
    return tensors, {"model": header.get("base")} | about


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def has_adapter(folder: Path) -> bool:
    """Whether a whole adapter (or full fine-tuning) lies in the folder."""
    return (folder / FULL).exists() or ((folder / WEIGHTS).exists() and (folder / "adapter_config.json").exists())


def whole_adapter(folder: Path) -> bool:
    """Whether an adapter lies in the folder and every byte of its weights is the one that was written."""
    try:
        return has_adapter(folder) and bool(read_weights(folder)[0])
    except UserError:
        return False


def load_adapter(loaded: LoadedModel, folder: Path, name: str) -> dict[str, Any]:
    """Read an adapter written by :func:`save_adapter` under a name and return what it says it was made of.

    Raises UserError if it is damaged or not of this model.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    tensors, made_of = read_weights(folder)
    if made_of.get("model") and made_of["model"] != loaded.fingerprint:
        raise UserError(f"The adapter in {folder.name} was made for other weights than {loaded.name}: load that model.")
    if (folder / FULL).exists():
        add_full(loaded, name)
        set_weights(loaded, tensors, name)
        loaded.tuned.settle(name)
        return made_of
    try:
        if isinstance(loaded.model, PeftModel):
            loaded.model.load_adapter(folder, adapter_name=name, is_trainable=False)
        else:
            loaded.model = PeftModel.from_pretrained(loaded.model, folder, adapter_name=name, is_trainable=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"The adapter in {folder.name} could not be read ({str(error)[:120]}): resume or repeat the run."
        ) from error
    loaded.model.eval()
    return made_of


def load_weights(loaded: LoadedModel, folder: Path, name: str) -> None:
    """Put the weights of a checkpoint into an adapter that is there already."""
    set_weights(loaded, read_weights(folder)[0], name)


def set_weights(loaded: LoadedModel, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Put weights, as :func:`adapter_state` names them, into an adapter that is there already."""
    from peft import set_peft_model_state_dict

    if is_full(loaded, name):
        loaded.tuned.fill(name, tensors)
        return
    set_peft_model_state_dict(loaded.model, tensors, adapter_name=name)


def join_adapters(loaded: LoadedModel, names: Sequence[str], joined: str) -> None:
    """One adapter that does what several do together, exactly (their ranks add up)."""
    loaded.model.add_weighted_adapter(list(names), [1.0] * len(names), joined, combination_type="cat")
    loaded.model.eval()
