"""UMAP of all blocks of a capture, on demand and outside the page's process: its compiled code would hold up every
other visitor, and it must be possible to end it at once.

One job a run. Jobs of different visitors wait for each other; each is a process of its own that is ended to stop it,
and that ends by itself when the page's process does. The result is a file in the run's folder, so nothing is computed
twice: ``umap.npy`` (float32 [L, 2n, 2], chosen first), or ``umap.failed`` with a sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FAILED = "UMAP could not be computed ({why}); this is PCA."
FILE, SAID = "umap.npy", "umap.failed"


@dataclass
class _Job:
    """What was asked for. ``process`` is None while it waits."""

    folder: Path
    rows: list[int]
    process: subprocess.Popen | None = None
    step: int = 0
    total: int = 0
    stopped: bool = False
    trouble: list[str] = field(default_factory=list)


_guard = threading.Lock()
_jobs: list[_Job] = []  # the first is being computed, the others wait
_stopped: set[str] = set()  # folders whose job was stopped and not asked for again
_worker: list[threading.Thread] = []


def result(folder: Path, points: int | None = None) -> np.ndarray | None:
    """Coordinates [L, 2n, 2] if they are there; ``points`` is the 2n they must have to be of these pairs."""
    try:
        found = np.load(folder / FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if found.ndim != 3 or found.shape[2] != 2 or (points is not None and found.shape[1] != points):
        return None
    return found


def state(folder: Path) -> dict[str, Any]:
    """How far the UMAP of this run is: ``state`` ("none", "waiting", "running", "done", "failed", "stopped"), ``step``
    of ``total`` steps (0 of 0: not known yet), and ``why`` it failed."""
    with _guard:
        job = _job_of(folder)
        if job is not None:
            now = "running" if job is _jobs[0] and job.process is not None else "waiting"
            return {"state": now, "step": job.step, "total": job.total, "why": ""}
        stopped = str(folder) in _stopped
    if (folder / FILE).exists():
        return {"state": "done", "step": 0, "total": 0, "why": ""}
    try:
        return {"state": "failed", "step": 0, "total": 0, "why": (folder / SAID).read_text(encoding="utf-8")}
    except OSError:
        return {"state": "stopped" if stopped else "none", "step": 0, "total": 0, "why": ""}


def pending(folder: Path) -> bool:
    """Whether the UMAP of this run is being computed or waits for it."""
    with _guard:
        return _job_of(folder) is not None


def ask(folder: Path, rows: np.ndarray) -> None:
    """Begin computing the UMAP of the pairs ``rows`` of the run in ``folder``, unless it is begun or done."""
    if result(folder, 2 * len(rows)) is not None:
        return
    for name in (FILE, SAID):
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)
    with _guard:
        _stopped.discard(str(folder))
        if _job_of(folder) is not None:
            return
        _jobs.append(_Job(folder, [int(row) for row in rows]))
        if not _worker:
            _worker.append(threading.Thread(target=_work, name="umap", daemon=True))
            _worker[0].start()


def stop(folder: Path) -> None:
    """End the job of this run at once, if there is one; the next that waits goes on."""
    with _guard:
        job = _job_of(folder)
        if job is None:
            return
        job.stopped = True
        _stopped.add(str(folder))
        if job.process is None:
            _jobs.remove(job)
        else:
            job.process.kill()


def _job_of(folder: Path) -> _Job | None:
    return next((job for job in _jobs if job.folder == folder and not job.stopped), None)


def _work() -> None:
    """Do the jobs one after another, until none is left."""
    while True:
        with _guard:
            if not _jobs:
                _worker.clear()
                return
            job = _jobs[0]
            try:
                job.process = _start(job)
            except OSError as error:
                job.trouble.append(error.strerror or str(error))
        if job.process is not None:
            _follow(job)
        if not job.stopped and result(job.folder, 2 * len(job.rows)) is None:
            why = job.trouble[-1] if job.trouble else "its process ended"
            _write(job.folder / SAID, FAILED.format(why=why))
        with _guard:
            if job in _jobs:  # not if it was stopped before it could start
                _jobs.remove(job)


def _start(job: _Job) -> subprocess.Popen:
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench.ui.layers_umap"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=dict(os.environ, PYTHONPATH=path), start_new_session=True,
    )  # fmt: skip
    with contextlib.suppress(OSError):  # it ended already: _follow finds out
        process.stdin.write(json.dumps({"folder": str(job.folder), "rows": job.rows}) + "\n")
        process.stdin.flush()
    return process


def _follow(job: _Job) -> None:
    for line in job.process.stdout:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            said = json.loads(line)
            if "why" in said:
                job.trouble.append(str(said["why"]))
            else:
                job.step, job.total = int(said["step"]), int(said["total"])
    with contextlib.suppress(OSError):
        job.process.stdin.close()
    job.process.wait()


def _write(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # the run was deleted meanwhile
        path.write_text(text, encoding="utf-8")


# -- in the process of its own -----------------------------------------------------------------------------------------


def compute(folder: Path, rows: list[int], tell: Any) -> None:
    """Compute and write the UMAP of all blocks of a run; ``tell(step, total)`` says how far it is."""
    from workbench.progress import Progress
    from workbench.representations import umap_aligned

    acts = _activations(folder, rows)
    coords = umap_aligned(acts, progress=Progress(lambda event: tell(event.step, event.total)))
    part = folder / f"umap.{os.getpid()}.part.npy"
    try:
        np.save(part, coords.astype(np.float32), allow_pickle=False)
        part.replace(folder / FILE)
    finally:
        part.unlink(missing_ok=True)


def _activations(folder: Path, rows: list[int]) -> Any:
    from dataclasses import replace

    from workbench.representations import Activations
    from workbench.representations.analysis import ACTIVATIONS

    whole = Activations.load(folder / ACTIVATIONS)
    return replace(
        whole, chosen=whole.chosen[:, rows], rejected=whole.rejected[:, rows], pair_ids=whole.pair_ids[rows],
        lengths=whole.lengths[rows], cut=whole.cut[rows] if len(whole.cut) else whole.cut,
    )  # fmt: skip


def _end_with_parent() -> None:
    while os.read(0, 4096):  # nothing more is ever sent: this returns when the other end is closed
        pass
    os._exit(1)


def main() -> None:
    """Compute what the first line of the standard input asks for; say on the standard output how far it is."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no message

    def say(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        compute(Path(request["folder"]), request["rows"], lambda step, total: say(step=step, total=total))
    except Exception as error:  # whatever it is, somebody waits for an answer
        text = str(error).strip()
        say(why=text.splitlines()[0][:160] if text else type(error).__name__)


if __name__ == "__main__":
    main()
