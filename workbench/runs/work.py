"""What each kind of run does, from settings on disk to plain data: the only place where runs meet the engine.

Everything heavy is imported within, so that a worker says that it runs before torch is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.progress import Progress

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs

POOLINGS = ("mean", "last", "predicting")


def align(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """RAHF, steps 1 to 3; ``config`` holds the fields of ``RunConfig``. Returns the figures of ``align``."""
    progress("load", message="Starting")
    from workbench.rahf.config import RunConfig
    from workbench.rahf.pipeline import align as method

    settings = RunConfig.from_dict(config)
    settings.validate()
    return method(settings, folder, progress)


def separability(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Capture and score all blocks. ``config``: model, pairs, pooling, limit (None: all), device, dtype, seed, local.

    Writes layers.json, activations.safetensors and coords.safetensors, and returns what layers.json holds, less the
    curves that only a plot needs.
    """
    pooling = config.get("pooling", "mean")
    if pooling not in POOLINGS:
        raise UserError(f"There is no pooling {pooling!r}: choose one of {', '.join(POOLINGS)}.")
    progress("load", message="Loading pairs and model")
    from workbench.models import load_model
    from workbench.pairs import load_pairs
    from workbench.representations import analyse

    pairs = load_pairs(config["pairs"], progress=progress)
    where = {"device": config.get("device", "auto"), "dtype": config.get("dtype", "auto")}
    loaded = load_model(config.get("model", "demo"), local=config.get("local", True), **where)
    progress("load", message="Capturing")
    analysis = analyse(
        loaded, pairs, pooling=pooling, limit=config.get("limit"), seed=int(config.get("seed", 0)), progress=progress
    )
    progress("save", message="Saving")
    analysis.save(folder)
    return {key: value for key, value in analysis.to_dict().items() if key != "densities"}


def evaluate(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Judge the runs in ``config["runs"]`` (folders) on held-out pairs; further keys go to ``evaluation.evaluate``.

    Of pairs that a run was trained on only those count that it held out; with several such runs, those that all did.
    """
    progress("load", message="Starting")
    from workbench.evaluation import evaluate as judge
    from workbench.pairs import load_pairs

    folders = [Path(run) for run in config["runs"]]
    pairs = _unseen(load_pairs(config["pairs"], progress=progress), config["pairs"], folders)
    rest = {key: value for key, value in config.items() if key not in ("runs", "pairs") and value is not None}
    return judge(folders, pairs, progress=progress, **rest)


def _unseen(pairs: PreferencePairs, source: str, folders: list[Path]) -> PreferencePairs:
    from workbench.rahf.config import RunConfig

    kept: set[int] | None = None
    for folder in folders:
        settings = RunConfig.from_yaml(folder / "config.yaml")
        if settings.pairs == source:
            ids = set(settings.split(pairs).held_out.dataset["id"])
            kept = ids if kept is None else kept & ids
    if kept is None:
        return pairs
    if not kept:
        raise UserError("The runs were trained on these pairs and held out no pair in common: give other pairs.")
    return pairs.select([row for row, number in enumerate(pairs.dataset["id"]) if number in kept])
