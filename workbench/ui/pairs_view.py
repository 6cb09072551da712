"""Step 1's markup: pure functions from plain data to escaped markup."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from workbench.ui.html import STATIC, Markup, button, icon, join, send

SPLITS = {"instruct": "stage 1", "fit": "stages 2 and 3", "held_out": "held out"}


def count(number: int, noun: str = "") -> str:
    """``1,024`` or ``1 pair`` / ``2 pairs``."""
    return f"{number:,}" + (f" {noun}{'' if number == 1 else 's'}" if noun else "")


def size(number: int) -> str:
    """Bytes in the nearest unit."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= bytes_:
            return f"{number / bytes_:.{0 if number >= 10 * bytes_ else 1}f} {unit}"
    return f"{number} bytes"


# -- title -------------------------------------------------------------------------------------------------------------


def title(pairs: dict[str, Any] | None, parts: dict[str, int] | None, trouble: str = "") -> Markup:
    """The step's heading: how many pairs are ready, and what they are used for."""
    if not pairs:
        return Markup(
            "<h1>Bring your pairs</h1><p class='s sub'>Each pair is a prompt with a better and a worse answer.</p>"
        )
    read, kept = int(pairs["report"]["read"]), int(pairs["count"])
    heading = f"{count(kept)} of {count(read)} pairs are ready" if 0 < kept < read else f"{count(kept, 'pair')} ready"
    if kept and kept == read:
        heading = f"All {count(kept)} pairs are ready" if kept > 1 else "One pair is ready"
    if trouble or not parts:
        below = trouble
    else:
        train = parts["instruct"] + parts["fit"]
        below = (
            f"{count(train)} train the model ({count(parts['instruct'])} for stage 1, {count(parts['fit'])} for "
            f"stages 2 "
            f"and 3); {count(parts['held_out'])} are held out and never trained on."
        )
    return Markup("<h1>{}</h1><p class='s sub'>{}</p>").format(heading, below)


# -- source ----------------------------------------------------------------------------------------------------------


def source_card(pairs: dict[str, Any] | None) -> Markup:
    """What is loaded, inside the drop area (the real file input lies over it)."""
    if not pairs or pairs["kind"] != "upload":
        return Markup(
            '<div class="drop"><span class="ic">{}</span><div class="sm" style="flex:1;min-width:0"><b>Drop a '
            "file here</b>"
            '<div class="q xs">JSONL, JSON, CSV, TSV or Parquet, up to 200 MB</div></div><span class="btn '
            'sm">Choose</span></div>'
        ).format(icon("upload"))
    told = f"{size(pairs['bytes'])}, read in {max(0.1, pairs['seconds']):.1f} s" if pairs.get("bytes") else ""
    return Markup(
        '<div class="drop"><span class="ic">{}</span><div class="sm" style="flex:1;min-width:0"><b class="cut">{}</b>'
        '<div class="q xs">{}</div></div><span class="btn sm">Replace</span></div>'
    ).format(icon("file"), pairs["name"], told)


def bundled_list(values: Sequence[dict[str, Any]], loaded: str | None) -> Markup:
    """The bundled sets, each with a button."""
    rows = []
    for item in values:
        here = item["source"] == loaded
        rows.append(
            Markup('<div class="pick"><div><b>{}</b><p class="q xs">{}</p></div>{}</div>').format(
                item["title"], item["about"], button("Loaded" if here else "Use", disabled=here, source=item["source"])
            )
        )
    return Markup('<div class="picks">{}</div>').format(join(rows))


def recognised(pairs: dict[str, Any] | None, waiting: dict[str, Any] | None = None) -> Markup:
    """Which layout was recognised, or that the visitor has to say."""
    if waiting:
        return Markup('<p class="sm s"><b class="ink">{}</b> waits: which column is which?</p>').format(waiting["name"])
    if not pairs:
        return Markup()
    told = pairs["report"]
    where = "" if pairs["kind"] == "upload" else Markup("<b>{}</b>. ").format(pairs["name"])
    about = f": {told['about']}" if told.get("about") else ""
    edited = " Edited by hand here." if pairs.get("edited") else ""
    return Markup('<p class="sm s">{}Recognised as <b class="ink">{}</b>{}.{}</p>').format(
        where, told.get("title") or told["format"], about, edited
    )


