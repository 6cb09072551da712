"""What runs need from the operating system: whole files or none, one worker at a time, is that process alive, how much
time has passed whatever the clock says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.jsonfile import read_json, write_json, write_whole

__all__ = [
    "alive",
    "boot",
    "moment",
    "need_space",
    "only_one",
    "process_start",
    "read_json",
    "seconds_since",
    "sweep",
    "write_json",
    "write_whole",
]
SPACE_NEEDED = (
    256 * 2**20
)  # bytes a run may be expected to write: adapters, checkpoints and activations of a small model


def sweep(folder: Path) -> None:
    """Remove what killed writers left half-written in ``folder`` and the folders in it."""
    with contextlib.suppress(OSError):
        for place, _, names in os.walk(folder):
            for name in names:
                _, _, writer = name.rpartition("-")[0].rpartition("-")
                if name.startswith(".") and writer.isdigit() and process_start(int(writer)) is None:
                    Path(place, name).unlink(missing_ok=True)


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
