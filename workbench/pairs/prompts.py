"""Prompts alone, to be answered: a text file with one a line, or a table or JSON with a column of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.pairs.messages import Message, Unfit, prompt_of
from workbench.pairs.readers import KINDS, open_file
from workbench.pairs.rows import Broken

COLUMNS = ("prompt", "question", "instruction", "messages", "input", "text")  # the first of these that a file has
MOST_BYTES = 64 << 20  # of a text file without columns, which is read whole


@dataclass(frozen=True)
class Prompts:
    """Prompts of a file in their order: plain texts, or lists of messages where they are dialogues. ``more``: whether the
    file goes on behind the last of them."""

    items: list[str | list[Message]]
    more: bool = False


def read_prompts(path: str | Path, name: str = "", most: int | None = None) -> Prompts:
    """The (first ``most``) prompts of a file: its lines, or for .jsonl, .json, .csv, .tsv and .parquet (packed ones too)
    the column prompt, or another of ``COLUMNS``. Empty lines are passed over; ``name`` is what messages call the file.

    Raises UserError for a file that cannot be read, has no such column, or a prompt that is neither text nor a dialogue.
    """
    path = Path(path).expanduser()
    name = name or path.name
    tables = any(suffix.lower() in KINDS for suffix in path.suffixes)
    found = list(islice(_of_table(path, name) if tables else _of_lines(path, name), None if most is None else most + 1))
    if not found:
        raise UserError(f"{name} is empty: give one prompt a line, or a column prompt.")
    return Prompts(found[:most], most is not None and len(found) > most)


def _of_lines(path: Path, name: str) -> Iterator[str]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{name} is larger than {MOST_BYTES >> 20} MB: give fewer prompts.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"The prompts {name} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not a text file in UTF-8: give one prompt a line, or JSONL with a column prompt."
        ) from error
    yield from (line.strip() for line in text.splitlines() if line.strip())


def _of_table(path: Path, name: str) -> Iterator[str | list[Message]]:
    word = "Line" if ".jsonl" in name.lower() else "Row"
    with open_file(path, name) as table:
        for number, row in table.rows():
            if isinstance(row, Broken):
                raise UserError(row.why)
            yield _of_row(row, f"{word} {number} of {name}")


def _of_row(row: dict[str, Any], where: str) -> str | list[Message]:
    column = next((column for column in COLUMNS if row.get(column) not in (None, "", [])), None)
    if column is None:
        there = ", ".join(map(str, row))[:120]
        raise UserError(f"{where} has no prompt (its columns: {there}): call the column of prompts prompt.")
    try:
        messages = prompt_of(row[column])
    except Unfit as error:
        raise UserError(f"{where} has a {column} that is neither a text nor a list of messages.") from error
    if not any(message["content"].strip() for message in messages):
        raise UserError(f"{where} has an empty {column}.")
    alone = len(messages) == 1 and messages[0]["role"] == "user"
    return messages[0]["content"] if alone else messages
