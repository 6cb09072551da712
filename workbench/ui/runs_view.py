"""What step 3 shows of all runs, as the JSON of static/runs.js: the list, the bin, and runs beside each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from workbench.errors import UserError
from workbench.runs import comparing
from workbench.runs.store import Run
from workbench.ui import align_fields, align_form, align_view, charts, context
from workbench.ui.state import Workspace

COLOURS = ("ink", "ink-2", "ink-3", "ink-2")  # colours have meanings here; runs are told apart by dashes and names
MOST = 4  # runs beside each other
FIGURES = {  # of held-out prompts, and of the run
    "preferred": "Preferred answers, share",
    "win_rate": "Win rate against base",
    "coherence": "Coherence, share of fluent answers",
    "kl_from_base": "KL from base, nats",
    "preference_accuracy": "Chosen is likelier, share of pairs",
    "alpha": "Alpha",
    "loss_last": "Loss of stage 3 at its end",
    "seconds": "Time taken",
}
LABELS = {
    "loss": ("Loss of stage 3", "mean distance to the shifted states, by step"),
    "fit": ("Distance left", "mean over blocks, as a share of the shift, by step"),
    "preferred": ("Preferred share of answers", "on held-out prompts, by step"),
    "win_rate": ("Win rate", "against base on held-out prompts, by step"),
    "coherence": ("Coherence", "share of fluent answers, by step"),
}


def panel(
    workspace: Workspace, statuses: Sequence[dict[str, Any]], binned: Sequence[Run], compared: Sequence[Run]
) -> dict[str, Any]:
    """The whole view. ``statuses`` are of the runs the visitor may see, newest first."""
    kept = workspace.settings.get("runs") or {}
    chosen = [run.id for run in compared]
    undo = next((run for run in binned if run.id == kept.get("undo")), None)
    return {
        "rows": [row(status, status["run"] == workspace.run, status["run"] in chosen) for status in statuses],
        "undo": {"run": undo.id, "text": f"{name_of(undo)} is in the bin."} if undo else None,
        "bin": [{"run": run.id, "name": f"{name_of(run)}, {began(run)}".rstrip(", ")} for run in binned],
        "compared": beside(compared) if len(compared) > 1 else None,
        "picked": len(chosen),
    }


def name_of(run: Run) -> str:
    """A run's name as everywhere on the page, also of one that lies in the bin."""
    try:
        return context.title_of(run.status())
    except UserError:
        return run.about()["title"] or run.id


def began(run: Run) -> str:
    """When a run was started, to tell runs of one name apart; "" where that is not known."""
    try:
        at = run.status().get("started") or run.status().get("created")
    except UserError:
        return ""
    return time.strftime("%d %b %H:%M", time.localtime(at)) if at else ""


def row(status: dict[str, Any], selected: bool, compared: bool) -> dict[str, Any]:
    """One run of the list."""
    state, place = status["state"], status.get("queue")
    live = state in context.LIVE
    began = status.get("started") or status.get("created")
    words = context.run_words(status)
    if place and place["seconds"] is not None:
        words += f", starts in about {charts.duration(place['seconds'])}"
    elif state == "running" and isinstance(status.get("seconds_left"), (int, float)):
        words += f", about {charts.duration(status['seconds_left'])} left in this stage"
    return {
        "run": status["run"],
        "name": context.title_of(status),
        "id": status["run"],
        "title": status["title"],
        "note": status["note"],
        "state": "live" if state == "running" else "err" if state in ("failed", "interrupted") else state,
        "words": words,
        "when": time.strftime("%d %b %H:%M", time.localtime(began)) if began else "",
        "took": charts.duration(status.get("seconds")) if status.get("seconds") else "",
        "selected": selected,
        "compared": compared,
        "sooner": bool(place) and place["position"] > 1,
        "later": bool(place) and place["position"] < place["of"],
        "waits": bool(place),
        "can_delete": not live,
    }