def reading(line: str, stop: bool = True) -> Markup:
    """The line while pairs are being read, with a way to stop; nothing for ""."""
    if not line:
        return Markup()
    what, _, at = line.partition(", ")
    return Markup(
        '<div class="busy"><i></i><span role="status">{}</span><span aria-hidden="true">{}</span>{}</div>'
    ).format(what, f", {at}" if at else "", button("Stop", action="stop") if stop else "")


def formats() -> Markup:
    """The menu of the clean file's other formats."""
    return Markup(
        '<details class="rw-menu"><summary class="btn" aria-label="Clean file in another format">{}</summary>'
        '<div class="rw-menu-list">{}</div></details>'
    ).format(
        icon("more"),
        join(
            Markup('<button type="button" class="btn ghost"{}>{}</button>').format(send(format=kind), name)
            for kind, name in (("csv", "CSV"), ("parquet", "Parquet"))
        ),
    )


# -- empty -------------------------------------------------------------------------------------------------------------


def hero_text() -> Markup:
    """What the workbench is, in two sentences."""
    return Markup(
        "<h1>Make a model answer the way people prefer, and see where it happens</h1><p class='lead'>Bring "
        "pairs of better and "
        "worse answers. See in which blocks the model tells them apart, align it there with RAHF, and "
        "judge the result side by "
        "side.</p>"
    )


def hero_small() -> Markup:
    """What the demo is."""
    return Markup(
        '<p class="sm q">Demo: pairs and a small model, both bundled. A few minutes on a CPU; nothing '
        "leaves the machine.</p>"
    )


def hero_steps() -> Markup:
    """The way through, in three."""
    steps = [
        (
            "1 Bring pairs",
            "JSONL, JSON, CSV, TSV or Parquet. TRL, Anthropic HH, UltraFeedback, LLaMA-Factory, Alpaca, SHP and "
            "OpenAI layouts are recognised; anything else you map by hand.",
        ),
        (
            "2 Pick blocks",
            "Held-out probes score every block with an interval and a chance band. Blocks are suggested; you decide.",
        ),
        (
            "3 Align, compare, export",
            "Strength is chosen so that the model does not collapse. Take away a plain adapter, a merged "
            "model and a report.",
        ),
    ]
    return Markup('<div class="see">{}</div>').format(
        join(Markup('<section><h2>{}</h2><p class="s sm">{}</p></section>').format(*step) for step in steps)
    )


def hero_picture() -> Markup:
    """The figure of the empty page from ``static/hero.json`` (see ``workbench.ui.hero``), or nothing without it."""
    try:
        return hero_figure(json.loads((STATIC / "hero.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError):
        return Markup()


def hero_figure(measured: dict[str, Any]) -> Markup:
    """The demo model block by block: densities along the preference axis and the probe's AUC, as they were measured."""

    def shape(heights: Sequence[float], kind: str) -> Markup:
        step = 100 / (len(heights) - 1)
        points = " ".join(f"{i * step:.2f},{100 - 96 * h:.1f}" for i, h in enumerate(heights))
        return Markup('<polygon class="{}" points="0,100 {} 100,100"/>').format(kind, points)

    rows = join(
        Markup(
            '<div class="ridge"><span class="q xs">{}</span><span class="ln"><svg viewBox="0 0 100 100" '
            'preserveAspectRatio="none" '
            'aria-hidden="true">{}{}</svg></span><span class="num sm {}">{:.2f}</span></div>'
        ).format(
            block["layer"],
            shape(block["rejected"], "dr"),
            shape(block["chosen"], "dc"),
            "b" if block["auc"] >= 0.9 else "q",
            block["auc"],
        )
        for block in measured["blocks"]
    )
    return Markup(
        '<figure class="panel ridges"><div class="hd"><h2>{}</h2><span class="xs q">AUC</span></div>{}'
        '<figcaption class="xs q"><span class="c-rejected b">rejected</span><span class="hide-sm">demo '
        "model, preference axis</span>"
        '<span class="c-chosen b">chosen</span></figcaption></figure>'
    ).format(measured["finding"], rows)
