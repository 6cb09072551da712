"""What one visitor has on the page, kept on the server so that a reload, a second tab or a restart finds everything.

A visitor is an unguessable id that the browser keeps (``gr.BrowserState``); knowing it is the only key to the folder
``<runs>/workspaces/<id>/``. Handlers get the id, open the workspace, and change it with :func:`change`.
"""

from __future__ import annotations

import gc
import os
import re
import secrets
import string
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.errors import UserError

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs import PreferencePairs
    from workbench.runs.store import Run

STEPS = ("pairs", "layers", "align", "compare", "export")
VISITOR = re.compile(r"[a-z0-9]{32}")
STORAGE_KEY = "rahf-workbench-visitor"
STORAGE_SECRET = (
    "rahf-workbench"  # not a secret: Gradio sends it to the browser; fixed, so that a restart can still read
)
LOST = "This page has lost its place on the server: reload it, nothing is lost."

_locks: dict[str, threading.RLock] = {}
_locks_guard = threading.Lock()


@dataclass(frozen=True)
class Workspace:
    """Everything one visitor has chosen. Change it with :func:`change`, never in place.

    pairs: {source, name, path, report, count, fingerprint, edited} or None; ``path`` is the clean file in the workspace
    (None for bundled pairs that were not edited). model: {source, name, blocks}. picked: block numbers, or None before
    anybody chose. separability_run, run: ids. settings: what the steps keep (their own keys).
    """

    visitor: str
    pairs: dict[str, Any] | None = None
    model: dict[str, Any] = field(default_factory=lambda: {"source": "demo"})
    pooling: str = "mean"
    separability_run: str | None = None
    picked: list[int] | None = None
    run: str | None = None
    step: str = "pairs"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The visitor's folder (made on the first change)."""
        return workspaces() / self.visitor

    @property
    def pairs_source(self) -> str | None:
        """What ``load_pairs`` and a run's configuration take: the clean file, or the name of the bundled set."""
        return (self.pairs.get("path") or self.pairs["source"]) if self.pairs else None

    @property
    def model_source(self) -> str:
        """What ``load_model`` and a run's configuration take."""
        return str(self.model.get("source") or "demo")


def workspaces() -> Path:
    """The folder of all visitors' folders."""
    from workbench.runs.store import runs_root

    return runs_root() / "workspaces"


def new_visitor() -> str:
    """An id nobody can guess (165 bits)."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(32))


def is_visitor(value: Any) -> bool:
    """Whether ``value`` has the form of a visitor id; nothing else may become part of a path."""
    return isinstance(value, str) and VISITOR.fullmatch(value) is not None


def open_workspace(visitor: Any) -> Workspace:
    """The visitor's workspace as it is on disk now (a new one where there is none). Raises UserError for a bad id."""
    from workbench.runs.files import read_json

    if not is_visitor(visitor):
        raise UserError(LOST)
    saved = read_json(workspaces() / visitor / "workspace.json") or {}
    known = {item.name for item in fields(Workspace)} - {"visitor"}
    workspace = Workspace(visitor, **{name: saved[name] for name in known if name in saved})
    return workspace if workspace.step in STEPS else replace(workspace, step="pairs")


def change(visitor: Any, **changes: Any) -> Workspace:
    """Write these fields and return the workspace. Other fields keep what any other tab wrote meanwhile.

    Raises UserError for a bad id or a disk that does not take it.
    """
    return update(visitor, lambda workspace: changes)


def update(visitor: Any, changes: Callable[[Workspace], dict[str, Any]]) -> Workspace:
    """Like :func:`change`, with the changes computed from the workspace while nobody else can write it."""
    from workbench.runs.files import write_json

    with lock_of(visitor):
        workspace = open_workspace(visitor)
        workspace = replace(workspace, **changes(workspace))
        try:
            workspace.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            saved = asdict(workspace)
            del saved["visitor"]
            write_json(workspace.folder / "workspace.json", saved, sync=False)
        except OSError as error:
            raise UserError(
                f"Your choice could not be kept ({error.strerror or error}): free some disk space and try again."
            ) from error
    return workspace


def keep_setting(visitor: Any, **settings: Any) -> Workspace:
    """Write keys of ``settings`` and leave the others alone."""
    return update(visitor, lambda workspace: {"settings": workspace.settings | settings})


def lock_of(visitor: Any) -> threading.RLock:
    """The lock around one visitor's files."""
    if not is_visitor(visitor):
        raise UserError(LOST)
    with _locks_guard:
        return _locks.setdefault(visitor, threading.RLock())


def owner_mode() -> bool:
    """Whether whoever opens the page is the owner of this machine and sees all its runs: RAHF_OWNER=1, or --owner.
    Never on a public Space."""
    return os.environ.get("RAHF_OWNER", "").lower() in ("1", "true", "yes") and not os.environ.get("SPACE_ID")


def public() -> bool:
    """Whether strangers may reach this page: then the terminal's runs are none of theirs."""
    return bool(os.environ.get("SPACE_ID")) or os.environ.get("RAHF_PUBLIC", "") == "1"


def may_use(visitor: Any, run: Run) -> bool:
    """Whether this visitor may see and change this run: it is their own, or the terminal's of a page at home, or the
    page is in owner mode."""
    if not is_visitor(visitor):
        return False
    return run.owner == visitor or owner_mode() or (run.owner == "" and not public())


def runs_of(visitor: Any) -> list[Run]:
    """The alignments this visitor may see, newest first: their own and, at home, the terminal's."""
    from workbench.runs.store import list_runs

    if not is_visitor(visitor):
        raise UserError(LOST)
    return [run for run in list_runs() if may_use(visitor, run)]


