"""Rows in JSON: one object a line, one list of objects, or one document that holds them in some other way."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from workbench.errors import UserError
from workbench.pairs.rows import Broken, Numbered

MOST_LINE = 1 << 26  # characters of one line, or of one element of a list
MOST_DOCUMENT = 1 << 28  # characters of a document that must be read whole
PIECE = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")


def json_rows(text: io.TextIOBase, start: str, name: str) -> Iterator[Numbered]:
    """The rows of an open text. One that starts with "[" is a list; any other is JSON Lines if its first line is a
    whole object, else one JSON object."""
    if start == "[":
        yield from _unwrapped(_elements(text, name))
        return
    first = next(iter(lambda: text.readline(MOST_LINE), ""), "")
    while first.isspace():
        first = text.readline(MOST_LINE)
    try:
        value = json.loads(first)
        whole = _column_of_rows(value) is not None or _is_columns(value)
    except json.JSONDecodeError as error:
        whole = error.pos >= len(first.rstrip())  # the line is no object yet: it goes on
    except (ValueError, RecursionError):
        whole = False
    text.seek(0)
    if whole:
        document = text.read(MOST_DOCUMENT + 1)
        if len(document) <= MOST_DOCUMENT:
            try:
                value = json.loads(document)
            except (ValueError, RecursionError):
                text.seek(0)
            else:
                yield from _rows_of(value, name)
                return
        elif first.strip() == "{" or first[:MOST_LINE] == document[:MOST_LINE]:
            raise UserError(
                f"{name} is one JSON object of more than {MOST_DOCUMENT >> 20} million characters: write it as JSON "
                "Lines, one object a line, or as Parquet."
            )
        else:
            text.seek(0)
    yield from _lines(text, name)


def _lines(text: io.TextIOBase, name: str) -> Iterator[Numbered]:
    for number, line in enumerate(iter(lambda: text.readline(MOST_LINE), ""), 1):
        if line.isspace():
            continue
        if len(line) == MOST_LINE and line[-1] != "\n":
            raise UserError(
                f"Line {number} of {name} is longer than {MOST_LINE >> 20} million characters: write one object a line."
            )
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, Broken(_wrong(error, f"Line {number} of {name}", name))
        else:
            yield number, _row(row, f"Line {number} of {name}", " with prompt, chosen and rejected")


def _row(value: Any, where: str, needed: str = "") -> dict[str, Any] | Broken:
    if isinstance(value, dict):
        return value
    return Broken(f"{where} is {_kind_of(value)}, not an object{needed}: correct or remove it.")


def _wrong(error: Exception, where: str, name: str) -> str:
    """What ``json.loads`` found, as a sentence somebody can act on."""
    if isinstance(error, json.JSONDecodeError):
        return f"{where} is not valid JSON ({error.msg}, column {error.colno}): correct or remove it."
    if isinstance(error, RecursionError):
        return f"{where} is nested too deeply to be a pair: correct or remove it."
    return f"{where} holds a number that is too long: correct or remove it."


def _kind_of(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", type(None): "null", dict: "an object"}
    return names.get(type(value), "a number")


# -- a list, element by element ----------------------------------------------------------------------------------------


class _Scanner:
    """A text of JSON values with a place in it; what lies before the place is let go of."""

    def __init__(self, text: io.TextIOBase, name: str) -> None:
        self.text, self.name = text, name
        self.buffer, self.at = "", 0
        self.line, self.column = 1, 0  # of the buffer's first character
        self.decode = json.JSONDecoder().raw_decode

    def fill(self) -> bool:
        """Read on, more the longer the value is that has begun. False at the end."""
        left = len(self.buffer) - self.at
        if left > MOST_LINE:
            raise UserError(
                f"Line {self.where(self.at)[0]} of {self.name} begins a value of more than {MOST_LINE >> 20} million "
                "characters: write it as JSON Lines, one object a line."
            )
        more = self.text.read(max(PIECE, left))
        self.line, self.column = self.where(self.at)
        self.buffer, self.at = self.buffer[self.at :] + more, 0
        return bool(more)

    def where(self, position: int) -> tuple[int, int]:
        """Line (from 1) and column (from 0) of a place in the buffer."""
        lines = self.buffer.count("\n", 0, position)
        if not lines:
            return self.line, self.column + position
        return self.line + lines, position - self.buffer.rfind("\n", 0, position) - 1

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self.at = _SPACE.match(self.buffer, self.at).end()
            if self.at < len(self.buffer) or not self.fill():
                return self.buffer[self.at : self.at + 1]

    def value(self) -> Any:
        """The JSON value at this place."""
        while True:
            try:
                value, end = self.decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.buffer) - 16
                if cut and self.fill():
                    continue
                raise self.wrong(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise UserError(_wrong(error, self.name, self.name)) from error
            if end < len(self.buffer) or not self.fill():  # a number may go on
                self.at = end
                return value

    def wrong(self, what: str, position: int) -> UserError:
        line, column = self.where(position)
        return UserError(
            f"Line {line} of {self.name} is not valid JSON ({what}, column {column + 1}): correct or remove it."
        )


def _elements(text: io.TextIOBase, name: str) -> Iterator[Numbered]:
    scanner = _Scanner(text, name)
    scanner.peek()
    scanner.at += 1  # the bracket
    number = 0
    if scanner.peek() == "]":
        raise UserError(f"{name} holds no rows: give a list of objects with prompt, chosen and rejected.")
    while True:
        number += 1
        scanner.peek()
        yield number, _row(scanner.value(), f"Row {number} of {name}")
        mark = scanner.peek()
        if mark not in (",", "]"):
            raise scanner.wrong("Expecting ',' delimiter", scanner.at)
        scanner.at += 1
        if mark == "]":
            break
    if scanner.peek():
        raise scanner.wrong("Extra data", scanner.at)


def _unwrapped(rows: Iterator[Numbered]) -> Iterator[Numbered]:
    """The rows themselves where each stands in a {"row_idx", "row"}, as the Hub's viewer gives them."""
    for number, row in rows:
        if isinstance(row, dict) and "row_idx" in row and isinstance(row.get("row"), dict):
            row = row["row"]
        yield number, row


