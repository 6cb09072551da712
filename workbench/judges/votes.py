"""People's votes, as the page keeps them with a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.statistics import wilson

FILE = "votes.jsonl"  # a line a vote: {id (of the two answers), voter, vote (a key of WORTH), prompt, base, aligned}
WORTH = {"aligned": 1.0, "tie": 0.5, "neither": 0.5, "base": 0.0}  # neither: both are bad
NAME = "people's votes"
ABOUT = "Blind votes on answers of this run and of its base that differ; prompts are those that voters were shown."


def tally(folder: Path) -> dict[str, Any]:
    """The votes in a run's folder: how many, of how many people, and the win rate over the base with its interval (None
    without votes): Wilson's at as many votes as there are different answers, since people who judge the same two agree.
    Of two votes of one person on the same answers the first counts; damaged lines are left out."""
    cast: dict[tuple[str, str], float] = {}
    try:
        lines = (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            vote = json.loads(line)
            cast.setdefault((str(vote["voter"]), str(vote["id"])), WORTH[vote["vote"]])
        except (ValueError, KeyError, TypeError):
            continue
    count, wins = len(cast), sum(cast.values())
    apart = len({answers for _, answers in cast})
    low, high = wilson(wins / count * apart, apart) if count else (None, None)
    return {
        "win_rate": wins / count if count else None,
        "win_rate_low": low,
        "win_rate_high": high,
        "votes": count,
        "voters": len({voter for voter, _ in cast}),
    }
