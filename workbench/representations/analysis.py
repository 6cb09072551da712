"""Step 2 as one piece of work: capture, score and project all blocks, and keep the result in a folder."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError
from workbench.progress import QUIET, Progress
from workbench.representations.capture import Activations, capture, encode_pairs
from workbench.representations.controls import Control, measure_controls
from workbench.representations.files import read_arrays, write_arrays, write_json
from workbench.representations.folds import make_folds, prompt_groups
from workbench.representations.movement import MOVED, MOVEMENT, Movement, measure_movement
from workbench.representations.projection import Pictures, Projection, densities, frames, pictures
from workbench.representations.separability import LayerScore, measure
from workbench.representations.shortcut import explaining, shortcut
from workbench.representations.suggestion import Suggestion, finding, suggest
from workbench.representations.untrained import measure_untrained
from workbench.tokens import Limits

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs import PreferencePairs

LAYERS, ACTIVATIONS, COORDS = "layers.json", "activations.safetensors", "coords.safetensors"
PICTURES = ("pca", "pca3", "axis", "axis3")
__all__ = ["ACTIVATIONS", "COORDS", "LAYERS", "MOVED", "MOVEMENT", "Analysis", "acting", "analyse"]


@dataclass
class Analysis:
    """Everything the layers page shows, for all blocks. ``groups`` [N] numbers the prompts; ``held_out`` [L, 2N] are the
    places on the preference axis, ``pictures`` hold coordinates; ``notes`` are sentences about what was left out;
    ``seconds`` has the keys capture, score and project. ``movement`` compares with an aligned model, if one was given."""

    acts: Activations
    groups: np.ndarray
    scores: list[LayerScore]
    suggestion: Suggestion
    finding: str
    controls: list[Control]
    shortcut: str
    notes: list[str]
    held_out: np.ndarray
    pictures: Pictures
    densities: list[dict[str, Any]]
    seconds: dict[str, float]
    movement: Movement | None = None

    @property
    def pca(self) -> Projection:
        return self.pictures.pca

    @property
    def axis(self) -> Projection:
        return self.pictures.axis

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the keys of the command ``separability`` and what the page needs beside the arrays."""
        return {
            "layers": [row.to_dict() for row in self.scores],
            "suggested_layers": self.suggestion.layers,
            "reason": self.suggestion.reason,
            "finding": self.finding,
            "shortcut": self.shortcut,
            "explained_by": [control.name for control in explaining(self.scores, self.controls)],
            "controls": [control.to_dict() for control in self.controls],
            "notes": self.notes,
            "pairs": len(self.acts),
            "prompts": int(self.groups.max()) + 1,
            "pooling": self.acts.pooling,
            "site": self.acts.site,
            "cut": int(self.acts.cut.any(axis=1).sum()),
            "tokens": self.acts.tokens,
            "tokens_per_second": self.acts.tokens_per_second,
            "seconds": self.seconds,
            "explained": self.pca.explained.tolist(),
            "densities": self.densities,
            "model_fingerprint": self.acts.model_fingerprint,
            "pairs_fingerprint": self.acts.pairs_fingerprint,
        }

    def save(self, folder: Path | str) -> None:
        """Write activations, coordinates, the movement if there is one and, last, layers.json, each atomically: where
        layers.json is, all is.

        Raises UserError if the disk refuses.
        """
        folder = Path(folder)
        self.acts.save(folder / ACTIVATIONS)
        arrays = {"groups": self.groups, "held_out": self.held_out}
        for name in PICTURES:
            projection = getattr(self.pictures, name)
            arrays |= {name: projection.coords, f"{name}_explained": projection.explained}
            arrays[f"{name}_turns"] = self.pictures.turns[name]
        write_arrays(folder / COORDS, arrays, {"pairs_fingerprint": self.acts.pairs_fingerprint})
        if self.movement is not None:
            self.movement.save(folder)
        write_json(folder / LAYERS, self.to_dict())

    @classmethod
    def load(cls, folder: Path | str) -> Analysis:
        """Read what :meth:`save` wrote. Raises UserError if something is missing or damaged."""
        folder = Path(folder)
        try:
            values = json.loads((folder / LAYERS).read_text(encoding="utf-8"))
            scores = [LayerScore.from_dict(row) for row in values["layers"]]
            controls = [Control(**row) for row in values["controls"]]
            suggestion = Suggestion(values["suggested_layers"], values["reason"])
            rest = {name: values[name] for name in ("finding", "shortcut", "notes", "densities", "seconds")}
            arrays, _ = read_arrays(folder / COORDS)
            shown = {name: Projection(arrays[name], arrays[f"{name}_explained"]) for name in PICTURES}
            shown["turns"] = {name: arrays[f"{name}_turns"] for name in PICTURES}
            groups, held_out = arrays["groups"], arrays["held_out"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder} holds no scores of blocks (or an older version's): capture them again."
            ) from error
        return cls(
            acts=Activations.load(folder / ACTIVATIONS),
            groups=groups,
            scores=scores,
            suggestion=suggestion,
            controls=controls,
            held_out=held_out,
            pictures=Pictures(**shown),
            movement=Movement.load(folder) if (folder / MOVEMENT).exists() else None,
            **rest,
        )


