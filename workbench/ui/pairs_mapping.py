"""Step 1: saying by hand which column is which, for a file, pasted text or a Hub data set, with a look at the result.

The source as it was brought is ``{kind, name, path}`` of an upload or pasted text (a file in the visitor's folder), or
``{kind, name, source}`` of a Hub data set. It stands in the record of the pairs, or, as long as its columns are not
recognised, in the workspace's setting ``unmapped``, then with its ``columns``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.pairs import REASONS
from workbench.ui import pairs_data, quota, state
from workbench.ui.pairs_data import SIDES
from workbench.ui.state import Workspace

SHOWN = 3
CUT = 600  # characters of a text that a look shows


def source_of(workspace: Workspace) -> dict[str, Any] | None:
    """Where the pairs (or the file that waits for its columns) came from; None for bundled pairs."""
    waiting = workspace.settings.get("unmapped")
    if waiting:
        return waiting
    pairs = workspace.pairs
    if not pairs or pairs["kind"] == "bundled":
        return None
    return {"kind": pairs["kind"], "name": pairs["name"], "path": pairs.get("raw"), "source": pairs["source"]}


def columns_value(workspace: Workspace) -> dict[str, Any]:
    """The value of the view ``pairs-columns``: the columns to choose from, and what is chosen now."""
    waiting, pairs = workspace.settings.get("unmapped"), workspace.pairs
    if waiting:
        return {"waiting": True, "name": waiting["name"], "columns": list(waiting["columns"]), "chosen": {}}
    if not pairs or pairs["kind"] == "bundled":
        return {"waiting": False, "columns": []}
    roles = pairs["report"].get("columns") or {}
    names = list(pairs.get("available") or [])
    chosen = {side: roles[side] for side in SIDES if roles.get(side) in names}
    return {"waiting": False, "name": pairs["name"], "columns": names, "chosen": chosen}


def tried(workspace: Workspace, sent: dict[str, Any]) -> dict[str, Any]:
    """The value of the view ``pairs-trial``: the first rows as they stand, and as pairs if the columns in ``sent`` are
    chosen; ``error`` says why they cannot be read so."""
    waiting = workspace.settings.get("unmapped")
    value: dict[str, Any] = {"kind": "trial", "waiting": bool(waiting), "have": bool(workspace.pairs), "error": ""}
    try:
        columns = chosen_of(sent, partial=True)
        look = _look(workspace, columns if {"chosen", "rejected"} <= set(columns) else None)
    except UserError as error:
        return value | {"name": "", "columns": [], "rows": [], "pairs": None, "error": str(error)}
    source = source_of(workspace) or {}
    value |= {"name": source.get("name", ""), "columns": look.columns[:40], "chosen": columns}
    value["rows"] = [[_cell(row.get(name)) for name in look.columns[:40]] for row in look.rows]
    value["looked"] = look.looked_at
    value["pairs"] = None
    if {"chosen", "rejected"} <= set(columns):
        value["pairs"] = [{side: _cell(pair[side]) for side in SIDES} for pair in look.pairs]
        value["fit"] = look.looked_at - sum(look.dropped.values())
        value["dropped"] = [
            {"reason": REASONS.get(reason, reason), "count": number} for reason, number in look.dropped.items()
        ]
    return value


def _look(workspace: Workspace, columns: dict[str, str] | None) -> Any:
    source = _there(workspace)
    try:
        return pairs_data.look(source, SHOWN, columns)
    except UserError as error:
        raise UserError(_said(error, source)) from error


def chosen_of(sent: dict[str, Any], partial: bool = False) -> dict[str, str]:
    """The columns that the page chose, by side. Raises UserError if one was chosen twice, or (unless ``partial``) if
    chosen or rejected is missing."""
    asked = sent.get("columns") if isinstance(sent.get("columns"), dict) else {}
    columns = {side: asked[side] for side in SIDES if isinstance(asked.get(side), str) and asked[side]}
    missing = [side for side in ("chosen", "rejected") if side not in columns]
    if missing and not partial:
        raise UserError(f"Choose the column of the {missing[0]} answers first.")
    if len(set(columns.values())) < len(columns):
        raise UserError("One column cannot be two things: choose another for one of them.")
    return columns


def use(visitor: str, sent: dict[str, Any], progress: Any) -> Workspace:
    """Read the whole source again with these columns."""
    workspace = state.open_workspace(visitor)
    columns, source = chosen_of(sent), _there(workspace)
    hub = source["kind"] == "hub"
    where = source["source"] if hub else source["path"]
    about = {"kind": source["kind"], "name": source["name"], "source": source.get("source") or source["name"]}
    if not hub:
        about |= {"bytes": Path(where).stat().st_size, "raw": where}
    try:
        most = quota.room(visitor)
        return pairs_data.take(visitor, lambda: pairs_data.load(where, columns, not hub, progress, most), **about)
    except UserError as error:
        raise UserError(_said(error, source)) from error


def leave(visitor: str) -> Workspace:
    """Forget the file that waits for its columns; the pairs of before stay."""

    def changes(workspace: Workspace) -> dict[str, Any]:
        return {"settings": {key: value for key, value in workspace.settings.items() if key != "unmapped"}}

    workspace = state.update(visitor, changes)
    pairs_data.tidy_uploads(workspace)
    return workspace


def _there(workspace: Workspace) -> dict[str, Any]:
    """The source, if it can still be read. Raises UserError."""
    source = source_of(workspace)
    if source is None:
        raise UserError("Load a file, pasted text or a Hub data set first.")
    path = Path(source.get("path") or "")
    if source["kind"] != "hub" and not (path.is_file() and path.parent == workspace.folder):
        raise UserError(f"{source['name']} is no longer on the server: bring it again to choose its columns.")
    return source


def _said(error: UserError, source: dict[str, Any]) -> str:
    """The sentence with the source's name as the visitor knows it."""
    path = Path(source.get("path") or "?")
    return str(error).replace(str(path), source["name"]).replace(path.name, source["name"])


def _cell(value: Any) -> str:
    """A cell as text, shortened."""
    import json

    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= CUT else text[:CUT] + " …"
