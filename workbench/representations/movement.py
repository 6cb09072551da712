"""What an alignment moved: the same texts' states before and after, on the axes of before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.progress import QUIET, Progress
from workbench.representations.capture import Activations
from workbench.representations.files import read_arrays, write_arrays, write_json
from workbench.representations.folds import make_folds
from workbench.representations.projection import Frame, Pictures
from workbench.representations.separability import difference_axes, preference_direction, score

MOVEMENT, MOVED = "movement.json", "moved.safetensors"


@dataclass(frozen=True)
class LayerMove:
    """How one block's states moved. ``shift``: the mean move along the preference axis of before, in half-gaps (2 is
    from the rejected mean to the chosen mean), also for each side; ``relative``: the mean over states of
    |after - before| / |before|; ``cosine``: of the mean move with the preference direction; ``probe_auc_after`` with its
    95% interval: the held-out probe on the states of after."""

    layer: int
    shift: float
    shift_chosen: float
    shift_rejected: float
    relative: float
    cosine: float
    probe_auc_after: float
    low: float
    high: float


@dataclass(frozen=True)
class Movement:
    """Before and after of all blocks. ``pca`` and ``axis`` float32 [L, 2N, 2]: the states of after in the base's axes,
    chosen sides first."""

    run: str
    layers: list[LayerMove]
    target_layers: list[int]
    finding: str
    pca: np.ndarray
    axis: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what movement.json holds."""
        return {
            "run": self.run,
            "layers": [asdict(row) for row in self.layers],
            "finding": self.finding,
            "target_layers": self.target_layers,
        }

    def save(self, folder: Path) -> None:
        """Write moved.safetensors and movement.json. Raises UserError if the disk refuses."""
        write_arrays(folder / MOVED, {"pca": self.pca, "axis": self.axis}, {"run": self.run})
        write_json(folder / MOVEMENT, self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> Movement:
        """What :meth:`save` wrote. Raises UserError if it is missing or damaged."""
        import json

        from workbench.errors import UserError

        arrays, _ = read_arrays(folder / MOVED)
        try:
            values = json.loads((folder / MOVEMENT).read_text(encoding="utf-8"))
            rows = [LayerMove(**row) for row in values["layers"]]
            rest = {name: values[name] for name in ("run", "target_layers", "finding")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder} holds no movement: capture again with a run to compare.") from error
        return cls(layers=rows, pca=arrays["pca"], axis=arrays["axis"], **rest)


def measure_movement(
    before: Activations,
    after: Activations,
    frames: Sequence[Frame],
    pictures: Pictures,
    *,
    groups: np.ndarray,
    run: str = "",
    target_layers: Sequence[int] = (),
    permutations: int = 20,
    seed: int = 0,
    progress: Progress = QUIET,
) -> Movement:
    """Compare the states of the same texts before and after; ``frames`` and ``pictures`` are those of before.

    Every state of after is placed on the preference axis that was fitted on before's other folds, as the state of
    before is: the shift is the difference of two places.
    """
    held = make_folds(groups, seed=seed)
    progress("project", message="what the alignment moved")
    quiet = Progress(stopping=progress.stopping)
    scores = score(after, groups=groups, permutations=permutations, seed=seed, progress=quiet)
    rows, pca, axis = [], [], []
    count = len(before)
    for layer, frame in enumerate(frames):
        was = np.concatenate([before.chosen[layer], before.rejected[layer]])
        now = np.concatenate([after.chosen[layer], after.rejected[layer]])
        places = _places(before, layer, now, held)
        moved = places - _places(before, layer, was, held)
        coords = frame.coordinates(now)
        pca.append(coords[:, :2] @ pictures.turns["pca"][layer])
        beside = coords[:, 3:4] @ pictures.turns["axis"][layer]
        axis.append(np.concatenate([places[:, None], beside], axis=1))
        row = scores[layer]
        rows.append(
            LayerMove(
                layer=layer,
                shift=float(moved.mean()),
                shift_chosen=float(moved[:count].mean()),
                shift_rejected=float(moved[count:].mean()),
                relative=_relative(was, now),
                cosine=_cosine((now - was).mean(0, dtype=np.float64), preference_direction(before, layer)),
                probe_auc_after=row.probe_auc,
                low=row.probe_auc_low,
                high=row.probe_auc_high,
            )
        )
    return Movement(
        run=run,
        layers=rows,
        target_layers=[int(layer) for layer in target_layers],
        finding=finding(rows, target_layers),
        pca=np.stack(pca).astype(np.float32),
        axis=np.stack(axis).astype(np.float32),
    )


def _places(before: Activations, layer: int, states: np.ndarray, held: Any) -> np.ndarray:
    """States [2N, d] of the same pairs on the preference axis of ``before``'s training folds, [2N]."""
    chosen, rejected = (torch.from_numpy(side[layer]) for side in (before.chosen, before.rejected))
    axes = difference_axes(chosen, rejected, held)
    fold = torch.from_numpy(held.of_pair)[:, None]
    sides = torch.from_numpy(states).split(len(before))
    raw = [(side @ axes.directions.T).gather(1, fold)[:, 0] for side in sides]
    return axes.place(raw, held.of_pair).reshape(-1).numpy()


def _relative(was: np.ndarray, now: np.ndarray) -> float:
    size = np.linalg.norm(was, axis=1)
    return float((np.linalg.norm(now - was, axis=1) / np.maximum(size, 1e-30)).mean())


def _cosine(move: np.ndarray, direction: np.ndarray) -> float:
    size = float(np.linalg.norm(move) * np.linalg.norm(direction))
    return float(move @ direction) / size if size > 0 else 0.0


_NOTHING = 0.05  # half-gaps, and shares of a state's size, below which nothing is said to have moved


def finding(rows: Sequence[LayerMove], targets: Sequence[int] = ()) -> str:
    """What moved and where, without a full stop."""
    most = max(rows, key=lambda row: abs(row.shift))
    if max(row.relative for row in rows) < 1e-6:
        return "The run moved nothing: all states are as before"
    apart = max(rows, key=lambda row: abs(row.shift_chosen - row.shift_rejected))
    sides = apart.shift_chosen, apart.shift_rejected
    lesser, larger = sorted(map(abs, sides))
    against = sides[0] * sides[1] < 0 and lesser >= max(_NOTHING, larger / 2)  # the mean of both would hide it
    if against and larger + lesser > 2 * abs(most.shift):
        way = "apart" if sides[0] > sides[1] else "towards each other"
        far = " and ".join(f"{side:+.1f}".replace("-", "\N{MINUS SIGN}") for side in sides)
        return f"Chosen and rejected answers moved {way}, most at block {apart.layer} ({far} half-gaps)"
    if abs(most.shift) < _NOTHING:
        far = max(rows, key=lambda row: row.relative)
        return (
            f"States moved by up to {far.relative:.0%} of their size (block {far.layer}), but not along the "
            "preference axis"
        )
    towards = "chosen" if most.shift > 0 else "rejected"
    aimed = f", aimed at block{'s' if len(targets) > 1 else ''} {', '.join(map(str, targets))}" if targets else ""
    first = most.layer
    for row in reversed(rows[: list(rows).index(most)]):  # back as far as every block moved that way
        if abs(row.shift) < _NOTHING or row.shift * most.shift < 0:
            break
        first = row.layer
    start = f" from block {first} on" if first < most.layer else ""
    return (
        f"Answers moved towards {towards}{start}, most at block {most.layer} ({abs(most.shift):.1f} half-gaps){aimed}"
    )
