"""Step 1 without widgets: taking pairs into a workspace, browsing, editing and measuring them."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.progress import QUIET, Progress
from workbench.ui import pairs_history, quota, state
from workbench.ui.pairs_history import Marks
from workbench.ui.state import Cache, Workspace

if TYPE_CHECKING:
    import numpy as np

    from workbench.pairs import PreferencePairs

MOST_TEXT = 2_000_000  # characters of one edited answer or pasted text
MOST_COLUMNS = 200
AT_ONCE = 8_000_000  # bytes of a clean file that are read while the page waits
PASTED = ".pasted"  # the ending of pasted text in the workspace
SIDES = ("prompt", "chosen", "rejected")


class Unmapped(UserError):
    """A readable file whose columns were not recognised; ``names`` are its columns."""

    def __init__(self, sentence: str, names: list[str]) -> None:
        super().__init__(sentence)
        self.names = names


_shared = Cache(8)


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


def take_bundled(visitor: str, source: Any, progress: Progress = QUIET) -> Workspace:
    """Load a bundled set. Raises UserError for a name that is not one."""
    known = {item["source"]: item for item in demo_list()}
    if source not in known:
        raise UserError("There is no such bundled set: choose one of the list.")
    name = f"{known[source]['name']}-demo"
    return take(visitor, lambda: load(source, progress=progress), kind="bundled", source=source, name=name)


def take_upload(visitor: str, uploaded: str, progress: Progress = QUIET) -> Workspace:
    """Load an uploaded file (a path Gradio made). It is kept in the workspace, so that its columns can be mapped.

    Raises UserError if it cannot be read, :class:`Unmapped` if only its columns are not recognised.
    """
    path = Path(uploaded)
    quota.need(visitor, quota.bytes_of(path))
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()
    raw = _raw(visitor, "" if ending == PASTED else ending)
    try:
        _copy(path, raw)
    except UserError:
        pairs_history.expected(raw)
        raise
    about = {"kind": "upload", "source": path.name, "name": path.name, "bytes": raw.stat().st_size, "raw": str(raw)}
    try:
        return take(visitor, lambda: load(str(raw), progress=progress, most_bytes=quota.room(visitor)), **about)
    except UserError as error:
        sentence = str(error).replace(str(raw), path.name).replace(raw.name, path.name)
        _wait_for_columns(visitor, sentence, kind="upload", name=path.name, path=str(raw))
        raise UserError(sentence) from error
    finally:
        pairs_history.expected(raw)
        tidy_uploads(state.open_workspace(visitor))


def take_text(visitor: str, text: Any, progress: Progress = QUIET) -> Workspace:
    """Load pasted JSONL or CSV. Raises like :func:`take_upload`."""
    if not isinstance(text, str) or not text.strip():
        raise UserError("Paste some pairs first: one JSON object a line, or CSV with a header.")
    if len(text) > MOST_TEXT:
        raise UserError("That is too much to paste (2 million characters at most): upload it as a file.")
    quota.need(visitor, len(text))
    raw = _raw(visitor, PASTED)
    try:
        raw.write_text(text, encoding="utf-8")
    except OSError as error:
        pairs_history.expected(raw)
        raise UserError(f"The text could not be kept ({error.strerror or error}): free some disk space.") from error
    about = {"kind": "paste", "source": "pasted", "name": "pasted", "bytes": len(text.encode()), "raw": str(raw)}
    try:
        return take(visitor, lambda: load(str(raw), progress=progress), **about)
    except UserError as error:
        _wait_for_columns(visitor, str(error), kind="paste", name="pasted", path=str(raw))
        raise
    finally:
        pairs_history.expected(raw)
        tidy_uploads(state.open_workspace(visitor))


def take_hub(visitor: str, name: Any, progress: Progress = QUIET) -> Workspace:
    """Load a data set of the Hub. Raises UserError for anything that is not a Hub name (never a path of the server)."""
    name = str(name or "").strip()
    from workbench.pairs import is_hub_id

    if not is_hub_id(name) or name.startswith("demo/"):
        raise UserError("Name a data set of the Hub: org/name, or org/name:split.")
    quota.need(visitor)
    read = lambda: load(name, None, False, progress, quota.room(visitor))  # noqa: E731 - two words for the line below
    try:
        return take(visitor, read, kind="hub", source=name, name=name)
    except UserError as error:
        _wait_for_columns(visitor, str(error), kind="hub", name=name, source=name)
        raise


def _wait_for_columns(visitor: str, sentence: str, **source: Any) -> None:
    """If the source can be read but is in no known form: remember it until its columns are chosen, and raise
    :class:`Unmapped`."""
    try:
        seen = look(source)
    except UserError:
        return
    if seen.format:
        return
    names = [str(name) for name in seen.columns][:MOST_COLUMNS]
    if len(names) < 2:
        return
    state.keep_setting(visitor, unmapped=source | {"columns": names})
    raise Unmapped(sentence, names)


def look(source: dict[str, Any], count: int = 5, columns: dict[str, str] | None = None) -> Any:
    """The first rows of a source {kind, name, path or source}; with ``columns`` also as pairs. Raises UserError."""
    state.import_datasets()
    from workbench.pairs import preview

    if source["kind"] == "hub":
        return preview(source["source"], count=count, local=False, columns=columns)
    path = Path(source["path"])
    if path.suffix == PASTED:
        return preview("pasted", text=path.read_text(encoding="utf-8"), count=count, columns=columns)
    return preview(str(path), count=count, columns=columns)


def load(
    source: str,
    columns: dict[str, str] | None = None,
    local: bool = True,
    progress: Progress = QUIET,
    most_bytes: int | None = None,
) -> PreferencePairs:
    """The pairs of a bundled set, a file in a workspace, or (not ``local``) the Hub. Raises UserError, also where their
    texts are more than ``most_bytes``."""
    state.import_engine()  # datasets looks into transformers, which must not be half imported by another thread
    from workbench.pairs import load_pairs, pairs_from_text

    if local and source.endswith(PASTED):
        return pairs_from_text(Path(source).read_text(encoding="utf-8"), columns=columns)
    return load_pairs(source, columns=columns or None, local=local, progress=progress, most_bytes=most_bytes)


def take(visitor: str, read: Callable[[], PreferencePairs], *, kind: str, source: str, name: str, **about: Any):
    """Read, then make the result the visitor's pairs; the workspace. Until all is read nothing changes."""
    began = time.monotonic()
    pairs = read()
    seconds = time.monotonic() - began
    if len(pairs) == 0:
        raise UserError(f"{name} has no usable pair: every row was dropped. Mend the file, or load another.")
    if kind != "bundled":
        seen = look({"kind": kind, "source": source, "path": about.get("raw")}, count=1)
        about["available"] = [str(column) for column in seen.columns][:MOST_COLUMNS]
    folder = folder_of(visitor)
    path = None if kind == "bundled" else str(pairs_history.write(folder, pairs, Marks.of_rows(pairs.numbers), 0))
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
    with state.lock_of(visitor):
        settings = {key: value for key, value in state.open_workspace(visitor).settings.items() if key != "unmapped"}
        workspace = state.change(visitor, pairs=record, settings=settings, separability_run=None, picked=None)
        state.remember_pairs(workspace, pairs if path is None else pairs_history.numbered(pairs))
        pairs_history.tidy(workspace)
        tidy_uploads(workspace)
        return workspace


