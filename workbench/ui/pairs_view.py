"""Step 1's markup: pure functions from plain data to escaped markup."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from workbench.pairs import REASONS
from workbench.ui.html import STATIC, Markup, button, histogram, icon, join, note, skeleton, table

WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SHOWN_ROWS = 200  # row numbers written out per reason; the rest is counted
SPLITS = {"instruct": "step 1", "fit": "steps 2 and 3", "held_out": "held out"}


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
            f"{count(train)} train the model ({count(parts['instruct'])} for step 1, {count(parts['fit'])} for "
            f"steps 2 "
            f"and 3); {count(parts['held_out'])} are held out and never trained on."
        )
    return Markup("<h1>{}</h1><p class='s sub'>{}</p>").format(heading, below)


# -- source and report -------------------------------------------------------------------------------------------------


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


def recognised(pairs: dict[str, Any]) -> Markup:
    """Which layout was recognised."""
    told = pairs["report"]
    where = "" if pairs["kind"] == "upload" else Markup("<b>{}</b>. ").format(pairs["name"])
    about = f": {told['about']}" if told.get("about") else ""
    edited = " Edited by hand here." if pairs.get("edited") else ""
    return Markup('<p class="sm s">{}Recognised as <b class="ink">{}</b>{}.{}</p>').format(
        where, told.get("title") or told["format"], about, edited
    )


def report(pairs: dict[str, Any], parts: dict[str, int] | None) -> Markup:
    """What was kept and dropped, how the rest is split, and whether anything leaks."""
    told = pairs["report"]
    dropped = {reason: rows for reason, rows in told["dropped"].items() if rows}
    kept, lost = int(told["kept"]), sum(len(rows) for rows in dropped.values())
    bar = Markup(
        '<div class="keepbar" role="img" aria-label="{0} kept, {1} dropped"><i style="flex:{0}"></i>{2}</div>'
    ).format(kept, lost, Markup('<i class="d" style="flex:{};min-width:14px"></i>').format(lost) if lost else "")
    lines = [Markup("<div><b>Kept</b><b>{}</b></div>").format(count(kept))]
    lines += [_dropped(reason, rows) for reason, rows in sorted(dropped.items(), key=lambda item: -len(item[1]))]
    made = Markup('<hr class="hr"><h3>{} read</h3>{}<div class="list">{}</div>').format(
        count(told["read"], "row"), bar, join(lines)
    )
    if parts:
        made += Markup(
            '<hr class="hr"><h3>{0} split</h3><div class="split" role="img" aria-label="{1} for step 1, {2} '
            "for steps 2 and 3, "
            '{3} held out" style="grid-template-columns:{1}fr {2}fr {3}fr"><i></i><i></i><i class="d"></i></div><div '
            'class="split3 xs"><span><b>{1}</b><br>step 1, instruct</span><span><b>{2}</b><br>steps 2 and 3, '
            "fit</span>"
            "<span><b>{3}</b><br>held out</span></div>"
        ).format(count(pairs["count"], "pair"), *(parts[name] for name in SPLITS))
    made += Markup('<hr class="hr">') + leaks(told.get("warnings") or [], bool(parts))
    return made


def _dropped(reason: str, rows: Sequence[int]) -> Markup:
    shown = ", ".join(str(row) for row in rows[:SHOWN_ROWS]) + (
        f" and {count(len(rows) - SHOWN_ROWS)} more" if len(rows) > SHOWN_ROWS else ""
    )
    return Markup(
        '<details><summary><span>{}</span><span>{}</span><span class="lk">Show</span></summary><p '
        'class="xs s">Row{} {}</p></details>'
    ).format(REASONS.get(reason, reason), count(len(rows)), "" if len(rows) == 1 else "s", shown)


def leaks(warnings: Sequence[str], split: bool) -> Markup:
    """The remark on leaks and contradictions, or what was found."""
    if warnings:
        return join(note(text, kind="warn") for text in warnings[:6])
    if not split:
        return Markup()
    return note(
        "No prompt stands in both training and held-out pairs, and no pair contradicts another.",
        "No leaks.",
        sign="check",
    )


# -- lengths -----------------------------------------------------------------------------------------------------------


def lengths_title(difference: float) -> str:
    """The finding on length: ``difference`` of the medians, chosen minus rejected, in tokens."""
    whole = round(abs(difference))
    if whole == 0:
        return "Chosen and rejected answers are equally long"
    number = WORDS[whole] if whole < len(WORDS) else count(whole)
    return f"Chosen answers are {number} token{'' if whole == 1 else 's'} {'longer' if difference > 0 else 'shorter'}"


def lengths_waiting(message: str = "") -> Markup:
    """The panel while tokens are being counted, or why they cannot be."""
    if message:
        return Markup("<header><div><h2>Lengths in tokens are not known</h2><p>{}</p></div></header>").format(message)
    return Markup(
        '<header><div><h2 class="q">Counting tokens</h2><p>The model’s tokenizer is being loaded.</p></div></header>{}'
    ).format(skeleton(208, "Counting tokens"))


def lengths(told: dict[str, Any]) -> Markup:
    """Histograms of answers and prompts in tokens, with the finding as the title and the numbers one click away."""
    sides = {side: told[f"{side}_tokens"] for side in ("prompt", "chosen", "rejected")}
    answers, prompts = told["histograms"]["answers"], told["histograms"]["prompt"]
    auc = told["length_auc"]
    longest = sides["prompt"]["max"]
    charts = Markup(
        '<div class="lens"><div><p class="xs q">Answers per {}</p>{}</div>'
        '<div><p class="xs q">Prompts per {}</p>{}</div></div>'
    ).format(
        _bin(answers["edges"]),
        histogram(
            answers["chosen"],
            answers["edges"],
            answers["rejected"],
            unit="tokens",
            beyond=answers["open"],
            describe="Answer lengths, chosen above and rejected below",
            labels=[
                (Markup('<b class="c-chosen">chosen</b>, median {:g}').format(sides["chosen"]["p50"]), 93),
                (Markup('<b class="c-rejected">rejected</b>, median {:g}').format(sides["rejected"]["p50"]), 7),
            ],
        ),
        _bin(prompts["edges"]),
        histogram(
            prompts["counts"],
            prompts["edges"],
            unit="tokens",
            beyond=prompts["open"],
            colours=("var(--rw-ink-3)", ""),
            describe="Prompt lengths",
            labels=[(Markup("median {:g}, longest {:g}").format(sides["prompt"]["p50"], longest), 93)],
        ),
    )
    rows = [
        (
            Markup('<span class="key c-{0}">{0}</span>').format(name) if name != "prompt" else name,
            *(f"{sides[name][key]:g}" for key in ("p50", "p95", "max")),
        )
        for name in ("prompt", "chosen", "rejected")
    ]
    numbers = table(
        ("Tokens", "median", "95% have at most", "longest"), rows, numbers=(1, 2, 3), caption="Lengths in tokens"
    )
    sentence = (
        f"Length alone tells chosen from rejected with AUC {auc['value']:.2f} [{auc['low']:.2f}, {auc['high']:.2f}]. "
        "Step 2 shows it beside the probes, so that length is not mistaken for preference."
    )
    made = Markup(
        '<header><div><h2>{}</h2><p>{}</p></div></header>{}<details class="nums"><summary class="btn ghost '
        'sm">Numbers'
        "</summary>{}</details>"
    ).format(lengths_title(sides["chosen"]["p50"] - sides["rejected"]["p50"]), sentence, charts, numbers)
    if cut := len(told["too_long"]):
        rows_cut = ", ".join(str(row) for row in told["too_long"][:20]) + (" …" if cut > 20 else "")
        made += note(
            f"{count(cut, 'pair')} {'does' if cut == 1 else 'do'} not fit into what is read of a pair "
            f"({told['limits']['prompt']} tokens of prompt, {told['limits']['completion']} of answer) and will "
            f"be cut: "
            f"row{'' if cut == 1 else 's'} {rows_cut}.",
            kind="warn",
        )
    return made


def _bin(edges: Sequence[float]) -> str:
    width = edges[1] - edges[0]
    return "token" if width == 1 else f"{width:g}-token bin"


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
