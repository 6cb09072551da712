"""The one way this page puts its own markup on the screen, and the small pieces the steps draw with.

Two kinds of component, both a ``gr.HTML`` whose template is constant and whose value is a JSON string. Nothing a user
or a model wrote ever stands in a template (Gradio evaluates those as JavaScript).

1. ``markup(...)``: Python writes the markup. Build it from :class:`Markup`, which escapes what it is given, and send it
   with :func:`value`; a plain ``str`` is refused, so text cannot slip past the escaping::

       report = html.markup(elem_id="rw-report")
       html.value(Markup("<p>{}</p>").format(anything))           # a handler returns this for `report`

   The page applies it as a difference to what stands there: focus, scroll positions and open ``<details>`` survive.
   An element with ``data-send='{"action": "show"}'`` (write it with :func:`send`) is a button: pressing it arrives in
   Python through ``page.on(report.select, handler, event=True)``.

2. ``view("name", ...)``: our own JavaScript draws. Every ``static/*.js`` is put into the page's head, and defines views
   (``core.js`` first, then by name)::

       rw.define('layers-strip', (host, send) => {       // once per mount
         const build = data => { host.replaceChildren(rw.h('button', {onclick: () => send({block: 3})}, data.text)) };
         return build;                                   // called with the parsed value, now and on every change
       });

   ``rw.h(tag, attributes, ...children)`` makes elements and sets text with ``textContent``. The value is sent with
   ``html.value({...})`` and what ``send`` is given arrives in Python like a pressed ``data-send``.

What arrives from the page may have been posted by anyone: check every field before using it.

plotly.js is the file inside the plotly wheel, served by ``gr.set_static_paths`` (``theme.serve_static``), so that it
works offline and fits plotly.py's schema. In a view, ``const Plotly = await rw.plotly()`` loads it once per page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup, escape

from workbench.progress import finite

STATIC = Path(__file__).parent / "static"
__all__ = ["Markup", "escape", "icon", "join", "markup", "send", "value", "view"]


def plotly_js() -> Path:
    """The plotly.js inside the installed plotly wheel (found without importing plotly)."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise RuntimeError("plotly is not installed: run make demo, or pip install -r requirements.txt")
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"


# -- components --------------------------------------------------------------------------------------------------------


def view(name: str, data: Any = None, **kwargs: Any) -> gr.HTML:
    """A ``gr.HTML`` drawn by the view ``name`` of ``static/*.js``. ``data`` is its first value (see :func:`value`);
    ``kwargs`` go to ``gr.HTML`` (elem_id, elem_classes, visible, scale, ...)."""
    return gr.HTML(
        value=value(data),
        html_template="<div class='rw-host'></div>",
        js_on_load=f"window.rw.mount(element, props, watch, data => trigger('select', data), {json.dumps(name)})",
        apply_default_css=False,
        **kwargs,
    )


def markup(content: Markup | None = None, **kwargs: Any) -> gr.HTML:
    """A ``gr.HTML`` that shows markup written by Python; change it by returning ``value(Markup(...))``."""
    return view("markup", content if content is not None else Markup(), **kwargs)


