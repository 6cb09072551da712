"""Step 2 as one piece of work: capture, score and project all blocks, and keep the result in a folder."""

from __future__ import annotations

import json
import time
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
from workbench.representations.projection import Projection, densities, pca, preference_axis
from workbench.representations.separability import LayerScore, held_out_projections, score
from workbench.representations.suggestion import Suggestion, finding, suggest
from workbench.tokens import Limits

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs import PreferencePairs

LAYERS, ACTIVATIONS, COORDS = "layers.json", "activations.safetensors", "coords.safetensors"


@dataclass
class Analysis:
    """Everything the layers page shows, for all blocks. ``groups`` [N] numbers the prompts; ``pca`` and ``axis`` hold
    coordinates [L, 2N, 2]; ``seconds`` has the keys capture, score and project."""

    acts: Activations
    groups: np.ndarray
    scores: list[LayerScore]
    suggestion: Suggestion
    finding: str
    controls: list[Control]
    pca: Projection
    axis: Projection
    densities: list[dict[str, Any]]
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the keys of the command ``separability`` and what the page needs beside the arrays."""
        return {
            "layers": [row.to_dict() for row in self.scores],
            "suggested_layers": self.suggestion.layers,
            "reason": self.suggestion.reason,
            "finding": self.finding,
            "controls": [control.to_dict() for control in self.controls],
            "pairs": len(self.acts),
            "prompts": int(self.groups.max()) + 1,
            "pooling": self.acts.pooling,
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
        """Write activations, coordinates and, last, layers.json, each atomically: where layers.json is, all is.

        Raises UserError if the disk refuses.
        """
        folder = Path(folder)
        self.acts.save(folder / ACTIVATIONS)
        arrays = {
            "groups": self.groups,
            "pca": self.pca.coords,
            "pca_explained": self.pca.explained,
            "axis": self.axis.coords,
            "axis_explained": self.axis.explained,
        }
        write_arrays(folder / COORDS, arrays, {"pairs_fingerprint": self.acts.pairs_fingerprint})
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
            rest = {name: values[name] for name in ("finding", "densities", "seconds")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder} holds no scores of blocks: capture them again.") from error
        arrays, _ = read_arrays(folder / COORDS)
        return cls(
            acts=Activations.load(folder / ACTIVATIONS),
            groups=arrays["groups"],
            scores=scores,
            suggestion=suggestion,
            controls=controls,
            pca=Projection(arrays["pca"], arrays["pca_explained"]),
            axis=Projection(arrays["axis"], arrays["axis_explained"]),
            **rest,
        )


def analyse(
    loaded: LoadedModel,
    pairs: PreferencePairs,
    *,
    pooling: str = "mean",
    limit: int | None = None,
    limits: Limits | None = None,
    permutations: int = 200,
    seed: int = 0,
    batch_tokens: int = 8192,
    progress: Progress = QUIET,
) -> Analysis:
    """Capture all blocks, score them on held-out pairs, suggest where to align, and lay out the pictures.

    ``limit`` takes that many pairs at random (the same for the same seed), in their order. Events come in the stages
    "capture", "score" and "project". Raises UserError for too few pairs and for what capturing raises.
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
    acts = capture(loaded, pairs, pooling=pooling, batch_tokens=batch_tokens, encoded=encoded, progress=progress)

    started = time.monotonic()
    device = "cuda" if loaded.device.type == "cuda" else "cpu"
    settings = {"groups": groups, "seed": seed, "permutations": permutations, "progress": progress}
    scores = score(acts, device=device, **settings)
    controls = measure_controls(encoded, **settings)
    scored = time.monotonic()
    held_out = held_out_projections(acts, groups=groups, seed=seed)
    coords, axis = pca(acts, seed=seed, progress=progress), preference_axis(acts, held_out, seed=seed)
    curves = densities(held_out)
    seconds = {"capture": acts.seconds, "score": scored - started, "project": time.monotonic() - scored}
    return Analysis(acts, groups, scores, suggest(scores), finding(scores), controls, coords, axis, curves, seconds)
