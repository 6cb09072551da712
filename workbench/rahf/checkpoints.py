"""Checkpoints that are whole or not there: written, synced to the disk, then sealed with the digest of every file.

A checkpoint counts only with its seal, and only if every file still has the digest written there; so neither a kill in
the middle of writing nor a disk that lost or changed bytes can become part of a result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.jsonfile import sync_path, write_whole

SEAL = "sealed.json"
BLOCK = 2**20


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its folder, its step, and what the trainer noted beside it."""

    path: Path
    step: int
    about: dict[str, Any]


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Make the checkpoint in ``folder`` count; ``about`` is plain JSON. Raises ``OSError`` if the disk refuses."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != SEAL)
    value = {"files": {name: digest(folder / name, sync=True) for name in names}, "about": about}
    write_whole(folder / SEAL, json.dumps(value, allow_nan=False))
    sync_path(folder.parent)


def opened(folder: Path) -> Checkpoint | None:
    """The checkpoint in ``folder``; None if it is torn or damaged, or never was sealed."""
    try:
        value = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        names, about = value["files"], value["about"]
        whole = all(digest(folder / name) == wanted for name, wanted in names.items())
        return Checkpoint(folder, int(folder.name.rpartition("-")[2]), about) if whole and names else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint (by its step) in ``folder``, None without one. What is newer and broken is removed."""
    for path in _folders(folder):
        if found := opened(path):
            return found
        shutil.rmtree(path, ignore_errors=True)
    return None


def prune(folder: Path, keep: int = 2) -> None:
    """Remove all but the newest ``keep`` checkpoints, by step: the clock may have gone back."""
    for path in _folders(folder)[keep:]:
        (path / SEAL).unlink(missing_ok=True)  # first, so that a kill within leaves nothing that looks whole
        shutil.rmtree(path, ignore_errors=True)


def digest(path: Path, sync: bool = False) -> str:
    """SHA-256 of a file; with ``sync`` it is on the disk afterwards. Raises ``OSError``."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
        if sync:
            os.fsync(file.fileno())
    return found.hexdigest()


def _folders(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
