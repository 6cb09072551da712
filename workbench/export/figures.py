"""The figures of a run as plain data: what is drawn, its title (a finding), and every number with its interval.

A figure is {id, title, sub, x, y, series, band, mark}: ``x`` and ``y`` have label, low, high and ticks [(value, text)]; a
series has name, colour (a token's name), kind ("line" or "dots") and points {x, y, low, high, on, text}; ``band`` is
{name, points: [(x, low, high)]}; ``mark`` is {x, text}. ``workbench.export.svg`` draws it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from workbench.export.facts import method_name, opened, read_events
from workbench.jsonfile import read_json

Figure = dict[str, Any]
SHARES = (("win_rate", "Win rate", "aligned"), ("preferred", "Preferred", "chosen"), ("coherence", "Coherent", "ink"))
HELD_OUT = (*((key, name) for key, name, _ in SHARES), ("preference_accuracy", "Preference accuracy"))
HELD_OUT += (("facts_right", "Right facts"), ("win_rate_lc", "Win rate at equal length"))


def figures(folder: Path, result: dict[str, Any]) -> list[Figure]:
    """Every figure that the run has numbers for, in the order of its work."""
    events = read_events(folder)
    made = [
        _layers(read_json(folder / "layers.json"), result.get("layers") or []),
        _loss(events, "instruct", "Stage 1"),
        *_calibration(result.get("calibration")),
        _loss(events, "align", "Stage 3" if result["method"] in ("scit", "dual") else opened(method_name(result))),
        _left(events),
        _looks(events),
        _held_out(result.get("held_out")),
    ]
    return [figure for figure in made if figure]


def ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Round numbers from ``low`` to ``high``, about ``count``, with as many digits as tell them apart."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [(low, f"{low:g}")]
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    values = [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(value, f"{value:.6g}") for value in values]


def axis(label: str, values: Iterable[float], low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """An axis that holds the values, its ends given or chosen."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    least = min(found, default=0.0) if low is None else low
    most = max(found, default=1.0) if high is None else high
    if most <= least:
        most = least + 1.0
    room = (most - least) * 0.04
    least, most = least - (room if low is None else 0), most + (room if high is None else 0)
    return {"label": label, "low": least, "high": most, "ticks": ticks(least, most)}


def point(
    x: float, y: Any, low: Any = None, high: Any = None, on: bool = True, text: str = ""
) -> dict[str, Any] | None:
    """A point; None where there is no finite number."""
    if not isinstance(y, (int, float)) or not math.isfinite(y):
        return None
    return {"x": x, "y": y, "low": low, "high": high, "on": on, "text": text}


def series(name: str, colour: str, points: Sequence[dict[str, Any] | None], kind: str = "line") -> dict[str, Any]:
    return {"name": name, "colour": colour, "kind": kind, "points": [one for one in points if one]}


def _layers(scores: dict[str, Any] | None, picked: Sequence[int]) -> Figure | None:
    rows = (scores or {}).get("layers") or []
    if not rows:
        return None
    points = [
        point(row["layer"], row["probe_auc"], row["probe_auc_low"], row["probe_auc_high"], row["layer"] in picked)
        for row in rows
    ]
    low = min(0.4, *(row["probe_auc_low"] for row in rows))
    across = axis("Block", [row["layer"] for row in rows], -0.5, len(rows) - 0.5)
    step = max(1, math.ceil(len(rows) / 12))
    across["ticks"] = [(row["layer"], str(row["layer"])) for row in rows if row["layer"] % step == 0]
    band = [(row["layer"], row.get("null_auc_p025", 1 - row["null_auc_p95"]), row["null_auc_p95"]) for row in rows]
    return {
        "id": "layers",
        "title": scores.get("finding") or "How well each block tells chosen from rejected",
        "sub": "AUC of a linear probe on pairs it never saw, with 95% intervals; filled: the blocks that were moved.",
        "x": across,
        "y": axis("AUC", [], low, 1.0),
        "series": [series("Probe", "ink", points, "dots")],
        "band": {"name": "What chance reaches", "points": band},
        "mark": None,
    }


def _steps(events: Sequence[dict[str, Any]], stage: str, key: str) -> list[tuple[int, Any, dict[str, Any]]]:
    """(step, value, metrics) of a stage where ``key`` was measured; a resumed step counts once, as it was last."""
    found = {}
    for event in events:
        if event.get("stage") == stage and event["metrics"].get(key) is not None:
            found[event.get("step", 0)] = (event["metrics"][key], event["metrics"])
    return [(step, *found[step]) for step in sorted(found)]


def _loss(events: Sequence[dict[str, Any]], stage: str, name: str) -> Figure | None:
    steps = [(step, value) for step, value, _ in _steps(events, stage, "loss") if isinstance(value, (int, float))]
    if len(steps) < 2:
        return None
    first, last = steps[0][1], steps[-1][1]
    moved = "fell" if last < first else "rose"
    return {
        "id": f"loss-{stage}",
        "title": f"{name}: the loss {moved} from {first:.3g} to {last:.3g}",
        "sub": "Training loss at each logged step; single batches, no interval.",
        "x": axis("Step", [], 0, steps[-1][0]),
        "y": axis("Loss", [value for _, value in steps], 0 if min(value for _, value in steps) >= 0 else None),
        "series": [series("Loss", "ink", [point(step, value) for step, value in steps])],
        "band": None,
        "mark": None,
    }


