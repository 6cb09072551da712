"""The model of a run, ready to answer: the base with the run's adapter beside it, and steering without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.runs import files
from workbench.runs.store import Run
from workbench.stamp import check

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from workbench.generation import Speaker, Steering
    from workbench.models import LoadedModel
    from workbench.pairs import Split
    from workbench.preview import Shift

ALIGNED = "aligned"  # the adapter's name in the loaded model
FULLER = 1.1  # times its weights that a model takes once it answers
LEFT_TO_A_RUN = 0.3  # of what is free, where one is at work


def need_adapter(run: Run) -> None:
    """Raise ``UserError`` if the run has no aligned model (yet)."""
    if not all((run.adapter / name).exists() for name in ("adapter_config.json", "adapter_model.safetensors")):
        raise UserError(
            f"Run {run.id} has no aligned model: it is {run.state}. Wait for it, resume it, or choose a finished run."
        )


def only_steers(run: Run) -> bool:
    """Whether the run trained nothing and adds its directions to the base instead: the baseline ``steering``."""
    return run.kind == "baseline" and (run.path / "steering.safetensors").exists()


def need_speaker(run: Run) -> None:
    """Raise ``UserError`` if the run has nothing that could answer: neither an adapter nor directions of its own."""
    if not only_steers(run):
        need_adapter(run)


def instruction_of(run: Run) -> str | None:
    """The instruction that the run's aligned model answers under, where it learned to (HIR); None for all others."""
    result = run.status().get("result")
    said = result.get("instruction") if isinstance(result, dict) else None
    return said if isinstance(said, str) and said.strip() else None


def need_memory(source: str, device: str = "auto", dtype: str = "auto", quantization: str = "none") -> None:
    """Raise ``UserError`` if a model's weights do not fit into what is free on the device, told from its configuration
    before a byte of them is read.

    Where a run is at work on that device, a part of what is free is left to it. A build that cannot be read is let
    through: loading it will say why.
    """
    from workbench.models import pick_device, pick_dtype
    from workbench.rahf.facts import shape_of
    from workbench.representations.untrained import free_memory
    from workbench.runs import queue

    where = pick_device(device)
    each = float(pick_dtype(dtype, where).itemsize)
    held = {"8bit": 1.0, "4bit": 0.5}.get(quantization, each)
    try:
        shape = shape_of(source)
    except UserError:
        return
    needed = FULLER * (shape.blocks * shape.block_weights * held + shape.other_weights * each)
    try:
        free = free_memory(where)
    except (RuntimeError, AssertionError):  # a GPU that is only lent to single calls answers no questions
        return
    at_work = next((entry.run for entry in queue.entries() if entry.working and entry.device == where.type), None)
    if needed > free * (1 - LEFT_TO_A_RUN if at_work else 1):
        beside = f", where run {at_work.id} is at work: wait until it has ended" if at_work else ""
        raise UserError(
            f"The model {source} takes {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free on {where}{beside}"
            + ("." if at_work else ": close what else uses it, or take a smaller model.")
        )


def base_of(run: Run, device: str | None = None, dtype: str | None = None) -> dict[str, str]:
    """What names the base of a run, and how it is held: the arguments of ``load_model``."""
    from workbench.rahf.results import number_format

    config = run.config()
    return {
        "source": str(config["model"]),
        "device": device or str(config.get("device", "auto")),
        "dtype": dtype or number_format(run.path, str(config.get("dtype", "auto"))),
        "quantization": str(config.get("quantization", "none")),
    }


def add_run(loaded: LoadedModel, run: Run, name: str) -> Speaker:
    """The run's aligned model as a speaker of ``loaded``, its base: the adapter is put beside those that are there, under
    ``name`` (a run that only steers has none). Raises ``UserError`` if there is nothing that answers or it was made for
    other weights."""
    from workbench.generation import Speaker
    from workbench.rahf.adapters import load_adapter

    need_speaker(run)
    need_base(loaded, run)
    if only_steers(run):
        return Speaker(steering=steering_of(run, float((run.status().get("result") or {}).get("alpha", 1.0))))
    if name not in getattr(loaded.model, "peft_config", {}):
        load_adapter(loaded, run.adapter, name)
    return Speaker(name, instruction_of(run))


def need_base(loaded: LoadedModel, run: Run) -> None:
    """Raise ``UserError`` if the run was made of another base than this one."""
    made_of = (files.read_json(run.path / "made_of.json") or {}).get("model")
    if made_of and made_of != loaded.fingerprint:
        raise UserError(
            f"Run {run.id} is of another base model ({run.config().get('model')}) than {loaded.name}: only runs of one "
            "base can stand beside each other."
        )


