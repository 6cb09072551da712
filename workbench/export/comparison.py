"""A comparison as one HTML page that only shows: prompts, the answers of every column, votes, figures and settings.

What is compared is plain JSON (see :func:`checked`), so the page command, a route or a file can hold it; every text in it
may have been written by anybody and is shown as text.
"""

from __future__ import annotations

import time
from html import escape
from typing import Any

from workbench.errors import UserError
from workbench.export.shell import facts, figure, page, section, table

COLOURS = ("ink", "base", "aligned", "chosen", "rejected")
MOST_COLUMNS, MOST_ROWS, MOST_FACTS = 8, 200, 60
TEXT, LONG = 400, 20_000  # characters


def checked(payload: Any) -> dict[str, Any]:
    """The payload with nothing but what a comparison shows, texts cut to what fits.

    Keys, each but ``columns`` and ``rows`` may be missing: title; lead (a sentence); columns [{name, about, colour}] (a colour
    of ``COLOURS``); rows [{prompt, answers: [{text, note}]}], an answer for every column; votes and settings [[name, value]];
    table {head, rows} of texts. Raises UserError for anything of another form.
    """
    wrong = UserError("This comparison cannot be shared: it has no answers side by side.")
    if not isinstance(payload, dict):
        raise wrong
    try:
        columns = [
            {
                "name": _text(one["name"]),
                "about": _text(one.get("about")),
                "colour": one.get("colour") if one.get("colour") in COLOURS else "ink",
            }
            for one in list(payload["columns"])[:MOST_COLUMNS]
        ]
        rows = [
            {
                "prompt": _text(row["prompt"], LONG),
                "answers": [
                    {"text": _text(one.get("text"), LONG), "note": _text(one.get("note"))}
                    for one in list(row["answers"])[: len(columns)]
                ],
            }
            for row in list(payload["rows"])[:MOST_ROWS]
        ]
        shown = payload.get("table") or {}
        found = {
            "title": _text(payload.get("title")) or "A comparison",
            "lead": _text(payload.get("lead"), 2000),
            "columns": columns,
            "rows": rows,
            "votes": _facts(payload.get("votes")),
            "settings": _facts(payload.get("settings")),
            "table": {
                "head": [_text(cell) for cell in list(shown.get("head") or ())[:MOST_COLUMNS]],
                "rows": [
                    [_text(cell) for cell in row][:MOST_COLUMNS] for row in list(shown.get("rows") or ())[:MOST_FACTS]
                ],
            },
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise wrong from error
    if not columns or any(len(row["answers"]) != len(columns) for row in rows) or not (rows or found["table"]["rows"]):
        raise wrong
    if any(len(row) > len(found["table"]["head"]) for row in found["table"]["rows"]):
        raise wrong
    return found


def _text(value: Any, most: int = TEXT) -> str:
    return str(value)[:most] if value is not None else ""


def _facts(rows: Any) -> list[list[str]]:
    return [[_text(name), _text(value, 2000)] for name, value in list(rows or ())[:MOST_FACTS]]


def comparison_page(payload: dict[str, Any], made: float, expires: float | None = None, charts: Any = ()) -> str:
    """The page of a comparison (see :func:`checked`), ``made`` then (unix seconds). ``charts`` are figures of
    ``workbench.export.figures`` and never come from outside."""
    shown = checked(payload)
    day = time.strftime("%-d %B %Y", time.gmtime(made))
    until = f" It is there until {time.strftime('%-d %B %Y', time.gmtime(expires))}." if expires else ""
    about = [(one["name"], one["about"]) for one in shown["columns"] if one["about"]]
    head = (
        f"<h1>{escape(shown['title'])}</h1>"
        + (f"<p class='lead'>{escape(shown['lead'])}</p>" if shown["lead"] else "")
        + f"<p class='s'>Shared on {day} from a RAHF Workbench; it only shows.{until}</p>"
    )
    cells = shown["table"]
    drawn = "".join(figure(one) for one in charts)
    numbers = table(cells["head"], cells["rows"], numbers=True) if cells["rows"] else ""
    count = len(shown["rows"])
    search = "<div class='bar'><label>Find <input type='search' id='find'></label></div>" if count > 6 else ""
    parts = [
        (
            "answers",
            f"{count} prompt{'s' if count != 1 else ''}, {len(shown['columns'])} answers each",
            (facts(about) if about else "")
            + f"{search}<div id='answers-host'></div><noscript><p>The answers need scripts to be shown.</p></noscript>"
            if count
            else "",
        ),
        ("votes", "Blind votes", facts(map(tuple, shown["votes"])) if shown["votes"] else ""),
        ("figures", "Held-out figures", f"<div class='two'>{drawn}{numbers}</div>" if drawn or numbers else ""),
        ("settings", "How it was made", facts(map(tuple, shown["settings"])) if shown["settings"] else ""),
    ]
    body = head + "".join(section(name, title, markup) for name, title, markup in parts if markup)
    data = {"columns": shown["columns"], "looks": [{"name": "", "rows": shown["rows"]}] if count else []}
    return page(shown["title"], body, data)
