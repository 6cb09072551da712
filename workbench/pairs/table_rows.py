"""Rows in tables of text (CSV, TSV), and the lists of messages that programs write into their cells."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from workbench.errors import UserError
from workbench.pairs.rows import Broken, Numbered

MOST_RECORD = 1 << 24  # characters of one row: a quote that is never closed would take in the rest of the file
MOST_LITERAL = 1 << 20  # characters of a cell that are read as Python writes lists, which takes 500 times the memory
MOST_AGAIN = 1 << 30  # characters that are read a second time after broken rows


class _Open(Exception):
    """A row that does not end."""


class _Lines:
    """Lines for the csv module. Those of the row being read are remembered, so that after a broken row (a quote that is
    not closed swallows what follows) its second line can be read again as the beginning of another."""

    def __init__(self, text: io.TextIOBase) -> None:
        self.text = text
        self.number = 0  # of the last line given
        self.again: deque[str] = deque()
        self.record: list[str] = []
        self.size = 0
        self.repeated = 0
        self.nul = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self.size > MOST_RECORD:
            raise _Open
        line = self.again.popleft() if self.again else self.text.readline(MOST_RECORD)
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        self.size += len(line)
        self.nul = self.nul or "\0" in line
        return line

    def begin(self) -> int:
        """A new row begins; the number of its first line."""
        self.record, self.size, self.nul = [], 0, False
        return self.number + 1

    def give_back(self) -> None:
        """All lines of this row but its first."""
        lines = self.record[1:]
        self.repeated += self.size
        if self.repeated <= MOST_AGAIN:
            self.again.extendleft(reversed(lines))
            self.number -= len(lines)


def table_rows(text: io.TextIOBase, head: str, name: str, kind: str) -> tuple[list[str], Iterator[Numbered]]:
    """The columns and the rows of a table with a header. Cells are text, whatever they look like; lists of messages in
    a cell are taken as such.

    The delimiter is the one of comma, semicolon and tab that gives the header most cells.
    """
    csv.field_size_limit(MOST_RECORD * 2)  # the library's own 131,072 characters would refuse long prompts
    preferred = "\t" if kind == "tsv" else ","
    delimiter = max((preferred, ",", ";", "\t"), key=lambda mark: len(_header(head, mark)))
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    records = _records(reader, lines, name, "TSV" if delimiter == "\t" else "CSV")
    for _, cells in records:
        if isinstance(cells, Broken):
            raise UserError(cells.why)
        header = _named(cells, name)
        return header, _rows(records, header, name)
    raise UserError(f"{name} is empty: give at least one pair.")


def _records(reader: Any, lines: _Lines, name: str, title: str) -> Iterator[tuple[int, list[str] | Broken]]:
    """The line where each row begins, and its cells. Empty rows are left out."""
    from workbench.pairs.readers import binary_file

    while True:
        first = lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _Open) as error:
            said = f"a row of more than {MOST_RECORD >> 20} million characters" if isinstance(error, _Open) else error
            lines.give_back()
            yield (
                first,
                Broken(
                    f"Line {first} of {name} is not valid {title} ({said}): quote texts with double quotes, and write "
                    'a quote inside as "".'
                ),
            )
            continue
        if lines.nul:
            number = first + next(i for i, line in enumerate(lines.record) if "\0" in line)
            yield first, Broken(binary_file(name, number))
        elif any(cells):
            yield first, cells


def _rows(records: Iterator[tuple[int, list[str] | Broken]], header: list[str], name: str) -> Iterator[Numbered]:
    width = len(header)
    for number, (first, cells) in enumerate(records, 1):
        if isinstance(cells, Broken):
            yield number, cells
        elif len(cells) < width or any(cells[width:]):
            yield (
                number,
                Broken(
                    f"Line {first} of {name} has {len(cells)} cells but the header has {width}: put texts that contain "
                    "the delimiter or line breaks in double quotes."
                ),
            )
        else:
            yield number, {column: _cell(cell, column) for column, cell in zip(header, cells, strict=False)}


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def _named(cells: list[str], name: str) -> list[str]:
    header = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1)]
    if len(set(header)) < len(header):
        twice = next(column for column in header if header.count(column) > 1)
        raise UserError(f"{name} has two columns called {twice[:80]}: rename one of them.")
    return header


# -- what is written into cells ----------------------------------------------------------------------------------------

_NESTED = re.compile(r"""\s*(?:\[\s*)?\{\s*["']\w+["']\s*:""")
_TURNS = re.compile(r"""\s*\[\s*(?:\[\s*["']|array\(|\])""")
_ARRAYS = re.compile(
    r"""('(?:[^'\\]|\\.)*(?:'|\\?\Z)|"(?:[^"\\]|\\.)*(?:"|\\?\Z))|array\(|,\s*dtype=\w+\)|(?<=[}\])])(?:,\s*dtype=\w+\))?\s+(?=array\(|[\[{])""",
    re.DOTALL,
)


def _cell(cell: str, column: str) -> Any:
    """A cell is text, unless it is messages, answers with scores or (in "history") earlier turns, as JSON or as Python
    writes them: ``DataFrame.to_csv`` puts lists and NumPy arrays there, arrays without commas."""
    if cell[:1] not in "[{ \n":
        return cell
    if _NESTED.match(cell):
        value = _parsed(cell)
        return value if _is_nested(value) else cell
    if column.strip().lower() == "history" and _TURNS.match(cell):
        value = _parsed(cell)
        return value if isinstance(value, list) else cell
    return cell


def _parsed(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    if len(cell) > MOST_LITERAL:
        return cell
    for write in (str, _without_arrays):
        try:
            return ast.literal_eval(write(cell).strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell


def _without_arrays(cell: str) -> str:
    """Lists where NumPy wrote arrays: "[{...}\\n {...}]" without commas, or "array([...], dtype=object)". Texts in quotes
    stay as they are."""

    def instead(found: re.Match) -> str:
        if found[1]:
            return found[1]
        return ", " if found[0][-1].isspace() else ""

    return _ARRAYS.sub(instead, cell)


def _is_nested(value: Any) -> bool:
    """Whether a value is one of the structures that forms of pairs are made of, and not text that looks alike."""
    if isinstance(value, list):
        return bool(value) and all(
            isinstance(item, dict) and ("role" in item or "from" in item or {"text", "pm_score"} <= set(item))
            for item in value
        )
    return isinstance(value, dict) and (
        {"role", "content"} <= set(value)
        or {"from", "value"} <= set(value)
        or isinstance(value.get("messages"), list)
        or isinstance(value.get("full_text"), str)
    )