def must_be_read(workspace: Workspace) -> bool:
    """Whether the pairs are so many, and not in memory, that reading them should not keep a page waiting."""
    path = (workspace.pairs or {}).get("path")
    if not path:
        return False
    try:
        return Path(path).stat().st_size > AT_ONCE and not state.pairs_at_hand(workspace)
    except OSError as error:
        raise UserError("The loaded pairs are no longer on the server's disk: load them again in step 1.") from error


def tidy_uploads(workspace: Workspace) -> None:
    """Delete brought files that neither the pairs nor a choice of columns names any more."""
    named = {(workspace.pairs or {}).get("raw"), (workspace.settings.get("unmapped") or {}).get("path")}
    for path in workspace.folder.glob("raw-*"):
        if str(path) not in named and not pairs_history.is_coming(path):
            with contextlib.suppress(OSError):
                path.unlink()


def _raw(visitor: str, ending: str) -> Path:
    """A new name for what was brought."""
    return pairs_history.expect(folder_of(visitor) / f"raw-{secrets.token_hex(4)}{ending[:16]}")


def _copy(source: Path, target: Path) -> None:
    try:
        try:
            target.hardlink_to(source)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(
            f"The file could not be kept ({error.strerror or error}): free some disk space and try again."
        ) from error


def folder_of(visitor: str) -> Path:
    """The visitor's folder, made if need be."""
    folder = state.open_workspace(visitor).folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


