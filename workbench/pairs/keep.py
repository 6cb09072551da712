"""From rows to pairs, one row at a time: what is dropped and why, what is written, and what is remembered of each."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError
from workbench.pairs.checks import REASONS, both_ways, describe_dropped, find_warnings, sound
from workbench.pairs.core import Pair, PreferencePairs, Report
from workbench.pairs.forms import Raw
from workbench.pairs.hints import BY_WORDS, Languages, Marks, hint_warnings, length_hints, near_duplicates
from workbench.pairs.messages import Message, Unfit, prompt_key, prompt_text
from workbench.pairs.rows import Broken, Table
from workbench.pairs.similar import ENDS, digest, ends
from workbench.pairs.splitting import MIN_PAIRS, lot
from workbench.pairs.store import Writer
from workbench.progress import QUIET, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.pairs.forms import Row

TOLD_EVERY = 500  # rows between two reports of progress
SHOWN_BOTH_WAYS = 3


class Keeper:
    """Takes rows and keeps those that are pairs.

    Of a pair that stands there twice the first is kept; of two that contradict each other, neither. For that every
    pair leaves a hash of 16 bytes behind, and no text.
    """

    def __init__(
        self,
        read: Callable[[Row], Raw],
        used: set[str],
        cache: str | Path | None = None,
        most_bytes: int | None = None,
    ) -> None:
        self._read_row, self._used = read, used
        self._writer = Writer(cache, most_bytes)
        self._seen: dict[bytes, int] = {}
        self._against: set[int] = set()
        self._ids, self._sizes, self._texts = array("q"), array("q"), bytearray()
        self._lots = bytearray()  # of the seed that everybody begins with
        self._marks, self._languages = Marks(), Languages()
        self.read = 0
        self.dropped: dict[str, list[int]] = {}
        self.first_broken = ""

    def add(self, number: int, row: Row | Broken) -> None:
        """One row more."""
        self.read += 1
        if isinstance(row, Broken):
            self.first_broken = self.first_broken or row.why
            self.dropped.setdefault("broken line", []).append(number)
            return
        try:
            pair = sound(Pair(number, *self._read_row(row)))
            self._remember(pair)
        except Unfit as unfit:
            self.dropped.setdefault(unfit.reason, []).append(number)
            return
        extra = {name: value for name, value in row.items() if name not in self._used}
        if list(extra) == ["extra"] and isinstance(extra["extra"], dict | None):  # as to_jsonl writes them
            extra = extra["extra"] or {}
        self._writer.add(number, pair.prompt, pair.chosen, pair.rejected, json.dumps(extra, default=str))

    def _remember(self, pair: Pair) -> None:
        prompt = _hash("\0".join(text for message in pair.prompt for text in (message["role"], message["content"])))
        chosen, rejected = _hash(pair.chosen), _hash(pair.rejected)
        key, position = digest(prompt, chosen, rejected), len(self._ids)
        if key in self._seen:
            raise Unfit("duplicate")
        self._seen[key] = position
        if (other := self._seen.get(digest(prompt, rejected, chosen))) is not None:
            self._against |= {other, position}
        self._ids.append(pair.id)
        asked = prompt_text(pair.prompt)
        self._sizes.extend((sum(len(m["content"]) for m in pair.prompt), len(pair.chosen), len(pair.rejected)))
        self._texts += prompt[:8] + chosen[:8] + rejected[:8]
        plain = prompt_key(pair.prompt)
        self._lots += lot(0, plain)
        self._marks.add(_hash(plain), asked, pair.chosen, pair.rejected)
        self._languages.add(pair.id, asked, pair.chosen, pair.rejected)

    def finish(self, form: Any, roles: dict[str, str], called: str, name: str, source: str) -> PreferencePairs:
        """The pairs and their report. Raises UserError if none is left, or most lines were broken."""
        broken = self.dropped.get("broken line", [])
        count = len(self._ids) - len(self._against)
        if len(broken) * 2 > self.read or (broken and not count):
            raise UserError(self.first_broken)
        ids = np.frombuffer(self._ids, dtype=np.int64) if self._ids else np.zeros(0, dtype=np.int64)
        gone = np.array(sorted(self._against), dtype=np.int64)
        if len(gone):
            self.dropped["contradiction"] = ids[gone].tolist()
        dropped = {reason: sorted(self.dropped[reason]) for reason in REASONS if reason in self.dropped}
        if not count:
            rows = "The only row" if self.read == 1 else f"None of the {self.read} rows"
            raise UserError(
                f"{rows} of {called} can be used, read as {form.title} ({describe_dropped(dropped)}): mend the file, "
                "or say which column is which."
            )
        kept = np.ones(len(ids), dtype=bool)
        kept[gone] = False
        self._seen.clear()
        dataset, file = self._writer.finish(gone)
        marks = self._marks.arrays(kept)
        pairs = PreferencePairs(dataset, Report(form.name, self.read, count), name, source)
        lots = np.frombuffer(bytes(self._lots), dtype=">u8").reshape(-1, 2)[kept]
        pairs.remember(file=file, ids=ids[kept], keys=marks[0], lots={0: lots})
        sizes = np.frombuffer(self._sizes, dtype=np.int64).reshape(-1, 3)[kept]
        hints = self._languages.found(self._against)
        texts = _texts(pairs) if count <= BY_WORDS else None
        hints["near_duplicates"] = near_duplicates(ids[kept], marks, texts)
        hints["lengths"] = length_hints(sizes[:, 1], sizes[:, 2])
        warnings = self._warnings(ids[kept], sizes, marks[0], kept, broken) + hint_warnings(hints, count, MIN_PAIRS)
        pairs.report = Report(
            form.name, self.read, count, dropped, warnings, roles, form.title, form.about, hints=hints
        )
        return pairs

    def _warnings(
        self, ids: np.ndarray, sizes: np.ndarray, keys: np.ndarray, kept: np.ndarray, broken: list[int]
    ) -> list[str]:
        found = find_warnings(self.read, ids, sizes, keys)
        if broken:
            lines = "1 line" if len(broken) == 1 else f"{len(broken):,} lines"
            found.insert(0, f"{lines} could not be read and {'was' if len(broken) == 1 else 'were'} left out. "
                            f"{self.first_broken}")  # fmt: skip
        hashes = np.frombuffer(bytes(self._texts), dtype="<u8").reshape(-1, 3)[kept]
        if against := both_ways(ids, *hashes.T):
            named = ", ".join(map(str, against[:SHOWN_BOTH_WAYS])) + (", ..." if len(against) > SHOWN_BOTH_WAYS else "")
            found.append(
                f"In {len(against)} pairs an answer is chosen that another pair rejects for the same prompt, or the "
                f"other way round (rows {named}): look whether that is meant."
            )
        return found

    def abandon(self) -> None:
        """Let go of what was written, as after a failure."""
        self._writer.abandon()


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def key_hash(prompt: list[Message]) -> bytes:
    """16 bytes that are equal for prompts which a split takes for the same."""
    return _hash(prompt_key(prompt))


def _texts(pairs: PreferencePairs) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        yield prompt_text(pair.prompt), f"{ends(pair.chosen, ENDS // 2)}\n{ends(pair.rejected, ENDS // 2)}"


def keep_pairs(table: Table, keeper: Keeper, limit: int | None = None, progress: Progress = QUIET) -> None:
    """Hand all rows of an open table to a keeper, with progress in bytes (or rows, where they are counted)."""
    done = 0
    try:
        for number, row in islice(table.rows(), limit):
            if done % TOLD_EVERY == 0:
                _tell(table, done, progress)
            keeper.add(number, row)
            done += 1
        _tell(table, done, progress, ended=True)
    except BaseException:
        keeper.abandon()
        raise


def _tell(table: Table, done: int, progress: Progress, ended: bool = False) -> None:
    if table.total is not None:
        at, size = done, table.total
    else:
        at, size = table.position()
    if ended:
        at = size = max(size, 1)
    elif at >= size:
        at = max(0, size - 1)  # the last block is read but its rows are not
    progress("pairs", at, size, message=f"{done:,} rows read", rows=done)
