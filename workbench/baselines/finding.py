"""What a study found, in sentences that follow from its figures alone: is RAHF worth it on these pairs?

Two methods are told apart by the 95% interval of their difference on the same prompts and seeds. One that lies above 0 says that
the one *wins more often*; one that holds 0 and no more than ``MARGIN`` to either side, that it *wins as often*; a wider one, that
the two *cannot be told apart*, which is no equality and carries no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from workbench.baselines import NAMES, RAHF
from workbench.baselines.pooling import mean_interval

Row = dict[str, Any]
MARGIN = 0.05  # of the win rate: methods no further apart than this are said to win as often
SLACK = 0.1  # of the time: less is no difference, as other work on a machine moves it as far
MORE, EQUAL, LESS, UNCLEAR = "more", "equal", "less", "unclear"
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
    found = [f"On the frontier (none wins as often at less KL, by the means alone): {_listed(on)}."] if on else []
    ours = [known[method] for method in RAHF if method in known]
    rivals = [row for method, row in known.items() if method not in (*RAHF, "base")]
    if ours and rivals:
        best = best_of(ours, apart)
        found = [verdict(best, rivals, apart), *found]
    found += [ceiling(known), sooner(paths or {})]
    if weak := [row for row in known.values() if row["method"] != "base" and not _told(row)]:
        found.append(f"Not told from the base: {_listed([_named(row) for row in weak])}.")
    return [one for one in found if one]


def against(pooled: Sequence[Row], apart: Apart) -> list[Row]:
    """What the verdict rests on: every other method less RAHF (``ours``, its better form), with the intervals of the
    differences in win_rate and kl_from_base; empty where there is nothing to hold against another."""
    known = [row for row in pooled if row.get("win_rate") is not None and row["method"] != "base"]
    if not (mine := [row for row in known if row["method"] in RAHF]):
        return []
    ours = best_of(mine, apart)["method"]
    return [
        {"method": row["method"], "ours": ours}
        | {key: apart(row["method"], ours, key) for key in ("win_rate", "kl_from_base")}
        for row in known
        if row["method"] != ours
    ]


def best_of(rows: Sequence[Row], apart: Apart) -> Row:
    """Of the one that wins most and those surely no more than ``MARGIN`` below it, the one with the least KL."""
    top = max(rows, key=lambda row: row["win_rate"])
    equals = [row for row in rows if row is top or apart(row["method"], top["method"], "win_rate")[1] >= -MARGIN]
    return min(equals, key=lambda row: row["kl_from_base"])


def sooner(paths: dict[str, list[Row]]) -> str:
    """A hint, RAHF's steps included alike: which methods won as often as at their own end at an earlier look; empty where none
    did, or where one seed gives no interval. ``paths`` a method: looks with ``win_rates``, a seed each; the difference to
    the end is taken a seed, on the same prompts, and its interval is Student's."""
    told = []
    for method, looks in paths.items():
        early = (look for look in looks[:-1] if look["step"] and _no_lower(look["win_rates"], looks[-1]["win_rates"]))
        if first := next(early, None):
            told.append(
                f"{NAMES[method]} after {first['step']} of {first['of']} steps ({_look(first)}; at its end {_look(looks[-1])})"
            )
    if not told:
        return ""
    return (
        f"A hint, no finding (each is the first that fits of several looks at few prompts): less training may do. No more than "
        f"{MARGIN * 100:.0f} points below its own end, by the interval over seeds, stood {_listed(told)}."
    )


def _no_lower(ones: Sequence[float], others: Sequence[float]) -> bool:
    return len(ones) > 1 and mean_interval([one - other for one, other in zip(ones, others, strict=True)])[1] >= -MARGIN


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


def relation(one: str, other: str, apart: Apart) -> str:
    """Whether a method wins MORE often than another, LESS, as often (EQUAL), or whether that is UNCLEAR."""
    _, low, high = apart(one, other, "win_rate")
    if low > 0 or high < 0:
        return MORE if low > 0 else LESS
    return EQUAL if low >= -MARGIN and high <= MARGIN else UNCLEAR


def verdict(ours: Row, rivals: Sequence[Row], apart: Apart) -> str:
    """Whether RAHF (``ours``) was worth its price against the other methods."""
    if not _told(ours):
        return f"RAHF did nothing that can be told on these pairs: {_named(ours)}, where 50% is the base."
    name = ours["method"]
    how = {row["method"]: relation(row["method"], name, apart) for row in rivals}
    able = [row for row in rivals if _told(row) and how[row["method"]] != LESS]
    if not able:
        second = max(rivals, key=lambda row: row["win_rate"])
        if how[second["method"]] == LESS:
            return f"RAHF is worth it on these pairs: {_named(ours)} wins more often than any other method, {_named(second)} next."
        return (
            f"RAHF is worth it on these pairs, as far as can be told: {_named(ours)}, while no other method can be told from "
            f"both it and the base, {_named(second)} next."
        )
    sure = [row for row in able if how[row["method"]] != UNCLEAR]
    kl = {row["method"]: apart(row["method"], name, "kl_from_base") for row in able}

    def told(best: Row) -> str:
        tokens = best.get("instruction_tokens")
        told = f", with {tokens} tokens of p+ before every prompt," if tokens else ""
        return f"{_named(best)}{told} {_wins(how[best['method']])} {_named(ours)}{_gap(best, ours, apart)}"

    for some in (sure, able):
        doubt = "" if some is sure else "Whether RAHF is worth it on these pairs cannot be told"
        nearer = [row for row in some if kl[row["method"]][2] < 0 and _time(row) <= (1 + SLACK) * _time(ours)]
        if nearer:
            best = min(nearer, key=lambda row: row["kl_from_base"])
            return (
                f"{doubt or 'RAHF is not worth it on these pairs'}: {told(best)} at less KL {_kls(best, ours)} and in "
                f"{_times(best, ours)}."
            )
        if quick := [row for row in some if kl[row["method"]][1] <= 0 and _quicker(row, ours)]:
            best = min(quick, key=_time)
            return (
                f"{doubt or 'Nothing shows that RAHF is worth it on these pairs'}: {told(best)} at a KL that cannot be told "
                f"apart {_kls(best, ours)}, in {_times(best, ours)}."
            )
    some, perhaps = (sure, "") if sure else (able, ", as far as can be told,")
    if nearer := [row for row in some if kl[row["method"]][2] < 0]:
        best = min(nearer, key=lambda row: row["kl_from_base"])
        return (
            f"RAHF is worth it on these pairs{perhaps} only where time is short: {told(best)} at less KL {_kls(best, ours)}, "
            f"but taking {_times(best, ours)}."
        )
    best = min(some, key=_time)
    if _quicker(best, ours):
        return (
            f"RAHF is worth it on these pairs{perhaps} where staying near the base counts for more than time: {told(best)} in "
            f"{_times(best, ours)}, but at more KL {_kls(best, ours)}."
        )
    return (
        f"RAHF is worth it on these pairs{perhaps}: of the methods that win as often as {_named(ours)} or cannot be told from it "
        f"none takes clearly less time or less KL."
    )


def _wins(how: str) -> str:
    return {MORE: "wins more often than", EQUAL: "wins as often as"}.get(how, "cannot be told by its win rate from")


def _gap(row: Row, ours: Row, apart: Apart) -> str:
    mean, low, high = (100 * value for value in apart(row["method"], ours["method"], "win_rate"))
    return f", difference {mean:+.1f} points [{low:+.1f}, {high:+.1f}],"


def _told(row: Row) -> bool:
    """Whether a method can be told from the base."""
    return row["win_rate_low"] > 0.5


def _named(row: Row) -> str:
    share = f"{row['win_rate']:.0%} [{row['win_rate_low']:.0%}, {row['win_rate_high']:.0%}]"
    return f"{NAMES[row['method']]} ({share}{'; ' * bool(row.get('failed'))}{worked(row)})"


def worked(row: Row) -> str:
    """On how many seeds a method came to a result; empty where on all."""
    failed = row.get("failed") or 0
    return f"{row['seeds'] - failed} of {row['seeds']} seeds, the base for the rest" if failed else ""


def _kls(row: Row, ours: Row) -> str:
    return f"({row['kl_from_base']:.2f} against {ours['kl_from_base']:.2f} nats)"


def _time(row: Row) -> float:
    spent = row["cpu_seconds"] if row.get("cpu_seconds") is not None else row.get("seconds")
    return spent or 0.0


def _times(row: Row, ours: Row) -> str:
    share = _time(row) / max(_time(ours), 1e-9)
    if abs(share - 1) <= SLACK:
        return "about the same time"
    return "no time" if share < 0.005 else f"{share:.0%} of its time" if share < 2 else f"{share:.1f} times its time"


def _quicker(row: Row, ours: Row) -> bool:
    return _time(row) < (1 - SLACK) * _time(ours)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
