"""Starting the process of a run and ending it: ask, then SIGTERM, then SIGKILL, and the run is whole afterwards."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.progress import steady
from workbench.runs import bin, files, store
from workbench.runs.store import Run

# How a stopped run leaves a usable adapter: keep(config, folder) -> {"steps", "of"}, or None where there is none yet.
KEEP = {"align": "workbench.runs.work:keep_align", "baseline": "workbench.runs.work:keep_align"}
WORDS = {
    "pause": "Stopped; resume goes on from the last checkpoint.",
    "discard": "Stopped, to be discarded.",
}
DISCARDED = "discarded"
GRACE = 4.5  # seconds from the asking to SIGKILL; SIGTERM comes after half of it
SAVING = 30.0  # seconds for work that has noticed, to write its checkpoint


def spawn(run: Run) -> None:
    """Start the work of ``run`` in a process of its own, which lives on when this one ends; returns at once.

    Raises ``UserError`` if something works on the run already, or the disk is full.
    """
    files.need_space(run.path)
    with files.only_one(run.path / "launch.lock") as mine:
        if not mine or run.active():
            raise UserError(f"Run {run.id} is working already.")
        run.clear_stop()
        (run.path / "spawned.json").unlink(missing_ok=True)
        run.write_status(state="queued", error=None, ended=None, since=None, how=None)
        environment = dict(os.environ, RAHF_RUNS=str(store.runs_root()))
        package = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        with open(run.path / "worker.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workbench.runs", str(run.path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        claim(run, process.pid)
    threading.Thread(target=process.wait, daemon=True).start()  # or it would stay a zombie until this process ends


def claim(run: Run, pid: int) -> None:
    """Write down that the process ``pid`` is about to work on the run."""
    files.write_json(run.path / "spawned.json", {"pid": pid, "pid_start": files.process_start(pid) or ""})


def stop(run: Run, how: str = "pause", grace: float = GRACE, saving: float = SAVING) -> str:
    """End a run in one of the ways of ``store.HOWS`` and return its state. Blocks until it is over.

    The work is asked first; after half of ``grace`` seconds comes SIGTERM, and at their end SIGKILL. Work that noticed
    has ``saving`` seconds to write its checkpoint. With "keep" the steps done so far become a usable adapter, also of
    a run that was stopped, interrupted or failed before; with "discard" the run goes to the bin (the state returned is
    then ``discarded``). A finished run stays as it is. Raises ``UserError``.
    """
    run.request_stop(how)
    if run.active() and _process(run)[0] == os.getpid():  # it works in this very process: it can only be asked
        return run.state
    while run.active():
        urge(run, grace, saving)
        time.sleep(0.05)
    return settle(run, how)


def stop_soon(run: Run, how: str = "pause", grace: float = GRACE, saving: float = SAVING) -> None:
    """:func:`stop` without waiting, for the page: ask now, and see to it in the background."""
    run.request_stop(how)

    def see_to_it() -> None:
        with contextlib.suppress(UserError, OSError):  # whoever looks next tries again
            stop(run, how, grace, saving)

    threading.Thread(target=see_to_it, daemon=True).start()


def urge(run: Run, grace: float | None = None, saving: float = SAVING) -> None:
    """Do what is due now for a run that was asked to stop: nothing yet, SIGTERM, or SIGKILL."""
    grace = GRACE if grace is None else grace
    waited, how = run.stop_waits(), run.stop_asked()
    pid, start = _process(run)
    if not how or pid == os.getpid():
        return
    noticed = (files.read_json(run.path / "status.json") or {}).get("noticed") is True
    if how == "discard":  # nothing is to be saved
        grace, noticed = min(grace, 2.0), False
    if waited > (max(saving, grace) if noticed else grace):
        _signal(pid, start, signal.SIGKILL)
    elif waited > grace / 2 and not noticed:
        _signal(pid, start, signal.SIGTERM)


def settle(run: Run, how: str | None = None) -> str:
    """Finish what a stop began, once no process works on the run: its state, its adapter, or its way to the bin.

    ``how`` is what was asked for (None: what is written in the run). May be called at any time by anybody; returns the
    state. Raises ``UserError``.
    """
    how = how or run.stop_asked()
    if not how or run.active():
        return run.state
    try:
        return _settled(run, str(how))
    except FileNotFoundError:  # its own worker has taken it to the bin meanwhile
        if how == "discard" and not run.path.exists():
            return DISCARDED
        raise


def _settled(run: Run, how: str) -> str:
    with run.lock() as mine:
        if not mine:
            raise UserError(f"Run {run.id} is about to end; try again in a moment.")
        status, written = run.status(), files.read_json(run.path / "status.json") or {}
        if written.get("state") == "queued" or (written.get("state") == "running" and run.stop_asked()):
            # It went without a last word, which was us, or it never began.
            said = WORDS["pause"] if written["state"] == "queued" else store.FORCED
            run.write_status(
                state="stopped", how=how, message=said, error=None, seconds=status["seconds"], ended=steady()
            )
        try:
            by_itself = written.get("state") == "stopped" and written.get("how") == "keep"
            done = by_itself and written.get("partial") is not None
            if how == "keep" and status["state"] != "finished" and not done:
                run.write_status(state="stopped", how="keep", error=None, **keep(run))
        finally:
            run.clear_stop()
    if how == "discard" and status["state"] != "finished":
        bin.throw_away(run)
        return DISCARDED
    return run.state


def keep(run: Run) -> dict[str, Any]:
    """Make the adapter of a run's last checkpoint its adapter, marked as partial.

    Only for whoever holds the run's lock. Returns what the status is to say of it: ``message`` and, unless the run had
    not come to its adapter yet, ``partial`` ({"steps", "of"}).
    """
    target = KEEP.get(run.kind)
    module, function = target.split(":") if target else ("", "")
    kept = getattr(importlib.import_module(module), function)(run.config(), run.path) if target else None
    if not kept:
        return {"message": "Stopped before it had an adapter; resume goes on from the last checkpoint."}
    said = f"Stopped at step {kept['steps']} of {kept['of']}; the adapter of these steps is kept, and resume goes on."
    return {"message": said, "partial": kept}


def _process(run: Run) -> tuple[int | None, Any]:
    """Which process works on the run, as far as is known."""
    status = files.read_json(run.path / "status.json") or {}
    if status.get("state") != "running":
        status = files.read_json(run.path / "spawned.json") or {}
    return status.get("pid"), status.get("pid_start")


def _signal(pid: int | None, start: Any, number: int) -> None:
    """Signal the process, and with SIGKILL whatever it has started, where it leads a session of its own."""
    if not pid or not files.alive(pid, start):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number == signal.SIGKILL and os.getsid(pid) == pid and os.getsid(0) != pid:
            os.killpg(pid, number)
        os.kill(pid, number)
