"""One HTML page that needs nothing else: the frame of the report and of shared comparisons.

The page's own script and style stand in it and are named in its content security policy by their digests, so nothing else
can run, whatever a prompt or a model wrote. Data is JSON in a block of its own, put on the page by ``textContent``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from workbench.export.figures import Figure
from workbench.export.svg import CLASSES, COLOURS, draw
from workbench.progress import finite

HERE = Path(__file__).parent
WIDE, NARROW = 540, 340  # pixels of a drawing: one for wide windows, one for narrow ones


@cache
def _style() -> str:
    both = {theme: "".join(f"--{name}:{pair[at]};" for name, pair in COLOURS.items()) for at, theme in enumerate("ld")}
    tokens = (
        f":root{{color-scheme:light;{both['l']}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light])"
        f"{{color-scheme:dark;{both['d']}}}}}:root[data-theme=dark]{{color-scheme:dark;{both['d']}}}"
    )
    return f"{tokens}{CLASSES}\n{(HERE / 'page.css').read_text(encoding='utf-8')}"


@cache
def _script() -> str:
    return (HERE / "page.js").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The content security policy of every such page: its own script and style, and nothing from anywhere."""
    digests = [
        base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() for text in (_script(), _style())
    ]
    return (
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def page(title: str, body: str, data: dict[str, Any]) -> str:
    """The whole page. ``body`` is markup whose texts are escaped already; ``data`` is what the script shows."""
    text = json.dumps(finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head><body>"
        '<header class="top"><span>RAHF Workbench</span>'
        '<button type="button" id="theme" hidden>Theme</button></header>'
        f'<main>{body}</main><div id="tip" role="status" hidden></div>'
        f'<script type="application/json" id="data">{text}</script><script>{_script()}</script></body></html>\n'
    )


def section(name: str, title: str, *parts: str, sub: str = "") -> str:
    """A part of the page under a heading; ``title`` and ``sub`` are plain text."""
    below = f'<p class="s">{escape(sub)}</p>' if sub else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{below}{"".join(parts)}</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: bool = False) -> str:
    """A table of texts, each escaped; ``numbers``: all columns but the first flush right."""
    kind = ' class="nums"' if numbers else ""
    joined = "\u00a0" if numbers else " "  # an interval stays in one line
    cells = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-l="{escape(head[at], quote=True)}">{escape(str(cell).replace(", ", f",{joined}"))}</td>'
            for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="wrap"><table{kind}><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows) + "</dl>"


def code(text: str) -> str:
    return f'<pre tabindex="0">{escape(text)}</pre>'


def figure(one: Figure) -> str:
    """A figure with its finding as title, switches for its series, and its numbers one click away."""
    several = len(one["series"]) > 1
    switches = "".join(
        f'<button type="button" class="sw c-{line["colour"]}" aria-pressed="true" data-series="{at}"><i></i>'
        f"{escape(line['name'])}</button>"
        for at, line in enumerate(one["series"])
        if several
    )
    drawn = "".join(
        f'<div class="{size}" tabindex="0" role="group" aria-label="{escape(one["title"], quote=True)}. Arrow keys tell the '
        f'numbers.">{draw(one, width)}</div>'
        for size, width in (("wide", WIDE), ("narrow", NARROW))
    )
    return (
        f'<figure class="fig" id="fig-{one["id"]}"><h3>{escape(one["title"])}</h3><p class="s">{escape(one["sub"])}</p>'
        f'<div class="sws">{switches}</div>{drawn}<details><summary>Numbers</summary>{_numbers(one)}</details></figure>'
    )


def _numbers(one: Figure) -> str:
    rows = []
    for line in one["series"]:
        for p in line["points"]:
            between = f"[{p['low']:.4g}, {p['high']:.4g}]" if p["low"] is not None and p["high"] is not None else "none"
            place = p["text"] if "rows" in one else f"{p['x']:.4g}"
            rows.append((place, line["name"], f"{p['y']:.4g}", between))
    return table(
        ("", "What", "Value", "95% interval")
        if "rows" in one
        else (one["x"]["label"], "What", "Value", "95% interval"),
        rows,
    )
