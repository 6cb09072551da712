"""Step 1's report: what was kept and dropped, the split, what is worth knowing, and how long the texts are.

Pure functions from plain data to escaped markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from workbench.pairs import REASONS
from workbench.ui.html import Markup, button, histogram, join, note, skeleton, table
from workbench.ui.pairs_view import SPLITS, count

WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SHOWN_ROWS = 200  # row numbers written out per reason; the rest is counted
LISTED = 50  # rows that are shown as they stand in the file


# -- kept and dropped --------------------------------------------------------------------------------------------------


def report(pairs: dict[str, Any], dropped: dict[str, Sequence[int]], rows_there: bool) -> Markup:
    """What was kept and dropped. ``dropped`` are row numbers by reason; ``rows_there``: whether they can be shown."""
    told = pairs["report"]
    dropped = {reason: rows for reason, rows in dropped.items() if len(rows)}
    lost = sum(len(rows) for rows in dropped.values())
    kept = max(0, int(told["read"]) - lost)
    bar = Markup(
        '<div class="keepbar" role="img" aria-label="{0} kept, {1} dropped"><i style="flex:{0}"></i>{2}</div>'
    ).format(kept, lost, Markup('<i class="d" style="flex:{};min-width:14px"></i>').format(lost) if lost else "")
    lines = [Markup("<div><b>Kept</b><b>{}</b></div>").format(count(kept))]
    ordered = sorted(dropped.items(), key=lambda item: -len(item[1]))
    lines += [_dropped(reason, rows, rows_there) for reason, rows in ordered]
    return Markup('<hr class="hr"><h3>{} read</h3>{}<div class="list">{}</div>').format(
        count(told["read"], "row"), bar, join(lines)
    )


def _dropped(reason: str, rows: Sequence[int], there: bool) -> Markup:
    shown = ", ".join(str(row) for row in rows[:SHOWN_ROWS]) + (
        f" and {count(len(rows) - SHOWN_ROWS)} more" if len(rows) > SHOWN_ROWS else ""
    )
    look = button("See the rows", "lk", action="rows", reason=reason) if there else Markup()
    return Markup(
        '<details><summary><span>{}</span><span>{}</span><span class="lk">Show</span></summary><div class="why"><p '
        'class="xs s">Row{} {}</p>{}</div></details>'
    ).format(REASONS.get(reason, reason), count(len(rows)), "" if len(rows) == 1 else "s", shown, look)


def rows_panel(reason: str, rows: Sequence[tuple[int, Any]], total: int, trouble: str = "") -> Markup:
    """Dropped rows as they stand in the source: (number, the row's values by column, or the line as text)."""
    head = Markup("<header><div><h2>{}</h2><p>{}</p></div>{}</header>").format(
        REASONS.get(reason, reason),
        trouble
        or f"{count(total, 'row')} dropped{f', the first {count(len(rows))}' if total > len(rows) else ''}, "
        "as they stand in the source.",
        button("Close", "btn ghost sm", action="close"),
    )
    if not rows:
        return head
    names = list(dict.fromkeys(name for _, row in rows if isinstance(row, dict) for name in row))[:12]
    if not names:
        names = ["line"]
    body = [
        (
            number,
            *(_cell(row.get(name) if isinstance(row, dict) else row if i == 0 else "") for i, name in enumerate(names)),
        )
        for number, row in rows
    ]
    return head + Markup('<div class="rawrows" tabindex="0" role="region" aria-label="Dropped rows">{}</div>').format(
        table(("Row", *names), body, caption="Dropped rows")
    )


def _cell(value: Any, most: int = 300) -> Markup:
    if value is None:
        return Markup('<span class="q">null</span>')
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text if len(text) <= most else text[:most] + " …"
    return Markup('<span class="clip3" dir="auto">{}</span>').format(text or "(empty)")


# -- split and hints ---------------------------------------------------------------------------------------------------


def split(total: int, parts: dict[str, int] | None) -> Markup:
    """How the pairs are split."""
    if not parts:
        return Markup()
    return Markup(
        '<hr class="hr"><h3>{0} split</h3><div class="split" role="img" aria-label="{1} for stage 1, {2} for stages 2 '
        'and 3, {3} held out" style="grid-template-columns:{1}fr {2}fr {3}fr"><i></i><i></i><i class="d"></i></div>'
        '<div class="split3 xs"><span><b>{1}</b><br>stage 1, instruct</span><span><b>{2}</b><br>stages 2 and 3, fit'
        "</span><span><b>{3}</b><br>held out</span></div>"
    ).format(count(total, "pair"), *(parts[name] for name in SPLITS))


def hints(report: dict[str, Any], split: bool, shared: dict[str, Any] | None, near: int, contradictions: int) -> Markup:
    """What is worth knowing: warnings, prompts shared by both parts of the split, near-duplicates, languages."""
    made = [note(text, kind="warn") for text in (report.get("warnings") or [])[:6]]
    if shared and shared["pairs"]:
        made.append(note(shared["sentence"], "Training and held-out pairs share prompts.", kind="warn"))
    elif split and shared is not None:
        against = "contradictory pairs were dropped" if contradictions else "no pair contradicts another"
        made.append(
            note(f"No prompt stands in both training and held-out pairs, and {against}.", "No leaks.", sign="check")
        )
    if near:
        told = (report.get("hints") or {}).get("near_duplicates") or {}
        more = told.get("pairs", 0) > sum(map(len, told.get("groups") or []))  # not all groups are listed
        show = Markup(' <button type="button" class="lk" data-show="near">Show them</button>')
        made.append(
            note(
                Markup("{}{} {} nearly the same as another: their scores count the same thing twice.{}").format(
                    "At least " if more else "", count(near, "pair"), "is" if near == 1 else "are", show
                ),
                "Near-duplicates.",
            )
        )
    if spoken := languages(report.get("hints") or {}):
        made.append(Markup('<p class="sm s spoken">{}</p>').format(spoken))
    return Markup('<hr class="hr">') + join(made) if made else Markup()


def languages(told: dict[str, Any]) -> str:
    """Scripts and languages in a sentence, the commonest first; empty if nothing is known."""
    parts = []
    for key, most in (("scripts", 4), ("languages", 4)):
        found = [item for item in told.get(key) or [] if item.get("name") and item.get("share", 0) >= 0.005][:most]
        if found:
            named = ", ".join(f"{item['name']} {100 * item['share']:.0f}%" for item in found)
            parts.append(f"{key.capitalize()}: {named}.")
    return " ".join(parts)


# -- lengths -----------------------------------------------------------------------------------------------------------


def lengths_title(difference: float, unit: str = "token") -> str:
    """The finding on length: ``difference`` of the medians, chosen minus rejected, in tokens (or characters)."""
    whole = round(abs(difference))
    if whole == 0:
        return "Chosen and rejected answers are equally long"
    number = WORDS[whole] if whole < len(WORDS) else count(whole)
    return f"Chosen answers are {number} {unit}{'' if whole == 1 else 's'} {'longer' if difference > 0 else 'shorter'}"


def bias(told: dict[str, Any] | None, auc: dict[str, Any] | None) -> str:
    """What length gives away: the share of pairs whose chosen answer is longer, and the AUC of length alone."""
    auc = auc or ({"value": told["auc"], "low": told["low"], "high": told["high"]} if told else None)
    if not auc:
        return ""
    value = f"AUC {auc['value']:.2f} [{auc['low']:.2f}, {auc['high']:.2f}]"
    if not told:
        return f"Length alone tells chosen from rejected with {value}."
    share = float(told["chosen_longer"])
    side = f"Chosen answers are longer in {100 * share:.0f}% of pairs"
    return f"{side}; length alone tells them apart with {value}."


def lengths(
    tokens: dict[str, Any] | None, characters: dict[str, Any], told: dict[str, Any] | None, waiting: str
) -> Markup:
    """Histograms of answers and prompts with the finding as the title, in tokens and in characters (a switch), and the
    numbers one click away. Without ``tokens`` the characters stand alone, and ``waiting`` says why."""
    main = tokens or characters
    medians = main["chosen_tokens"]["p50"] - main["rejected_tokens"]["p50"]
    later = " Step 2 shows it beside the probes, so that length is not mistaken for preference."
    sentence = bias(told, tokens and tokens["length_auc"])
    switch = Markup(
        '<div class="seg fit sm" role="radiogroup" aria-label="Lengths in"><label><input type="radio" name="rw-unit" '
        'value="tokens"{}><span>Tokens</span></label><label><input type="radio" name="rw-unit" value="characters"{}>'
        "<span>Characters</span></label></div>"
    ).format(Markup(" checked") if tokens else Markup(" disabled"), Markup("" if tokens else " checked"))
    made = Markup('<header><div><h2>{}</h2><p>{}</p></div><div class="acts">{}</div></header>').format(
        lengths_title(medians, "token" if tokens else "character"),
        sentence + later if sentence else later.strip(),
        switch,
    )
    if tokens:
        made += Markup('<div class="in-tokens">{}</div>').format(_charts(tokens, "token"))
    made += Markup('<div class="in-characters">{}</div>').format(_charts(characters, "character"))
    if waiting:
        made += Markup('<p class="xs q" role="status">{}</p>').format(waiting)
    return made + (too_long(tokens) if tokens else Markup())


def _charts(told: dict[str, Any], unit: str) -> Markup:
    sides = {side: told[f"{side}_tokens"] for side in ("prompt", "chosen", "rejected")}
    answers, prompts = told["histograms"]["answers"], told["histograms"]["prompt"]
    charts = Markup(
        '<div class="lens"><div><p class="xs q">Answers per {}</p>{}</div>'
        '<div><p class="xs q">Prompts per {}</p>{}</div></div>'
    ).format(
        _bin(answers["edges"], unit),
        histogram(
            answers["chosen"],
            answers["edges"],
            answers["rejected"],
            unit=f"{unit}s",
            beyond=answers["open"],
            describe=f"Answer lengths in {unit}s, chosen above and rejected below",
            labels=[
                (Markup('<b class="c-chosen">chosen</b>, median {:,.0f}').format(sides["chosen"]["p50"]), 93),
                (Markup('<b class="c-rejected">rejected</b>, median {:,.0f}').format(sides["rejected"]["p50"]), 7),
            ],
        ),
        _bin(prompts["edges"], unit),
        histogram(
            prompts["counts"],
            prompts["edges"],
            unit=f"{unit}s",
            beyond=prompts["open"],
            colours=("var(--rw-ink-3)", ""),
            describe=f"Prompt lengths in {unit}s",
            labels=[
                (Markup("median {:,.0f}, longest {:,.0f}").format(sides["prompt"]["p50"], sides["prompt"]["max"]), 93)
            ],
        ),
    )
    rows = [
        (
            Markup('<span class="key c-{0}">{0}</span>').format(name) if name != "prompt" else name,
            *(f"{sides[name][key]:,.0f}" for key in ("p50", "p95", "max")),
        )
        for name in ("prompt", "chosen", "rejected")
    ]
    heads = (f"{unit.capitalize()}s", "median", "95% have at most", "longest")
    numbers = table(heads, rows, numbers=(1, 2, 3), caption=f"Lengths in {unit}s")
    return charts + Markup('<details class="nums"><summary class="btn ghost sm">Numbers</summary>{}</details>').format(
        numbers
    )


def lengths_waiting() -> Markup:
    """The panel before anything is measured."""
    return Markup('<header><div><h2 class="q">Measuring the lengths</h2><p>&nbsp;</p></div></header>{}').format(
        skeleton(208, "Measuring the lengths")
    )


def too_long(told: dict[str, Any]) -> Markup:
    """The remark on pairs that would be cut, with what can be done about them."""
    cut = len(told["too_long"])
    sampled = told.get("sample")
    if not cut:
        return _sampled(sampled)
    share = f"At least {count(cut, 'pair')}" if sampled else count(cut, "pair")
    text = Markup(
        "{} {} not fit into what is read of a pair ({} tokens of prompt, {} of answer) and will be cut."
        '<div class="acts"><button type="button" class="btn sm" data-show="long">Show {}</button>{}</div>'
    ).format(
        share,
        "does" if cut == 1 and not sampled else "do",
        count(told["limits"]["prompt"]),
        count(told["limits"]["completion"]),
        "it" if cut == 1 else "them",
        button(f"Drop {'it' if cut == 1 else 'them'} instead", action="drop_long"),
    )
    return note(text, kind="warn") + _sampled(sampled)


def _sampled(sample: int | None) -> Markup:
    if not sample:
        return Markup()
    return Markup('<p class="xs q">Tokens were counted in {} pairs drawn at random and the longest ones.</p>').format(
        count(sample)
    )


def _bin(edges: Sequence[float], unit: str) -> str:
    width = edges[1] - edges[0]
    return unit if width == 1 else f"{width:g}-{unit} bin"
