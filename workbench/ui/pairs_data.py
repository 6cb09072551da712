"""Step 1 without widgets: taking pairs into a workspace, browsing, editing and measuring them."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import pairs_history, state
from workbench.ui.pairs_history import Marks
from workbench.ui.state import Cache, Workspace

if TYPE_CHECKING:
    from workbench.pairs import PreferencePairs

MOST_TEXT = 2_000_000  # characters of one edited answer or pasted text
SIDES = ("prompt", "chosen", "rejected")


class Unmapped(UserError):
    """A readable file whose columns were not recognised; ``names`` are its columns."""

    def __init__(self, sentence: str, names: list[str]) -> None:
        super().__init__(sentence)
        self.names = names


_tokens = Cache(8)
_readers = Cache(4)


# -- taking pairs in ---------------------------------------------------------------------------------------------------


def demo_list() -> list[dict[str, Any]]:
    """The bundled sets as plain data, the default first."""
    from workbench.pairs import demo_values

    return [
        {
            "source": "demo" if value.default else f"demo/{value.name}",
            "name": value.name,
            "title": value.title,
            "about": value.about,
        }
        for value in demo_values()
    ]


def take_bundled(visitor: str, source: Any) -> Workspace:
    """Load a bundled set. Raises UserError for a name that is not one."""
    known = {item["source"]: item for item in demo_list()}
    if source not in known:
        raise UserError("There is no such bundled set: choose one of the list.")
    return _take(visitor, lambda: _load(source), kind="bundled", source=source, name=f"{known[source]['name']}-demo")


def take_upload(visitor: str, uploaded: str) -> Workspace:
    """Load an uploaded file (a path Gradio made). It is kept in the workspace, so that its columns can be mapped.

    Raises UserError if it cannot be read, :class:`Unmapped` if only its columns are not recognised.
    """
    path = Path(uploaded)
    folder = _folder(visitor)
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()
    kept, fresh = folder / f"uploaded{ending[:16]}", folder / f"new{ending[:16]}"
    _copy(path, fresh)
    about = {"kind": "upload", "source": path.name, "name": path.name, "bytes": fresh.stat().st_size, "raw": str(kept)}
    try:
        workspace = _take(visitor, lambda: _load(str(fresh)), before=lambda: os.replace(fresh, kept), **about)
    except UserError as error:
        sentence = str(error).replace(str(fresh), path.name).replace(fresh.name, path.name)
        names = _unrecognised(str(fresh))
        if not names:
            raise UserError(sentence) from error
        os.replace(fresh, kept)
        state.keep_setting(visitor, unmapped={"name": path.name, "path": str(kept), "columns": names})
        raise Unmapped(sentence, names) from error
    finally:
        fresh.unlink(missing_ok=True)
    return workspace


def _unrecognised(source: str) -> list[str]:
    """The columns of a source that can be read but is in no known form; empty otherwise."""
    from workbench.pairs import preview

    try:
        seen = preview(source)
    except UserError:
        return []
    return [] if seen.format else [str(name) for name in seen.columns][:200]


def take_text(visitor: str, text: Any) -> Workspace:
    """Load pasted JSONL or CSV."""
    if not isinstance(text, str) or not text.strip():
        raise UserError("Paste some pairs first: one JSON object a line, or CSV with a header.")
    if len(text) > MOST_TEXT:
        raise UserError("That is too much to paste (2 million characters at most): upload it as a file.")

    def load():
        state.import_datasets()
        from workbench.pairs import pairs_from_text

        return pairs_from_text(text)

    return _take(visitor, load, kind="paste", source="pasted", name="pasted", bytes=len(text.encode()))


def take_hub(visitor: str, name: Any) -> Workspace:
    """Load a data set of the Hub. Raises UserError for anything that is not a Hub name (never a path of the server)."""
    name = str(name or "").strip()
    from workbench.pairs import is_hub_id

    if not is_hub_id(name) or name.startswith("demo/"):
        raise UserError("Name a data set of the Hub: org/name, or org/name:split.")
    return _take(visitor, lambda: _load(name, local=False), kind="hub", source=name, name=name)


def map_columns(visitor: str, columns: dict[str, Any]) -> Workspace:
    """Read the uploaded file again with these columns as prompt, chosen and rejected."""
    workspace = state.open_workspace(visitor)
    waiting = workspace.settings.get("unmapped") or {}
    pairs = workspace.pairs or {}
    path = Path(waiting.get("path") or pairs.get("raw") or "")
    if not path.is_file() or path.parent != workspace.folder:
        raise UserError("The uploaded file is no longer here: upload it again to choose its columns.")
    name = waiting.get("name") or pairs["name"]
    mapping = {side: str(columns[side]) for side in SIDES if columns.get(side)}
    about = {"kind": "upload", "source": name, "name": name, "bytes": path.stat().st_size, "raw": str(path)}
    try:
        return _take(visitor, lambda: _load(str(path), mapping), **about)
    except UserError as error:
        raise UserError(str(error).replace(str(path), name).replace(path.name, name)) from error


def columns_of(workspace: Workspace) -> tuple[list[str], dict[str, str]]:
    """The columns of the uploaded file to choose from, and what is chosen now."""
    waiting = workspace.settings.get("unmapped")
    if waiting:
        return list(waiting["columns"]), {}
    pairs = workspace.pairs
    if not pairs or pairs["kind"] != "upload":
        return [], {}
    roles = pairs["report"].get("columns") or {}
    return list(pairs.get("available") or []), {side: roles[side] for side in SIDES if side in roles}


def _load(source: str, columns: dict[str, str] | None = None, local: bool = True) -> PreferencePairs:
    state.import_engine()  # datasets looks into transformers, which must not be half imported by another thread
    from workbench.pairs import load_pairs

    return load_pairs(source, columns=columns or None, local=local)


def _take(
    visitor: str,
    load: Callable,
    *,
    kind: str,
    source: str,
    name: str,
    before: Callable | None = None,
    **about: Any,
) -> Workspace:
    """Read, then (``before``) make the result the visitor's pairs. Until it was read nothing changes."""
    began = time.monotonic()
    pairs = load()
    seconds = time.monotonic() - began
    if len(pairs) == 0:
        raise UserError(f"{name} has no usable pair: every row was dropped. Mend the file, or load another.")
    with state.lock_of(visitor):
        if before:
            before()
        if kind == "upload":
            about["available"] = _available(about["raw"])
        folder = _folder(visitor)
        path = None if kind == "bundled" else str(pairs_history.write(folder, pairs, Marks.of_rows(pairs.ids), 0))
        record = {
            "kind": kind,
            "source": source,
            "name": name[:80],
            "taken": f"{time.time():.3f}",
            "path": path,
            "seconds": round(seconds, 2),
            "count": len(pairs),
            "report": pairs.report.to_dict(),
            "fingerprint": pairs.fingerprint,
            "edited": 0,
            **about,
        }
        settings = {key: value for key, value in state.open_workspace(visitor).settings.items() if key != "unmapped"}
        workspace = state.change(visitor, pairs=record, settings=settings, separability_run=None, picked=None)
        pairs_history.tidy(workspace)
        return workspace


