"""The frontier as one SVG that needs nothing else: win rate against the divergence from the base, with both intervals.

Colour means what it means everywhere: the base is slate, RAHF (what aligns here) violet; the others are ink and told apart by
their names, which stand at their points. Single seeds are small marks of the same kind.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

from workbench.baselines import NAMES, RAHF

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 92, 58
LETTER, LINE = 6.6, 15  # the size a label is taken to have, in pixels
COLOURS = {  # light, dark: the page's own tokens
    "bg": ("#ffffff", "#15181b"),
    "ink": ("#17191c", "#eceef0"),
    "quiet": ("#656a72", "#9098a0"),
    "line": ("#e5e4df", "#282d32"),
    "base": ("#536277", "#9dacc2"),
    "aligned": ("#6a45c6", "#b49aff"),
}
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:var(--quiet)}.t{font-size:14px;font-weight:600;fill:var(--ink)}"
    ".g{stroke:var(--line)}.h{stroke:var(--quiet);stroke-dasharray:3 3}"
    ".o{stroke:var(--quiet);stroke-width:.7}.n{font-size:13px;fill:var(--c)}"
    ".p{fill:var(--c)}.w{stroke:var(--c);stroke-width:1.5;opacity:.6}.s{fill:none;stroke:var(--c);opacity:.55}"
    ".ink{--c:var(--ink)}.base{--c:var(--base)}.aligned{--c:var(--aligned)}"
)


def draw(pooled: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], title: str, note: str) -> str:
    """The SVG of pooled rows and of the rows a seed (as ``workbench.baselines.pooling`` has them); the ``title`` is the
    finding, the ``note`` says what was measured. Rows without a win rate are left out."""
    pooled = [row for row in pooled if row.get("win_rate") is not None]
    plot = _Plot(pooled, rows)
    light, dark = ("".join(f"--{name}:{both[at]};" for name, both in COLOURS.items()) for at in (0, 1))
    parts = [
        f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}{STYLE}</style>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='var(--bg)'/>",
        *(
            f"<text class='t' x='12' y='{22 + 18 * at}'>{escape(line)}</text>"
            for at, line in enumerate(textwrap.wrap(title, 88, max_lines=3, placeholder=" ..."))
        ),
        *plot.frame(),
        f"<text x='{LEFT}' y='{HEIGHT - 6}'>{escape(note)}</text>",
        *plot.seeds(),
        *plot.points(),
        *plot.names(),
    ]
    label = escape(f"{title} {plot.told()}", quote=True)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' "
        f"role='img' aria-label='{label}'>{''.join(parts)}</svg>\n"
    )


def colour(method: str) -> str:
    """The class of a method's marks."""
    return "aligned" if method in RAHF else "base" if method == "base" else "ink"