def analyse(
    loaded: LoadedModel,
    pairs: PreferencePairs,
    *,
    pooling: str = "mean",
    site: str = "block",
    limit: int | None = None,
    limits: Limits | None = None,
    permutations: int = 200,
    seed: int = 0,
    batch_tokens: int = 8192,
    untrained: bool = True,
    after: str | LoadedModel | None = None,
    run: str = "",
    target_layers: Sequence[int] = (),
    progress: Progress = QUIET,
) -> Analysis:
    """Capture all blocks, score them on held-out pairs, suggest where to align, and lay out the pictures.

    ``limit`` takes that many pairs at random (the same for the same seed), in their order. ``untrained=False`` leaves
    out the control with random weights. ``after`` is what to compare with: the name of an adapter in ``loaded`` (whose
    base is then what is analysed) or another model of the same build and tokenizer; ``run`` and ``target_layers`` are
    what the comparison says of it. Events come in the stages "capture", "score" and "project".

    Raises UserError for too few pairs and for what capturing raises.
    """
    if limit is not None and limit < 1:
        raise UserError(f"The limit of pairs must be at least 1, not {limit}.")
    if limit is not None and limit < len(pairs):
        pairs = pairs.select(sorted(np.random.default_rng(seed).choice(len(pairs), limit, replace=False).tolist()))
    if not len(pairs):
        raise UserError("There are no pairs to capture: load pairs first.")
    groups = prompt_groups(pairs)
    make_folds(groups)  # refuses too few prompts before the work, not after it
    encoded = encode_pairs(loaded, pairs, limits)
    reading = {"pooling": pooling, "site": site, "batch_tokens": batch_tokens, "encoded": encoded}
    parts = 1 if after is None else 2
    with acting(loaded, None):
        acts = capture(loaded, pairs, progress=_Part(progress, 0, parts), **reading)
        acts_after = _capture_after(loaded, after, pairs, reading | {"progress": _Part(progress, 1, parts)})

        started = time.monotonic()
        settings = {"groups": groups, "seed": seed, "permutations": permutations}
        device = "cuda" if loaded.device.type == "cuda" else "cpu"
        measured = measure(acts.chosen, acts.rejected, device=device, progress=progress, **settings)
        scores, held_out = measured.scores, measured.places
        controls = measure_controls(encoded, progress=progress, **settings)
        notes: list[str] = []
        if untrained:
            best = max(scores, key=lambda row: row.probe_auc).layer
            more = {"encoded": encoded, "batch_tokens": batch_tokens, "progress": progress}
            control, notes = measure_untrained(loaded, pairs, acts, best, **more, **settings)
            controls += [control] if control else []
    scored = time.monotonic()
    axes = frames(acts, seed=seed, progress=progress)
    shown = pictures(acts, held_out, axes=axes)
    moved = None
    if acts_after is not None:
        said = {"run": run, "target_layers": target_layers, "groups": groups, "seed": seed}
        moved = measure_movement(acts, acts_after, axes, shown, progress=progress, **said)
    seconds = {"capture": acts.seconds, "score": scored - started, "project": time.monotonic() - scored}
    if acts_after is not None:
        seconds["capture"] += acts_after.seconds
    return Analysis(
        acts=acts,
        groups=groups,
        scores=scores,
        suggestion=suggest(scores),
        finding=finding(scores),
        controls=controls,
        shortcut=shortcut(scores, controls),
        notes=notes,
        held_out=held_out,
        pictures=shown,
        densities=densities(held_out),
        seconds=seconds,
        movement=moved,
    )


class _Part(Progress):
    """Steps of one of several equal parts, counted on from those before it."""

    def __init__(self, whole: Progress, part: int, parts: int) -> None:
        self._whole, self._part, self._parts = whole, part, parts

    def __call__(self, stage: str, step: int = 0, total: int = 0, *args: Any, **named: Any) -> None:
        if (left := named.get("seconds_left")) is not None and step < total:
            later = (
                left * total / (total - step) * (self._parts - self._part - 1)
            )  # each takes about as long as this one
            named = named | {"seconds_left": round(left + later, 1)}
        self._whole(stage, step + self._part * total, self._parts * total, *args, **named)

    def stopping(self) -> bool:
        return self._whole.stopping()


def _capture_after(
    loaded: LoadedModel, after: str | LoadedModel | None, pairs: PreferencePairs, reading: dict[str, Any]
) -> Activations | None:
    """The same texts' states under an adapter, or in another model. Raises UserError where that does not fit."""
    if after is None:
        return None
    if isinstance(after, str):
        with acting(loaded, after):
            return capture(loaded, pairs, **reading)
    if (after.n_blocks, after.width) != (loaded.n_blocks, loaded.width):
        raise UserError(
            f"{after.name} has {after.n_blocks} blocks of width {after.width}, {loaded.name} has {loaded.n_blocks} of "
            f"{loaded.width}: compare models of one build."
        )
    if len(after.tokenizer) != len(loaded.tokenizer):
        raise UserError(f"{after.name} has another tokenizer than {loaded.name}: compare models of one build.")
    return capture(after, pairs, **reading)


@contextmanager
def acting(loaded: LoadedModel, adapter: str | None) -> Iterator[None]:
    """The model with this adapter (None: the bare base) while the block runs; as it was afterwards."""
    model = loaded.model
    if not hasattr(model, "peft_config"):
        if adapter is not None:
            raise UserError(f"{loaded.name} has no adapter {adapter!r}: load the run's adapter first.")
        yield
        return
    if adapter is not None and adapter not in model.peft_config:
        raise UserError(f"{loaded.name} has no adapter {adapter!r}: load the run's adapter first.")
    tuner, before = model.base_model, list(model.active_adapters)
    off = any(getattr(module, "disable_adapters", None) is True for module in model.modules())
    trained = [(weight, weight.requires_grad) for weight in model.parameters()]  # set_adapter makes all of it trainable
    try:
        if adapter is None:
            tuner.disable_adapter_layers()
        else:
            tuner.enable_adapter_layers()
            tuner.set_adapter(adapter)
        yield
    finally:
        tuner.set_adapter(before)
        if off:
            tuner.disable_adapter_layers()
        else:
            tuner.enable_adapter_layers()
        for weight, wanted in trained:
            weight.requires_grad_(wanted)
