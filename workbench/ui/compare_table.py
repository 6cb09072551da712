"""What the held-out half of step 4 shows, as the JSON of static/compare_heldout.js."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.ui import align_view, charts

COLUMNS = (  # title, key in the evaluation, digits
    ("Preference acc.", "preference_accuracy", 2),
    ("Win rate, equal length", "win_rate_lc", 2),
    ("Coherence", "coherence", 2),
    ("Unfinished", "unfinished", 2),
    ("KL from base, nats", "kl_from_base", 2),
    ("Perplexity", "perplexity_chosen", 1),
    ("Tokens", "mean_tokens", 0),
)


def measure_of(rows: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Which share is drawn, key and title: of preferred answers where a judge told, else the win rate against base."""
    told = any(row.get("preferred") is not None for row in rows)
    return ("preferred", "Preferred") if told else ("win_rate", "Win rate")


def heldout(
    runs: Sequence[dict[str, Any]], selected: str, act: dict[str, Any] | None = None, bar: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The table of evaluated runs. ``runs``: {run, name, base, aligned (their rows of numbers), pairs}."""
    measured = [run for run in runs if run.get("aligned")]
    mid = next((run["base"].get("preferred") for run in measured if run.get("base")), None)
    every = [run[side] for run in measured for side in ("base", "aligned") if run.get(side)]
    key, title = measure_of(every)
    columns = [
        (name, field, digits) for name, field, digits in COLUMNS if any(row.get(field) is not None for row in every)
    ]
    table = []
    if measured and measured[0].get("base"):
        versus = "compared against" if key == "win_rate" else ""
        table.append(_row(measured[0]["base"], "Base", "base", key, columns, versus))
    for run in measured:
        table.append(_row(run["aligned"], run["name"], "aligned", key, columns) | {"mine": run["run"] == selected})
    mine = next((run for run in measured if run["run"] == selected), None)
    finding = align_view.achieved([mine["base"], mine["aligned"]] if mine and mine.get("base") else [])
    pairs = {run.get("pairs") for run in measured}
    note = (
        "Each run on its own held-out pairs; compare only runs of the same pairs and seed. "
        if len(pairs) > 1 or len(measured) > 1
        else ""
    )
    return {
        "title": finding[0] if finding else "Held-out pairs: no numbers yet",
        "sub": f"{note}Numbers in brackets are 95% intervals; where none stands, none was measured."
        if measured
        else "Evaluating judges base and aligned on pairs that no training saw.",
        "measure": title.lower(),
        "mid": mid if key == "preferred" and mid is not None else 0.5,
        "measure_title": title,
        "columns": [name for name, _, _ in columns],
        "rows": table,
        "act": act,
        "bar": bar,
    }


def _row(
    row: dict[str, Any], name: str, kind: str, key: str, columns: Sequence[tuple], versus: str = ""
) -> dict[str, Any]:
    def cell(field: str, digits: int) -> list[str] | str:
        value = row.get(field)
        if value is None or (kind == "base" and field == "win_rate_lc"):  # against itself
            return ""
        return [f"{value:.{digits}f}", charts.interval(row.get(f"{field}_low"), row.get(f"{field}_high"), digits)]

    rate = None if row.get(key) is None or versus else [row[key], row.get(f"{key}_low"), row.get(f"{key}_high")]
    first = "" if versus else cell(key, 2)
    return {
        "name": name,
        "kind": kind,
        "rate": rate,
        "versus": versus,
        "first": first,
        "cells": [cell(field, digits) for _, field, digits in columns],
    }
