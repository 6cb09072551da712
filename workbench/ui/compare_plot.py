"""Win rate against divergence from the base, as the JSON of the line chart in static/_kit.js."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from workbench.ui import charts

LETTER = 2.6  # per cent of a narrow plot that a letter takes


def frontier(points: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Win rate against KL from the base, a point a model with both intervals; None for fewer than two models. ``points``:
    {name, color, win_rate, kl_from_base} and their bounds."""
    if len(points) < 2:
        return None
    top = charts.ceiling(
        1.02 * max([point.get("kl_from_base_high") or point["kl_from_base"] for point in points] + [0.01])
    )
    others = [point for point in points if point["color"] != "base"] or points
    worst = min(
        point["win_rate_low"] if point.get("win_rate_low") is not None else point["win_rate"] for point in others
    )
    low = max(0.0, math.floor(10 * min(worst, 0.5) - 1 + 1e-9) / 10)

    def x(value: float) -> float:
        return round(100 * min(1.0, max(0.0, value / top)), 2)

    def y(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - low) / (1 - low))), 2)

    lines, dots = [], []
    for point in points:
        at = x(point["kl_from_base"]), y(point["win_rate"])
        if point["color"] != "base":
            for along, place in (("kl_from_base", x), ("win_rate", y)):
                ends = [
                    place(point[f"{along}{end}"]) for end in ("_low", "_high") if point.get(f"{along}{end}") is not None
                ]
                if len(ends) == 2:
                    line = [[end, at[1]] if along == "kl_from_base" else [at[0], end] for end in ends]
                    lines.append({"points": line, "color": point["color"], "faint": True})
        dots.append({"x": at[0], "y": at[1], "color": point["color"]})
    best = max(points, key=lambda point: point["win_rate"])
    return {
        "name": "Win rate against KL from base",
        "title": f"Win rate {best['win_rate']:.2f} costs {best['kl_from_base']:.2g} nats an answer",
        "sub": "win rate against base, by KL from base in nats an answer; up and left is better",
        "height": 220,
        "x": [
            {"at": 0.0, "text": "0", "edge": "first"},
            {"at": 50.0, "text": f"{top / 2:.3g}"},
            {"at": 100.0, "text": f"{top:.3g} nats", "edge": "last"},
        ],
        "y": [
            {"at": place, "text": f"{value:.6g}", "zero": place == 0}
            for value, place in ((low, 0.0), (0.5, y(0.5)), (1.0, 100.0))
        ],
        "lines": lines,
        "refs": [{"at": y(0.5), "color": "base"}],
        "dots": dots,
        "labels": _labels(points, dots, y(0.5)),
        "table": {
            "head": ["Model", "Win rate", "95% interval", "KL from base", "95% interval"],
            "rows": [
                [
                    point["name"],
                    f"{point['win_rate']:.3f}",
                    charts.interval(point.get("win_rate_low"), point.get("win_rate_high"), 3),
                    f"{point['kl_from_base']:.3f}",
                    charts.interval(point.get("kl_from_base_low"), point.get("kl_from_base_high"), 3),
                ]
                for point in points
            ],
        },
    }


def _labels(points: Sequence[dict[str, Any]], dots: Sequence[dict[str, Any]], dashed: float) -> list[dict[str, Any]]:
    """A short name at every point: above, below or beside it, where it covers no other name, no point and not the
    ``dashed`` line of no preference as far as that can be had."""
    found: list[dict[str, Any]] = []
    taken: list[tuple[float, float, float]] = [(dot["x"] - 1.5, dot["x"] + 1.5, dot["y"]) for dot in dots]
    taken.append((0.0, 100.0, dashed))
    for point, dot, name in zip(points, dots, short_names([point["name"] for point in points]), strict=True):
        wide, x = LETTER * len(name), dot["x"]
        across = ("", x) if x < wide / 2 else ("r", x) if x > 100 - wide / 2 else ("m", x)
        spots = [(*across, dot["y"] + rise) for rise in (9.0, -9.0, 18.0, -18.0, 27.0, -27.0)]
        spots += [("", x + 2.0, dot["y"]), ("r", x - 2.0, dot["y"])]
        best = min(spots, key=lambda spot, w=wide: (_covered(spot, w, taken), spots.index(spot)))
        taken.append((*_ends(best, wide), best[2]))
        label = {"x": round(best[1], 2), "y": round(best[2], 2), "side": best[0]}
        found.append(label | {"strong": name, "color": point["color"]})
    return found


def _ends(spot: tuple[str, float, float], wide: float) -> tuple[float, float]:
    side, x, _ = spot
    start = {"": x, "m": x - wide / 2, "r": x - wide}[side]
    return start, start + wide


def _covered(spot: tuple[str, float, float], wide: float, taken: Sequence[tuple[float, float, float]]) -> int:
    """How many other things a name at this spot would stand on; leaving the plot counts as one."""
    start, end = _ends(spot, wide)
    on = sum(start < right and left < end and abs(spot[2] - other) < 8 for left, right, other in taken)
    return on + (start < 0 or end > 100 or not 4 <= spot[2] <= 103)


def short_names(names: Sequence[str], most: int = 22) -> list[str]:
    """The beginnings of names up to their first comma; where that is not their own, with their last part."""
    first = [name.split(", ")[0] for name in names]
    out = [
        head if first.count(head) == 1 or head == name else f"{head}, {name.split(', ')[-1]}"
        for head, name in zip(first, names, strict=True)
    ]
    return [name if len(name) <= most else name[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}" for name in out]
