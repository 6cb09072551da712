"""What a reader should know about pairs that are fine one by one: their languages, near-duplicates, and lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.pairs.languages import language, script
from workbench.pairs.lengths import length_auc
from workbench.pairs.similar import Groups, Words, digest, letters, runs

BY_WORDS = 20_000  # pairs: more are compared by their letters only
LOOKED_AT = 1000  # pairs whose language is guessed
MOST_GROUPS, MOST_IN_GROUP = 50, 100
LONG_ANSWERS = 40  # letters: two shorter ones are the same by chance
NEARLY_DECIDES = 0.9
MIXED = 0.005  # share of pairs whose sides seem to be in different languages, from which on it is said


@dataclass
class Languages:
    """Guesses for pairs at even distances: while rows stream by, every second one is let go whenever there are too
    many, so that any number of rows is looked at alike."""

    most: int = LOOKED_AT
    step: int = 1
    seen: list[tuple[int, int, Counter, Counter, bool]] = field(default_factory=list)
    count: int = 0

    def add(self, number: int, prompt: str, chosen: str, rejected: str) -> None:
        """The next pair, ``number`` its row."""
        position, self.count = self.count, self.count + 1
        if position % self.step:
            return
        scripts, languages = [], []
        for text in (prompt, chosen, rejected):
            scripts.append(script(text))
            languages.append(language(text, scripts[-1]))
        differ = bool(languages[1] and languages[2] and languages[1] != languages[2])
        self.seen.append((position, number, Counter(filter(None, scripts)), Counter(filter(None, languages)), differ))
        if len(self.seen) > 2 * self.most:
            self.step *= 2
            self.seen = [item for item in self.seen if item[0] % self.step == 0]

    def found(self, gone: set[int]) -> dict[str, Any]:
        """Shares of the texts whose script and language could be told; and pairs with sides in different ones."""
        seen = [item for item in self.seen if item[0] not in gone]
        mixed = [number for _, number, _, _, differ in seen if differ]
        return {
            "scripts": _shares(item[2] for item in seen),
            "languages": _shares(item[3] for item in seen),
            "mixed_languages": {"pairs": len(mixed), "ids": mixed[:50]},
            "looked_at": len(seen),
        }


def _shares(counts: Iterable[Counter]) -> list[dict[str, Any]]:
    total = sum(counts, Counter())
    every = sum(total.values())
    return [{"name": name, "share": count / every} for name, count in total.most_common(12)]


@dataclass
class Marks:
    """Hashes of pairs by which near-duplicates are found: of the prompt as a split sees it, of its letters, and of the
    letters of both answers, with whether those are enough to tell anything."""

    exact: bytearray = field(default_factory=bytearray)
    prompt: bytearray = field(default_factory=bytearray)
    answers: bytearray = field(default_factory=bytearray)
    long: bytearray = field(default_factory=bytearray)

    def add(self, key: bytes, prompt: str, chosen: str, rejected: str) -> None:
        """The next pair; ``key`` is the hash of its prompt's key, 16 bytes."""
        asked, first, second = letters(prompt), letters(chosen), letters(rejected)
        self.exact += key
        self.prompt += digest(asked, size=8) if asked else key[:8]
        self.answers += digest(first, second, size=8)
        self.long.append(len(first) + len(second) >= LONG_ANSWERS)

    def arrays(self, kept: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """uint64 [N, 2], uint64 [N], uint64 [N], bool [N]."""
        return (
            np.frombuffer(bytes(self.exact), dtype="<u8").reshape(-1, 2)[kept],
            np.frombuffer(bytes(self.prompt), dtype="<u8")[kept],
            np.frombuffer(bytes(self.answers), dtype="<u8")[kept],
            np.frombuffer(bytes(self.long), dtype=bool)[kept],
        )


def near_duplicates(
    ids: np.ndarray,
    marks: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    texts: Iterable[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Pairs whose prompts, or whose answers on both sides, differ in case, spaces, signs and digits only; with
    ``texts`` (prompt and answers of every pair) also those that share most of their words in their order.

    ``{"pairs": how many belong to a group, "groups": row numbers (50 groups of up to 100), "by": what was compared}``.
    Prompts that a split takes for the same make no group.
    """
    exact, prompts, answers, long = marks
    groups = Groups(len(ids))
    for run in prompt_runs(exact, prompts):
        groups.join(run)
    both = np.stack([prompts, answers], axis=1)
    for run in runs(both):
        groups.join(run)
    where = np.flatnonzero(long)
    for run in runs(answers[where]):
        groups.join(where[run])
    if texts is not None:
        asked, answered = Words(), Words()
        for (prompt, answer), enough in zip(texts, long.tolist(), strict=True):
            asked.add(prompt)
            answered.add(answer if enough else "")
        for first, second in asked.alike():
            if (exact[first] != exact[second]).any():
                groups.join((first, second))
        for pair in answered.alike():
            groups.join(pair)
    found = groups.sets()
    return {
        "pairs": int(sum(map(len, found))),
        "groups": [ids[group[:MOST_IN_GROUP]].tolist() for group in found[:MOST_GROUPS]],
        "by": "letters" if texts is None else "words",
    }


def prompt_runs(exact: np.ndarray, prompts: np.ndarray) -> Iterable[np.ndarray]:
    """Positions of prompts with the same letters, where they are not all the very same prompt."""
    for run in runs(prompts):
        if (exact[run] != exact[run[0]]).any():
            yield run


def length_hints(chosen: np.ndarray, rejected: np.ndarray) -> dict[str, float]:
    """Of lengths in characters, [N] each: the share of pairs whose chosen is longer, and the AUC of length alone."""
    auc = length_auc(chosen, rejected, resamples=200)
    return {
        "chosen_longer": float((chosen > rejected).mean()),
        "chosen_shorter": float((chosen < rejected).mean()),
        "auc": auc["value"],
        "low": auc["low"],
        "high": auc["high"],
    }


def hint_warnings(hints: dict[str, Any], count: int, fewest: int) -> list[str]:
    """Sentences about those hints that nobody should overlook."""
    found = []
    lengths, mixed = hints["lengths"], hints["mixed_languages"]
    auc = lengths["auc"]
    if count >= fewest and not 1 - NEARLY_DECIDES < auc < NEARLY_DECIDES:
        way = "longer" if auc > 0.5 else "shorter"
        found.append(
            f"Length alone nearly decides: the chosen answer is {way} in {lengths[f'chosen_{way}']:.0%} of the pairs "
            f"(AUC of length {auc:.2f}), so a model can learn length instead of the preference."
        )
    if mixed["pairs"] and mixed["pairs"] >= MIXED * hints["looked_at"]:
        looked = "" if hints["looked_at"] == count else f" of {hints['looked_at']:,} looked at"
        found.append(
            f"Chosen and rejected seem to be in different languages in {_pairs(mixed['pairs'])}{looked} "
            f"({_rows(mixed['ids'])}): look at them."
        )
    return found


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count:,} pairs"


def _rows(numbers: Sequence[int], most: int = 3) -> str:
    named = ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")
    return f"{'row' if len(numbers) == 1 else 'rows'} {named}"
