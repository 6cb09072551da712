"""The adapter as a plain PEFT folder, and base and adapter as one model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.progress import Progress
from workbench.stamp import check

if TYPE_CHECKING:
    from workbench.models import LoadedModel


def need_own_adapter(folder: Path, result: dict[str, Any]) -> None:
    """Raises UserError if the run's adapter is damaged, or is that of another run."""
    from workbench.rahf.adapters import has_adapter, read_weights

    if not has_adapter(folder / "adapter") and result["method"] == "steering":
        raise UserError(f"The run {folder.name} has no adapter, because its method trains none: export its vectors.")
    about = read_weights(folder / "adapter")[1]
    own = {"model": result.get("model_fingerprint"), "pairs": result.get("pairs_fingerprint")}
    check(about, own, f"the adapter of run {folder.name}")
    if (about.get("partial") is None) != (result.get("partial") is None):
        raise UserError(
            f"The adapter of run {folder.name} is not the one that it ended with: resume or repeat the run."
        )


def adapted_names(folder: Path) -> list[str]:
    """The full names of the base's layers that an adapter in this folder adapts, read off its weights (its configuration
    may shorten them). Raises UserError if they cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "adapter_model.safetensors", "numpy") as file:
            found = {name.partition(".lora_")[0].removeprefix("base_model.model.") for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"The adapter in {folder.name} cannot be read: resume or repeat the run.") from error
    return sorted(found)


def write_adapter(folder: Path, to: Path, progress: Progress) -> None:
    """Copy the run's adapter into the folder ``to``."""
    progress("save", message="Copying the adapter")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(folder / "adapter" / name, to / name)


def merge(folder: Path, result: dict[str, Any], progress: Progress) -> LoadedModel:
    """The run's base with its adapter merged into the weights, on the CPU; ``model`` is a plain transformers model.

    Raises UserError where the base is held in few bits, and Stopped.
    """
    from workbench.models import load_model
    from workbench.rahf.adapters import load_adapter
    from workbench.rahf.results import number_format

    bits = result["config"].get("quantization", "none")
    if bits != "none":
        raise UserError(
            f"The base of this run is held in {bits[0]} bits, and an adapter cannot be merged into such weights exactly: "
            "export the adapter alone."
        )
    progress("load", message="Loading the model")
    dtype = number_format(folder, result["config"]["dtype"])
    loaded = load_model(result["config"]["model"], device="cpu", dtype=dtype)
    load_adapter(loaded, folder / "adapter", "aligned")
    progress("merge", message="Merging")
    loaded.model = loaded.model.merge_and_unload(adapter_names=["aligned"])
    return loaded


def write_merged(folder: Path, to: Path, result: dict[str, Any], progress: Progress) -> None:
    """Write base and adapter as one model in safetensors, with its tokenizer. Raises UserError and Stopped."""
    loaded = merge(folder, result, progress)
    progress("save", message="Saving")
    loaded.model.save_pretrained(to, safe_serialization=True)
    loaded.tokenizer.save_pretrained(to)
