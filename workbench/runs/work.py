"""What each kind of run does, from settings on disk to plain data: the only place where runs meet the engine.

Everything heavy is imported within, so that a worker says that it runs before torch is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.progress import Progress
from workbench.runs import files
from workbench.stamp import check, stamp

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs
    from workbench.runs.store import Run

POOLINGS = ("mean", "last", "predicting", "difference")
SITES = ("block", "attention", "mlp")


def align(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """RAHF, steps 1 to 3; ``config`` holds the fields of ``RunConfig``. Returns the figures of ``align``."""
    progress("load", message="Starting")
    from workbench.rahf.config import RunConfig
    from workbench.rahf.pipeline import align as method
    from workbench.runs.history import history

    settings = RunConfig.from_dict(config)
    settings.validate()
    return method(settings, folder, progress, history(but=folder))


def keep_align(config: dict[str, Any], folder: Path) -> dict[str, int] | None:
    """A usable adapter of the steps an alignment has done so far: {"steps", "of"}, None before it has any."""
    if not any(folder.glob("checkpoints/aligned/*")) and not (folder / "adapter").exists():
        return None  # told without loading what takes seconds
    from workbench.rahf.config import RunConfig
    from workbench.rahf.pipeline import keep_partial

    return keep_partial(RunConfig.from_dict(config), folder)


def baseline(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Another method on the same pairs and budget; ``config`` holds the fields of ``BaselineConfig``. Returns the figures of
    ``align``."""
    progress("load", message="Starting")
    from workbench.baselines.config import BaselineConfig
    from workbench.baselines.pipeline import run_baseline

    return run_baseline(BaselineConfig.from_dict(config), folder, progress)


