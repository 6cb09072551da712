"""Text and JSON files that are whole or not there, on any floor."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from workbench import processes
from workbench.progress import finite


def write_whole(path: Path, text: str, sync: bool = True) -> None:
    """Replace the file at ``path`` by ``text`` so that a reader sees the old or the new content, never a part.

    ``sync=False`` skips waiting for the disk: still whole for readers and after a kill, not after a power cut. Raises
    ``OSError`` if the disk does not take it; the old content then stays. A killed writer leaves a file
    ``.NAME-PID-...`` behind (see :func:`sweep`). Of several processes that do one run only the first writes.
    """
    if not processes.first():
        return
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
        sync_path(path.parent)


def write_json(path: Path, value: Any, sync: bool = True) -> None:
    """Write strict JSON (a NaN becomes null) to ``path``, whole or not at all. Raises ``OSError``."""
    write_whole(path, json.dumps(finite(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n", sync)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``; None if there is none (missing, unreadable, damaged, or not an object)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def sync_path(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: without it a power cut may take back a rename.

    Raises ``OSError`` if the disk refuses a file; for folders some file systems do not offer it, which is passed over.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
