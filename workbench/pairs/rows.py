"""Rows as they come out of a source: numbered, one after the other, never all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

HEAD = 1000  # rows that are looked at before the first is handed on
HEAD_CHARACTERS = 8_000_000


@dataclass(frozen=True)
class Broken:
    """A line that is no row; ``why`` is the sentence for somebody whose whole file is like that."""

    why: str


def size_of(value: Any) -> int:
    """About how many characters a row's texts have, those in lists of messages too; everything else counts as ten (a
    packed file of a few kilobytes can hold rows of millions of empty lists)."""
    size, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, (dict, list)):
            left.extend(item.values() if isinstance(item, dict) else item)
            size += 10
        else:
            size += 10
    return size


Numbered = tuple[int, dict[str, Any] | Broken]


class Table:
    """A source that is open: its ``columns`` in the order of their first appearance among the first rows, those rows
    in ``head``, and all of them to be gone through once with :meth:`rows`.

    Numbers count from 1 (lines in JSON Lines). ``total`` is the number of rows where it is known before reading, and
    ``position`` tells how much of how much was read, in bytes or rows. Close it, or use it in a ``with``.
    """

    def __init__(
        self,
        rows: Iterable[Numbered],
        columns: Sequence[str] | None = None,
        *,
        total: int | None = None,
        position: Callable[[], tuple[int, int]] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._rest = iter(rows)
        self._close = close
        self.ended = False  # whether head is all there is
        self.head: list[Numbered] = []
        self._look_ahead()
        seen = dict.fromkeys(column for _, row in self.head if isinstance(row, dict) for column in row)
        self.columns = list(columns) if columns is not None else list(seen)
        self.total = len(self.head) if self.ended else total
        self.position = position or (lambda: (0, 0))

    def _look_ahead(self) -> None:
        size = 0
        for item in self._rest:
            self.head.append(item)
            if isinstance(item[1], dict):
                size += size_of(item[1])
            if len(self.head) >= HEAD or size > HEAD_CHARACTERS:
                return
        self.ended = True

    @property
    def first_rows(self) -> list[dict[str, Any]]:
        """The rows of the head that are rows."""
        return [row for _, row in self.head if isinstance(row, dict)]

    def rows(self) -> Iterator[Numbered]:
        """All rows, the head first. Can be gone through once."""
        head, self.head = self.head, []
        return chain(head, self._rest)

    def close(self) -> None:
        """Let go of the file."""
        if self._close:
            self._close()
            self._close = None

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
