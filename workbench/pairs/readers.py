"""Files and pasted text as numbered rows: JSON Lines, JSON, CSV, TSV, Parquet, and gzip around the text ones.

What a file is called decides first, what is in it decides where the name says nothing or ``.json`` holds JSON Lines.
Text is UTF-8 (with or without byte-order mark) and is kept character by character: only line ends separate rows, never
the other separators of Unicode that may stand inside a text.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import UserError

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
TYPES = ".jsonl, .json, .csv, .tsv or .parquet (.gz of the text ones)"
MOST_BYTES = 2 << 30  # unpacked: beyond this a small .gz could fill the memory
CELL = 1 << 30
_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"BZh": "a bzip2 archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x80\x04": "a Python pickle",
    b"ARROW1": "an Arrow file",
}
_NEEDED = "Use a text file (JSON Lines, JSON, CSV, TSV) in UTF-8, or Parquet."


@dataclass(frozen=True)
class Table:
    """Columns in the order of their first appearance, and rows with their numbers (from 1; lines in JSON Lines)."""

    columns: list[str]
    rows: list[tuple[int, dict[str, Any]]]


def read_file(path: Path, name: str) -> Table:
    """All rows of a file; ``name`` is what messages call it. Raises UserError for anything that cannot be read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{name} could not be read ({error.strerror or error}): check the file and its rights."
        ) from error
    if not data:
        raise UserError(f"{name} is empty: choose a file with pairs in it.")
    if data[:2] == b"\x1f\x8b":
        data = _unpack(data, name)
    elif suffixes[-1:] == [".gz"]:
        raise UserError(f"{name} is called .gz but is not gzip: rename it to what it is.")
    kind = next((KINDS[suffix] for suffix in reversed(suffixes) if suffix in KINDS), "")
    if data[:4] == b"PAR1" or kind == "parquet":
        return read_parquet(data, name)
    return read_text(decode(data, name), name, kind)


def _unpack(data: bytes, name: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} is a damaged gzip file ({error}): pack or download it again.") from error
    if len(data) > MOST_BYTES:
        raise UserError(f"{name} unpacks to more than 2 GiB: split it, or use Parquet.")
    if not data:
        raise UserError(f"{name} is empty: choose a file with pairs in it.")
    return data


def decode(data: bytes, name: str) -> str:
    """The text of UTF-8 bytes. Raises UserError for binary files and other encodings, with the line where it shows."""
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise UserError(f"{name} is {what}, not a file of pairs. {_NEEDED}")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{name} is in UTF-16: save it as UTF-8.")
    nul = data.find(b"\x00")
    if nul >= 0:
        line = data.count(b"\n", 0, nul) + 1
        raise UserError(f"{name} is a binary file (a NUL byte in line {line}), not text. {_NEEDED}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{name} is not in UTF-8 (byte 0x{data[error.start]:02x} in line {line}): save it as UTF-8."
        ) from error


def read_text(text: str, name: str, kind: str = "") -> Table:
    """Rows of decoded text; ``kind`` is "jsonl", "json", "csv", "tsv" or "" (seen from the text)."""
    start = text.lstrip()[:1]
    if not start:
        raise UserError(f"{name} is empty: give at least one pair.")
    if kind in ("json", "jsonl") or (not kind and start in "{["):
        return _read_json_or_lines(text, name, start)
    return _read_delimited(text, name, kind)


# -- JSON -------------------------------------------------------------------------------------------------------------


