"""Preference pairs: a prompt, the answer people chose and the one they rejected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from workbench.errors import UserError
from workbench.pairs import store
from workbench.pairs.messages import Message, prompt_key, prompt_of
from workbench.pairs.search import positions_of
from workbench.pairs.splitting import MIN_PAIRS, SIDES, deal, held_out_count, lot

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from workbench.pairs.store import TableFile

SEARCHES = 8  # whose results are remembered


@dataclass(frozen=True)
class Pair:
    """One pair. ``id`` is its row number in the source, counted from 1; 0 is a pair that has none yet."""

    id: int
    prompt: list[Message]
    chosen: str
    rejected: str

    def swapped(self) -> Pair:
        """The same pair with the sides exchanged."""
        return replace(self, chosen=self.rejected, rejected=self.chosen)


@dataclass(frozen=True)
class Report:
    """What reading found. Row numbers count from 1 (line numbers in JSON Lines; a table's header is not counted)."""

    format: str
    read: int
    kept: int
    dropped: dict[str, list[int]] = field(default_factory=dict)  # reason (a key of REASONS) -> row numbers
    warnings: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)  # role ("prompt", "chosen", ...) -> column it was read from
    title: str = ""
    about: str = ""
    hints: dict[str, Any] = field(
        default_factory=dict
    )  # see workbench.pairs.hints: languages, near-duplicates, lengths

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each reason dropped."""
        return {reason: len(rows) for reason, rows in self.dropped.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """The report in a dictionary that :meth:`to_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True)
class Split:
    """Three sets of pairs that share no prompt: step 1, steps 2 and 3, and what is never trained on."""

    instruct: PreferencePairs
    fit: PreferencePairs
    held_out: PreferencePairs


class PreferencePairs:
    """Preference pairs in a ``datasets.Dataset`` with the columns id, prompt (list of messages), chosen, rejected and
    extra (JSON of the source's other columns). Never changed in place: every edit gives new pairs.

    ``report`` tells what reading the source found; a selection keeps its source's report.
    """

    def __init__(self, dataset: Dataset, report: Report, name: str = "pairs", source: str = "") -> None:
        self.dataset = dataset
        self.report = report
        self.name = name
        self.source = source
        self._file: TableFile | None = None  # the file the data set is mapped from
        self._positions: np.ndarray | None = None  # the file's rows that are these pairs, ascending; None: all
        self._others: pa.Table | None = None  # pairs among them that are not in the file: positions -1, -2, ...
        self._numbers: np.ndarray | None = None
        self._keys: np.ndarray | None = None
        self._holds: TableFile | None = None  # a file that must stay while these pairs are read from it
        self._drawn: dict[int, np.ndarray] = {}  # seed -> what decides the order of dealing, uint64 [N, 2]
        self._sides: dict[tuple[int, float | int | None, float], np.ndarray] = {}
        self._found: dict[str, np.ndarray] = {}

    @classmethod
    def from_pairs(
        cls,
        pairs: Sequence[Pair],
        report: Report | None = None,
        name: str = "pairs",
        source: str = "",
        extra: Sequence[str] | None = None,
    ) -> PreferencePairs:
        """Pairs made in memory; nothing is checked (:func:`workbench.pairs.load_pairs` checks)."""
        import pyarrow as pa

        batch = store.record_batch(
            [pair.id for pair in pairs],
            [pair.prompt for pair in pairs],
            [pair.chosen for pair in pairs],
            [pair.rejected for pair in pairs],
            list(extra) if extra is not None else ["{}"] * len(pairs),
        )
        report = report or Report("made in memory", len(pairs), len(pairs))
        return cls(store.in_memory(pa.Table.from_batches([batch])), report, name, source)

    def remember(
        self,
        file: TableFile | None = None,
        positions: np.ndarray | None = None,
        ids: np.ndarray | None = None,
        keys: np.ndarray | None = None,
        lots: dict[int, np.ndarray] | None = None,
    ) -> PreferencePairs:
        """What is known already: the file behind the data set and which of its rows these are (ascending), all row
        numbers [N], hashes of all prompts' keys, uint64 [N, 2], and for some seeds what :func:`lot` says of them, uint64
        [N, 2]. Gives back these pairs."""
        self._file, self._positions, self._numbers, self._keys = file, positions, ids, keys
        self._drawn = lots or {}
        return self

    # -- reading -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Pair:
        return _pair(self.dataset[index])

    def __iter__(self) -> Iterator[Pair]:
        for batch in self.batches("id", "prompt", "chosen", "rejected"):
            for row in batch.to_pylist():
                yield _pair(row)

    def batches(self, *columns: str) -> Iterator[pa.RecordBatch | pa.Table]:
        """These columns of all pairs in their order as Arrow tables of some thousand rows, so that a large set passes
        through little memory."""
        if self._file is None or not self._file.path.exists():  # what is mapped stays, even if the file is gone
            yield from store.batches(self.dataset, columns)
        else:
            for batch in self._file.batches(self._positions, self._others):
                yield batch.select(list(columns))

    @property
    def numbers(self) -> np.ndarray:
        """The row numbers of all pairs, in order, int64 [N]."""
        if self._numbers is None:
            parts = [np.asarray(batch.column("id")) for batch in self.batches("id")]
            self._numbers = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        return self._numbers

    @cached_property
    def ids(self) -> list[int]:
        """The row numbers of all pairs, in order."""
        return self.numbers.tolist()

    def positions(self, ids: Iterable[int]) -> np.ndarray:
        """Where the pairs with these row numbers stand, in the order of ``ids``; numbers that are not there are left
        out."""
        numbers = self.numbers
        wanted = np.fromiter(ids, dtype=np.int64)
        if not len(numbers) or not len(wanted):
            return np.zeros(0, dtype=np.int64)
        order = np.argsort(numbers, kind="stable")
        at = np.minimum(np.searchsorted(numbers, wanted, sorter=order), len(numbers) - 1)
        found = order[at]
        return found[numbers[found] == wanted]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of prompts and answers in order: equal for the same pairs, whatever file they came from."""
        digest = hashlib.sha256()
        for pair in self:
            prompt = [[m["role"], m["content"]] for m in pair.prompt]
            digest.update(json.dumps([prompt, pair.chosen, pair.rejected]).encode() + b"\n")
        return digest.hexdigest()

    @property
    def prompt_hashes(self) -> np.ndarray:
        """A hash per pair, uint64 [N, 2], equal for pairs whose prompts differ in case and spacing at most."""
        if self._keys is None:
            from workbench.pairs.keep import key_hash

            hashes = b"".join(
                key_hash(prompt) for batch in self.batches("prompt") for prompt in batch.column("prompt").to_pylist()
            )
            self._keys = np.frombuffer(hashes, dtype="<u8").reshape(-1, 2)
        return self._keys

    @cached_property
    def prompt_keys(self) -> list[str]:
        """One key per pair (a hash), equal for pairs whose prompts differ in case and spacing at most."""
        hashes = np.ascontiguousarray(self.prompt_hashes).tobytes()
        return [hashes[start : start + 16].hex() for start in range(0, len(hashes), 16)]

    @cached_property
    def extra_columns(self) -> list[str]:
        """The names of the source's other columns, as the first two thousand pairs have them."""
        names: dict[str, None] = {}
        left = 2000
        for batch in self.batches("extra"):
            texts = batch.column("extra").slice(0, left).to_pylist()
            names.update(dict.fromkeys(name for text in texts for name in json.loads(text)))
            left -= len(texts)
            if left <= 0:
                break
        return list(names)

    def extra_of(self, ids: Iterable[int], name: str) -> list[Any]:
        """What the source's column ``name`` holds for the pairs with these row numbers (None where it has nothing).
        Raises UserError for a row number that is not there."""
        ids = list(ids)
        positions = self.positions(ids)
        if len(positions) != len(ids):
            raise UserError("One of these pairs is no longer there: load the page again.")
        if not ids:
            return []
        texts = self.dataset.select_columns(["extra"]).select(positions.tolist())["extra"]
        values = [json.loads(text).get(name) for text in texts]
        return [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]

    # -- selecting ---------------------------------------------------------------------------------------------------

    def select(self, indices: Iterable[int]) -> PreferencePairs:
        """The pairs at these positions, in this order."""
        chosen = np.fromiter(indices, dtype=np.int64)
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        made = PreferencePairs(self.dataset.select(chosen.tolist()), self.report, self.name, self.source)
        if self._file is not None and store.ascending(chosen):
            made._file = self._file
            made._positions = chosen if self._positions is None else self._positions[chosen]
            made._others = self._others
        made._holds = self._file or self._holds
        made._numbers = None if self._numbers is None else self._numbers[chosen]
        made._keys = None if self._keys is None else self._keys[chosen]
        made._drawn = {seed: drawn[chosen] for seed, drawn in self._drawn.items()}
        return made

    def without(self, ids: Iterable[int]) -> PreferencePairs:
        """All pairs but those with these row numbers (numbers that are not there change nothing)."""
        left = ~np.isin(self.numbers, np.fromiter(ids, dtype=np.int64))
        return self.select(np.flatnonzero(left))

    def with_pair(self, pair: Pair) -> PreferencePairs:
        """The pairs with this one in place of the one with its id, or at the end if no pair has it (id 0 gets the next
        free number). The texts follow the rules of reading.

        Raises UserError if a text is empty or no text, the sides are equal, or the pair is there already, either way.
        """
        import pyarrow as pa

        from workbench.pairs.checks import check_pair

        pair = check_pair(pair)
        check_pair(pair, (self[index] for index in self._same_answers(pair) if self.numbers[index] != pair.id))
        there = self.positions([pair.id])
        if len(there):
            index, extra = int(there[0]), self.dataset[int(there[0])]["extra"]
        else:
            index, extra = len(self), "{}"
            pair = pair if pair.id > 0 else replace(pair, id=int(self.numbers.max(initial=0)) + 1)
        new = self.from_pairs([pair], extra=[extra])
        end = min(index + 1, len(self))
        made = PreferencePairs(
            store.spliced(self.dataset, index, end, new.dataset), self.report, self.name, self.source
        )
        if self._file is not None:
            made._file = self._file
            made._others = store.rows_of(new.dataset)
            if self._others is not None:
                made._others = pa.concat_tables([self._others, made._others])
            before = np.arange(len(self)) if self._positions is None else self._positions
            made._positions = np.concatenate([before[:index], [-len(made._others)], before[end:]])
        made._holds = self._file or self._holds
        made._numbers = np.concatenate([self.numbers[:index], [pair.id], self.numbers[end:]])
        made._keys = np.concatenate([self.prompt_hashes[:index], new.prompt_hashes, self.prompt_hashes[end:]])
        made._drawn = {
            seed: np.concatenate([drawn[:index], new._lots(seed), drawn[end:]]) for seed, drawn in self._drawn.items()
        }
        return made

    def _same_answers(self, pair: Pair) -> list[int]:
        """Positions of pairs with these two answers, either way round."""
        import pyarrow.compute as pc

        found, first = [], 0
        for batch in self.batches("chosen", "rejected"):
            sides = batch.column("chosen"), batch.column("rejected")
            for one, other in (sides, sides[::-1]):
                both = pc.and_(pc.equal(one, pair.chosen), pc.equal(other, pair.rejected))
                found += (np.flatnonzero(both.to_numpy(zero_copy_only=False)) + first).tolist()
            first += len(batch)
        return found

    # -- splitting ---------------------------------------------------------------------------------------------------

    def split(self, seed: int = 0, held_out: float | int | None = None, step1_share: float = 0.5) -> Split:
        """Three sets that share no prompt: ``held_out`` of the pairs (None: a third, at most 200; a whole number is
        that many, a fraction that share), and of the rest ``step1_share`` for step 1 ("instruct"), the others for steps
        2 and 3 ("fit").

        Prompts equal but for case and spacing always stay together. The order in which prompts are dealt comes from a
        hash of seed and prompt, so it is the same on every machine and does not depend on the order of the rows.

        Raises UserError below 8 pairs or 3 different prompts, or if ``held_out`` leaves nothing on one side.
        """
        codes = self.side_codes(seed, held_out, step1_share)
        return Split(*(self.select(np.flatnonzero(codes == code)) for code in range(len(SIDES))))

    def sides(self, seed: int = 0, held_out: float | int | None = None, step1_share: float = 0.5) -> list[str]:
        """For every pair the name of the set that :meth:`split` puts it in: "instruct", "fit" or "held_out"."""
        return [SIDES[code] for code in self.side_codes(seed, held_out, step1_share).tolist()]

    def side_codes(self, seed: int = 0, held_out: float | int | None = None, step1_share: float = 0.5) -> np.ndarray:
        """The same as places in SIDES, int8 [N]."""
        key = seed, held_out, step1_share
        if key not in self._sides:
            _, first, groups = np.unique(self.prompt_hashes, axis=0, return_index=True, return_inverse=True)
            target = held_out_count(len(self), len(first), held_out)
            self._sides[key] = deal(groups.reshape(-1), self._lots(seed)[first], target, step1_share)
        return self._sides[key]

    def _lots(self, seed: int) -> np.ndarray:
        """What decides the order of dealing: :func:`lot` of every pair's prompt, uint64 [N, 2]."""
        if seed not in self._drawn:
            keys = (prompt_key(row) for batch in self.batches("prompt") for row in batch.column("prompt").to_pylist())
            self._drawn[seed] = np.frombuffer(b"".join(lot(seed, key) for key in keys), dtype=">u8").reshape(-1, 2)
        return self._drawn[seed]

    # -- showing -----------------------------------------------------------------------------------------------------

    def search(self, text: str) -> list[int]:
        """Positions of the pairs that contain ``text`` in prompt or answers, whatever the letter case; all for ""."""
        wanted = text.strip()
        if not wanted:
            return list(range(len(self)))
        if wanted not in self._found:
            if len(self._found) >= SEARCHES:
                self._found.pop(next(iter(self._found)))
            self._found[wanted] = positions_of(wanted, self.batches("prompt", "chosen", "rejected"))
        return self._found[wanted].tolist()

    # -- writing -----------------------------------------------------------------------------------------------------

    def to_jsonl(self, path: str | Path, *, extra: bool = False) -> Path:
        """Write the pairs in TRL's explicit-prompt form, one JSON object a line; reading them gives the same pairs.

        A prompt that is one user message becomes plain text with plain answers, any other a list of messages with
        answers of one message. With ``extra`` the source's other columns go along under that one name, where none of
        them can be taken for a prompt or an answer, and reading puts them back. The file appears whole or not at all.
        Raises UserError if the disk does not take it.
        """
        path = Path(path)
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")  # of its own, should two write at once
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8", errors="replace", newline="\n") as file:  # halves of characters
                for record in self._records(extra):
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise UserError(f"The pairs could not be written to {path} ({error.strerror or error}).") from error
        return path

    def _records(self, extra: bool) -> Iterator[dict[str, Any]]:
        for batch in self.batches("id", "prompt", "chosen", "rejected", *(["extra"] if extra else [])):
            for row in batch.to_pylist():
                others = json.loads(row.get("extra") or "{}")
                yield _record(_pair(row)) | ({"extra": others} if others else {})


def _pair(row: dict[str, Any]) -> Pair:
    return Pair(row["id"], row["prompt"], row["chosen"], row["rejected"])


def _record(pair: Pair) -> dict[str, Any]:
    prompt = pair.prompt
    if len(prompt) == 1 and prompt[0]["role"] == "user" and prompt_of(prompt[0]["content"]) == prompt:
        return {"prompt": prompt[0]["content"], "chosen": pair.chosen, "rejected": pair.rejected}
    answers = {
        side: [{"role": "assistant", "content": text}]
        for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    return {"prompt": prompt, **answers}


__all__ = ["MIN_PAIRS", "SIDES", "Pair", "PreferencePairs", "Report", "Split"]
