"""What a study found, in sentences that follow from its figures alone: is RAHF worth it on these pairs?

Two methods are told apart by the 95% interval of their difference on the same prompts and seeds: one that holds 0 says that the
one *wins as often as* the other, or that their KL *cannot be told apart*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from workbench.baselines import NAMES, RAHF

Row = dict[str, Any]
Apart = Callable[[str, str, str], tuple[float, float, float]]  # of two methods and a figure: difference, low, high


def frontier(pooled: Sequence[Row]) -> list[str]:
    """The methods that no other beats on win rate and KL at once (by their means), least KL first; the base among them."""
    known = [row for row in pooled if row.get("win_rate") is not None]
    kept = [row for row in known if not any(_dominates(other, row) for other in known)]
    return [row["method"] for row in sorted(kept, key=lambda row: row["kl_from_base"])]


def _dominates(one: Row, other: Row) -> bool:
    more, less = one["win_rate"] - other["win_rate"], other["kl_from_base"] - one["kl_from_base"]
    return more >= 0 and less >= 0 and (more > 0 or less > 0)


def sentences(pooled: Sequence[Row], apart: Apart, paths: dict[str, list[Row]] | None = None) -> list[str]:
    """The finding, the verdict first; empty where nothing was judged. ``apart`` as :func:`workbench.baselines.pooling.apart`
    gives it, first less second; ``paths`` are the looks during training, a method."""
    known = {row["method"]: row for row in pooled if row.get("win_rate") is not None}
    if len(known) < 2:
        return []
    on = [NAMES[method] for method in frontier(pooled) if method != "base"]
    found = [f"On the frontier (none wins as often at less KL, by the means): {_listed(on)}."] if on else []
    ours = [known[method] for method in RAHF if method in known]
    rivals = [row for method, row in known.items() if method not in (*RAHF, "base")]
    if ours and rivals:
        best = best_of(ours, apart)
        less = enough(best["method"], paths or {})
        said = verdict(best, rivals, apart)
        found = [said.replace("on these pairs", "on these pairs at this budget", 1) if less else said, less, *found]
    found.append(ceiling(known))
    if weak := [row for row in known.values() if row["method"] != "base" and not _told(row)]:
        found.append(f"Not told from the base: {_listed([_named(row) for row in weak])}.")
    return [one for one in found if one]


def best_of(rows: Sequence[Row], apart: Apart) -> Row:
    """Of those that win as often as the best, the one with the least KL."""
    top = max(rows, key=lambda row: row["win_rate"])
    equals = [row for row in rows if row is top or apart(row["method"], top["method"], "win_rate")[2] >= 0]
    return min(equals, key=lambda row: row["kl_from_base"])


def enough(ours: str, paths: dict[str, list[Row]]) -> str:
    """Which methods had come as far as RAHF (``ours``) long before their end; empty where none had. By the means of the looks,
    which all see the same prompts of a seed."""
    if not (own := paths.get(ours)):
        return ""
    last, told = own[-1], []
    for method, looks in paths.items():
        if method in RAHF:
            continue
        as_good = (
            it for it in looks if it["win_rate"] >= last["win_rate"] and it["kl_from_base"] <= last["kl_from_base"]
        )
        if (first := next(as_good, looks[-1])) is not looks[-1]:
            told.append(f"{NAMES[method]} after {first['step']} of {first['of']} steps ({_look(first)})")
    if not told:
        return ""
    return (
        f"Less would have done: by the looks during training {_listed(told)} won as often as {NAMES[ours]} at its end "
        f"({_look(last)}) at no more KL."
    )


def _look(look: Row) -> str:
    return f"{look['win_rate']:.0%}, {look['kl_from_base']:.2f} nats"


def ceiling(known: dict[str, Row]) -> str:
    """How often anybody could win, where an oracle judges (what the base already answers as preferred is a tie at best), and
    how near the base one can stay: -log of the chance that the base's answer is of the preferred form is the least divergence
    of any model whose every answer is."""
    preferred = known.get("base", {}).get("preferred")
    if not preferred or preferred >= 1:
        return ""
    return (
        f"Nobody can win more than about {1 - preferred / 2:.0%} here: {preferred:.0%} of the base's own answers are of the "
        f"preferred form, and an answer as good as that is a tie. A model that always answers so has a KL of at least about "
        f"{-math.log(preferred):.2f} nats."
    )


def verdict(ours: Row, rivals: Sequence[Row], apart: Apart) -> str:
    """Whether RAHF (``ours``) was worth its price against the other methods."""
    if not _told(ours):
        return f"RAHF did nothing that can be told on these pairs: {_named(ours)}, where 50% is the base."
    name = ours["method"]
    equals = [row for row in rivals if _told(row) and apart(row["method"], name, "win_rate")[2] >= 0]
    if not equals:
        second = max(rivals, key=lambda row: row["win_rate"])
        return f"RAHF is worth it on these pairs: {_named(ours)} wins more often than any other method, {_named(second)} next."
    kl = {row["method"]: apart(row["method"], name, "kl_from_base") for row in equals}
    nearer = [row for row in equals if kl[row["method"]][2] < 0]
    no_further = [row for row in equals if kl[row["method"]][1] <= 0]

    def told(best: Row) -> str:
        more = apart(best["method"], name, "win_rate")[1] > 0
        told = (
            f", with {best['instruction_tokens']} tokens of p+ before every prompt,"
            if best.get("instruction_tokens")
            else ""
        )
        return f"{_named(best)}{told} wins {'more often than' if more else 'as often as'} {_named(ours)}"

    if quick := [row for row in nearer if _time(row) <= _time(ours)]:
        best = min(quick, key=lambda row: row["kl_from_base"])
        return f"RAHF is not worth it on these pairs: {told(best)}, at less KL {_kls(best, ours)} and in {_times(best, ours)}."
    if quick := [row for row in no_further if _time(row) <= _time(ours)]:
        best = min(quick, key=_time)
        return (
            f"RAHF is not worth it on these pairs: {told(best)}, at a KL that cannot be told apart {_kls(best, ours)}, in "
            f"{_times(best, ours)}."
        )
    if nearer:
        best = min(nearer, key=lambda row: row["kl_from_base"])
        return (
            f"RAHF is worth it on these pairs only where time is short: {told(best)}, at less KL {_kls(best, ours)}, but takes "
            f"{_times(best, ours)}."
        )
    best = min(equals, key=_time)
    if _time(best) <= _time(ours):
        return (
            f"RAHF is worth it on these pairs where staying near the base counts for more than time: {told(best)} in "
            f"{_times(best, ours)}, but at more KL {_kls(best, ours)}."
        )
    return (
        f"RAHF is worth it on these pairs: no method that wins as often as {_named(ours)} takes less time or less KL."
    )


def _told(row: Row) -> bool:
    """Whether a method can be told from the base."""
    return row["win_rate_low"] > 0.5


def _named(row: Row) -> str:
    return f"{NAMES[row['method']]} ({row['win_rate']:.0%} [{row['win_rate_low']:.0%}, {row['win_rate_high']:.0%}])"


def _kls(row: Row, ours: Row) -> str:
    return f"({row['kl_from_base']:.2f} against {ours['kl_from_base']:.2f} nats)"


def _time(row: Row) -> float:
    spent = row["cpu_seconds"] if row.get("cpu_seconds") is not None else row.get("seconds")
    return spent or 0.0


def _times(row: Row, ours: Row) -> str:
    share = _time(row) / max(_time(ours), 1e-9)
    return "no time" if share < 0.005 else f"{share:.0%} of its time" if share < 2 else f"{share:.1f} times its time"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
