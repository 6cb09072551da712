"""What the held-out half of step 4 shows, as the JSON of static/compare_heldout.js."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.ui import align_view, charts, compare_plot
from workbench.ui.compare_runs import Held

COLUMNS = (  # title, key in the evaluation, digits; the rest stands in the fold
    ("Preference acc.", "preference_accuracy", 2),
    ("Coherence", "coherence", 2),
    ("KL from base, nats", "kl_from_base", 2),
    ("Perplexity of chosen", "perplexity_chosen", 2),
    ("Tokens", "mean_tokens", 1),
)
MORE = (
    ("Win rate, equal length", "win_rate_lc", 2),
    ("Preferred form", "preferred", 2),
    ("Reward margin, nats", "reward_margin", 2),
    ("Facts right", "facts_right", 2),
    ("Unfinished", "unfinished", 2),
    ("Stuck", "repetition", 2),
    ("Distinct-2", "distinct_2", 2),
    ("Perplexity under base", "perplexity_base", 2),
    ("Text, times base", "text_ratio", 3),
)
AGAINST_ITSELF = (
    "win_rate",
    "win_rate_lc",
    "text_ratio",
    "reward_margin",
    "kl_from_base",
)  # of the base they say nothing


def measure_of(rows: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Which share is drawn, key and title: the win rate against base where anything was judged, else the preferred share."""
    for key, title in (("win_rate", "Win rate"), ("preferred", "Preferred")):
        if any(row.get(key) is not None for row in rows):
            return key, title
    return "win_rate", "Win rate"


def table(held: Held, judges: Sequence[dict[str, Any]], kept: dict[str, Any]) -> dict[str, Any]:
    """Everything of the panel. ``judges`` as ``compare_runs.judges_for`` gives them, ``kept`` what the visitor chose last."""
    measured = [row for row in held.rows if row.get("aligned")]
    every = [row[side] for row in measured for side in ("base", "aligned") if row.get(side)]
    key, title = measure_of(every)
    columns, more = (
        [one for one in some if any(row.get(one[1]) is not None for row in every)] for some in (COLUMNS, MORE)
    )
    apart = {row["name"]: row for row in held.result.get("differences") or [] if row.get("than") == _judged_name(held)}
    rows = []
    if measured and measured[0].get("base"):
        rows.append(_row(measured[0]["base"], "Base", "base", key, columns, more))
    for run in held.rows:
        mine = run["run"] == held.selected
        row = _row(run.get("aligned") or {}, run["name"], "aligned", key, columns, more)
        row |= {"run": run["run"], "mine": mine, "picked": run["run"] in held.picked, "off": not run["same"]}
        row |= {
            "tag": "baseline" if run["kind"] == "baseline" else "",
            "own": bool(run.get("aligned")) and not run["judged"],
        }
        other = apart.get((run.get("aligned") or {}).get("name")) if run["judged"] and not mine else None
        row["apart"] = _difference(other, key) if other else ""
        rows.append(row)
    mid = (measured[0]["base"] or {}).get("preferred") if measured and key == "preferred" else None
    result = held.result
    finding, note = _finding(held, measured, key)
    return {
        "title": finding,
        "sub": note,
        "measure": title.lower(),
        "measure_title": title,
        "mid": 0.5 if mid is None else mid,
        "columns": [name for name, _, _ in columns],
        "more": [name for name, _, _ in more],
        "apart": "Win rate less this run’s" if key == "win_rate" and any(row.get("apart") for row in rows) else "",
        "rows": rows,
        "judges": list(judges),
        "kept": {name: str(kept.get(name) or "") for name in ("judge", "where", "price")},
        "act": {"label": "Stop", "act": "stop"} if held.busy else {"label": _press(held), "act": "evaluate"},
        "bar": bar(held.status) if held.busy else None,
        "wrong": (held.status or {}).get("error") if not held.busy else None,
        "judge": {"name": result.get("judge"), "about": result.get("judge_about"), "use": _use(result.get("judge_use"))}
        if result.get("models")
        else None,
        "capability": [
            {"name": row["name"], "text": row["capability"]}
            for row in result.get("models") or []
            if row.get("capability")
        ],
        "text": result.get("text"),
        "plot": compare_plot.frontier([_point(row) for row in rows if row.get("at")]),
        "file": [row for row in result.get("models") or [] if isinstance(row, dict)],
    }


def _press(held: Held) -> str:
    count = len(held.picked)
    return f"Evaluate {count} runs" if count > 1 else "Evaluate on held-out pairs"


