"""What runs need from the operating system: whole files or none, one worker at a time, is that process alive."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.progress import finite

SPACE_NEEDED = (
    256 * 2**20
)  # bytes a run may be expected to write: adapters, checkpoints and activations of a small model


def write_whole(path: Path, text: str, sync: bool = True) -> None:
    """Replace the file at ``path`` by ``text`` so that a reader sees the old or the new content, never a part.

    ``sync=False`` skips waiting for the disk: still whole for readers and after a kill, not after a power cut.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def write_json(path: Path, value: Any, sync: bool = True) -> None:
    """Write strict JSON (no NaN) to ``path``, whole or not at all."""
    write_whole(path, json.dumps(finite(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n", sync)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``; None if there is none (missing, unreadable, or not an object)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Hold the lock file at ``path``; yields False, at once, if another process or thread holds it.

    The system lets go of the lock when its holder ends, however it ends, so no stale lock can be left behind.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def process_start(pid: int) -> float | None:
    """When the process with this id started, in unix seconds; None if there is none (or it is only a zombie)."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (psutil.Error, ValueError, OverflowError):
        return None


def alive(pid: Any, start: Any) -> bool:
    """Whether the very process that had ``pid`` and started at ``start`` runs: an id alone is used again."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    now = process_start(pid)
    # The start time is derived from the boot time, which moves a little when the clock is adjusted.
    return now is not None and (not isinstance(start, (int, float)) or abs(now - start) < 2.0)


def need_space(folder: Path, needed: int = SPACE_NEEDED) -> None:
    """Raise ``UserError`` if the disk of ``folder`` (or its nearest parent) has under ``needed`` bytes free."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"The disk of {folder} has {free / 2**20:.0f} MB free and a run needs {needed / 2**20:.0f} MB; "
            "free some space or choose another folder."
        )
