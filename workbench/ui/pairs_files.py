"""Step 1: the clean pairs as a file to take away, and rows of the source as they were brought."""

from __future__ import annotations

import csv
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.ui import pairs_history, state
from workbench.ui.pairs_data import PASTED, SIDES, demo_list, folder_of
from workbench.ui.state import Workspace


def clean_file(visitor: str, kind: str = "jsonl") -> Path:
    """The clean pairs as a file, named after where they came from: "jsonl", "csv" or "parquet"."""
    workspace = state.open_workspace(visitor)
    pairs = state.load_pairs_of(workspace)
    stem = re.sub(r"[^\w.-]+", "-", workspace.pairs["name"].split(".")[0]).strip("-.") or "pairs"
    target = folder_of(visitor) / f"{stem}-clean.{kind}"
    if kind == "jsonl":
        return pairs.to_jsonl(target)
    if kind not in ("csv", "parquet"):
        raise UserError("Choose JSON Lines, CSV or Parquet.")
    lines = pairs.to_jsonl(folder_of(visitor) / f".clean-{secrets.token_hex(4)}.jsonl")
    try:
        return _converted(lines, target, kind)
    except OSError as error:
        raise UserError(
            f"The file could not be written ({error.strerror or error}): free some disk space and try again."
        ) from error
    finally:
        lines.unlink(missing_ok=True)


def _converted(lines: Path, target: Path, kind: str) -> Path:
    """The clean file as CSV (a dialogue as JSON in its cell) or Parquet (dialogues as lists of messages)."""
    with lines.open(encoding="utf-8") as file:
        rows = (json.loads(line) for line in file)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")  # of its own, should two ask at once
        try:
            if kind == "csv":
                _csv(rows, part)
            else:
                _parquet(list(rows), part)
            return part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _csv(rows: Iterable[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(SIDES)
        for row in rows:
            texts = (row[side] for side in SIDES)
            writer.writerow(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for text in texts)


def _parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    if any(not isinstance(row["prompt"], str) for row in rows):  # one kind of column for all
        rows = [
            row
            if not isinstance(row["prompt"], str)
            else {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "chosen": [{"role": "assistant", "content": row["chosen"]}],
                "rejected": [{"role": "assistant", "content": row["rejected"]}],
            }
            for row in rows
        ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


# -- what was dropped --------------------------------------------------------------------------------------------------


def dropped_of(workspace: Workspace) -> dict[str, list[int]]:
    """Row numbers of the source by the reason they were dropped for, too long ones that were dropped here included."""
    dropped = {reason: list(rows) for reason, rows in workspace.pairs["report"]["dropped"].items()}
    cut = pairs_history.marks_of(workspace).cut
    if len(cut):
        dropped["too long"] = sorted({*dropped.get("too long", []), *cut.tolist()})
    return dropped


def raw_of(workspace: Workspace) -> Path | None:
    """The file as it was brought, if it is still there (a Hub data set has none)."""
    pairs = workspace.pairs or {}
    if pairs.get("kind") == "bundled":
        from workbench.pairs.sources import ASSETS

        names = {item["source"]: item["name"] for item in demo_list()}
        path = ASSETS / names.get(pairs["source"], "?") / "train.jsonl"
    else:
        path = Path(pairs.get("raw") or "?")
    return path if path.is_file() else None


def rows_of(workspace: Workspace, numbers: Sequence[int]) -> list[tuple[int, Any]]:
    """These rows of the source as they stand there: (number, values by column, or a sentence for a broken line).

    Raises UserError if the source is no longer there.
    """
    from workbench.pairs.readers import open_file, open_text

    path, wanted = raw_of(workspace), set(numbers)
    if path is None:
        raise UserError("The source is no longer on the server: bring it again to see its rows.")
    pasted = path.suffix == PASTED
    table = open_text(path.read_text(encoding="utf-8"), "pasted") if pasted else open_file(path, path.name)
    found: list[tuple[int, Any]] = []
    with table:
        for number, row in table.rows():
            if number in wanted:
                found.append((number, row if isinstance(row, dict) else f"Broken line: {row.why}"))
            if len(found) == len(wanted):
                break
    return found