def _read_json_or_lines(text: str, name: str, start: str) -> Table:
    """A file that begins with "[" is one JSON list. One with "{" is JSON Lines if its first line is a whole object,
    else one JSON object."""
    if start == "[":
        return _table_of(_parse(text, name), name)
    try:
        first = json.loads(text.lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        try:
            return _table_of(json.loads(text), name)
        except (ValueError, RecursionError):
            return _read_lines(text, name)
    if _column_of_rows(first) is not None or _is_columns(first):
        return _table_of(_parse(text, name), name)
    return _read_lines(text, name)


def _parse(text: str, name: str, line: int = 0) -> Any:
    """``json.loads`` with errors a user can act on; ``line`` is where ``text`` stands in the source (0: all of it)."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"Line {line}" if line else f"Line {error.lineno}"
        raise UserError(
            f"{where} of {name} is not valid JSON ({error.msg}, column {error.colno}): correct or remove it."
        ) from error
    except RecursionError as error:
        where = f"Line {line} of {name}" if line else name
        raise UserError(f"{where} is nested too deeply to be a pair: correct or remove it.") from error
    except ValueError as error:  # a whole number with thousands of digits
        where = f"Line {line} of {name}" if line else name
        raise UserError(f"{where} holds a number that is too long: correct or remove it.") from error


def _read_lines(text: str, name: str) -> Table:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _parse(line, name, number)
        if not isinstance(row, dict):
            raise UserError(
                f"Line {number} of {name} is {_kind_of(row)}, not an object with prompt, chosen and rejected: "
                "correct or remove it."
            )
        rows.append((number, row))
    return Table(_columns(rows), rows)


def _table_of(value: Any, name: str) -> Table:
    """Rows in a parsed JSON document: a list of objects, the same under one key, or an object of columns."""
    if isinstance(value, dict):
        if _is_columns(value):
            return Table(list(value), list(enumerate(_transpose(value), 1)))
        inner = _column_of_rows(value)
        value = inner if inner is not None else [value]
    if not isinstance(value, list) or not value:
        raise UserError(f"{name} holds no rows: give a list of objects with prompt, chosen and rejected.")
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise UserError(f"Row {number} of {name} is {_kind_of(row)}, not an object: correct or remove it.")
    if all(set(row) >= {"row_idx", "row"} and isinstance(row["row"], dict) for row in value):  # the Hub's viewer
        value = [row["row"] for row in value]
    rows = list(enumerate(value, 1))
    return Table(_columns(rows), rows)


def _is_columns(value: Any) -> bool:
    """{"prompt": [..], "chosen": [..], ...}: lists of one length, longer than a dialogue could be by accident."""
    return (
        isinstance(value, dict)
        and len(value) > 1
        and all(isinstance(column, list) and column for column in value.values())
        and len({len(column) for column in value.values()}) == 1
        and not any(isinstance(item, dict) for name in ("chosen", "rejected") for item in value.get(name, [])[:1])
    )


def _column_of_rows(value: Any) -> list | None:
    """The list in an object like {"version": 1, "data": [{...}, ...]}, if there is one by a name meant for it."""
    if not isinstance(value, dict):
        return None
    for name in ("data", "rows", "examples", "pairs", "train"):
        inner = value.get(name)
        if isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
            return inner
    return None


def _transpose(columns: dict[str, list]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _columns(rows: Sequence[tuple[int, dict[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(column for _, row in rows for column in row))


def _kind_of(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", type(None): "null", dict: "an object"}
    return names.get(type(value), "a number")


# -- CSV and TSV ------------------------------------------------------------------------------------------------------


def _read_delimited(text: str, name: str, kind: str) -> Table:
    """A table with a header. Cells are text, whatever they look like; lists of messages in a cell are taken as such.

    The delimiter is the one of comma, semicolon and tab that gives the header most cells.
    """
    csv.field_size_limit(CELL)  # the library's own limit of 131,072 characters would refuse long prompts
    preferred = "\t" if kind == "tsv" else ","
    delimiter = max((preferred, ",", ";", "\t"), key=lambda mark: len(_header(text, mark)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, dict[str, Any]]] = []
    header: list[str] = []
    begin = 1
    try:
        for cells in reader:
            first, begin = begin, reader.line_num + 1
            if not any(cells):
                continue
            if not header:
                header = _named(cells, name)
                continue
            if any(cells[len(header) :]) or len(cells) < len(header):
                raise UserError(
                    f"Line {first} of {name} has {len(cells)} cells but the header has {len(header)}: put texts that "
                    "contain the delimiter or line breaks in double quotes."
                )
            row = {column: _cell(cell) for column, cell in zip(header, cells, strict=False)}
            rows.append((len(rows) + 1, row))
    except csv.Error as error:
        raise UserError(
            f"Line {begin} of {name} is not valid {'TSV' if delimiter == chr(9) else 'CSV'} ({error}): quote texts "
            'with double quotes, and write a quote inside as "".'
        ) from error
    if not rows:
        raise UserError(f"{name} has a header but no rows ({', '.join(header)[:200]}): give at least one pair.")
    return Table(header, rows)


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text[:100_000], newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def _named(cells: list[str], name: str) -> list[str]:
    header = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1)]
    if len(set(header)) < len(header):
        twice = next(column for column in header if header.count(column) > 1)
        raise UserError(f"{name} has two columns called {twice}: rename one of them.")
    return header


_MESSAGES = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:""")


def _cell(cell: str) -> Any:
    """A cell is text, unless it is a list of messages as JSON or as Python wrote it (``DataFrame.to_csv``)."""
    if not _MESSAGES.match(cell):
        return cell
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell


# -- Parquet ----------------------------------------------------------------------------------------------------------


def read_parquet(data: bytes, name: str) -> Table:
    """Rows of a Parquet file. Raises UserError for damaged ones and those without rows."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(pa.BufferReader(data))
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")[:120]
        raise UserError(f"{name} is not a readable Parquet file ({reason}): write or download it again.") from error
    if not rows:
        raise UserError(f"{name} has columns ({', '.join(table.column_names)}) but no rows: give at least one pair.")
    return Table(table.column_names, list(enumerate(rows, 1)))