def run_of(workspace: Workspace, run_id: Any = None) -> Run | None:
    """The run with this id (by default the selected one) if the visitor may see it and it still exists, else None."""
    from workbench.runs.store import open_run

    try:
        run = open_run(run_id if run_id is not None else workspace.run or "")
    except UserError:
        return None
    return run if may_use(workspace.visitor, run) else None


# -- what is costly to load, shared by all visitors, never changed -----------------------------------------------------

Item = TypeVar("Item")


_with_weights: list[Cache] = []


class Cache:
    """The last few things that were loaded, by key. One thread loads, others that want the same wait for it."""

    def __init__(self, size: int, weights: bool = False) -> None:
        """``weights``: what is kept here are models, which :func:`forget_models` lets go of."""
        self.size = size
        if weights:
            _with_weights.append(self)
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._loading: dict[Any, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, key: Any, load: Callable[[], Item]) -> Item:
        """The thing with this key, loaded now if it is not kept."""
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            lock = self._loading.setdefault(key, threading.Lock())
        with lock:
            with self._guard:
                if key in self._kept:
                    return self._kept[key]
            try:
                item = load()
            finally:
                with self._guard:
                    self._loading.pop(key, None)
            with self._guard:
                self._kept[key] = item
                while len(self._kept) > self.size:
                    self._kept.popitem(last=False)
            return item

    def clear(self) -> None:
        """Let go of everything that is kept."""
        with self._guard:
            self._kept.clear()

    def peek(self, key: Any) -> Any:
        """The thing with this key if it is kept, else None; never loads."""
        with self._guard:
            return self._kept.get(key)


_imports = threading.Lock()
_imported: set[str] = set()


def import_datasets() -> None:
    """Import datasets: a second the first time, nothing afterwards. Call it before reading pairs in a handler.

    Two threads that import large packages at once can wait for each other, and Python then hands out half of a module.
    """
    if "datasets" in _imported:
        return
    with _imports:
        import datasets  # noqa: F401
    _imported.add("datasets")


def import_engine() -> None:
    """Import datasets, torch and transformers, like :func:`import_datasets`: seconds the first time."""
    import_datasets()
    if "engine" in _imported:
        return
    with _imports:
        import torch  # noqa: F401
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # noqa: F401
    _imported.add("engine")


_pairs = Cache(6)
_models = Cache(2, weights=True)
_model_lock = threading.Lock()  # one model loads at a time: two at once could need more memory than there is


def pairs_key(workspace: Workspace) -> tuple[str, int] | None:
    """What the loaded pairs depend on: their source and, for a file, when it was written."""
    source = workspace.pairs_source
    if source is None:
        return None
    path = workspace.pairs.get("path")
    try:
        return source, Path(path).stat().st_mtime_ns if path else 0
    except OSError as error:
        raise UserError("The loaded pairs are no longer on the server's disk: load them again in step 1.") from error


def load_pairs_of(workspace: Workspace) -> PreferencePairs:
    """The visitor's pairs, from memory where they are there. Raises UserError if there are none."""
    key = pairs_key(workspace)
    if key is None:
        raise UserError("There are no pairs yet: load some in step 1.")

    def load() -> PreferencePairs:
        import_engine()
        from workbench.pairs import load_pairs

        return load_pairs(key[0])

    return _pairs.get(key, load)


def pairs_at_hand(workspace: Workspace) -> bool:
    """Whether :func:`load_pairs_of` has nothing to read."""
    return _pairs.peek(pairs_key(workspace)) is not None


def remember_pairs(workspace: Workspace, pairs: PreferencePairs) -> None:
    """Keep pairs that were just read or written, so that they are not read again."""
    _pairs.get(pairs_key(workspace), lambda: pairs)


def model_of(workspace: Workspace) -> LoadedModel:
    """The visitor's model, loaded; at most two are kept. Seconds the first time. Raises UserError.

    The object is shared by all visitors: whoever runs it holds :data:`model_in_use` while doing so.
    """
    return model_from(workspace.model_source, str(workspace.settings.get("device") or "auto"))


def folders_allowed() -> bool:
    """Whether visitors may name folders of the server as models: not where strangers can reach the page."""
    return owner_mode() or not public()


def model_is_loaded(workspace: Workspace) -> bool:
    """Whether :func:`model_of` would answer at once."""
    return _models.peek((workspace.model_source, str(workspace.settings.get("device") or "auto"))) is not None


def model_from(source: str, device: str = "auto") -> LoadedModel:
    """Like :func:`model_of`, for any source. On a public Space a source is never a folder of the server."""

    def load() -> LoadedModel:
        import_engine()
        from workbench.models import load_model

        with _model_lock:
            return load_model(source, device=device, local=folders_allowed())

    return _models.get((source, device), load)


model_in_use = threading.RLock()


def use_model(visitor: str, source: str, loaded: LoadedModel) -> Workspace:
    """Make ``loaded`` the visitor's model. Scores and picked blocks of another model are let go of."""
    model = {"source": source, "name": loaded.name, "blocks": loaded.n_blocks, "fingerprint": loaded.fingerprint}

    def changes(workspace: Workspace) -> dict[str, Any]:
        same = workspace.model.get("fingerprint") == loaded.fingerprint
        return {"model": model} if same else {"model": model, "separability_run": None, "picked": None}

    return update(visitor, changes)


def forget_models() -> None:
    """Let go of all kept models, step 4's included, before work that needs the memory: on a GPU as on the machine.
    Whoever uses one at this moment keeps it until the answer is there."""
    for cache in _with_weights:
        cache.clear()
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
