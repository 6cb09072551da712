"""Writing arrays to disk so that a file is either whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import UserError


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write arrays and text metadata as safetensors, in one atomic step. Raises UserError if the disk refuses."""
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    _atomically(Path(path), lambda part: save_file(whole, part, metadata=metadata))


def write_json(path: Path | str, value: Any) -> None:
    """Write strict JSON (no NaN) in one atomic step. Raises UserError if the disk refuses."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1)
    _atomically(Path(path), lambda part: Path(part).write_text(text, encoding="utf-8"))


def read_arrays(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a safetensors file. Raises UserError if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}): capture the activations again.") from error


def _atomically(path: Path, write) -> None:
    from safetensors import SafetensorError

    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(str(part))
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{path} could not be written ({error}): free disk space or choose another folder.") from error
