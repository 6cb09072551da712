"""A figure (``workbench.export.figures``) as SVG: one drawing for the model card's files and for the report.

In the report every point carries its numbers (``data-t``), which the page's script shows on pointing and on arrow keys.
"""

from __future__ import annotations

import math
from html import escape
from typing import Any

from workbench.export.figures import Figure

COLOURS = {  # light, dark: the page's own tokens
    "bg": ("#ffffff", "#15181b"),
    "ink": ("#17191c", "#eceef0"),
    "quiet": ("#656a72", "#9098a0"),
    "line": ("#e5e4df", "#282d32"),
    "band": ("#e2e2dd", "#262b30"),
    "base": ("#536277", "#9dacc2"),
    "aligned": ("#6a45c6", "#b49aff"),
    "chosen": ("#07736c", "#3fbfb2"),
    "rejected": ("#b93a09", "#f58552"),
}


def palette() -> str:
    """The colours as CSS variables, light and dark, for a file that stands alone."""
    light, dark = ("".join(f"--{name}:{pair[at]};" for name, pair in COLOURS.items()) for at in (0, 1))
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


CLASSES = (
    "text{font:12px system-ui,sans-serif;fill:var(--quiet)}.gl{stroke:var(--line)}.bd{fill:var(--band)}"
    + ".mk{stroke:var(--quiet);stroke-dasharray:3 3}.t{fill:var(--ink)}.nm{fill:var(--ink)}"
    + "".join(f".c-{name}{{--c:var(--{name})}}" for name in ("ink", "base", "aligned", "chosen", "rejected"))
    + ".ln{fill:none;stroke:var(--c);stroke-width:2}.wh{stroke:var(--c);stroke-width:1.5;opacity:.55}"
    + ".pt{fill:var(--c);stroke:var(--c);stroke-width:1.6}.pt.off{fill:var(--bg)}"
)


def draw(figure: Figure, width: int = 680, height: int = 0, alone: bool = False) -> str:
    """The figure as an ``<svg>``; ``alone`` makes it a file of its own, with title, colours and background."""
    rows = figure.get("rows")
    height = height or (70 + 34 * len(rows) if rows else 240)
    several = alone and len(figure["series"]) > 1
    top, left = (64 if several else 44 if alone else 12), (156 if rows else 46)
    plot = _Plot(figure, left, top, width - left - 16, height - 52)
    height += top - 12
    label = f"{figure['title']}. {figure['sub']}"
    head = ""
    if alone:
        head = (
            f"<style>{palette()}{CLASSES}</style><rect width='{width}' height='{height}' fill='var(--bg)'/>"
            f"<text class='t' x='12' y='24' style='font-size:14px;font-weight:600'>{escape(figure['title'])}</text>"
        ) + (_legend(figure, left) if several else "")
    names = " xmlns='http://www.w3.org/2000/svg'" if alone else ""
    return (
        f"<svg{names} viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img' "
        f"aria-label='{escape(label, quote=True)}'>{head}{plot.draw()}</svg>"
    )


def _legend(figure: Figure, left: int) -> str:
    """The names of the series in a row, each with its mark."""
    parts, at = [], left
    for one in figure["series"]:
        parts.append(f"<g class='c-{one['colour']}'><circle class='pt' cx='{at + 5}' cy='42' r='4.5'/></g>")
        parts.append(f"<text class='nm' x='{at + 14}' y='46'>{escape(one['name'])}</text>")
        at += 34 + 7 * len(one["name"])
    return "".join(parts)


