"""What step 4 shows, as the JSON of static/compare.js, compare_list.js and compare_votes.js: the columns and their answers,
lists of prompts, the blind vote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.ui import align_view, charts, compare_marks, compare_words, votes

NO_AXIS = "No preference axis: read the layers in step 2 to colour tokens"
MOST_SENT = 40_000  # tokens' scores, over all blocks, that are sent at once; of more only those of one block


def head(name: str, status: dict[str, Any]) -> dict[str, Any]:
    """The step's title: what the held-out prompts say of this run, or what to do."""
    rows = align_view.rows_of(status.get("result") or {})
    finding = align_view.achieved(rows)
    sub: list[Any] = (
        finding[1]
        if finding
        else ["Run ", {"text": name, "as": "b"}, " has no held-out numbers yet; ask both models something."]
    )
    export = {"label": "Export", "act": "open:export", "mark": "next"}
    return {"title": finding[0] if finding else f"Base and {name}, side by side", "sub": sub, "actions": [export]}


# -- answers -----------------------------------------------------------------------------------------------------------


def text_of(prompt: Any) -> str:
    """A prompt for showing."""
    from workbench.pairs import prompt_text

    return prompt if isinstance(prompt, str) else prompt_text(prompt)


def chat(said: dict[str, Any], columns: list[dict[str, Any]], choices: list[Any], block: int | None) -> dict[str, Any]:
    """The columns with the last turn's answers, the turns before, and what can be done. ``columns`` are drawn ones: name,
    who, line, value, and what can be set of each; ``block`` is the one whose axis colours, None where there is no axis."""
    live = str(said.get("live") or "")
    turns = said["turns"]
    last = turns[-1] if turns else None
    marks = said.get("marks") if not live else None
    panes = [_pane(last, place, columns, marks, said, live) for place in range(len(columns))]
    whole = last is not None and not live and None not in last["answers"]
    blocks = max((len(one["prefs"]) for one in marks or [] if one and one["prefs"]), default=0)
    if sum(len(one["prefs"]) * len(one["pieces"]) for one in marks or [] if one and one["prefs"]) > MOST_SENT:
        for pane in panes:
            pane["prefs"] = {str(block): pane["prefs"][block]} if pane.get("prefs") else None
    return {
        "columns": columns,
        "choices": choices,
        "asked": text_of(last["user"]) if last else "",
        "history": [
            {"user": text_of(turn["user"]), "said": [(one or {}).get("text", "") for one in turn["answers"]]}
            for turn in turns[:-1]
        ],
        "panes": panes,
        "reference": compare_marks.reference_of(said["columns"]) if said["columns"] else 0,
        "block": block,
        "blocks": blocks,
        "live": live,
        "notice": said.get("notice") or "",
        "reply": whole,
        "again": bool(turns) and not live,
        "no_axis": NO_AXIS if block is None else "",
    }


def _pane(
    last: dict[str, Any] | None,
    place: int,
    columns: list[Any],
    marks: list[Any] | None,
    said: dict[str, Any],
    live: str,
) -> dict[str, Any]:
    one = last["answers"][place] if last else None
    if one is None:
        wait = live or ("Not asked yet in this column: ask again." if last else "The answer will stand here.")
        return {"text": "", "wait": wait, "note": "", "below": ""}
    pane: dict[str, Any] = {"text": one["text"], "note": note(one, last["sampling"]["seed"]), "below": below(one, live)}
    if live and not one["text"]:
        pane["wait"] = live
    mark = marks[place] if marks else None
    if mark is None:
        return pane
    reference = compare_marks.reference_of(said["columns"])
    pane |= {key: mark.get(key) for key in ("pieces", "prefs", "own", "other", "oracle")}
    pane["against"] = columns[mark["against"]]["name"]
    if place != reference:
        pane["parts"] = mark["parts"]
        pane["parting"] = parting(mark, columns[place]["name"], columns[reference]["name"])
        pane["differs"] = compare_words.differing(last["answers"][reference]["text"], one["text"])
    return pane


def note(one: dict[str, Any], seed: int) -> str:
    """Length and speed of an answer."""
    count = len(one["ids"])
    if not count:
        return f"no token, seed {seed}" if one["ended"] else ""
    speed = f", {count / one['seconds']:.0f} a second" if one["seconds"] > 0 else ""
    return f"{count} token{'s' if count != 1 else ''}{speed}, seed {seed}"


def below(one: dict[str, Any], live: str = "") -> str:
    """What is to be known of how an answer ended, and of what it began from."""
    ends = "" if live or one["ended"] else "Stopped before the end." if one["stopped"] else "Cut at the longest answer."
    cut = "The beginning of the chat no longer fits and was left out." if one["cut"] else ""
    return " ".join(filter(None, [cut, ends]))


def parting(mark: dict[str, Any], name: str, reference: str) -> str:
    """Where an answer leaves the reference's, and how likely that was under both, as a sentence."""
    place = mark["parts"]
    if place is None:
        return f"The same answer as {reference}."
    if place >= len(mark["pieces"]):
        return f"As {reference}, but ends earlier."
    import math

    piece = mark["pieces"][place].strip() or "a space"
    own, other = (math.exp(mark[key][place]) for key in ("own", "other"))
    return (
        f"Parts from {reference} at token {place + 1}, \N{LEFT DOUBLE QUOTATION MARK}{piece}\N{RIGHT DOUBLE QUOTATION MARK}: "
        + (f"probability {own:.2g} here, {other:.2g} under {reference}.")
    )


