"""What step 4 shows, as the JSON of static/compare.js: answers, lists of them, the blind vote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.ui import align_view, charts, votes

NO_AXIS = "No preference axis: read the layers in step 2 to colour tokens"


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


def side(text: str = "", count: int = 0, seed: int | None = None, **more: Any) -> dict[str, Any]:
    """One pane."""
    note = f"{count} token{'s' if count != 1 else ''}, seed {seed}" if seed is not None and count else ""
    return {"text": text, "note": note} | more


def empty(axis: bool) -> dict[str, Any]:
    """The panes before the first question."""
    wait = "The answer will stand here."
    return {
        "base": side(wait=wait, bars=axis),
        "aligned": side(wait=wait, bars=axis),
        "axis": {"base": None, "aligned": None, "text": "Both answers on one preference axis" if axis else NO_AXIS},
        "asked": "",
    }


def answers(
    asked: str,
    base: dict[str, Any],
    aligned: dict[str, Any],
    *,
    block: int | None = None,
    live: bool = False,
    bars: bool = False,
) -> dict[str, Any]:
    """Both panes and their shared axis; ``bars`` keeps a place for what will be measured when both have ended."""
    known = base.get("mean") is not None and aligned.get("mean") is not None
    text = (
        f"0: halfway. Preference axis of block {block}, one answer, no interval"
        if known
        else NO_AXIS
        if block is None
        else "Reading"
    )
    axis = {
        "base": base.get("mean"),
        "aligned": aligned.get("mean"),
        "text": text if not live else "Measured when both have ended" if bars else NO_AXIS,
    }
    more = {"live": live, "bars": bars if live else known}
    return {"asked": asked, "base": base | more, "aligned": aligned | more, "axis": axis}


def many_title(rows: Sequence[dict[str, Any]]) -> str:
    """What a list of answers shows, as a sentence."""
    scored = [row for row in rows if row.get("a") is not None and row.get("b") is not None]
    if not rows:
        return "Several prompts at once"
    if len(scored) < len(rows):
        return f"{len(rows)} prompts, both answers"
    further = sum(row["a"] > row["b"] for row in scored)
    if further == len(scored):
        return f"All {len(scored)} lean further to chosen" if len(scored) > 1 else "It leans further to chosen"
    return f"{further} of {len(scored)} lean further to chosen"


def many(rows: Sequence[dict[str, Any]], selected: int = -1, busy: bool = False) -> dict[str, Any]:
    """The list of several prompts."""
    sub = (
        "Same seed on both sides. Open a row to see it above."
        if rows
        else "Six held-out prompts, answered by both models in one batch."
    )
    ask = {"label": "Other six prompts" if rows else "Ask six held-out prompts", "act": "six", "off": busy}
    return {"title": many_title(rows), "sub": sub, "rows": list(rows), "selected": selected, "ask": ask}


def blind(
    ballot: dict[str, str] | None, cast: Sequence[dict[str, Any]], said: Any = None, busy: bool = False
) -> dict[str, Any]:
    """The blind vote with its running win rate."""
    worth = [votes.WORTH[vote["vote"]] for vote in cast]
    wins, count = sum(worth), len(worth)
    ties = sum(value == 0.5 for value in worth)
    tally = {"title": "No votes yet", "text": "A tie counts as half a vote."}
    if count:
        low, high = charts.wilson(wins, count)
        full = sum(value == 1 for value in worth)
        tally["title"] = f"{full} of {count} vote{'s' if count > 1 else ''} for aligned" + (
            f", {ties} tie{'s' if ties > 1 else ''}" if ties else ""
        )
        tally["text"] = (
            f"{wins / count:.2f} {charts.interval(low, high)}; "
            f"six more votes would narrow it to ±{_width(wins, count, 6):.2f}"
        )
    more = (
        None
        if ballot
        else {"label": "Preparing answers" if busy else "Prepare answers to vote on", "act": "prepare", "off": busy}
    )
    return {
        "title": f"Blind vote {count + 1}" if ballot else "Blind vote",
        "prompt": ballot["prompt"] if ballot else "Two answers without names: say which is better.",
        "a": ballot["a"] if ballot else "",
        "b": ballot["b"] if ballot else "",
        "ballot": ballot["id"] if ballot else None,
        "said": said,
        "tally": tally,
        "more": more,
        "chart": charts.votes_chart(worth),
    }


def _width(wins: float, count: int, more: int) -> float:
    """Half the interval's width if ``more`` votes came in the same proportion."""
    low, high = charts.wilson(wins / count * (count + more), count + more)
    return (high - low) / 2
