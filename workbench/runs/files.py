"""What runs need from the operating system: whole files or none, one worker at a time, is that process alive, how much
time has passed whatever the clock says."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.progress import finite

SPACE_NEEDED = (
    256 * 2**20
)  # bytes a run may be expected to write: adapters, checkpoints and activations of a small model


def write_whole(path: Path, text: str, sync: bool = True) -> None:
    """Replace the file at ``path`` by ``text`` so that a reader sees the old or the new content, never a part.

    ``sync=False`` skips waiting for the disk: still whole for readers and after a kill, not after a power cut. Raises
    ``OSError`` if the disk does not take it; the old content then stays.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-{os.getpid()}-")
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
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk: without it a power cut may take back a rename."""
    with contextlib.suppress(OSError):  # some file systems do not offer it
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed writers left half-written in ``folder`` (its own files only, not those of folders in it)."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            _, _, writer = name.rpartition("-")[0].rpartition("-")
            if name.startswith(".") and writer.isdigit() and process_start(int(writer)) is None:
                (folder / name).unlink(missing_ok=True)


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
def only_one(path: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold the lock file at ``path``; yields False if another process or thread holds it for ``patience`` seconds more.

    The system lets go of the lock when its holder ends, however it ends, so no stale lock can be left behind.
    """
    handle, until = os.open(path, os.O_RDWR | os.O_CREAT, 0o644), time.monotonic() + patience
    try:
        mine = _flock(handle)
        while not mine and time.monotonic() < until:
            time.sleep(0.02)
            mine = _flock(handle)
        yield mine
    finally:
        os.close(handle)


def _flock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def process_start(pid: int) -> str | float | None:
    """What tells the process with this id from any other that had or will have it; None if there is none.

    On Linux the boot and the tick of that boot at which it began: neither moves when the clock is set. Elsewhere its
    start in unix seconds. A zombie is no process.
    """
    if os.path.exists("/proc/self/stat"):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                words = file.read().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return None if words[0] in "ZX" else f"{boot()}:{words[19]}"
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (psutil.Error, ValueError, OverflowError):
        return None


def alive(pid: Any, start: Any) -> bool:
    """Whether the very process that had ``pid`` and began at ``start`` runs: an id alone is used again.

    ``start`` None stands for any process of that id.
    """
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31:
        return False
    now = process_start(pid)
    if now is None or start is None:
        return now is not None
    if isinstance(now, float) and isinstance(start, (int, float)):
        return abs(now - start) < 2.0  # derived from the boot time, which moves a little when the clock is adjusted
    return now == start


@cache
def boot() -> str:
    """A name for this start of the machine; empty where the system gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()[:13]
    except OSError:
        return ""


def moment() -> dict[str, Any]:
    """Now, for :func:`seconds_since` in whichever process: no change of the clock touches it."""
    return {"tick": round(time.monotonic(), 3), "boot": boot()}


def seconds_since(then: Any) -> float:
    """Seconds passed since a :func:`moment`; infinite if it was before the machine was started, or is none."""
    tick = then.get("tick") if isinstance(then, dict) else None
    if not isinstance(tick, (int, float)) or then.get("boot") != boot():
        return float("inf")
    return max(0.0, time.monotonic() - tick)


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
