"""What step 4 answers and reads with: bases kept loaded, runs' adapters beside them, the preference axes of a capture.

The engine is imported inside the functions: the page is served before torch is loaded.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.jsonfile import read_json
from workbench.ui import state
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.generation import Sampling, Speaker, Steering
    from workbench.models import LoadedModel
    from workbench.reading import Axes
    from workbench.runs.store import Run

BASE = ("source", "device", "dtype", "quantization")  # what names a base, as ``load_model`` takes it
ADAPTERS = 8  # that are kept beside one base while nobody uses them
_bases = state.Cache(2, weights=True)
_axes = state.Cache(4)
_held = state.Cache(8)
_steering = state.Cache(8)
_loading = threading.Lock()  # one base at a time: what is free is looked at before its weights are there
_in_use: Counter[tuple[int, str]] = Counter()  # (base, adapter) -> answers at work with it
in_use = threading.Lock()  # step 3's preview answers one visitor at a time


def base_for(run: Run) -> LoadedModel:
    """The base of a run, loaded once for all runs of that base. Seconds the first time. Raises UserError.

    The object is shared by all visitors: it is read and changed on the desk only (see ``compare_desk``).
    """
    state.import_engine()
    from workbench.runs.loading import base_of, load_run, need_base, need_memory

    named = base_of(run)

    def load() -> LoadedModel:
        with _loading:
            try:
                need_memory(**named)
            except UserError:
                state.forget_models()  # what is only kept for somebody's next look goes first
            return load_run(run, adapter=False)

    loaded = _bases.get(tuple(named[key] for key in BASE), load)
    need_base(loaded, run)
    return loaded


def is_loaded(run: Run) -> bool:
    """Whether :func:`base_for` would answer at once."""
    try:
        return _bases.peek(tuple(base_key(run)[key] for key in BASE)) is not None
    except UserError:
        return False


def adapter_of(loaded: LoadedModel, run: Run) -> Speaker:
    """The run's aligned model as a speaker of its base; its adapter is read the first time. Raises UserError."""
    from workbench.runs.loading import add_run, need_speaker, only_steers

    need_speaker(run)
    if only_steers(run):
        return add_run(loaded, run, run.id)
    stamp = (run.adapter / "adapter_model.safetensors").stat().st_mtime_ns  # a run that went on has another one
    return add_run(loaded, run, f"{run.id}-{stamp:x}")


@contextmanager
def using(loaded: LoadedModel, speakers: Sequence[Speaker]) -> Iterator[None]:
    """These speakers' adapters stay beside the base within; afterwards those that were read first may go."""
    mine = [(id(loaded), one.adapter) for one in speakers if one.adapter]
    _in_use.update(mine)
    try:
        yield
    finally:
        _in_use.subtract(mine)
        for one in mine:
            if not _in_use[one]:
                del _in_use[one]
        _tidy(loaded)


def _tidy(loaded: LoadedModel) -> None:
    names = list(getattr(loaded.model, "peft_config", {}))
    idle = [name for name in names if _in_use[(id(loaded), name)] <= 0]
    for name in idle[: max(0, len(names) - ADAPTERS)]:
        loaded.model.delete_adapter(name)


def can_steer(run: Run) -> bool:
    """Whether the run kept the mean shift of its blocks."""
    return (run.path / "steering.safetensors").exists()


def steering_for(run: Run, alpha: float) -> Steering:
    """Steering along the run's directions, read once whatever alpha. Raises UserError."""
    from workbench.runs.loading import steering_of

    stamps = tuple(_written(run.path / name) for name in ("steering.safetensors", "layers.json", "made_of.json"))
    return replace(_steering.get((run.id, stamps), lambda: steering_of(run, 1.0)), alpha=alpha)


def _written(path: Path) -> int:
    """When a file was written; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def base_key(run: Run) -> dict[str, Any]:
    """What tells bases apart: the arguments of ``load_model``, and ``model``, the fingerprint of the weights that the run was
    made of (None where it was not kept). Read anew only when the run's files have changed. Raises UserError."""
    config, made_of = run.path / "config.yaml", run.path / "made_of.json"
    return _base_key(run, _written(config), _written(made_of))