# -- browsing ----------------------------------------------------------------------------------------------------------


def parts_of(workspace: Workspace) -> tuple[dict[str, int] | None, str]:
    """How many pairs each part of the split has; or None, and why they cannot be split."""
    try:
        pairs = state.load_pairs_of(workspace)
        sides = Counter(pairs.sides(seed_of(workspace), step1_share=share_of(workspace)))
    except UserError as error:
        return None, str(error)
    return {part: sides[part] for part in ("instruct", "fit", "held_out")}, ""


def codes_of(workspace: Workspace) -> np.ndarray:
    """Every pair's part of the split, as a place in ``workbench.pairs.splitting.SIDES``. Raises UserError for too few."""
    return state.load_pairs_of(workspace).side_codes(seed_of(workspace), step1_share=share_of(workspace))


def share_of(workspace: Workspace) -> float:
    """The share of training pairs that step 1 of a run learns from: what step 3's form says, if it is one."""
    from workbench.rahf.config import RunConfig

    draft = (workspace.settings.get("align") or {}).get("draft")
    typed = draft.get("step1_share") if isinstance(draft, dict) else None
    with contextlib.suppress(UserError):
        return RunConfig.from_dict({} if typed in (None, "") else {"step1_share": typed}).step1_share
    return RunConfig().step1_share


def seed_of(workspace: Workspace) -> int:
    """The seed of the visitor's split: what step 3's form says, or else what was chosen in step 1."""
    draft = (workspace.settings.get("align") or {}).get("draft")
    typed = draft.get("seed") if isinstance(draft, dict) else None
    for value in (typed, workspace.settings.get("seed")):
        with contextlib.suppress(UserError):
            return checked_seed(value)
    return 0


def checked_seed(value: Any) -> int:
    """A seed from what was typed. Raises UserError."""
    text = str(value).strip() if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    if re.fullmatch(r"[0-9]{1,10}(\.0)?", text) and float(text) < 2**31:
        return int(float(text))
    raise UserError(f"The split’s seed must be a whole number from 0 to {2**31 - 1}: type one, such as 0.")


def use_seed(visitor: str, value: Any) -> Workspace:
    """Split with another seed, here and in step 3. Raises UserError for what is none."""
    seed = checked_seed(value)

    def changes(workspace: Workspace) -> dict[str, Any]:
        settings = workspace.settings | {"seed": seed}
        align = settings.get("align")
        if isinstance(align, dict) and isinstance(align.get("draft"), dict):
            draft = {name: text for name, text in align["draft"].items() if name != "seed"}
            settings["align"] = align | {"draft": draft}
        return {"settings": settings}

    return state.update(visitor, changes)


def shared_known(workspace: Workspace) -> dict[str, Any] | None:
    """What :func:`shared_of` found, if it was looked for already."""
    return _shared.peek((state.pairs_key(workspace), seed_of(workspace)))


def shared_of(workspace: Workspace) -> dict[str, Any]:
    """Prompts, the same or nearly, in both training and held-out pairs (``workbench.pairs.overlap``)."""

    def look_for() -> dict[str, Any]:
        from workbench.pairs import overlap

        return overlap(state.load_pairs_of(workspace), seed_of(workspace))

    return _shared.get((state.pairs_key(workspace), seed_of(workspace)), look_for)


def position_of(pairs: PreferencePairs, pair_id: Any) -> int:
    """Where the pair with this id stands. Raises UserError for an id that is none."""
    found = pairs.positions([pair_id]) if type(pair_id) is int and abs(pair_id) < 2**62 else ()
    if len(found):
        return int(found[0])
    raise UserError("That pair is no longer there: it may have been removed in another tab.")
