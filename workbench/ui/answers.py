"""Answers for step 4: the model of a run kept loaded, both sides generated together, and the preference of each token.

The engine is imported inside the functions: the page is served before torch is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.jsonfile import read_json
from workbench.ui import state
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    import numpy as np

    from workbench.generation import Sampling, Step
    from workbench.models import LoadedModel
    from workbench.runs.store import Run

_loaded = state.Cache(2, weights=True)
_colours = state.Cache(4)
in_use = threading.Lock()  # a model answers one visitor at a time: adapters and hooks are part of it


@dataclass(frozen=True)
class Colours:
    """The preference axis of one block: unit ``direction`` [d], and where rejected and chosen lie on it."""

    block: int
    direction: np.ndarray
    calibration: Any


def model_of_run(run: Run) -> LoadedModel:
    """The run's model with its adapter, loaded once. Seconds the first time. Raises UserError."""
    from workbench.runs.loading import load_run, need_adapter

    need_adapter(run)
    state.import_engine()
    stamp = (run.adapter / "adapter_config.json").stat().st_mtime_ns
    return _loaded.get((run.id, stamp), lambda: load_run(run))


def is_loaded(run: Run) -> bool:
    """Whether :func:`model_of_run` would answer at once."""
    try:
        return _loaded.peek((run.id, (run.adapter / "adapter_config.json").stat().st_mtime_ns)) is not None
    except OSError:
        return False


def captured_of(workspace: Workspace, run: Run) -> Run | None:
    """Where the states of this run's blocks were captured: its own folder, or step 2's if it is of the same model."""
    scored = state.run_of(workspace, workspace.separability_run) if workspace.separability_run else None
    candidates = [run] + ([scored] if scored and scored.config().get("model") == run.config().get("model") else [])
    return next((one for one in candidates if (one.path / "activations.safetensors").exists()), None)


def colours_of(workspace: Workspace, run: Run) -> Colours | None:
    """The axis that tokens are coloured by: of the run's last target block. None where nothing was captured."""
    source = captured_of(workspace, run)
    if source is None:
        return None

    def load() -> Colours | None:
        from workbench.representations.capture import Activations
        from workbench.representations.separability import calibrate, preference_direction

        acts = Activations.load(source.path / "activations.safetensors")
        made_of = read_json(run.path / "made_of.json") or {}
        if made_of.get("model") and acts.model_fingerprint and made_of["model"] != acts.model_fingerprint:
            return None  # states of other weights under the same name
        blocks = [block for block in run.status().get("layers") or [] if 0 <= block < acts.n_layers]
        block = blocks[-1] if blocks else acts.n_layers - 1
        direction = preference_direction(acts, block)
        return Colours(block, direction, calibrate(acts, block, direction))

    return _colours.get((source.id, run.id), load)


def can_steer(run: Run) -> bool:
    """Whether the run kept the mean shift of its blocks."""
    return (run.path / "steering.safetensors").exists()


def ask(run: Run, prompts: list[Any], sampling: Sampling, steer: float = 0.0) -> Iterator[Step]:
    """Base and aligned answers to the prompts, both sides after every token. Raises UserError.

    ``steer`` adds that many times the run's mean shift to the aligned side's states while it answers.
    """
    loaded = model_of_run(run)
    from workbench.generation import compare
    from workbench.runs.loading import ALIGNED, steering_of

    steering = steering_of(run, max(-4.0, min(4.0, steer))) if steer and can_steer(run) else None
    with in_use:
        yield from compare(loaded, prompts, sampling, ALIGNED, steering)


def token_scores(loaded: LoadedModel, prompt: Any, ids: list[int], colours: Colours) -> list[dict[str, Any]]:
    """Text and preference of every token of an answer, as the base model reads it: -1 is the mean of rejected answers,
    +1 that of chosen ones, along the axis of ``colours.block``.
    """
    import numpy as np
    import torch

    from workbench.models import Trunk
    from workbench.representations.separability import project_on

    if not ids:
        return []
    before = loaded.boundary.prompt_ids(prompt, limit=max(8, loaded.context - len(ids)))
    row = torch.tensor([(before + ids)[-loaded.context :]], device=loaded.device)
    model = loaded.model
    with in_use, torch.inference_mode(), model.disable_adapter() if hasattr(model, "peft_config") else torch.no_grad():
        base = model.get_base_model() if hasattr(model, "peft_config") else model
        hidden = Trunk(base, colours.block + 1)(row, torch.ones_like(row))[colours.block]
    states = hidden[0, -len(ids) :].float().cpu().numpy()
    scores = project_on(states.astype(np.float32), colours.direction, colours.calibration)
    return [
        {"text": text, "score": round(float(score), 3)}
        for text, score in zip(pieces(loaded.boundary.decode, ids), scores, strict=True)
    ]


def pieces(decode: Any, ids: list[int]) -> list[str]:
    """The text each token adds; joined they are the whole. A character made of several tokens belongs to the last."""
    out, done = [], ""
    for end in range(1, len(ids) + 1):
        text = decode(ids[:end])
        whole = text.rstrip("\N{REPLACEMENT CHARACTER}") if end < len(ids) else text
        out.append(whole[len(done) :] if whole.startswith(done) else "")
        done = whole if whole.startswith(done) else done
    return out


def mean_score(tokens: list[dict[str, Any]]) -> float | None:
    """The mean preference of an answer's tokens; None for an empty one."""
    return round(sum(token["score"] for token in tokens) / len(tokens), 3) if tokens else None


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


def held_out_prompts(run: Run, workspace: Workspace) -> list[Any]:
    """The prompts this run never trained on, in the order of its pairs. Raises UserError if those are gone or changed."""

    def load() -> list[Any]:
        state.import_engine()
        from workbench.runs.loading import split_of

        held = split_of(run).held_out
        return [held[i].prompt for i in range(len(held))]

    return _held.get((run.id,), load)


_held = state.Cache(8)