# -- lists -------------------------------------------------------------------------------------------------------------


def many_title(rows: Sequence[dict[str, Any]]) -> str:
    """What a list of answers shows, as a sentence; ``a`` and ``b`` are the means of the other and the reference."""
    scored = [row for row in rows if row.get("a") is not None and row.get("b") is not None]
    if not rows:
        return "Several prompts at once"
    if len(scored) < len(rows):
        return f"{len(rows)} prompts, all answers"
    further = sum(row["a"] > row["b"] for row in scored)
    if further == len(scored):
        return f"All {len(scored)} lean further to chosen" if len(scored) > 1 else "It leans further to chosen"
    return f"{further} of {len(scored)} lean further to chosen"


def many(made: dict[str, Any], looks: list[dict[str, Any]], selected: int = -1) -> dict[str, Any]:
    """The list of several prompts; ``looks`` tell its columns apart."""
    reference = compare_marks.reference_of(made["columns"]) if made["columns"] else 0
    other = next((place for place in range(len(made["columns"])) if place != reference), 0)
    rows = []
    for row in made["rows"]:
        said = row["answers"] or []
        rows.append(
            {
                "prompt": text_of(row["prompt"]),
                "said": [one["text"] for one in said] or [""] * len(made["columns"]),
                "means": [one.get("mean") for one in said],
                "oracle": [one.get("oracle") for one in said],
                "wait": not said,
            }
        )
    means = [{"b": row["means"][reference], "a": row["means"][other]} if row["means"] else {} for row in rows]
    live, count = made.get("live"), len(rows)
    title = many_title(means)
    if len(made["columns"]) > 2 and not live and "lean" in title:
        title = f"{made['names'][other]}: {title[0].lower()}{title[1:]}"
    seed = (made.get("sampling") or {}).get("seed")
    sub = f"Seed {seed} in every column, a stream of its own for each prompt. Open a row to see it above."
    return {
        "title": f"Answering {count} prompts" if live else title,
        "sub": " ".join(filter(None, [made.get("note"), sub]))
        if rows
        else "Held-out prompts, your own, or a file: answered by all columns in batches.",
        "names": made["names"],
        "looks": looks,
        "rows": rows,
        "selected": selected,
        "block": made.get("block"),
        "bar": {
            "text": f"{live}: {made.get('done', 0)} of {count} prompts",
            "share": 100 * made.get("done", 0) / max(1, count),
        }
        if live
        else None,
    }


# -- the blind vote ----------------------------------------------------------------------------------------------------


def blind(
    ballot: dict[str, Any] | None,
    cast: Sequence[dict[str, Any]],
    said: Any = None,
    busy: bool = False,
    name: str = "aligned",
    pairs: Sequence[dict[str, str]] = (),
    pair: str = "",
    others: int = 0,
) -> dict[str, Any]:
    """The blind vote with its running win rate for the column called ``name``; ``pairs`` are the choices of two columns,
    ``others`` counts the visitor's votes between other columns of this run."""
    tallied = votes.running(cast)
    wins, count = sum(tallied["outcomes"]), len(cast)
    tally: dict[str, Any] = {
        "title": "No votes yet",
        "text": "A tie counts as half a vote, and so does both bad.",
        "even": "",
    }
    if count:
        low, high = charts.wilson(wins, count)
        halves = [(tallied["tie"], "tie", "ties"), (tallied["neither"], "both bad", "both bad")]
        tally["title"] = f"{tallied['aligned']} of {count} vote{'s' if count > 1 else ''} for {name}" + "".join(
            f", {number} {one if number == 1 else more}" for number, one, more in halves if number
        )
        tally["text"] = (
            f"{wins / count:.2f} {charts.interval(low, high)}; "
            f"six more votes would narrow it to ±{_width(wins, count, 6):.2f}"
        )
        if tallied["even"]:
            rate, low, high = tallied["even"]
            tally["even"] = f"At equal length {rate:.2f} {charts.interval(low, high)}"
        else:
            tally["even"] = "At equal length: no difference in length to correct for"
    more = (
        None
        if ballot
        else {"label": "Preparing answers" if busy else "Prepare answers to vote on", "act": "prepare", "off": busy}
    )
    return {
        "title": f"Blind vote {count + 1}" if ballot else "Blind vote",
        "prompt": text_of(ballot["prompt"]) if ballot else "Two answers without names: say which is better.",
        "a": ballot["a"] if ballot else "",
        "b": ballot["b"] if ballot else "",
        "ballot": ballot["id"] if ballot else None,
        "said": said,
        "tally": tally,
        "more": more,
        "pairs": list(pairs),
        "pair": pair,
        "others": f"{others} more of your votes are between other columns." if others else "",
        "chart": charts.votes_chart(tallied["outcomes"]),
    }


def _width(wins: float, count: int, more: int) -> float:
    """Half the interval's width if ``more`` votes came in the same proportion."""
    low, high = charts.wilson(wins / count * (count + more), count + more)
    return (high - low) / 2
