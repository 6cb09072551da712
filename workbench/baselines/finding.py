"""What a study found, in sentences that follow from its figures alone: is RAHF worth it on these pairs?

Two methods win *as often* where their 95% intervals overlap, and a KL is *less* only where the intervals do not; both are on
the side of saying too little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.baselines import NAMES, RAHF

Row = dict[str, Any]


def frontier(pooled: Sequence[Row]) -> list[str]:
    """The methods that no other beats on win rate and KL at once (by their means), least KL first; the base among them."""
    known = [row for row in pooled if row.get("win_rate") is not None]
    kept = [row for row in known if not any(_dominates(other, row) for other in known)]
    return [row["method"] for row in sorted(kept, key=lambda row: row["kl_from_base"])]


def _dominates(one: Row, other: Row) -> bool:
    more, less = one["win_rate"] - other["win_rate"], other["kl_from_base"] - one["kl_from_base"]
    return more >= 0 and less >= 0 and (more > 0 or less > 0)


def sentences(pooled: Sequence[Row]) -> list[str]:
    """The finding, the verdict first; empty where nothing was judged."""
    known = {row["method"]: row for row in pooled if row.get("win_rate") is not None}
    if len(known) < 2:
        return []
    on = [NAMES[method] for method in frontier(pooled) if method != "base"]
    found = [f"On the frontier (none wins as often at less KL, by the means): {_listed(on)}."] if on else []
    ours = [known[method] for method in RAHF if method in known]
    rivals = [row for method, row in known.items() if method not in (*RAHF, "base")]
    if ours and rivals:
        found.insert(0, verdict(best_of(ours), rivals))
    if weak := [row for row in known.values() if row["method"] != "base" and row["win_rate_low"] <= 0.5]:
        found.append(f"Not told from the base: {_listed([_named(row) for row in weak])}.")
    return found


def best_of(rows: Sequence[Row]) -> Row:
    """Of those that win as often as the best, the one with the least KL."""
    top = max(rows, key=lambda row: row["win_rate"])
    return min((row for row in rows if as_often(row, top)), key=lambda row: row["kl_from_base"])


def as_often(one: Row, other: Row) -> bool:
    """Whether ``one`` wins as often as ``other``, or more."""
    return one["win_rate_high"] >= other["win_rate_low"]


def verdict(ours: Row, rivals: Sequence[Row]) -> str:
    """Whether RAHF (``ours``) was worth its price against the other methods."""
    name, equals = NAMES[ours["method"]], [row for row in rivals if as_often(row, ours)]
    if not equals:
        second = max(rivals, key=lambda row: row["win_rate"])
        return f"RAHF is worth it on these pairs: {_named(ours)} wins more often than any other method, {_named(second)} next."
    nearer = [row for row in equals if row["kl_from_base_high"] < ours["kl_from_base_low"]]
    close = [row for row in equals if row["kl_from_base_low"] <= ours["kl_from_base_high"]]
    if cheap := [row for row in nearer if _time(row) <= _time(ours)]:
        best = min(cheap, key=lambda row: row["kl_from_base"])
        return (
            f"RAHF is not worth it on these pairs: {_named(best)} wins as often as {_named(ours)}, at less KL "
            f"({_kl(best)} against {_kl(ours)} nats) and in {_times(best, ours)}."
        )
    if nearer:
        best = min(nearer, key=lambda row: row["kl_from_base"])
        return (
            f"{_named(best)} wins as often as {_named(ours)} at less KL ({_kl(best)} against {_kl(ours)} nats), but takes "
            f"{_times(best, ours)}: RAHF is worth it on these pairs only where time is short."
        )
    if cheap := [row for row in close if _time(row) <= _time(ours)]:
        best = min(cheap, key=_time)
        return (
            f"RAHF is not worth it on these pairs: {_named(best)} wins as often as {_named(ours)}, at a KL that cannot be told "
            f"apart ({_kl(best)} against {_kl(ours)} nats), in {_times(best, ours)}."
        )
    best = min(equals, key=_time)
    if _time(best) <= _time(ours):
        return (
            f"RAHF is worth its time on these pairs where staying near the base counts: {_named(best)} wins as often as "
            f"{_named(ours)} in {_times(best, ours)}, but at more KL ({_kl(best)} against {_kl(ours)} nats)."
        )
    return f"RAHF is worth it on these pairs: no method that wins as often as {name} takes less time or less KL."


def _named(row: Row) -> str:
    return f"{NAMES[row['method']]} ({row['win_rate']:.0%} [{row['win_rate_low']:.0%}, {row['win_rate_high']:.0%}])"


def _kl(row: Row) -> str:
    return f"{row['kl_from_base']:.2f}"


def _time(row: Row) -> float:
    spent = row["cpu_seconds"] if row.get("cpu_seconds") is not None else row.get("seconds")
    return spent or 0.0


def _times(row: Row, ours: Row) -> str:
    share = _time(row) / max(_time(ours), 1e-9)
    return "no time" if share < 0.005 else f"{share:.0%} of its time" if share < 2 else f"{share:.1f} times its time"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