def load_run(run: Run, device: str | None = None, dtype: str | None = None, adapter: bool = True) -> LoadedModel:
    """The run's model on ``device`` (None: what the run says), with its adapter under the name ``ALIGNED``.

    ``adapter=False`` loads the base alone. Raises ``UserError`` if there is no adapter, if it was made for other
    weights, or if the model cannot be loaded or would not fit into what memory is free.
    """
    if adapter:
        need_adapter(run)
    from workbench.models import load_model

    base = base_of(run, device, dtype)
    need_memory(**base)
    loaded = load_model(**base)
    made_of = files.read_json(run.path / "made_of.json") or {}
    check({"model": made_of.get("model")}, {"model": loaded.fingerprint}, f"run {run.id}")
    if adapter:
        from workbench.rahf.adapters import load_adapter

        load_adapter(loaded, run.adapter, ALIGNED)
    return loaded


def can_preview(run: Run) -> bool:
    """Whether step 1 of an alignment is done and its blocks are known: all that a preview of strengths needs."""
    from workbench.rahf.adapters import has_adapter
    from workbench.rahf.config import RunConfig

    if run.kind != "align" or not run.status().get("layers"):
        return False
    try:
        names = RunConfig.from_dict(run.config()).instructed_adapters
    except UserError:  # damaged, or the settings of another version
        return False
    return all(has_adapter(run.path / "instructed" / name) for name in names)


def load_preview(run: Run) -> tuple[LoadedModel, Shift]:
    """The base with what step 1 taught beside it, and the shift between the two sides that step 3 fits: what
    ``workbench.preview`` takes. Raises ``UserError`` if step 1 is not done or was made of other weights."""
    if not can_preview(run):
        raise UserError(f"Run {run.id} has not come past step 1 yet: strengths can be tried once it has.")
    from workbench.rahf.adapters import load_adapter
    from workbench.rahf.calibrate import shift_of
    from workbench.rahf.config import RunConfig

    config = RunConfig.from_dict(run.config())
    loaded = load_run(run, adapter=False)
    for name in config.instructed_adapters:
        load_adapter(loaded, run.path / "instructed" / name, name)
    return loaded, shift_of(config, run.status()["layers"])


def split_of(run: Run) -> Split:
    """The run's pairs in their parts, as it used them. Raises ``UserError`` if they are gone or no longer the same."""
    from workbench.pairs import load_pairs
    from workbench.rahf.config import RunConfig

    settings = RunConfig.from_dict(run.config())
    pairs = load_pairs(settings.pairs)
    made_of = files.read_json(run.path / "made_of.json") or {}
    check({"pairs": made_of.get("pairs")}, {"pairs": pairs.fingerprint}, f"run {run.id}")
    return settings.split(pairs)


def steering_of(run: Run, alpha: float, layers: list[int] | None = None) -> Steering:
    """Steering towards the chosen side without training: ``alpha`` times the mean difference of states.

    An alignment left the differences it fitted, in its blocks (``steering.safetensors``); scores of blocks give the
    mean difference of chosen and rejected answers, in ``layers`` or, by default, in the blocks they suggest. Raises
    ``UserError`` if the run holds neither or has not these blocks.
    """
    from workbench.generation import Steering

    ready = run.path / "steering.safetensors"
    vectors, made_of = _fitted(ready) if ready.exists() else _captured(run, layers)
    check(made_of, files.read_json(run.path / "made_of.json") or {}, f"the directions of run {run.id}")
    if wrong := [layer for layer in layers or () if layer not in vectors]:
        raise UserError(
            f"Run {run.id} knows no direction in block {wrong[0]}: choose among {', '.join(map(str, vectors))}."
        )
    return Steering({layer: vectors[layer] for layer in layers or vectors}, alpha)


def _fitted(path: Path) -> tuple[dict[int, Tensor], dict[str, Any]]:
    import json

    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            made_of = json.loads((file.metadata() or {}).get("made_of") or "{}")
            return {int(name): file.get_tensor(name) for name in sorted(file.keys(), key=int)}, made_of
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{path} is damaged: repeat the run.") from error


def _captured(run: Run, layers: list[int] | None) -> tuple[dict[int, Tensor], dict[str, Any]]:
    import json

    import torch

    from workbench.representations.analysis import ACTIVATIONS, LAYERS
    from workbench.representations.capture import Activations
    from workbench.representations.separability import calibrate, preference_direction

    try:
        suggested = json.loads((run.path / LAYERS).read_text(encoding="utf-8"))["suggested_layers"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"Run {run.id} holds no directions to steer along: align, or run separability, first."
        ) from error
    if not (run.path / ACTIVATIONS).exists():
        raise UserError(f"Run {run.id} has not come to its directions yet: it is {run.state}.")
    acts = Activations.load(run.path / ACTIVATIONS)
    vectors = {}
    for layer in layers or suggested:
        if 0 <= layer < len(acts.chosen):
            direction = preference_direction(acts, layer)
            way = calibrate(acts, layer, direction)
            vectors[layer] = torch.from_numpy(direction) * (way.chosen - way.rejected)
    return vectors, {"model": acts.model_fingerprint or None, "pairs": acts.pairs_fingerprint or None}
