"""Runs as folders on disk: made here, found here, read by every door.

A run's folder holds ``run.json`` (what it is: id, kind, owner), ``config.yaml`` (everything needed to repeat it),
``status.json`` (where it stands), ``about.json`` (the name and note somebody gave it), ``events.jsonl`` (what happened),
``worker.log`` (what libraries printed, and tracebacks), and whatever its work writes. Nothing but these files is
shared between the page, the command line and the workers, so each can be closed and opened again without the others
noticing.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.progress import Event
from workbench.runs import files
from workbench.runs.events import EventLog

STATES = ("queued", "running", "stopped", "interrupted", "failed", "finished")
ID = re.compile(r"[a-z][a-z0-9]{0,31}-\d{8}-\d{6}-[a-z0-9]{12}")
KIND = re.compile(r"[a-z][a-z0-9]{0,31}")
GONE = (
    "The process of this run ended without saying why (killed or out of memory); "
    "resume goes on from the last checkpoint."
)
GONE_FULL = "The disk is full and the process of this run ended: free some space and resume from the last checkpoint."
FORCED = "Stopped by force, because it did not answer; resume goes on from the last checkpoint."
HOWS = ("pause", "keep", "discard")  # a stop: to be resumed; with an adapter of the steps done; into the bin
NAME_AT_MOST, NOTE_AT_MOST = 80, 2000  # characters
SHOWN = (
    "method",
    "model",
    "pairs",
    "layers",
    "alpha",
)  # settings the status repeats, so that lists need one file a run


@dataclass(frozen=True)
class Run:
    """One run. Cheap to make and to throw away: all it knows is on disk."""

    id: str
    path: Path
    kind: str
    owner: str = ""
    created: float = 0.0  # unix seconds
    serial: int = 0  # counts up with every run of this machine, so that the order does not hang on the clock

    @property
    def name(self) -> str:
        """What the terminal's user can open it by: its id, or its folder if that lies elsewhere."""
        return self.id if (runs_root() / self.id).exists() else str(self.path)

    @property
    def adapter(self) -> Path:
        """Where the aligned adapter is, once there is one."""
        return self.path / "adapter"

    def config(self) -> dict[str, Any]:
        """The settings the run was made with. Raises ``UserError`` if the file was damaged."""
        import yaml

        try:
            value = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"The settings of run {self.id} cannot be read ({self.path / 'config.yaml'}).") from error
        return value or {}

    def status(self) -> dict[str, Any]:
        """Where the run stands, with the state told truthfully: a run whose process is gone is ``interrupted``.

        Keys: run, kind, path, title and note (what somebody called it), state, stage, step, total, message, method,
        model, pairs, layers, alpha; created, started (the first time), since (this time), updated, ended (unix seconds
        or None); seconds (worked so far, resumes added), seconds_left (of the stage), silent (seconds since the worker
        last wrote, None unless it works), pid, pid_start, stopping (how it was asked to stop: one of ``HOWS``, or
        False), how (how it was stopped, or None), partial ({steps, of} of an adapter that was kept early, or None),
        error (one sentence or None), result (what the work returned or None). A damaged file lacks no key.
        """
        status = BLANK | {"state": "interrupted", "error": GONE} | (files.read_json(self.path / "status.json") or {})
        if status["state"] not in STATES:
            status["state"] = "interrupted"
        if status["state"] == "queued":
            spawned = files.read_json(self.path / "spawned.json")
            gone = spawned is not None and not files.alive(spawned.get("pid"), spawned.get("pid_start"))
        else:
            gone = status["state"] == "running" and not files.alive(status.get("pid"), status.get("pid_start"))
        if gone:
            # Between the two looks the worker may have written its last word.
            latest = BLANK | (files.read_json(self.path / "status.json") or status)
            died = latest["state"] in ("queued", "running")
            how = self.stop_asked()
            if how:  # that was us
                told = {"state": "stopped", "how": how, "error": None, "message": FORCED}
            else:
                told = {"state": "interrupted", "error": GONE_FULL if _full(self.path) else GONE}
            status = latest | (told | {"ended": latest["updated"]} if died else {})
        status["silent"] = None
        if status["state"] == "running":
            silent = files.seconds_since(status["beat"])
            if silent < float("inf"):
                status |= {"silent": round(silent, 2), "seconds": round(status["seconds"] + silent, 2)}
        status["stopping"] = self.stop_asked() if status["state"] in ("queued", "running") else False
        return status | self.about() | {"run": self.id, "kind": self.kind, "path": str(self.path)}

    def about(self) -> dict[str, str]:
        """The ``title`` and ``note`` that somebody gave the run; empty where nobody did."""
        kept = files.read_json(self.path / "about.json") or {}
        return {
            "title": str(kept.get("title") or "")[:NAME_AT_MOST],
            "note": str(kept.get("note") or "")[:NOTE_AT_MOST],
        }

    def describe(self, title: Any = None, note: Any = None) -> None:
        """Name the run, or write a note to it; what is None stays. Raises ``UserError`` for a text that is too long."""
        given = {"title": (title, NAME_AT_MOST), "note": (note, NOTE_AT_MOST)}
        about = self.about()
        for key, (text, most) in given.items():
            if text is None:
                continue
            if not isinstance(text, str) or len(text) > most:
                raise UserError(f"The {key} of a run is a text of at most {most} characters.")
            text = text.replace("\r", "")
            text = "".join(sign for sign in text if sign.isprintable() or (sign == "\n" and key == "note"))
            about[key] = text.strip()
        try:
            files.write_json(self.path / "about.json", about)
        except OSError as error:
            raise UserError(f"The name could not be kept ({error.strerror or error}): free some disk space.") from error

    @property
    def state(self) -> str:
        """One of ``STATES``."""
        return self.status()["state"]

    def active(self) -> bool:
        """Whether a process works on it, or is about to."""
        status = self.status()
        return status["state"] == "running" or (status["state"] == "queued" and (self.path / "spawned.json").exists())

    def events(self, since: int = 0) -> tuple[list[Event], int]:
        """The events from byte ``since`` on, and where to go on reading."""
        return EventLog(self.path / "events.jsonl").read(since)

    def write_status(self, sync: bool = True, **changes: Any) -> None:
        """Change keys of ``status.json``. Only whoever works on the run (holds its lock) may call this."""
        status = files.read_json(self.path / "status.json") or {}
        files.write_json(self.path / "status.json", status | changes, sync)

    def request_stop(self, how: str = "pause") -> None:
        """Ask the work to end, in one of the ways of ``HOWS``. Does nothing to a run that is not active.

        A stop that was asked for can become another, but the clock of its escalation runs from the first asking.
        """
        if how not in HOWS:
            raise ValueError(f"no such stop: {how!r}")
        if self.active():
            before = files.read_json(self.path / "stop") or {}
            since = before if "tick" in before else files.moment()
            files.write_json(self.path / "stop", since | {"how": how})

    def clear_stop(self) -> None:
        """Take back a request to stop."""
        (self.path / "stop").unlink(missing_ok=True)

    def stop_asked(self) -> str | bool:
        """How somebody asked the work to stop (one of ``HOWS``); False if nobody did."""
        if not (self.path / "stop").exists():
            return False
        how = (files.read_json(self.path / "stop") or {}).get("how")
        return how if how in HOWS else "pause"

    def stop_waits(self) -> float:
        """Seconds since the work was asked to stop; 0 if it was not."""
        asked = files.read_json(self.path / "stop")
        return files.seconds_since(asked) if asked else 0.0

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        """Hold the right to work on this run; False if another process has it. One that has said its last word and is
        about to end is waited for."""
        return files.only_one(self.path / "run.lock", patience=0.0 if self.active() else 2.0)

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Hold the run while its folder is moved or removed. Raises ``UserError`` while something works on it."""
        busy = UserError(f"Run {self.id} is still working; stop it first.")
        if self.active():
            raise busy
        with self.lock() as mine:
            if not mine:
                raise busy
            yield

    def delete(self) -> None:
        """Remove the run's folder for good. Raises ``UserError`` while something works on it."""
        with self.at_rest():
            shutil.rmtree(self.path.resolve(), ignore_errors=True)
        link = runs_root() / self.id
        if link.is_symlink():
            link.unlink()