def value(data: Any) -> str:
    """What a handler returns for a :func:`view` (any JSON value) or a :func:`markup` (a Markup) component.

    Raises TypeError for a plain string, which is not known to be escaped.
    """
    if isinstance(data, Markup):
        data = {"html": str(data)}
    elif isinstance(data, str):
        raise TypeError("send Markup (escaped) or a JSON object, not a plain string")
    text = json.dumps(finite(data), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")  # no tag ever stands in the value itself


# -- pieces of markup --------------------------------------------------------------------------------------------------

ICONS = {
    "arrow": "<path d='M3 8h10M9 4l4 4-4 4'/>",
    "check": "<path d='m3 8.5 3.2 3L13 4.8'/>",
    "close": "<path d='m4 4 8 8M12 4l-8 8'/>",
    "download": "<path d='M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10'/>",
    "upload": "<path d='M8 11V3M4.5 6 8 2.5 11.5 6M3 13.5h10'/>",
    "file": "<path d='M4 1.8h5L12.5 5.3v8.9H4zM9 1.8v3.5h3.5'/>",
    "error": "<path d='M8 5v3.6M8 11.2v.1'/><circle cx='8' cy='8' r='6.2'/>",
    "info": "<path d='M8 7.4v3.6M8 4.9v.1'/><circle cx='8' cy='8' r='6.2'/>",
    "warn": "<path d='M8 2.2 14.4 13.4H1.6zM8 6.4v3.2M8 11.4v.1'/>",
    "stop": "<rect x='4' y='4' width='8' height='8' rx='1'/>",
    "pause": "<path d='M5.5 3.5v9M10.5 3.5v9'/>",
    "resume": "<path d='M13 8a5 5 0 1 1-1.6-3.7M13 2.4v2.8h-2.8'/>",
    "more": "<path d='m4.5 6.5 3.5 3.5 3.5-3.5'/>",
    "search": "<circle cx='7' cy='7' r='4.2'/><path d='m10.2 10.2 3.3 3.3'/>",
}


def icon(name: str, size: int = 16) -> Markup:
    """One of the page's line icons, in the text's colour, hidden from screen readers."""
    return Markup(
        '<svg width="{0}" height="{0}" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.6" '
        'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{1}</svg>'
    ).format(size, Markup(ICONS[name]))


def join(parts: Iterable[Any], between: str = "") -> Markup:
    """The parts in a row, each escaped unless it is Markup."""
    return Markup(between).join(parts)


def send(**data: Any) -> Markup:
    """The attribute that makes an element (use a ``<button type="button">``) send ``data`` to Python when pressed."""
    return Markup(' data-send="{}"').format(json.dumps(data))


def button(
    text: str, classes: str = "btn sm", disabled: bool = False, before: str = "", after: str = "", **data: Any
) -> Markup:
    """A button that sends ``data``; ``before`` and ``after`` name icons."""
    return Markup('<button type="button" class="{}"{}{}>{}{}{}</button>').format(
        classes,
        Markup(" disabled") if disabled else "",
        send(**data),
        icon(before) if before else "",
        text,
        icon(after) if after else "",
    )


def note(text: Any, strong: str = "", kind: str = "", sign: str = "", attributes: Markup | str = "") -> Markup:
    """A framed remark. ``kind``: "" (quiet), "warn" or "err"; ``sign`` is an icon (by default the kind's)."""
    sign = sign or {"warn": "warn", "err": "error"}.get(kind, "info")
    bold = Markup("<b>{}</b> ").format(strong) if strong else ""
    return Markup('<div class="note {}"{}>{}<div>{}{}</div></div>').format(
        kind, Markup(attributes), icon(sign, 18), bold, text
    )


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]], numbers: Sequence[int] = (), caption: str = "") -> Markup:
    """A plain table; the columns listed in ``numbers`` are set flush right."""

    def cells(tag: str, row: Sequence[Any]) -> Markup:
        scope = Markup(' scope="col"') if tag == "th" else ""
        return join(
            Markup("<{0}{1}{2}>{3}</{0}>").format(
                Markup(tag), scope, Markup(' class="num"') if i in numbers else "", cell
            )
            for i, cell in enumerate(row)
        )

    body = join(Markup("<tr>{}</tr>").format(cells("td", row)) for row in rows)
    title = Markup('<caption class="sr">{}</caption>').format(caption) if caption else ""
    return Markup('<div class="tablewrap"><table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        title, cells("th", head), body
    )


def skeleton(height: int, label: str = "Loading") -> Markup:
    """A reserved place of ``height`` pixels for what is still being made."""
    return Markup('<div class="skelbox" style="height:{}px" role="status"><span class="sr">{}</span></div>').format(
        int(height), label
    )