def _left(events: Sequence[dict[str, Any]]) -> Figure | None:
    steps = [one for one in _steps(events, "align", "fit") if isinstance(one[1], dict) and one[1]]
    if len(steps) < 2:
        return None
    blocks = list(steps[-1][1])
    colours = ["aligned", "ink", "base", "chosen", "rejected"]
    lines = [
        series(f"Block {block}", colours[at % 5], [point(step, fit.get(block)) for step, fit, _ in steps])
        for at, block in enumerate(blocks)
    ]
    ends = [steps[-1][1][block] for block in blocks]
    return {
        "id": "left",
        "title": f"Of the way to the target, {min(ends):.0%} to {max(ends):.0%} is left"
        if len(ends) > 1
        else f"Of the way to the target, {ends[0]:.0%} is left",
        "sub": "Distance of the states to the shifted ones, as a share of the shift; single batches, no interval.",
        "x": axis("Step of stage 3", [], 0, steps[-1][0]),
        "y": axis("Share left", [one["y"] for line in lines for one in line["points"]], 0),
        "series": lines,
        "band": None,
        "mark": None,
    }


def _looks(events: Sequence[dict[str, Any]]) -> Figure | None:
    looks = [metrics for _, _, metrics in _steps(events, "align", "coherence")]
    steps = [step for step, _, _ in _steps(events, "align", "coherence")]
    if len(steps) < 2:
        return None
    lines = [
        series(
            name,
            colour,
            [
                point(step, look.get(key), look.get(f"{key}_low"), look.get(f"{key}_high"))
                for step, look in zip(steps, looks, strict=True)
            ],
        )
        for key, name, colour in SHARES
    ]
    lines = [line for line in lines if line["points"]]
    told = lines[0]
    return {
        "id": "looks",
        "title": f"{told['name']} went from {told['points'][0]['y']:.2f} to {told['points'][-1]['y']:.2f} in training",
        "sub": "Held-out answers at each look, with 95% intervals.",
        "x": axis("Step of stage 3", [], 0, steps[-1]),
        "y": axis("Share", [], 0.0, 1.0),
        "series": lines,
        "band": None,
        "mark": None,
    }


def _calibration(found: dict[str, Any] | None) -> list[Figure]:
    points = (found or {}).get("points") or []
    if len(points) < 2 or "leaning" not in points[0]:  # runs of older versions measured another gain
        return []
    chosen = min(points, key=lambda one: abs(one["alpha"] - found["chosen"]))
    across = axis("Relative strength", [one["relative_strength"] for one in points], 0.0)
    mark = {"x": chosen["relative_strength"], "text": f"taken: {chosen['relative_strength']:.2f}"}

    def line(key: str, name: str, colour: str) -> list[dict[str, Any]]:
        ladder = [
            point(
                one["relative_strength"],
                one[key],
                one.get(f"{key}_low"),
                one.get(f"{key}_high"),
                text=f"alpha {one['alpha']:g}",
            )
            for one in points
        ]
        return [series(name, colour, ladder)]

    return [
        {
            "id": "leaning",
            "title": f"{chosen['leaning']:.0%} of answers lean to chosen at the strength taken",
            "sub": f"{found.get('leaning_is', 'Share of answers that lean to chosen.')} At each strength tried, with 95% "
            f"intervals ({found['prompts']} prompts).",
            "x": across,
            "y": axis("Lean to chosen", [], 0.0, 1.0),
            "series": line("leaning", "Lean to chosen", "aligned"),
            "band": None,
            "mark": mark,
        },
        {
            "id": "drift",
            "title": f"{chosen['drift']:.0%} of answers had drifted at the strength taken",
            "sub": f"Share of answers unlike language, with 95% intervals; at most {found['drift_limit']:.0%} were allowed.",
            "x": across,
            "y": axis("Drifted", [], 0.0, 1.0),
            "series": line("drift", "Drifted", "ink"),
            "band": None,
            "mark": mark,
        },
    ]


def _held_out(found: dict[str, Any] | None) -> Figure | None:
    if not found:
        return None
    base, aligned = found["base"], found["aligned"]
    keys = [(key, name) for key, name in HELD_OUT if aligned.get(key) is not None]
    if not keys:
        return None

    def dots(figures: dict[str, Any], name: str, colour: str) -> dict[str, Any]:
        places = [
            point(at, figures.get(key), figures.get(f"{key}_low"), figures.get(f"{key}_high"), text=title)
            for at, (key, title) in enumerate(keys)
        ]
        return series(name, colour, places, "dots")

    told = next(
        (key for key in ("preferred", "win_rate", "preference_accuracy") if aligned.get(key) is not None), keys[0][0]
    )
    name = dict(keys)[told] if told in dict(keys) else keys[0][1]
    return {
        "id": "held-out",
        "title": f"{name}: {aligned[told]:.2f} aligned, {base.get(told, float('nan')):.2f} base",
        "sub": "Shares on pairs that no training step saw, with 95% intervals.",
        "rows": [title for _, title in keys],
        "x": axis("Share", [], 0.0, 1.0),
        "y": {"label": "", "low": -0.5, "high": len(keys) - 0.5, "ticks": []},
        "series": [dots(base, "Base", "base"), dots(aligned, "Aligned", "aligned")],
        "band": None,
        "mark": None,
    }
