"""Control vectors: the mean differences that a run fitted, for steering the plain base without any adapter."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.export.weights import adapted_names
from workbench.progress import Progress
from workbench.rahf.results import read_result
from workbench.stamp import check

if TYPE_CHECKING:
    from torch import Tensor

VECTORS, CONTROL = "vectors.safetensors", "control-vector.gguf"
# What llama.cpp calls the families of transformers; its loader of control vectors does not read the name.
HINTS = {"mistral": "llama", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_neox": "gptneox", "phi": "phi2"}
WHAT = (
    "Mean difference of hidden states (preferred minus dispreferred) at each block's output, float32 [d], named by its block "
    "counted from 0. Added to that output times alpha, at every position, it steers the base."
)


def has_vectors(folder: Path) -> bool:
    """Whether the run left difference vectors."""
    return (folder / "steering.safetensors").exists()


def read_vectors(folder: Path) -> dict[int, Tensor]:
    """The difference vector of each block of a run, float32 [d]. Raises UserError if it left none, or they are damaged."""
    from safetensors import SafetensorError, safe_open

    if not has_vectors(folder):
        raise UserError(
            f"The run {folder.name} has no difference vectors, because its method moves no states: export its adapter."
        )
    try:
        with safe_open(folder / "steering.safetensors", "pt") as file:
            return {int(name): file.get_tensor(name).float() for name in sorted(file.keys(), key=int)}
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"The difference vectors of run {folder.name} are damaged: repeat the run.") from error


def blocks_path(folder: Path) -> str:
    """The dotted name of the list of blocks in the base model (``model.layers``): read off the names that the adapter
    adapts or, without one, off the model's build. Raises UserError if they tell none."""
    from workbench.rahf.adapters import has_adapter

    if not has_adapter(folder / "adapter"):
        return _built(read_result(folder)["config"]["model"])
    found = {match[1] for name in adapted_names(folder / "adapter") if (match := re.match(r"(.+?)\.\d+\.", name))}
    if len(found) != 1:
        raise UserError(f"The adapter of run {folder.name} does not tell where the model's blocks are: repeat the run.")
    return found.pop()


def control_reason(folder: Path) -> str:
    """Why there can be no control vector for llama.cpp, as a sentence; empty if there can."""
    if 0 in read_vectors(folder):
        return "llama.cpp adds nothing after the first block, and this run moves block 0: vectors.safetensors alone has all."
    if find_spec("gguf") is None:
        return "The file for llama.cpp needs the package gguf: pip install gguf."
    return ""


def write_vectors(folder: Path, to: Path, result: dict[str, Any], progress: Progress) -> None:
    """Write the run's vectors as safetensors and, where that is possible, as llama.cpp's control vector. Raises UserError."""
    from safetensors.torch import save_file

    vectors = read_vectors(folder)
    check(_made_of(folder), {"model": result.get("model_fingerprint")}, f"the vectors of run {folder.name}")
    progress("save", message="Writing the vectors")
    about = {
        "format": "pt",
        "what": WHAT,
        "alpha": repr(float(result["alpha"])),
        "blocks": ",".join(map(str, vectors)),
        "model_fingerprint": str(result.get("model_fingerprint")),
        "pairs_fingerprint": str(result.get("pairs_fingerprint")),
        "method": str(result["method"]),
    }
    save_file({str(block): vector.contiguous() for block, vector in vectors.items()}, to / VECTORS, metadata=about)
    if not control_reason(folder):
        _write_control(vectors, to / CONTROL, result)


def _write_control(vectors: dict[int, Tensor], path: Path, result: dict[str, Any]) -> None:
    """llama.cpp's control vector: tensors ``direction.N``, float32 [d], which it adds to the output of its layer N. Its
    layers count from 0 like our blocks, and layer 0 gets nothing (llama_adapter_cvec::apply, build_cvec)."""
    import gguf

    family = _family(result["config"]["model"])
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", HINTS.get(family, family))
    writer.add_uint32("controlvector.layer_count", len(vectors))
    writer.add_float32("rahf.alpha", float(result["alpha"]))
    writer.add_string("rahf.model_fingerprint", str(result.get("model_fingerprint")))
    for block, vector in vectors.items():
        writer.add_tensor(f"direction.{block}", vector.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _made_of(folder: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(folder / "steering.safetensors", "pt") as file:
        return json.loads((file.metadata() or {}).get("made_of") or "{}")


def _config(source: str) -> Any:
    from transformers import AutoConfig

    from workbench.models import DEMO_MODEL

    return AutoConfig.from_pretrained(DEMO_MODEL if source == "demo" else source, trust_remote_code=False)


def _family(source: str) -> str:
    """The family of a model as transformers names it; "unknown" where its configuration cannot be read now."""
    try:
        return str(_config(source).get_text_config(decoder=True).model_type)
    except (OSError, ValueError, KeyError):
        return "unknown"


def _built(source: str) -> str:
    """The name of a model's list of blocks, from a model of its build without weights. Raises UserError."""
    import torch
    from transformers import AutoModelForCausalLM

    from workbench.models import find_blocks

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(_config(source))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"The configuration of {source} cannot be read now: put the model back where it was."
        ) from error
    blocks = find_blocks(model)[2]
    return next(name for name, module in model.named_modules() if module is blocks)