class _Plot:
    """Where things stand: the plot's box in the drawing, and its axes' scales."""

    def __init__(self, figure: Figure, left: int, top: int, width: int, height: int) -> None:
        self.figure, self.left, self.top, self.width, self.height = figure, left, top, width, height

    def x(self, value: float) -> float:
        axis = self.figure["x"]
        return self.left + self.width * (value - axis["low"]) / (axis["high"] - axis["low"])

    def y(self, value: float) -> float:
        axis = self.figure["y"]
        share = (value - axis["low"]) / (axis["high"] - axis["low"])
        return self.top + self.height * (share if "rows" in self.figure else 1 - min(1.02, max(-0.02, share)))

    def draw(self) -> str:
        figure = self.figure
        parts = [self._frame()]
        if band := figure["band"]:
            parts.append(self._band(band))
        if mark := figure["mark"]:
            at = self.x(mark["x"])
            side = "end" if at > self.left + self.width / 2 else "start"
            shift = -6 if side == "end" else 6
            parts.append(
                f"<line class='mk' x1='{at:.1f}' x2='{at:.1f}' y1='{self.top}' y2='{self.top + self.height}'/>"
            )
            parts.append(
                f"<text x='{at + shift:.1f}' y='{self.top + 12}' text-anchor='{side}'>{escape(mark['text'])}</text>"
            )
        parts += [self._series(at, one) for at, one in enumerate(figure["series"])]
        return "".join(parts)

    def _frame(self) -> str:
        figure, parts, bottom = self.figure, [], self.top + self.height
        for value, text in figure["y"]["ticks"]:
            at = self.y(value)
            parts.append(
                f"<line class='gl' x1='{self.left}' x2='{self.left + self.width}' y1='{at:.1f}' y2='{at:.1f}'/>"
            )
            parts.append(f"<text x='{self.left - 8}' y='{at + 4:.1f}' text-anchor='end'>{escape(text)}</text>")
        for row, title in enumerate(figure.get("rows", ())):
            at = self.y(row)
            parts.append(
                f"<line class='gl' x1='{self.left}' x2='{self.left + self.width}' y1='{at:.1f}' y2='{at:.1f}'/>"
            )
            parts.append(
                f"<text class='nm' x='{self.left - 10}' y='{at + 4:.1f}' text-anchor='end'>{escape(title)}</text>"
            )
        for value, text in figure["x"]["ticks"]:
            parts.append(f"<text x='{self.x(value):.1f}' y='{bottom + 18}' text-anchor='middle'>{escape(text)}</text>")
        parts.append(
            f"<text x='{self.left + self.width}' y='{bottom + 34}' text-anchor='end'>{escape(figure['x']['label'])}</text>"
        )
        return "".join(parts)

    def _band(self, band: dict[str, Any]) -> str:
        points, half = band["points"], 0.5
        edges = [(x - half, high) for x, _, high in points[:1]] + [(x, high) for x, _, high in points]
        edges += [(x + half, high) for x, _, high in points[-1:]] + [(x + half, low) for x, low, _ in points[-1:]]
        edges += [(x, low) for x, low, _ in reversed(points)] + [(x - half, low) for x, low, _ in points[:1]]
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in edges)
        end = self.y(points[-1][2])
        return (
            f"<polygon class='bd' points='{path}'/><text x='{self.left + self.width - 6}' y='{end - 6:.1f}' "
            f"text-anchor='end'>{escape(band['name'])}</text>"
        )

    def _series(self, at: int, one: dict[str, Any]) -> str:
        """A line or dots with whiskers; many points of a line are drawn small, for pointing only."""
        points, parts = one["points"], []
        shift = (at - (len(self.figure["series"]) - 1) / 2) * 9 if "rows" in self.figure else 0
        if one["kind"] == "line":
            path = " ".join(f"{self.x(p['x']):.1f},{self.y(p['y']):.1f}" for p in points)
            parts.append(f"<polyline class='ln' points='{path}'/>")
        radius = 4.5 if one["kind"] == "dots" else 3.2 if len(points) <= 40 else 0
        for p in points:
            parts.append(self._point(p, one, shift, radius))
        name = escape(one["name"], quote=True)
        return f"<g class='sr c-{one['colour']}' data-series='{at}' data-name='{name}'>{''.join(parts)}</g>"

    def _point(self, p: dict[str, Any], one: dict[str, Any], shift: float, radius: float) -> str:
        rows = "rows" in self.figure
        across, down = (self.x(p["y"]), self.y(p["x"]) + shift) if rows else (self.x(p["x"]), self.y(p["y"]))
        whisker = ""
        if p["low"] is not None and p["high"] is not None and math.isfinite(p["low"]) and math.isfinite(p["high"]):
            ends = (self.x(p["low"]), self.x(p["high"])) if rows else (self.y(p["low"]), self.y(p["high"]))
            fixed = f"{down:.1f}" if rows else f"{across:.1f}"
            a, b = ("x", "y") if rows else ("y", "x")
            whisker = f"<line class='wh' {a}1='{ends[0]:.1f}' {a}2='{ends[1]:.1f}' {b}1='{fixed}' {b}2='{fixed}'/>"
        told = escape(tell(self.figure, one, p), quote=True)
        off = "" if p["on"] else " off"
        return f"{whisker}<circle class='pt{off}' cx='{across:.1f}' cy='{down:.1f}' r='{radius}' data-t='{told}'/>"


def tell(figure: Figure, one: dict[str, Any], p: dict[str, Any]) -> str:
    """A point in words: where it is, its value and its interval."""
    place = p["text"] if "rows" in figure else f"{figure['x']['label']} {p['x']:.4g}"
    more = f", {p['text']}" if p["text"] and "rows" not in figure else ""
    between = (
        f" [{p['low']:.3g}, {p['high']:.3g}]" if p["low"] is not None and p["high"] is not None else " (no interval)"
    )
    return f"{place}{more}: {one['name']} {p['y']:.3g}{between}"
