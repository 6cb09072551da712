"""A method's figures over several seeds, with intervals that take both into account what prompts were asked and what seeds
were drawn.

Seeds and prompts are crossed: every seed's model answers the same prompts. The mean over the table [seeds, prompts] has the
variance (MS_seeds + MS_prompts - MS_rest) / (seeds x prompts), the mean squares being those of a two-way table with
random rows and columns; never taken as less than any of the three alone gives. Its degrees of freedom are
Satterthwaite's, but no more than a mean over so few seeds has where seeds differ by more than chance within them (by the
formula alone intervals of three seeds and 200 prompts hold the truth in 92% of studies). A share gets Wilson's interval for
as many independent answers as have that variance; where no answer differs, for one an asked prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.statistics import Z95, bootstrap, wilson

SHARES = ("win_rate", "coherence", "preferred")
MEANS = ("kl_from_base", "mean_tokens")
BY_SEED = ("win_rate_lc", "facts_right")  # known a seed with its interval, not an answer


def pool(rows: Sequence[dict[str, Any]], each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row for the rows of a method, a row a seed: each figure with ``_low`` and ``_high``, the mean of seconds, the most
    memory. ``each``: for every row the values an answer (lists), and ``groups``, which number the prompts' texts."""
    pooled: dict[str, Any] = {
        "method": rows[0]["method"],
        "seeds": len(rows),
        "answers": sum(row["pairs"] for row in rows),
    }
    for key in (*SHARES, *MEANS, *BY_SEED):
        if any(row.get(key) is None for row in rows):
            continue
        if key in BY_SEED:
            found = by_seed(*([row[f"{key}{end}"] for row in rows] for end in ("", "_low", "_high")))
        else:
            found = interval([by_prompt(one[key], one["groups"]) for one in each], key in SHARES)
        pooled |= dict(zip((key, f"{key}_low", f"{key}_high"), found, strict=True))
    for key in ("seconds", "cpu_seconds"):
        known = [row[key] for row in rows if row.get(key) is not None]
        pooled[key] = round(sum(known) / len(known), 1) if known else None
    pooled["instruction_tokens"] = max(row.get("instruction_tokens") or 0 for row in rows)
    pooled["peak_memory_bytes"] = max((row["peak_memory_bytes"] or 0 for row in rows), default=0) or None
    return pooled


def by_prompt(values: Sequence[float], groups: Sequence[Any]) -> dict[Any, float]:
    """The mean over the answers to each prompt."""
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    means = np.bincount(places, np.asarray(values, float)) / np.bincount(places)
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def apart(ones: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], key: str) -> tuple[float, float, float]:
    """How much higher the mean of ``key`` is for one method than for another, with its 95% interval; both as ``each`` of
    :func:`pool`, seed by seed on the same prompts."""
    return interval(
        [by_prompt(np.subtract(one[key], other[key]), one["groups"]) for one, other in zip(ones, others, strict=True)],
        None,
    )


def interval(seeds: Sequence[dict[Any, float]], share: bool | None) -> tuple[float, float, float]:
    """Mean and 95% interval of values by prompt, one mapping a seed; ``share``: each from 0 to 1 (None: of either sign)."""
    crossed = all(one.keys() == seeds[0].keys() for one in seeds)
    tables = [np.array(list(one.values())) for one in seeds]
    mean = float(np.mean([table.mean() for table in tables]))
    if len(seeds) == 1:
        return mean, *(wilson(mean * len(tables[0]), len(tables[0])) if share else bootstrap(tables[0]))
    if crossed:
        variance, freedom = crossed_variance(np.stack([[one[key] for key in seeds[0]] for one in seeds]))
    else:
        variance, freedom = nested_variance(tables)
    wide = student(freedom)
    if not share:
        half = wide * math.sqrt(variance)
        return mean, mean - half if share is None else max(0.0, mean - half), mean + half
    if variance == 0:
        asked = min(map(len, tables))
        return mean, *wilson(mean * asked, asked)
    count = min(sum(map(len, tables)), mean * (1 - mean) / variance) * (Z95 / wide) ** 2
    return mean, *wilson(mean * count, count)


def crossed_variance(table: np.ndarray) -> tuple[float, float]:
    """The variance of the mean of a table [seeds, prompts], and its degrees of freedom."""
    seeds, prompts = table.shape
    if prompts == 1:
        return float(table.mean(1).var(ddof=1)) / seeds, seeds - 1
    of_seed, of_prompt = table.mean(1), table.mean(0)
    rest = table - of_seed[:, None] - of_prompt + table.mean()
    squares = [
        (prompts * of_seed.var(ddof=1), seeds - 1),
        (seeds * of_prompt.var(ddof=1), prompts - 1),
        ((rest**2).sum() / ((seeds - 1) * (prompts - 1)), (seeds - 1) * (prompts - 1)),
    ]
    (s, _), (p, _), (e, _) = squares
    total = max(s + p - e, s, p, e)
    doubt = sum(square**2 / freedom for square, freedom in squares)
    freedom = float(total**2 / doubt) if doubt else math.inf
    return float(total) / table.size, min(freedom, seeds - 1) if s > e else freedom


def nested_variance(tables: Sequence[np.ndarray]) -> tuple[float, float]:
    """The same where every seed was asked prompts of its own."""
    count = len(tables)
    between = float(np.var([table.mean() for table in tables], ddof=1)) / count
    within = float(np.mean([table.var(ddof=1) / len(table) if len(table) > 1 else 0.0 for table in tables])) / count
    return (between, count - 1) if between >= within else (within, sum(map(len, tables)) - count)


def by_seed(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95% interval of shares known only as one value a seed with its own interval: the variance between seeds, plus
    that within them as if the same prompts had gone the same way for all (on the safe side)."""
    count, mean = len(values), float(np.mean(values))
    within = float(np.mean([((high - low) / (2 * Z95)) ** 2 for low, high in zip(lows, highs, strict=True)]))
    if count == 1:
        return mean, float(lows[0]), float(highs[0])
    between = float(np.var(values, ddof=1)) / count
    total = between + within
    wide = student((count - 1) * (total / between) ** 2 if between else math.inf)
    half = wide * math.sqrt(total)
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of two values or more and its 95% interval (Student's)."""
    mean = float(np.mean(values))
    half = student(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def student(freedom: float) -> float:
    """The 97.5% quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom)) if math.isfinite(freedom) else Z95