@lru_cache(maxsize=512)
def _base_key(run: Run, config: int, made_of: int) -> dict[str, Any]:
    from workbench.runs.loading import base_of

    return base_of(run) | {"model": (read_json(run.path / "made_of.json") or {}).get("model")}


def captured_of(workspace: Workspace, run: Run) -> Run | None:
    """Where the states of this run's blocks were captured: its own folder, or step 2's if it is of the same model."""
    scored = state.run_of(workspace, workspace.separability_run) if workspace.separability_run else None
    candidates = [run] + ([scored] if scored and scored.config().get("model") == run.config().get("model") else [])
    return next((one for one in candidates if (one.path / "activations.safetensors").exists()), None)


def axes_for(workspace: Workspace, run: Run) -> Axes | None:
    """The axes that tokens are coloured by. None where nothing was captured, or states of other weights."""
    source = captured_of(workspace, run)
    if source is None:
        return None

    def load() -> Axes | None:
        from workbench.reading import axes_of
        from workbench.representations.capture import Activations

        acts = Activations.load(source.path / "activations.safetensors")
        made_of = read_json(run.path / "made_of.json") or {}
        if made_of.get("model") and acts.model_fingerprint and made_of["model"] != acts.model_fingerprint:
            return None
        return axes_of(acts)

    return _axes.get((source.id, run.id), load)


def block_of(run: Run, blocks: int) -> int:
    """The block whose axis is taken first: the last one that the run fitted, else the model's last."""
    fitted = [block for block in run.status().get("layers") or [] if isinstance(block, int) and 0 <= block < blocks]
    return fitted[-1] if fitted else blocks - 1


def oracle_labels(run: Run, prompts: Sequence[Any], texts: Sequence[str]) -> list[str] | None:
    """What the oracle of the run's pairs says of answers ("preferred, right fact"); None where the pairs have none."""
    from workbench.judges import oracle_of

    judge = None
    with suppress(UserError):
        judge = oracle_of(str(run.config().get("pairs") or ""))
    if judge is None:
        return None
    facts = judge.facts_right(prompts, texts) if judge.has_facts else [None] * len(texts)
    words = {True: ", fact right", False: ", fact wrong", None: ""}
    return [label + words[right] for label, right in zip(judge.labels(texts), facts, strict=True)]


def pieces(decode: Any, ids: list[int]) -> list[str]:
    """The text each token adds; joined they are the whole. A character made of several tokens belongs to the last."""
    out, done = [], ""
    for end in range(1, len(ids) + 1):
        text = decode(ids[:end])
        whole = text.rstrip("\N{REPLACEMENT CHARACTER}") if end < len(ids) else text
        out.append(whole[len(done) :] if whole.startswith(done) else "")
        done = whole if whole.startswith(done) else done
    return out


def sampling_from(seed: Any, temperature: Any, top_p: Any, tokens: Any) -> Sampling:
    """The settings as the engine takes them. Raises UserError with a sentence for whatever is no number or no use."""
    from workbench.generation import Sampling

    try:
        made = Sampling(float(temperature), float(top_p), int(tokens), int(seed))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError("Seed, temperature, top-p and longest answer must all be numbers.") from error
    if made.max_new_tokens > 512:
        raise UserError(f"On this page an answer may have up to 512 tokens, not {made.max_new_tokens}.")
    if not 0 <= made.seed < 2**31:
        raise UserError(f"The seed must be between 0 and {2**31 - 1}, not {made.seed}.")
    return made.validate()


def held_out_prompts(run: Run) -> list[Any]:
    """The prompts this run never trained on, in the order of its pairs. Raises UserError if those are gone or changed."""

    def load() -> list[Any]:
        state.import_engine()
        from workbench.runs.loading import split_of

        held = split_of(run).held_out
        return [held[i].prompt for i in range(len(held))]

    return _held.get((run.id,), load)
