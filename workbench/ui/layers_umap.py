"""UMAP of one block, on demand, outside the page's process: its compiled code would hold up every other visitor.

One helper process serves all visitors. It is started with the first request (importing umap takes seconds) and reads
requests, one JSON object a line, until the page's process ends. Results are files in the run's folder, so nothing is
ever computed twice: ``umap-<block>.npy``, or ``umap-<block>.failed`` with a sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

FAILED = "UMAP of block {block} could not be computed ({why}); this is PCA."

_guard = threading.Lock()
_helper: list[subprocess.Popen] = []
_pending: dict[tuple[str, int], int] = {}  # what was asked for, and the process that was asked


def result(folder: Path, block: int) -> np.ndarray | str | None:
    """Coordinates float32 [2n, 2] (chosen first), a sentence if it failed, or None while there is nothing."""
    try:
        return np.load(folder / f"umap-{block}.npy", allow_pickle=False)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        return FAILED.format(block=block, why=error)
    try:
        said = (folder / f"umap-{block}.failed").read_text(encoding="utf-8")
    except OSError:
        return None
    return said or FAILED.format(block=block, why="the disk is full")


def ask(folder: Path, block: int, rows: np.ndarray) -> None:
    """Begin computing the block's UMAP of the pairs ``rows`` of the run in ``folder``, unless it is begun or done."""
    (folder / f"umap-{block}.failed").unlink(missing_ok=True)
    if result(folder, block) is not None:
        return
    with _guard:
        helper = _running()
        if _pending.get((str(folder), block)) == helper.pid:
            return
        _pending[str(folder), block] = helper.pid
        line = json.dumps({"folder": str(folder), "block": block, "rows": rows.tolist()})
        helper.stdin.write(line + "\n")
        helper.stdin.flush()


def pending(folder: Path) -> list[int]:
    """The blocks of this run that are still being computed (or wait for it)."""
    with _guard:
        alive = _helper[0].pid if _helper and _helper[0].poll() is None else None
        for (name, block), pid in list(_pending.items()):
            done = result(Path(name), block) is not None
            if done or pid != alive:
                del _pending[name, block]
                if not done:  # the helper was killed, most likely for memory
                    _write(Path(name) / f"umap-{block}.failed", FAILED.format(block=block, why="its process ended"))
        return sorted(block for name, block in _pending if name == str(folder))


def _running() -> subprocess.Popen:
    if not _helper or _helper[0].poll() is not None:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        _helper[:] = [
            subprocess.Popen(
                [sys.executable, "-m", "workbench.ui.layers_umap"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                env=dict(os.environ, PYTHONPATH=path),
                start_new_session=True,
            )
        ]
    return _helper[0]


def _write(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # the run was deleted meanwhile
        path.write_text(text, encoding="utf-8")


def serve(lines: Any) -> None:
    """Compute what the lines ask for, one after another."""
    kept: tuple[str, Any] | None = None
    for line in lines:
        request = json.loads(line)
        folder, block = Path(request["folder"]), int(request["block"])
        try:
            if kept is None or kept[0] != request["folder"]:
                kept = None  # not both in memory
                kept = (request["folder"], _activations(folder, request["rows"]))
            from workbench.representations import umap_layer

            coords = umap_layer(kept[1], block)
            part = folder / f"umap-{block}.part.npy"
            np.save(part, coords, allow_pickle=False)
            part.replace(folder / f"umap-{block}.npy")
        except Exception as error:  # whatever it is, somebody waits for an answer
            why = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            _write(folder / f"umap-{block}.failed", FAILED.format(block=block, why=why))


def _activations(folder: Path, rows: list[int]) -> Any:
    from dataclasses import replace

    from workbench.representations import Activations
    from workbench.representations.analysis import ACTIVATIONS

    whole = Activations.load(folder / ACTIVATIONS)
    return replace(
        whole, chosen=whole.chosen[:, rows], rejected=whole.rejected[:, rows], pair_ids=whole.pair_ids[rows],
        lengths=whole.lengths[rows], cut=whole.cut[rows] if len(whole.cut) else whole.cut,
    )  # fmt: skip


if __name__ == "__main__":
    serve(sys.stdin)