def _available(path: str) -> list[str]:
    """The columns of a file that was just read."""
    from workbench.pairs import preview

    return [str(name) for name in preview(path, count=1).columns][:200]


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(
            f"The file could not be kept ({error.strerror or error}): free some disk space and try again."
        ) from error


def _folder(visitor: str) -> Path:
    folder = state.open_workspace(visitor).folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


# -- browsing ----------------------------------------------------------------------------------------------------------


def parts_of(workspace: Workspace) -> tuple[dict[str, int] | None, str]:
    """How many pairs each part of the split has; or None, and why they cannot be split."""
    try:
        sides = Counter(state.load_pairs_of(workspace).sides(seed_of(workspace)))
    except UserError as error:
        return None, str(error)
    return {part: sides[part] for part in ("instruct", "fit", "held_out")}, ""


def seed_of(workspace: Workspace) -> int:
    """The seed of the visitor's split."""
    return int(workspace.settings.get("seed") or 0)


def position_of(pairs: PreferencePairs, pair_id: Any) -> int:
    if isinstance(pair_id, int) and not isinstance(pair_id, bool) and pair_id in pairs.ids:
        return pairs.ids.index(pair_id)
    raise UserError("That pair is no longer there: it may have been removed in another tab.")


def clean_file(visitor: str) -> Path:
    """The clean pairs as JSONL, named after where they came from."""
    workspace = state.open_workspace(visitor)
    pairs = state.load_pairs_of(workspace)
    stem = re.sub(r"[^\w.-]+", "-", workspace.pairs["name"].split(".")[0]).strip("-.") or "pairs"
    target = _folder(visitor) / f"{stem}-clean.jsonl"
    pairs.to_jsonl(target)
    return target


# -- tokens ------------------------------------------------------------------------------------------------------------


def reader_of(workspace: Workspace):
    """The model's tokenizer with its boundary and context; no weights are loaded."""
    source = workspace.model_source

    def load():
        state.import_engine()
        from workbench.models import load_reader

        return load_reader(source, local=state.folders_allowed())

    return _readers.get(source, load)


def lengths_key(workspace: Workspace) -> tuple:
    """What the lengths depend on."""
    return state.pairs_key(workspace), workspace.model_source


def lengths_known(workspace: Workspace) -> dict[str, Any] | None:
    """The token report if it is there already."""
    return _tokens.peek(lengths_key(workspace))


_counting = threading.Lock()


def lengths_of(workspace: Workspace) -> dict[str, Any]:
    """The token report; seconds the first time. Raises UserError if the model's tokenizer cannot be had."""

    def count() -> dict[str, Any]:
        from workbench.pairs.checks import token_report

        with _counting:  # one at a time: it uses all cores
            return token_report(state.load_pairs_of(workspace), reader_of(workspace))

    return _tokens.get(lengths_key(workspace), count)


def with_tokens(workspace: Workspace, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their answers' token counts (None until the tokenizer is there)."""
    reader = _readers.peek(workspace.model_source)
    if reader is None or not rows:
        return [row | {"tokens": None} for row in rows]
    boundary = reader.boundary
    texts = [boundary.lead + row[side][:100_000] for row in rows for side in ("chosen", "rejected")]
    counts = [len(ids) + len(boundary.end_ids) for ids in boundary.tokenizer(texts, add_special_tokens=False).input_ids]
    return [row | {"tokens": (counts[2 * i], counts[2 * i + 1])} for i, row in enumerate(rows)]