# -- other documents ---------------------------------------------------------------------------------------------------


def _rows_of(value: dict[str, Any], name: str) -> Iterator[Numbered]:
    """Rows in one object: the object of columns, the list under one of its keys, or the object itself."""
    if _is_columns(value):
        columns = [list(cells.values()) if isinstance(cells, dict) else cells for cells in value.values()]
        rows: Any = (dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True))
    else:
        inner = _column_of_rows(value)
        rows = inner if inner is not None else [value]
    numbered = ((number, _row(row, f"Row {number} of {name}")) for number, row in enumerate(rows, 1))
    yield from _unwrapped(numbered)


def _is_columns(value: Any) -> bool:
    """{"prompt": [..], "chosen": [..], ...}: lists of one length, longer than a dialogue could be by accident. Or, as
    ``DataFrame.to_json`` writes them, {"prompt": {"0": .., "1": ..}, ...}."""
    if not isinstance(value, dict) or len(value) < 2 or set(value) == {"columns", "index", "data"}:
        return False
    columns = list(value.values())
    if all(isinstance(column, dict) and column for column in columns):
        return all(list(column) == list(columns[0]) for column in columns) and all(map(str.isdigit, columns[0]))
    return (
        all(isinstance(column, list) and column for column in columns)
        and len({len(column) for column in columns}) == 1
        and not any(isinstance(item, dict) for name in ("chosen", "rejected") for item in value.get(name, [])[:1])
    )


def _column_of_rows(value: Any) -> list | None:
    """The list in an object like {"version": 1, "data": [{...}, ...]}, if there is one by a name meant for it; or the
    rows of {"0": {...}, "1": {...}} and of {"columns": [...], "data": [[...], ...]}, which pandas writes too."""
    if not isinstance(value, dict):
        return None
    if value and all(map(str.isdigit, value)) and all(isinstance(row, dict) for row in value.values()):
        return list(value.values())
    names, cells = value.get("columns"), value.get("data")
    split = isinstance(names, list) and isinstance(cells, list) and cells
    if split and all(isinstance(row, list) and len(row) == len(names) for row in cells):
        return [dict(zip(map(str, names), row, strict=True)) for row in cells]
    for name in ("data", "rows", "examples", "pairs", "train"):
        inner = value.get(name)
        if isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
            return inner
    return None