def nice_ceiling(number: float) -> float:
    """The next round number at or above ``number`` (1, 2, 2.5, 5 times a power of ten), for the end of an axis."""
    if number <= 0:
        return 1.0
    power = 10.0 ** len(str(int(number)))
    return min((step * power for step in (0.1, 0.2, 0.25, 0.5, 1.0) if step * power >= number), default=power)


def axis_marks(low: float, high: float, room: float = 0.18) -> list[float]:
    """Round numbers along an axis, with both ends; none so near the end (``room``, a share of the axis) that the two
    labels would touch."""
    step = nice_ceiling((high - low) / 5)
    first = -(-low // step) * step
    inner = [first + step * k for k in range(8)]
    return [low, *(at for at in inner if low < at < high - room * (high - low)), high]


def histogram(
    up: Sequence[float],
    edges: Sequence[float],
    down: Sequence[float] | None = None,
    colours: tuple[str, str] = ("var(--rw-chosen)", "var(--rw-rejected)"),
    unit: str = "",
    labels: Sequence[tuple[Any, float]] = (),
    describe: str = "",
    height: int = 146,
    beyond: bool = False,
) -> Markup:
    """Bars of counts over bins; with ``down``, a second set hanging below the axis.

    ``edges`` has one number more than ``up``; ``beyond``: the last bin also holds everything above it;
    ``labels`` are (markup, bottom in percent) set at the right edge.
    Bars are an SVG stretched to the box; all text is HTML, so it never scales.
    """
    most = max([*up, *(down or []), 1])
    middle = 50.0 if down is not None else 100.0
    tick = nice_ceiling(most) if nice_ceiling(most) <= most * 1.08 else nice_ceiling(most) / 2
    reach = max(most, tick) * (1.34 if labels else 1.08)  # room for the labels above the highest bar
    per = middle / reach
    width = 100.0 / len(up)
    bars: list[Markup] = []
    for counts, colour, sign in [(up, colours[0], -1)] + ([(down, colours[1], 1)] if down is not None else []):
        for i, count in enumerate(counts):
            if count:
                bars.append(
                    Markup(
                        '<rect x="{:.2f}" width="{:.2f}" y="{:.2f}" height="{:.2f}" fill="{}" fill-opacity=".85"/>'
                    ).format(
                        i * width + width * 0.07,
                        width * 0.86,
                        middle - count * per if sign < 0 else middle,
                        count * per,
                        colour,
                    )
                )
    ticks = [middle - tick * per, middle] + ([middle + tick * per] if down is not None else [])
    lines = join(
        Markup('<line class="gl{0}" x1="0" x2="100" y1="{1:.2f}" y2="{1:.2f}"/>').format(" z" if y == middle else "", y)
        for y in ticks
    )
    numbers = join(
        Markup('<span class="yt" style="bottom:{:.2f}%">{}</span>').format(100 - y, "0" if y == middle else f"{tick:g}")
        for y in ticks
    )
    low, high = edges[0], edges[-1]
    below = join(
        Markup('<span class="xt {}" style="left:{:.2f}%">{}</span>').format(
            "first" if at == low else "last" if at == high else "",
            100 * (at - low) / (high - low),
            f"{at:g}{'+' * (beyond and at == high)}{' ' + unit if at == high else ''}",
        )
        for at in axis_marks(low, high, 0.12 + 0.015 * len(unit))
    )
    direct = join(
        Markup('<span class="dl r" style="left:100%;bottom:{}%">{}</span>').format(bottom, text)
        for text, bottom in labels
    )
    seam = (
        Markup('<line x1="0" x2="100" y1="50" y2="50" stroke="var(--rw-surface)" stroke-width="2"/>')
        if down is not None
        else ""
    )
    return Markup(
        '<div class="plot" style="--h:{}px;--l:34px"><svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}{}{}</svg>{}{}{}</div>'
    ).format(int(height), describe, lines, join(bars), seam, numbers, below, direct)
