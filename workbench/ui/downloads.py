"""Files on their way to the browser: each in a fresh folder under one that only this user can open, and taken away soon
after. Gradio copies a file before it answers, so nothing here is needed for long."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from pathlib import Path

from workbench.errors import UserError

PREFIX = "rahf-downloads-"
KEPT = 3600  # seconds
_guard = threading.Lock()
_home: Path | None = None


def place(name: str) -> Path:
    """Where a file of this name may be written: in a fresh folder, which is gone an hour later. Removes what is older.

    Raises UserError if there is no room for a folder."""
    sweep()
    try:
        return Path(tempfile.mkdtemp(dir=home())) / name
    except OSError as error:
        raise UserError(
            f"The file could not be made ({error.strerror or error}): free some disk space and try again."
        ) from error


def handed(made: Path) -> Path:
    """The same file where Gradio may serve it from: the temporary folder, while the runs' own folder stays closed."""
    if made.parent.parent == home():
        return made
    to = place(made.name)
    try:
        to.hardlink_to(made)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(made, to)
    return to


def sweep() -> None:
    """Remove what is older than an hour: of this process, and of those of this user that ended before they could."""
    own = home()
    for other in own.parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if other.is_symlink() or other.stat().st_uid != own.stat().st_uid:
                continue
            for folder in other.iterdir():
                if _age(folder) > KEPT:
                    shutil.rmtree(folder, ignore_errors=True)
            if other != own and _age(other) > KEPT:
                other.rmdir()  # fails while anything is in it


def home() -> Path:
    """The folder of this process (mode 0700), made when it is first needed."""
    global _home
    with _guard:
        if _home is None or not _home.is_dir():
            _home = Path(tempfile.mkdtemp(prefix=PREFIX))
        return _home


def _age(folder: Path) -> float:
    """Seconds since anything was written into a folder."""
    return time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