class _Plot:
    """Where things stand. KL goes along a square-root axis, so that small ones are told apart."""

    def __init__(self, pooled: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> None:
        self.pooled = pooled
        self.rows = [row for row in rows if row.get("win_rate") is not None]
        shown = [*pooled, *self.rows]
        self.most = 1.05 * max([row.get("kl_from_base_high") or row["kl_from_base"] for row in shown] + [0.1])
        lowest = min([row["win_rate_low"] for row in pooled] + [row["win_rate"] for row in shown] + [0.5])
        highest = max([row["win_rate_high"] for row in pooled] + [row["win_rate"] for row in shown] + [0.6])
        self.low, self.high = (
            max(0.0, math.floor(lowest * 10 - 1e-9) / 10),
            min(1.0, math.ceil(highest * 10 + 1e-9) / 10),
        )

    def x(self, kl: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.sqrt(max(0.0, kl) / self.most)

    def y(self, rate: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (rate - self.low) / (self.high - self.low))

    def frame(self) -> list[str]:
        parts, bottom = [], HEIGHT - BOTTOM
        for tenth in range(round(self.low * 10), round(self.high * 10) + 1):
            at = self.y(tenth / 10)
            parts.append(
                f"<line class='{'h' if tenth == 5 else 'g'}' x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{at:.1f}' y2='{at:.1f}'/>"
            )
            parts.append(f"<text x='{LEFT - 8}' y='{at + 4:.1f}' text-anchor='end'>{tenth * 10}%</text>")
        for value in ticks(self.most):
            parts.append(
                f"<line class='g' x1='{self.x(value):.1f}' x2='{self.x(value):.1f}' y1='{bottom}' y2='{bottom + 5}'/>"
            )
            parts.append(f"<text x='{self.x(value):.1f}' y='{bottom + 18}' text-anchor='middle'>{value:g}</text>")
        parts.append(f"<text x='12' y='{TOP - 12}'>win rate against the base</text>")
        parts.append(
            f"<text x='{WIDTH - RIGHT}' y='{bottom + 34}' text-anchor='end'>"
            "KL from the base, nats an answer (square-root axis)</text>"
        )
        return parts

    def seeds(self) -> list[str]:
        return [
            f"<g class='{colour(row['method'])}'><circle class='s' cx='{self.x(row['kl_from_base']):.1f}' "
            f"cy='{self.y(row['win_rate']):.1f}' r='2.5'/></g>"
            for row in self.rows
            if row["method"] != "base"
        ]

    def points(self) -> list[str]:
        return [
            f"<g class='{colour(row['method'])}'><title>{escape(tell(row))}</title>{self._whiskers(row)}"
            f"<circle class='p' cx='{self.x(row['kl_from_base']):.1f}' cy='{self.y(row['win_rate']):.1f}' r='5'/></g>"
            for row in self.pooled
        ]

    def _whiskers(self, row: dict[str, Any]) -> str:
        if row["method"] == "base":  # against itself: nothing is uncertain
            return ""
        x, y = self.x(row["kl_from_base"]), self.y(row["win_rate"])
        left, right = self.x(row["kl_from_base_low"]), self.x(row["kl_from_base_high"])
        low, high = self.y(row["win_rate_low"]), self.y(row["win_rate_high"])
        return (
            f"<line class='w' x1='{left:.1f}' x2='{right:.1f}' y1='{y:.1f}' y2='{y:.1f}'/>"
            f"<line class='w' x1='{x:.1f}' x2='{x:.1f}' y1='{low:.1f}' y2='{high:.1f}'/>"
        )

    def names(self) -> list[str]:
        """Each name beside its point, where it meets no point, no whisker and no other name."""
        boxes = [box for row in self.pooled for box in self._taken(row)]
        boxes += [(self.x(row["kl_from_base"]) - 3, self.y(row["win_rate"]) - 3, 6, 6) for row in self.rows]
        boxes.append((LEFT, self.y(0.5) - 1, WIDTH, 2))
        parts = []
        for row in sorted(self.pooled, key=lambda row: row["kl_from_base"]):
            name = NAMES[row["method"]]
            wide = LETTER * len(name) + 4
            x, y = self.x(row["kl_from_base"]), self.y(row["win_rate"])
            places = [
                (x + across - (wide if across < 0 else 0), y + down - LINE / 2)
                for far in range(0, 200, 8)
                for down in (far, -far)
                for across in (10, -10)
            ]
            inside = [
                p for p in places if LEFT <= p[0] <= WIDTH - RIGHT - wide and TOP - 8 <= p[1] <= HEIGHT - BOTTOM - LINE
            ]
            free = [p for p in inside if not any(_meet((*p, wide, LINE), box) for box in boxes)]
            left, top = (free or inside or places)[0]
            boxes.append((left, top, wide, LINE))
            middle = top + LINE / 2
            if abs(middle - y) > LINE:  # too far to be read as its point's own
                end = left if left > x else left + wide
                parts.append(f"<line class='o' x1='{x:.1f}' y1='{y:.1f}' x2='{end:.1f}' y2='{middle:.1f}'/>")
            text = f"<text class='n' x='{left:.1f}' y='{middle + 4:.1f}'>{escape(name)}</text>"
            parts.append(f"<g class='{colour(row['method'])}'>{text}</g>")
        return parts

    def _taken(self, row: dict[str, Any]) -> list[tuple[float, float, float, float]]:
        x, y = self.x(row["kl_from_base"]), self.y(row["win_rate"])
        left, right = self.x(row["kl_from_base_low"]), self.x(row["kl_from_base_high"])
        high, low = self.y(row["win_rate_high"]), self.y(row["win_rate_low"])
        around = [(x - 6, y - 6, 12, 12)]
        return (
            around
            if row["method"] == "base"
            else [*around, (left, y - 2, right - left, 4), (x - 2, high, 4, low - high)]
        )

    def told(self) -> str:
        return " ".join(f"{tell(row)}." for row in self.pooled)


def tell(row: dict[str, Any]) -> str:
    """A pooled row in words."""
    return (
        f"{NAMES[row['method']]}: win rate {row['win_rate']:.0%} [{row['win_rate_low']:.0%}, {row['win_rate_high']:.0%}], "
        f"KL {row['kl_from_base']:.2f} [{row['kl_from_base_low']:.2f}, {row['kl_from_base_high']:.2f}] nats"
    )


def ticks(most: float) -> list[float]:
    """Marks of a square-root axis up to ``most``: 0 and about six round values, wider apart as they grow."""
    found = [0.0]
    for share in (0.02, 0.1, 0.25, 0.45, 0.7, 1.0):
        unit = 10 ** math.floor(math.log10(share * most))
        value = math.floor(share * most / unit + 1e-9) * unit
        if math.sqrt(value / most) - math.sqrt(found[-1] / most) > 0.08:  # or their figures would touch
            found.append(float(f"{value:.6g}"))
    return found


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )
