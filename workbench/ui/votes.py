"""Blind votes: pairs of answers whose sides are hidden, kept with the votes in the run's folder.

``blind.jsonl`` holds answers to vote on, ``votes.jsonl`` the votes of everybody. Which side is which never goes to the
browser before the vote.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.errors import UserError

WORTH = {"aligned": 1.0, "tie": 0.5, "base": 0.0}


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
    for line in text.splitlines():
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


def add_answers(folder: Path, prompts: Sequence[str], base: Sequence[str], aligned: Sequence[str]) -> int:
    """Keep answers to vote on; equal ones decide nothing and are left out. Returns how many were kept."""
    items = [
        {"prompt": prompt, "base": one.strip(), "aligned": other.strip(), "time": time.time()}
        for prompt, one, other in zip(prompts, base, aligned, strict=True)
        if one.strip() != other.strip()
    ]
    append(folder / "blind.jsonl", items)
    return len(items)


def key_of(answers: dict[str, Any]) -> str:
    """What names a pair of answers, and says nothing about which is which."""
    text = json.dumps([answers.get("prompt"), sorted([str(answers.get("base")), str(answers.get("aligned"))])])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def aligned_first(visitor: str, key: str) -> bool:
    """Whether the aligned answer is shown as A: a fixed coin per visitor and pair, so that a reload changes nothing."""
    return hashlib.sha256(f"{visitor}:{key}".encode()).digest()[0] % 2 == 0


def votes_of(folder: Path, visitor: str) -> list[dict[str, Any]]:
    """This visitor's votes in their order."""
    return [
        vote
        for vote in lines(folder / "votes.jsonl")
        if vote.get("voter") == voter(visitor) and vote.get("vote") in WORTH
    ]


def next_ballot(folder: Path, visitor: str) -> dict[str, str] | None:
    """The next pair of answers this visitor has not voted on: {id, prompt, a, b}; None if there is none."""
    done = {vote.get("id") for vote in votes_of(folder, visitor)}
    for answers in lines(folder / "blind.jsonl"):
        key = key_of(answers)
        if key not in done:
            sides = [str(answers["aligned"]), str(answers["base"])]
            first, second = sides if aligned_first(visitor, key) else sides[::-1]
            return {"id": key, "prompt": str(answers["prompt"]), "a": first, "b": second}
    return None


def cast(folder: Path, visitor: str, ballot: str, choice: str) -> str:
    """Keep a vote ("a", "t" or "b") and return what it was for. Raises UserError for any ballot but the next one."""
    now = next_ballot(folder, visitor)
    if now is None or now["id"] != ballot or choice not in ("a", "t", "b"):
        raise UserError("That vote was counted already, or its answers are gone: vote on the ones shown now.")
    meant = "tie" if choice == "t" else "aligned" if (choice == "a") == aligned_first(visitor, ballot) else "base"
    answers = next(item for item in lines(folder / "blind.jsonl") if key_of(item) == ballot)
    shown = {name: answers[name] for name in ("prompt", "base", "aligned")}
    append(
        folder / "votes.jsonl", [{"id": ballot, "voter": voter(visitor), "vote": meant, "time": time.time()} | shown]
    )
    return meant
