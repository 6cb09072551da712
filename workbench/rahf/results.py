"""What a run's folder says of its aligned model, whether the run has finished or was stopped and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.jsonfile import read_json

CHOSEN = "chosen.json"  # what step 3 was begun with
RESULT = "result.json"
MADE_OF = "made_of.json"  # the stamp of everything the run made


def read_result(folder: Path) -> dict[str, Any]:
    """What a run chose and measured: all of ``result.json`` where it has finished.

    Of a run that was stopped and kept: what it had chosen when step 3 began, ``partial`` ({"steps", "of"}), and no
    held-out figures. Raises UserError if it has neither.
    """
    if (result := read_json(folder / RESULT)) is not None:
        return result
    kept = _kept(folder / "adapter" / "adapter_model.safetensors")
    if kept is None:
        raise UserError(f"The run {folder.name} has not finished: resume it, or stop it and keep what it has.")
    if (chosen := read_json(folder / CHOSEN)) is None:
        raise UserError(f"What the run {folder.name} had chosen can no longer be read: resume it to its end.")
    return chosen | {"partial": kept, "steps": kept["steps"], "held_out": None}


def number_format(folder: Path, asked: str) -> str:
    """The number format that a run computes in: the one it took when it began, so that "auto" means the same when it goes
    on, or is asked, on another device (the same weights in another format would be other weights); else ``asked``."""
    return (read_json(folder / MADE_OF) or {}).get("dtype") or asked


def _kept(weights: Path) -> dict[str, int] | None:
    """How far step 3 had come when this adapter was kept; None if it is whole, or there is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "numpy") as file:
            found = json.loads((file.metadata() or {}).get("made_of") or "{}").get("partial")
        return {"steps": int(found["steps"]), "of": int(found["of"])}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
