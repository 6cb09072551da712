"""Blind votes: pairs of answers whose sides are hidden, kept with the votes in the run's folder.

``blind.jsonl`` holds answers to vote on, ``votes.jsonl`` the votes of everybody between the base and the run's aligned model,
``votes_between.jsonl`` those between other columns. Which side is which never goes to the browser before the vote, nor what
it is drawn from (``salt``; older files have none). In all of
them ``base`` is the reference's answer and ``aligned`` the other's; ``names`` says which
columns those were (older files have none: the base and the run's aligned model). Answers that a visitor had prepared are
theirs alone: nobody else is shown their prompts.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.errors import UserError

WORTH = {"aligned": 1.0, "tie": 0.5, "neither": 0.5, "base": 0.0}
CHOICES = ("a", "b", "t", "x")  # A is better, B is better, a tie, both bad
FILES = ("votes.jsonl", "votes_between.jsonl")
NAMES = ("Base", "")  # of files that have none: "" is the run's own aligned model
_counting = threading.Lock()  # a vote is looked for and kept by one at a time


def voter(visitor: str) -> str:
    """A visitor as their votes name them: the id itself stays secret."""
    return hashlib.sha256(visitor.encode()).hexdigest()[:16]


def lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, damaged lines left out; empty if there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    out = []
    for line in text.split("\n"):
        try:
            item = json.loads(line)
        except ValueError:
            continue
        if isinstance(item, dict):
            out.append(item)
    return out


def append(path: Path, items: Sequence[dict[str, Any]]) -> None:
    """Add lines to a file. Raises UserError if the disk refuses."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
    except OSError as error:
        raise UserError(
            f"The vote could not be kept ({error.strerror or error}): free some disk space and vote again."
        ) from error


def add_answers(
    folder: Path,
    prompts: Sequence[Any],
    base: Sequence[str],
    aligned: Sequence[str],
    visitor: str | None = None,
    names: Sequence[str] = NAMES,
) -> int:
    """Keep answers to vote on, for this visitor alone (None: for whoever may see the run); equal ones decide nothing and
    are left out. ``names`` are those of the reference and the other. Returns how many were kept."""
    about: dict[str, Any] = {"time": time.time()} | ({"for": voter(visitor)} if visitor else {})
    about |= {"names": list(names)} if tuple(names) != NAMES else {}
    items = [
        {"prompt": prompt, "base": one.strip(), "aligned": other.strip(), "salt": secrets.token_hex(8)} | about
        for prompt, one, other in zip(prompts, base, aligned, strict=True)
        if one.strip() != other.strip()
    ]
    append(folder / "blind.jsonl", items)
    return len(items)


def key_of(answers: dict[str, Any]) -> str:
    """What names a pair of answers, and says nothing about which is which."""
    sides = sorted([str(answers.get("base")), str(answers.get("aligned"))])
    text = json.dumps([answers.get("prompt"), sides, *([answers["names"]] if answers.get("names") else [])])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def aligned_first(visitor: str, key: str, salt: str = "") -> bool:
    """Whether the aligned answer is shown as A: a fixed coin per visitor and pair, so that a reload changes nothing. The
    browser knows visitor and key; without the ``salt``, which stays here, it cannot tell how the coin fell."""
    text = f"{visitor}:{key}:{salt}" if salt else f"{visitor}:{key}"
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


def names_of(item: dict[str, Any]) -> tuple[str, str]:
    """Between which columns a vote (or a pair of answers) is: the reference, the other."""
    names = item.get("names")
    if isinstance(names, list) and len(names) == 2:
        return str(names[0]), str(names[1])
    return NAMES


