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

from workbench.errors import UserError
from workbench.pairs.messages import Message, prompt_key, prompt_of, prompt_text

if TYPE_CHECKING:
    from datasets import Dataset

MIN_PAIRS = 8
MIN_PROMPTS = 3
HELD_OUT = 200  # pairs: an interval of +-5 points on a share, and minutes to answer them all on a laptop
SIDES = ("instruct", "fit", "held_out")


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


@dataclass(frozen=True)
class Rows:
    """A stretch of the table: ``rows`` are dictionaries with index, id, prompt (as text), chosen, rejected and split
    ("instruct", "fit", "held_out", or "" where there are too few pairs to split); ``total`` counts all that match."""

    rows: list[dict[str, Any]]
    start: int
    total: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


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
        self._sides: dict[tuple[int, float | int | None], list[str]] = {}

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
        from datasets import Dataset, Features, List, Value

        text = Value("string")
        columns = {
            "id": [pair.id for pair in pairs],
            "prompt": [pair.prompt for pair in pairs],
            "chosen": [pair.chosen for pair in pairs],
            "rejected": [pair.rejected for pair in pairs],
            "extra": list(extra) if extra is not None else ["{}"] * len(pairs),
        }
        features = Features(
            {
                "id": Value("int64"),
                "prompt": List({"role": text, "content": text}),
                "chosen": text,
                "rejected": text,
                "extra": text,
            }
        )
        report = report or Report("made in memory", len(pairs), len(pairs))
        return cls(Dataset.from_dict(columns, features=features), report, name, source)

    # -- reading -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Pair:
        return _pair(self.dataset[index])

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    @cached_property
    def _pairs(self) -> list[Pair]:
        return [_pair(row) for row in self.dataset.to_list()]

    @cached_property
    def ids(self) -> list[int]:
        """The row numbers of all pairs, in order."""
        return list(self.dataset["id"])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of prompts and answers in order: equal for the same pairs, whatever file they came from."""
        digest = hashlib.sha256()
        for pair in self:
            prompt = [[m["role"], m["content"]] for m in pair.prompt]
            digest.update(json.dumps([prompt, pair.chosen, pair.rejected]).encode() + b"\n")
        return digest.hexdigest()

    @cached_property
    def prompt_keys(self) -> list[str]:
        """One key per pair, equal for pairs whose prompts differ in case and spacing at most."""
        return [prompt_key(pair.prompt) for pair in self]

    # -- selecting ---------------------------------------------------------------------------------------------------

    def select(self, indices: Iterable[int]) -> PreferencePairs:
        """The pairs at these positions, in this order."""
        return PreferencePairs(self.dataset.select(list(indices)), self.report, self.name, self.source)

    def without(self, ids: Iterable[int]) -> PreferencePairs:
        """All pairs but those with these row numbers (numbers that are not there change nothing)."""
        gone = set(ids)
        return self.select(index for index, number in enumerate(self.ids) if number not in gone)

    def with_pair(self, pair: Pair) -> PreferencePairs:
        """The pairs with this one in place of the one with its id, or at the end if no pair has it (id 0 gets the next
        free number). The texts follow the rules of reading.

        Raises UserError if a text is empty or no text, the sides are equal, or the pair is there already, either way.
        """
        from workbench.pairs.checks import check_pair

        pair = check_pair(pair, (other for other in self if other.id != pair.id))
        pairs, extra = list(self), list(self.dataset["extra"])
        if pair.id in self.ids:
            pairs[self.ids.index(pair.id)] = pair
        else:
            pairs.append(pair if pair.id > 0 else replace(pair, id=max(self.ids, default=0) + 1))
            extra.append("{}")
        return self.from_pairs(pairs, self.report, self.name, self.source, extra)

    # -- splitting ---------------------------------------------------------------------------------------------------

    def split(self, seed: int = 0, held_out: float | int | None = None) -> Split:
        """Three sets that share no prompt: ``held_out`` of the pairs (None: a third, at most 200; a whole number is
        that many, a fraction that share), the rest halved between step 1 ("instruct") and steps 2 and 3 ("fit").

        Prompts equal but for case and spacing always stay together. The order in which prompts are dealt comes from a
        hash of seed and prompt, so it is the same on every machine and does not depend on the order of the rows.

        Raises UserError below 8 pairs or 3 different prompts, or if ``held_out`` leaves nothing on one side.
        """
        sides = self.sides(seed, held_out)
        return Split(*(self.select(i for i, name in enumerate(sides) if name == side) for side in SIDES))

    def sides(self, seed: int = 0, held_out: float | int | None = None) -> list[str]:
        """For every pair the name of the set that :meth:`split` puts it in: "instruct", "fit" or "held_out"."""
        if (seed, held_out) not in self._sides:
            self._sides[seed, held_out] = self._deal(seed, self._held_out_count(held_out))
        return self._sides[seed, held_out]

    def _held_out_count(self, held_out: float | int | None) -> int:
        if len(self) < MIN_PAIRS:
            raise UserError(
                f"Training and testing apart needs at least {MIN_PAIRS} pairs, but there "
                f"{'is' if len(self) == 1 else 'are'} {len(self)}: add pairs."
            )
        prompts = len(set(self.prompt_keys))
        if prompts < MIN_PROMPTS:
            raise UserError(
                f"Training and testing apart needs at least {MIN_PROMPTS} different prompts, but the {len(self)} pairs "
                f"have {prompts}: add pairs with other prompts."
            )
        if held_out is None:
            return min(HELD_OUT, round(len(self) / 3))
        count = held_out if isinstance(held_out, int) and not isinstance(held_out, bool) else len(self) * held_out
        if not 1 <= count <= len(self) - 2:  # false for nan too
            raise UserError(
                f"{held_out} of {len(self)} pairs cannot be held out: choose a number from 1 to {len(self) - 2}, "
                "or a share between 0 and 1."
            )
        return round(count)

    def _deal(self, seed: int, target: int) -> list[str]:
        groups: dict[str, list[int]] = {}
        for index, key in enumerate(self.prompt_keys):
            groups.setdefault(key, []).append(index)
        order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())
        sides = [""] * len(self)
        held, rest = 0, []
        for position, key in enumerate(order):
            left_for_training = len(rest) + len(order) - position - 1
            if held + len(groups[key]) <= target and left_for_training >= 2:
                held += len(groups[key])
                for index in groups[key]:
                    sides[index] = "held_out"
            else:
                rest.append(key)
        if not held:  # every prompt has more pairs than may be held out: take the smallest
            smallest = min(rest, key=lambda key: len(groups[key]))
            rest.remove(smallest)
            for index in groups[smallest]:
                sides[index] = "held_out"
        sizes = {"instruct": 0, "fit": 0}
        for key in rest:
            side = "instruct" if sizes["instruct"] <= sizes["fit"] else "fit"
            sizes[side] += len(groups[key])
            for index in groups[key]:
                sides[index] = side
        return sides

    # -- showing -----------------------------------------------------------------------------------------------------

    @cached_property
    def _haystack(self) -> list[str]:
        return ["\n".join((prompt_text(p.prompt), p.chosen, p.rejected)).casefold() for p in self]

    def search(self, text: str) -> list[int]:
        """Positions of the pairs that contain ``text`` in prompt or answers, whatever the letter case; all for ""."""
        wanted = text.strip().casefold()
        return [index for index, hay in enumerate(self._haystack) if wanted in hay]

    def page(self, start: int = 0, count: int = 25, query: str = "", split: str = "", seed: int = 0) -> Rows:
        """``count`` table rows from position ``start`` of the pairs that contain ``query`` and stand in the set
        ``split`` ("instruct", "fit", "held_out", "train" for the first two, "" for all)."""
        if split not in ("", "train", *SIDES):
            raise UserError(f"There is no set of pairs called {split!r}: choose {', '.join(SIDES)} or train.")
        try:
            sides = self.sides(seed)
        except UserError:  # too few to split: the table shows them without a set
            sides = [""] * len(self)
        wanted = {"": {"", *SIDES}, "train": {"instruct", "fit"}}.get(split, {split})
        found = [index for index in self.search(query) if sides[index] in wanted]
        start = max(0, start)
        rows = []
        for index in found[start : start + max(0, count)]:
            pair = self[index]
            text = prompt_text(pair.prompt)
            answers = {"chosen": pair.chosen, "rejected": pair.rejected}
            rows.append({"index": index, "id": pair.id, "prompt": text, **answers, "split": sides[index]})
        return Rows(rows, start, len(found))

    # -- writing -----------------------------------------------------------------------------------------------------

    def to_jsonl(self, path: str | Path) -> Path:
        """Write the pairs in TRL's explicit-prompt form, one JSON object a line; reading them gives the same pairs.

        A prompt that is one user message becomes plain text with plain answers, any other a list of messages with
        answers of one message. The file appears whole or not at all. Raises UserError if the disk does not take it.
        """
        path = Path(path)
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")  # of its own, should two write at once
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(json.dumps(_record(pair), ensure_ascii=False) + "\n" for pair in self)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise UserError(f"The pairs could not be written to {path} ({error.strerror or error}).") from error
        return path


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