def runs_root() -> Path:
    """The folder of all runs: ``RAHF_RUNS``, or ``runs`` in the working folder. Absolute; not made here."""
    return Path(os.environ.get("RAHF_RUNS") or "runs").absolute()


def create(kind: str, config: dict[str, Any], owner: str = "", folder: str | Path | None = None) -> Run:
    """Make the folder of a new run, in state ``queued``; nothing starts yet.

    ``config`` is plain data (what ``config.yaml`` will hold). ``owner`` is the visitor it belongs to ("": whoever sits
    at this machine). ``folder`` puts it where the user says (an empty or new folder) and leaves a link in the runs'
    folder, so that lists show it. Raises ``UserError`` if the disk is full or the folder is in use or cannot be made.
    """
    import yaml

    if not KIND.fullmatch(kind):
        raise ValueError(f"not a kind of run: {kind!r}")
    root = runs_root()
    path = Path(folder).absolute() if folder is not None else None
    files.need_space(path or root)
    label = str(config.get("method") or kind)
    run_id = _new_id(label if KIND.fullmatch(label) else kind)
    try:
        if path is None:
            path = root / run_id
            path.mkdir(parents=True)
        else:
            _claim(path, root / run_id)
        run = Run(run_id, path, kind, owner, time.time(), _next_serial(root))
        files.write_whole(path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        files.write_json(path / "status.json", _first_status(config))
        # Last: a folder is a run only once everything else is in place.
        about = {"run": run_id, "kind": kind, "owner": owner, "created": run.created, "serial": run.serial}
        files.write_json(path / "run.json", about)
    except OSError as error:
        raise UserError(f"The run's folder {path} cannot be made: {error.strerror or error}.") from error
    return run


def open_run(run_id: str, owner: str | None = None) -> Run:
    """The run with this id. For callers who must not be trusted (the page): an id, the whole id, and never a path.

    With ``owner``, a run that belongs to somebody else is as good as none. Raises ``UserError``.
    """
    missing = UserError("There is no such run; it may have been deleted.")
    if not isinstance(run_id, str) or not ID.fullmatch(run_id):
        raise missing
    run = read_run(runs_root() / run_id)
    if run is None or run.id != run_id or (owner is not None and run.owner not in ("", owner)):
        raise missing
    return run


def find_run(text: str | Path) -> Run:
    """The run the terminal's user means: a run's folder, an id, or the beginning of one id. Raises ``UserError``."""
    text = str(text)
    path = Path(text).expanduser()
    if text and (run := read_run(path.absolute())):
        return run
    if not text or "/" in text or path.is_dir():
        raise UserError(f"{text or 'An empty name'} is not a run's folder; python -m workbench runs lists the runs.")
    matches = [run for run in list_runs(all=True) if run.id.startswith(text)]
    if not matches:
        raise UserError(f"There is no run {text} in {runs_root()}; python -m workbench runs --all lists the runs.")
    if len(matches) > 1:
        raise UserError(f"{len(matches)} runs begin with {text}: give more of the name ({matches[0].id}, ...).")
    return matches[0]


def list_runs(owner: str | None = None, all: bool = False) -> list[Run]:
    """Runs, newest first: of one owner (``""`` is the terminal) or of everybody; alignments only unless ``all``."""
    try:
        names = [name for name in os.listdir(runs_root()) if ID.fullmatch(name)]
    except OSError:
        return []
    runs = [run for name in names if (run := read_run(runs_root() / name)) and run.id == name]
    runs = [run for run in runs if (all or run.kind == "align") and (owner is None or run.owner == owner)]
    return sorted(runs, key=lambda run: (run.serial, run.created), reverse=True)


def read_run(path: Path) -> Run | None:
    """The run whose folder (or link) ``path`` is; None if it is none."""
    about = files.read_json(path / "run.json")
    if about is None or not ID.fullmatch(str(about.get("run"))) or not KIND.fullmatch(str(about.get("kind"))):
        return None
    created, serial = (
        about.get(key) if isinstance(about.get(key), (int, float)) else 0 for key in ("created", "serial")
    )
    return Run(about["run"], path.resolve(), about["kind"], str(about.get("owner", "")), float(created), int(serial))


def _next_serial(root: Path) -> int:
    """One more than any run had. The count is kept in a file; where that is damaged, the runs themselves are asked."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with files.only_one(root / "serial.lock", patience=5.0):
            last = (files.read_json(root / "serial.json") or {}).get("last")
            if not isinstance(last, int):
                last = max((run.serial for run in list_runs(all=True)), default=0)
            files.write_json(root / "serial.json", {"last": last + 1}, sync=False)
    except OSError:  # the runs' folder cannot be written, and the run lies elsewhere: the clock must do
        return 0
    return last + 1


def _full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 2**16
    except OSError:
        return False


def _new_id(label: str) -> str:
    token = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))
    return f"{label}-{time.strftime('%Y%m%d-%H%M%S')}-{token}"


def _claim(path: Path, link: Path) -> None:
    """Take a folder the user named for a run, and leave a link to it among the runs."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give a folder for the run.")
    if path.is_dir() and any(path.iterdir()):
        what = "already holds a run: resume that one, or" if (path / "run.json").exists() else "is not empty;"
        raise UserError(f"{path} {what} choose another folder.")
    path.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # the link is a convenience: the run works without it
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)


BLANK: dict[str, Any] = {
    "stage": "", "step": 0, "total": 0, "message": "", "seconds": 0.0, "created": 0.0, "updated": None, "partial": None,
    **dict.fromkeys(SHOWN),
    **dict.fromkeys(("started", "since", "ended", "seconds_left", "beat", "pid", "pid_start", "how", "error", "result")),
}  # fmt: skip


def _first_status(config: dict[str, Any]) -> dict[str, Any]:
    now = {"state": "queued", "created": time.time(), "updated": time.time()}
    return BLANK | now | {key: config.get(key) for key in SHOWN}