def votes_of(folder: Path, visitor: str, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """This visitor's votes in their order, the first of each ballot: all, or those between the columns of these names."""
    mine = [
        vote
        for file in FILES
        for vote in lines(folder / file)
        if vote.get("voter") == voter(visitor) and vote.get("vote") in WORTH
    ]
    first: dict[Any, dict[str, Any]] = {}
    for place, vote in enumerate(mine):
        first.setdefault(vote.get("id") or place, vote)
    return [vote for vote in first.values() if names is None or names_of(vote) == tuple(names)]


def _open_ballots(folder: Path, visitor: str, names: Sequence[str]) -> list[dict[str, Any]]:
    done = {vote.get("id") for vote in votes_of(folder, visitor)}
    return [
        item
        for item in lines(folder / "blind.jsonl")
        if item.get("for") in (None, voter(visitor))
        and names_of(item) == tuple(names)
        and {"prompt", "base", "aligned"} <= set(item)
        and key_of(item) not in done
    ]


def next_ballot(folder: Path, visitor: str, names: Sequence[str] = NAMES) -> dict[str, Any] | None:
    """The next pair of answers between these columns that this visitor has not voted on: {id, prompt, a, b}; None if there
    is none."""
    answers = next(iter(_open_ballots(folder, visitor, names)), None)
    if answers is None:
        return None
    sides = [str(answers["aligned"]), str(answers["base"])]
    first, second = sides if _aligned_first(visitor, answers) else sides[::-1]
    return {"id": key_of(answers), "prompt": answers["prompt"], "a": first, "b": second}


def _aligned_first(visitor: str, answers: dict[str, Any]) -> bool:
    return aligned_first(visitor, key_of(answers), str(answers.get("salt") or ""))


def cast(folder: Path, visitor: str, ballot: str, choice: str, names: Sequence[str] = NAMES) -> str:
    """Keep a vote (one of ``CHOICES``) and return what it was for: a key of ``WORTH``. Raises UserError for any ballot but
    the next one."""
    with _counting:
        answers = next(iter(_open_ballots(folder, visitor, names)), None)
        if answers is None or key_of(answers) != ballot or choice not in CHOICES:
            raise UserError("That vote was counted already, or its answers are gone: vote on the ones shown now.")
        if choice in ("t", "x"):
            meant = "tie" if choice == "t" else "neither"
        else:
            meant = "aligned" if (choice == "a") == _aligned_first(visitor, answers) else "base"
        shown = {name: answers[name] for name in ("prompt", "base", "aligned", "names") if name in answers}
        file = FILES[tuple(names) != NAMES]  # what judges the run by votes reads the first one alone
        append(folder / file, [{"id": ballot, "voter": voter(visitor), "vote": meant, "time": time.time()} | shown])
        return meant


def running(cast: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the votes add up to: ``outcomes`` (1 for the other column, 0 for the reference, halves for ties and both bad),
    counts by kind, and ``even``: (rate, low, high) expected of answers of equal length, by their characters; None where
    no vote tells."""
    from workbench.statistics import length_controlled

    outcomes = [WORTH[vote["vote"]] for vote in cast]
    longer = [len(str(vote.get("aligned") or "")) - len(str(vote.get("base") or "")) for vote in cast]
    counts = {kind: sum(vote["vote"] == kind for vote in cast) for kind in WORTH}
    return {
        "outcomes": outcomes,
        "even": length_controlled(outcomes, longer) if outcomes and any(longer) else None,
    } | counts


def as_pairs(cast: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Votes as preference pairs for the next round, each answer once: the better answer chosen, the other rejected. And how
    many votes were left out: ties and both bad, and answers that are empty."""
    found, seen = [], set()
    for vote in cast:
        better, other = ("aligned", "base") if vote["vote"] == "aligned" else ("base", "aligned")
        chosen, rejected = str(vote.get(better) or ""), str(vote.get(other) or "")
        key = json.dumps([vote.get("prompt"), chosen, rejected])
        if vote["vote"] in ("aligned", "base") and chosen.strip() and rejected.strip() and key not in seen:
            seen.add(key)
            found.append({"prompt": vote.get("prompt") or "", "chosen": chosen, "rejected": rejected})
    return found, len(cast) - len(found)