def _judged_name(held: Held) -> str | None:
    """What the shown evaluation calls the selected run."""
    found = (row["name"] for row in held.result.get("models") or [] if row.get("run") == held.selected)
    return next(found, None)


def _difference(row: dict[str, Any], key: str) -> str | list[str]:
    if row.get(key) is None:
        return ""
    return [f"{row[key]:+.2f}".replace("-", "\N{MINUS SIGN}"), charts.interval(row[f"{key}_low"], row[f"{key}_high"])]


def _finding(held: Held, measured: Sequence[dict[str, Any]], key: str) -> tuple[str, str]:
    brackets = "Numbers in brackets are 95% intervals; where none stands, none was measured."
    if not measured:
        return "Held-out pairs: no numbers yet", "Evaluating judges base and aligned on pairs that no training saw."
    judged = [run for run in measured if run["judged"]]
    judge = held.result.get("judge") or "nobody"
    shared = f"{held.result.get('pairs')} pairs that none of these runs was trained on, judged by {judge}. "
    if len(judged) > 1 and all(run["aligned"].get(key) is not None for run in judged):
        ranked = sorted(judged, key=lambda run: -run["aligned"][key])
        first, second = ranked[0]["aligned"]["name"], ranked[1]["aligned"]["name"]
        beside = next((row for row in held.result["differences"] if (row["name"], row["than"]) == (first, second)), {})
        clear = (beside.get(f"{key}_low") or 0.0) > 0
        title = f"{first} wins most" if clear else f"{first} and {second} win about as often"
        return title, shared + brackets
    mine = next((run for run in measured if run["run"] == held.selected), None)
    found = align_view.achieved([mine["base"], mine["aligned"]]) if mine and mine.get("base") else None
    own = "Numbers marked as own are of each run’s own held-out pairs: evaluate them together to compare. "
    own = own if any(not run["judged"] for run in measured) and len(measured) > 1 else ""
    return (found[0] if found else "Held-out pairs"), (shared if judged else "") + own + brackets


def bar(status: dict[str, Any] | None) -> dict[str, Any]:
    total = (status or {}).get("total") or 0
    doing = {"judge": "Asking the judge"}.get(status.get("stage") or "") or align_view.DOING.get(
        status.get("stage") or ""
    )
    text = f"{doing or 'Starting'}" + (f", {status['step']} of {total}" if total else "")
    if status.get("stage") == "evaluate" and status.get("message"):
        text += f": {status['message']}"
    return {"share": round(100 * status["step"] / total, 1) if total else 0, "text": text}


def _use(use: dict[str, Any] | None) -> str:
    if not use:
        return ""
    cost = "price not known" if use.get("cost") is None else f"cost {use['cost']:.4f}"
    broken = f", {use['broken']} replies without a verdict" if use.get("broken") else ""
    return (
        f"{use['asked']} questions asked and {use['cached']} from the cache{broken}; {use['turned']} of {use['compared']} "
        f"verdicts turned with the order; {use['tokens_in']} tokens read, {use['tokens_out']} written, {cost}."
    )


def _row(
    row: dict[str, Any], name: str, kind: str, key: str, columns: Sequence[tuple], more: Sequence[tuple]
) -> dict[str, Any]:
    base = kind == "base"

    def cell(field: str, digits: int) -> list[str] | str:
        value = row.get(field)
        if value is None or (base and field in AGAINST_ITSELF):
            return ""
        return [f"{value:.{digits}f}", charts.interval(row.get(f"{field}_low"), row.get(f"{field}_high"), digits)]

    versus = "compared against" if base and key == "win_rate" else ""
    rate = None if row.get(key) is None or versus else [row[key], row.get(f"{key}_low"), row.get(f"{key}_high")]
    place = None
    if row.get("win_rate") is not None and row.get("kl_from_base") is not None:
        place = {name: row.get(name) for name in ("win_rate", "kl_from_base")}
        place |= {f"{name}{end}": row.get(f"{name}{end}") for name in place for end in ("_low", "_high")}
    votes = f", {row['votes']} votes of {row['voters']}" if row.get("votes") else ""
    return {
        "name": name,
        "kind": kind,
        "rate": rate,
        "versus": versus,
        "votes": votes,
        "first": "" if versus else cell(key, 2),
        "cells": [cell(field, digits) for _, field, digits in columns],
        "rest": [cell(field, digits) for _, field, digits in more],
        "at": place,
    }


def _point(row: dict[str, Any]) -> dict[str, Any]:
    color = "base" if row["kind"] == "base" else "ink" if row.get("tag") else "aligned"
    return row["at"] | {"name": row["name"], "color": color}