def beside(runs: Sequence[Run]) -> dict[str, Any]:
    """Runs beside each other: the settings that differ, the figures, and their curves in one drawing each."""
    found = comparing.compare(runs)
    names = [context.title_of(run.status()) for run in runs]
    if len(set(names)) < len(names):
        names = [f"{number} {name}" for number, name in enumerate(names, 1)]
    return {
        "names": names,
        "settings": [
            [align_form.label(row["name"]), *(setting_text(row["name"], value) for value in row["values"])]
            for row in found["settings"]
        ],
        "same": found["same"],
        "figures": [
            [FIGURES[row["name"]], *(figure_text(row["name"], *one) for one in zip(row["values"], runs, strict=True))]
            for row in found["figures"]
        ],
        "charts": [overlay(name, lines, names) for name, lines in found["curves"].items()],
    }


def overlay(name: str, lines: Sequence[Sequence[Sequence[float]]], names: Sequence[str]) -> dict[str, Any]:
    """One measure of several runs in one chart, each line with its run's name at its end."""
    title, sub = LABELS[name]
    total = int(max(point[0] for line in lines for point in line)) or 1
    top = charts.ceiling(max(point[1] for line in lines for point in line)) if name in ("loss", "fit") else 1.0
    drawn, labels = [], []
    for number, line in enumerate(lines):
        points = [[round(100 * x / total, 2), round(100 * min(max(y / top, 0.0), 1.0), 2)] for x, y in line]
        if points:
            drawn.append(
                {"points": charts.thin(points), "color": COLOURS[number % 4], "dash": charts.DASHES[number % 6]}
            )
            labels.append((number, points[-1]))
    early = {number for number, (x, _) in labels if x <= charts.ROOM}  # these have room behind their lines
    heights = {}
    for group in (early, {number for number, _ in labels} - early):
        wanted = {
            number: y + (0 if number in early else 9 if y < 80 else -9) for number, (_, y) in labels if number in group
        }
        heights |= dict(zip(wanted, charts.spread(list(wanted.values())), strict=True))
    last = [line[-1][1] if line else None for line in lines]
    ends = [f"{names[i]} {charts.short(value)}" for i, value in enumerate(last) if value is not None]
    return {
        "name": title,
        "title": f"{title}: {', '.join(ends)}",
        "sub": sub,
        "x": charts.x_ticks(total),
        "y": charts.y_ticks(0, top),
        "lines": drawn,
        "labels": [
            {"y": heights[number], "strong": names[number]}
            | ({"x": round(x + 1.5, 2)} if number in early else {"x": 100.0, "side": "r"})
            for number, (x, _) in labels
        ],
        "table": {"head": ["Run", "Step", title], "rows": _rows(lines, names)},
    }


def setting_text(name: str, value: Any) -> str:
    """A setting as the column of settings says it."""
    return (align_fields.word(name, value) if name in align_fields.known_fields() else str(value))[:200]


def figure_text(name: str, value: Any, run: Run) -> str:
    """A figure of a run with its interval, where it has one; a dash where there is none."""
    if name == "alpha" and value is None:  # a run that has not ended knows it all the same
        value = align_view.story_of(run).latest.get("alpha")
    if not isinstance(value, (int, float)):
        return "\N{EN DASH}"
    if name == "seconds":
        return charts.duration(value)
    if name in ("alpha", "loss_last"):
        return f"{value:.3g}"
    aligned = (align_view.rows_of(run.status().get("result") or {}) or [{}])[-1]
    return f"{value:.2f} {charts.interval(aligned.get(f'{name}_low'), aligned.get(f'{name}_high'))}".rstrip()


def _rows(lines: Sequence[Sequence[Sequence[float]]], names: Sequence[str]) -> list[list[str]]:
    rows = []
    for name, line in zip(names, lines, strict=True):
        rows += [[name, f"{x:.0f}", charts.short(y)] for x, y in charts.thin(line, 12)]
    return rows
