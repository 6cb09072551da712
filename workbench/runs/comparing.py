"""Two or more runs beside each other: the settings in which they differ, their figures, their curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.errors import UserError
from workbench.runs.store import Run

CURVES = ("loss", "fit", "preferred", "win_rate", "coherence")  # of step 3, by its steps
FIGURES = ("preferred", "win_rate", "coherence", "kl_from_base", "preference_accuracy")


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """Runs beside each other; ``runs`` has two or more.

    Returns ``runs`` (id, title, state), ``settings`` (rows {name, values} of those that differ), ``same`` (how many do
    not), ``figures`` (rows {name, values}, None where a run has none) and ``curves`` (name -> one list of [step, value]
    per run). Raises ``UserError`` for fewer than two runs, or a run whose settings are damaged.
    """
    if len(runs) < 2:
        raise UserError("Choose two runs to compare.")
    configs = [run.config() for run in runs]
    statuses = [run.status() for run in runs]
    names = list(dict.fromkeys(name for config in configs for name in config))
    rows = [{"name": name, "values": [config.get(name) for config in configs]} for name in names]
    differing = [row for row in rows if any(value != row["values"][0] for value in row["values"][1:])]
    return {
        "runs": [{"run": s["run"], "title": s["title"], "state": s["state"]} for s in statuses],
        "settings": differing,
        "same": len(rows) - len(differing),
        "figures": _figures(statuses),
        "curves": _curves(runs),
    }


def curves(run: Run) -> dict[str, list[list[float]]]:
    """The curves of step 3 that the run's events hold, a resume overwriting what it did again: name -> [step, value]."""
    found: dict[str, dict[int, float]] = {name: {} for name in CURVES}
    position, more = 0, True
    while more:
        events, after = run.events(position)
        more, position = after > position, after
        for event in events:
            if event.stage != "align":
                continue
            for name in CURVES:
                value = event.metrics.get(name)
                if isinstance(value, dict):  # one value a block
                    parts = [part for part in value.values() if isinstance(part, (int, float))]
                    value = sum(parts) / len(parts) if parts else None
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    found[name][event.step] = float(value)
    return {name: [[step, points[step]] for step in sorted(points)] for name, points in found.items()}


def _curves(runs: Sequence[Run]) -> dict[str, list[list[list[float]]]]:
    each = [curves(run) for run in runs]
    return {name: [one[name] for one in each] for name in CURVES if any(one[name] for one in each)}


def _figures(statuses: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    results = [status["result"] if isinstance(status["result"], dict) else {} for status in statuses]
    held_out = [result.get("held_out") if isinstance(result.get("held_out"), dict) else {} for result in results]
    aligned = [part.get("aligned") if isinstance(part.get("aligned"), dict) else {} for part in held_out]
    rows += [{"name": name, "values": [part.get(name) for part in aligned]} for name in FIGURES]
    rows += [{"name": name, "values": [result.get(name) for result in results]} for name in ("alpha", "loss_last")]
    rows.append({"name": "seconds", "values": [status["seconds"] for status in statuses]})
    return [row for row in rows if any(value is not None for value in row["values"])]