def study(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """All methods against each other: see ``workbench.runs.studying``."""
    from workbench.runs.studying import study as work

    return work(config, folder, progress)


def separability(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Capture and score all blocks. ``config``: model, pairs, pooling, site, limit (None: all), untrained (whether to
    measure the control with random weights), device, dtype, seed, local, and run: the id or folder of an alignment whose
    model is captured too and compared (None: none).

    Writes layers.json, activations.safetensors, coords.safetensors and, with a run, movement.json and
    moved.safetensors. Returns what layers.json holds, less the curves that only a plot needs, and the "movement".
    """
    for name, known in (("pooling", POOLINGS), ("site", SITES)):
        if config.get(name, known[0]) not in known:
            raise UserError(f"There is no {name} {config[name]!r}: choose one of {', '.join(known)}.")
    run = _aligned(config["run"]) if config.get("run") else None
    progress("load", message="Loading pairs and model")
    from workbench.models import load_model
    from workbench.pairs import load_pairs
    from workbench.representations import analyse

    pairs = load_pairs(config["pairs"], progress=progress)
    where = {"device": config.get("device", "auto"), "dtype": config.get("dtype", "auto")}
    held = "none"
    if run is not None:  # as the run's own base is held
        from workbench.rahf.results import number_format

        held = run.config().get("quantization", "none")
        if where["dtype"] == "auto":
            where["dtype"] = number_format(run.path, run.config().get("dtype", "auto"))
    loaded = load_model(config.get("model", "demo"), local=config.get("local", True), quantization=held, **where)
    compared: dict[str, Any] = {}
    if run is not None:
        from workbench.rahf.adapters import load_adapter
        from workbench.runs.loading import ALIGNED

        load_adapter(loaded, run.adapter, ALIGNED)
        compared = {"after": ALIGNED, "run": run.name, "target_layers": run.status().get("layers") or []}
    made_of = stamp(loaded.fingerprint, pairs.fingerprint, int(config.get("seed", 0)))
    files.write_json(folder / "made_of.json", made_of)
    progress("load", message="Capturing")
    analysis = analyse(
        loaded,
        pairs,
        pooling=config.get("pooling", "mean"),
        site=config.get("site", "block"),
        limit=config.get("limit"),
        seed=int(config.get("seed", 0)),
        untrained=bool(config.get("untrained", True)),
        progress=progress,
        **compared,
    )
    progress("save", message="Saving")
    analysis.save(folder)
    values = {key: value for key, value in analysis.to_dict().items() if key != "densities"}
    return values | ({"movement": analysis.movement.to_dict()} if analysis.movement else {})


def _aligned(source: str) -> Run:
    """The alignment of that id or folder. Raises UserError if there is none, or it has no aligned model."""
    from workbench.runs.loading import need_adapter
    from workbench.runs.store import find_run

    run = find_run(source)
    need_adapter(run)
    return run


def evaluate(config: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Judge the runs in ``config["runs"]`` (folders) on held-out pairs; further keys go to ``heldout.evaluate``, but
    ``judge_price`` and ``judge_key_env``, which say how an endpoint is asked.

    Of pairs that a run was trained on only those count that it held out; with several such runs, those that all did.
    """
    progress("load", message="Starting")
    from workbench.heldout import evaluate as judge
    from workbench.judges.endpoint import Asking
    from workbench.pairs import load_pairs
    from workbench.runs.loading import base_of, need_memory
    from workbench.runs.names import named
    from workbench.runs.store import read_run, runs_root

    rest = {key: value for key, value in config.items() if value is not None}
    folders = [Path(run) for run in rest.pop("runs")]
    pairs = _unseen(load_pairs(rest["pairs"], progress=progress), rest.pop("pairs"), folders)
    runs = [read_run(path) for path in folders]
    names = [named(run.status()) if run else path.name for path, run in zip(folders, runs, strict=True)]
    if runs[0] is not None:
        need_memory(**base_of(runs[0], rest.get("device")))
    kind, _, source = str(rest.get("judge") or "").partition(":")
    if kind == "reward":
        need_memory(source, rest.get("device", "auto"))
    price = rest.pop("judge_price", None)
    keyed = {"key_env": rest.pop("judge_key_env")} if "judge_key_env" in rest else {}
    asking = Asking(price=tuple(price) if price else None, cache=runs_root() / "judged", **keyed)
    found = judge(folders, pairs, names=names, asking=asking, progress=progress, **rest)
    for row, path, run in zip(found["models"][1:], folders, runs, strict=True):
        row["run"] = run.id if run else path.name
    return found


def _unseen(pairs: PreferencePairs, source: str, folders: list[Path]) -> PreferencePairs:
    """The pairs whose prompts none of these runs was trained on. Raises UserError if there are none."""
    kept = [True] * len(pairs)
    for folder in folders:
        kept = [old and new for old, new in zip(kept, _held_out_of(pairs, source, folder), strict=True)]
    if all(kept):
        return pairs
    if not any(kept):
        raise UserError("The runs were trained on these pairs and held out no pair in common: give other pairs.")
    return pairs.select([row for row, unseen in enumerate(kept) if unseen])


def _held_out_of(pairs: PreferencePairs, source: str, folder: Path) -> list[bool]:
    """Of each pair whether the run was not trained on its prompt. Pairs that were edited since, or stand in a file of
    another name, are told by their prompts; where the run's own pairs are gone nothing can be told."""
    from workbench.heldout import settings_of
    from workbench.pairs import load_pairs
    from workbench.rahf.config import RunConfig

    settings = settings_of(RunConfig.values_in(folder / "config.yaml"))
    used = (files.read_json(folder / "made_of.json") or {}).get("pairs")
    if settings.pairs == source or used == pairs.fingerprint:  # by the same name, or a copy under another
        check({"pairs": used}, {"pairs": pairs.fingerprint}, f"run {folder.name}")
        own = pairs
    else:
        try:
            own = load_pairs(settings.pairs)
        except UserError:
            return [True] * len(pairs)
        if used != own.fingerprint:
            return [True] * len(pairs)
    held = set(settings.split(own).held_out.prompt_keys)
    trained = set(own.prompt_keys) - held
    return [key not in trained for key in pairs.prompt_keys]
