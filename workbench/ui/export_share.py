"""Step 5, the panel that shares a comparison: what it will show is chosen and said first; links can be taken back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import context, export_view, html, sharing, state, votes
from workbench.ui.page import Page

PARTS = ("Held-out figures", "My blind votes, counted", "Settings")
UNJUDGED = "This run has no held-out answers to share: it was stopped before it was judged."
COUNTS = ("6", "12", "24", "50")


class Panel:
    """The choice, what it means, the links, and what presses do."""

    def __init__(self, page: Page, chosen: Any) -> None:
        self.page, self.chosen = page, chosen
        with gr.Column(elem_classes="rw-panel", elem_id="rw-share"):
            html.markup(
                html.Markup(
                    "<header><div><h2>Share this comparison</h2>"
                    '<p class="sm s">A page that only shows, under a link that nobody can guess.</p></div></header>'
                )
            )
            with gr.Row(elem_classes="rw-hub"):
                self.title = gr.Textbox(label="Heading", max_lines=1, max_length=120, elem_id="rw-share-title", scale=2)
                self.count = gr.Dropdown(
                    label="Held-out prompts",
                    choices=list(COUNTS),
                    value="12",
                    filterable=False,
                    elem_id="rw-share-count",
                )
            self.parts = gr.CheckboxGroup(
                label="Also show", choices=list(PARTS), value=[PARTS[0], PARTS[2]], elem_id="rw-share-parts"
            )
            self.meaning = html.markup(elem_id="rw-share-meaning")
            with gr.Row(elem_classes="rw-acts"):
                self.make = gr.Button("Make a link", elem_id="rw-share-make")
                self.file = gr.Button("Download as a file", elem_classes="i-download", elem_id="rw-share-file")
            self.links = html.view("export-links", elem_id="rw-share-links")
        self.shown = [self.title, self.meaning, self.links]
        choice = [self.title, self.count, self.parts]
        for part in (self.count, self.parts):
            page.on(part.change, self.mean, choice, self.meaning, quiet=True, queue=False)
        page.on(self.make.click, self.share, choice, self.links)
        page.download(self.file.click, self.as_file, choice)
        page.on(self.links.select, self.act, None, self.links, event=True)

    def updates(self, visitor: str, run: Any) -> dict[Any, Any]:
        """The panel of a run as it stands now."""
        title = f"{context.title_of(run.status())}: base and aligned"
        return {
            self.title: title,
            self.meaning: self.mean(visitor, title, "12", [PARTS[0], PARTS[2]]),
            self.links: listed(visitor),
        }

    def mean(self, visitor: str, title: Any, count: Any, parts: Any) -> str:
        """What the page would show and what not, as a sentence."""
        rows = len(answers_of(self.chosen(visitor), count, parts))
        if not rows:
            return html.value(html.Markup('<p class="sm s" role="status">{}</p>').format(UNJUDGED))
        shown = [f"{rows} held-out prompts with the base’s and the aligned model’s answers"]
        shown += [part[0].lower() + part[1:] for part in PARTS if part in (parts or ())]
        listed_parts = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
        where = (
            ""
            if state.public()
            else " This page is served on this machine only, and so is the link; the file can be sent to anybody."
        )
        return html.value(
            html.Markup('<p class="sm s" role="status">{}</p>').format(
                f"It will show {listed_parts}; nothing else of the run, the pairs or you. Links end after "
                f"{sharing.DAYS} days.{where}"
            )
        )

    def share(self, visitor: str, title: Any, count: Any, parts: Any) -> str:
        """Make a link."""
        payload, charts = comparison_of(self.chosen(visitor), visitor, title, count, parts)
        return listed(visitor, sharing.share(visitor, payload, charts))

    def as_file(self, visitor: str, title: Any, count: Any, parts: Any) -> Path:
        """The page as a file."""
        return sharing.as_file(visitor, *comparison_of(self.chosen(visitor), visitor, title, count, parts))

    def act(self, visitor: str, sent: dict) -> str:
        """Take a link back."""
        if sent.get("action") == "revoke":
            sharing.revoke(visitor, sent.get("share"))
        return listed(visitor)


def listed(visitor: str, fresh: str = "") -> str:
    """The value of the list of links; ``fresh`` is the path of the one just made."""
    rows = [
        {
            "id": one["id"],
            "path": one["path"],
            "title": one["title"],
            "about": f"{one['prompts']} prompts, until {time.strftime('%-d %B', time.localtime(one['expires']))}",
            "fresh": one["path"] == fresh,
        }
        for one in sharing.shares_of(visitor)
    ]
    return html.value({"links": rows})


def answers_of(run: Any, count: Any, parts: Any) -> list[dict[str, Any]]:
    """The run's first held-out prompts with both answers. Whatever was posted is checked. Raises UserError."""
    from workbench.export import read_samples

    if not isinstance(parts, (list, tuple)) or not set(map(str, parts)) <= set(PARTS) or str(count) not in COUNTS:
        raise UserError("Choose what to show from the list.")
    return [
        {"prompt": one.get("prompt"), "answers": [{"text": one.get("base")}, {"text": one.get("aligned")}]}
        for one in read_samples(run.path, int(count))
    ]


def comparison_of(
    run: Any, visitor: str, title: Any, count: Any, parts: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is shared of a run: its first held-out prompts, and the parts that were chosen. Whatever was posted is checked."""
    from workbench.export.facts import figure_rows, judged_on, limits, method_name, named, setting_rows
    from workbench.export.figures import figures

    rows = answers_of(run, count, parts)
    if not rows:
        raise UserError(UNJUDGED)
    status = run.status()
    result = export_view.result_of(run, status)
    method = method_name(result)
    payload: dict[str, Any] = {
        "title": str(title or "").strip()[:120] or f"{context.title_of(status)}: base and aligned",
        "lead": f"{named(result['config']['model'])} before and after {method}: the first held-out prompts, not chosen by "
        "hand, with the same seed on both sides.",
        "columns": [{"name": "Base", "colour": "base"}, {"name": "Aligned", "colour": "aligned", "about": method}],
        "rows": rows,
    }
    charts = []
    if PARTS[0] in parts:
        payload["table"] = {"head": ["Figure", "Base", "Aligned"], "rows": figure_rows(result)}
        charts = [one for one in figures(run.path, result) if one["id"] == "held-out"]
    if PARTS[1] in parts:
        cast = votes.votes_of(run.path, visitor, votes.NAMES)  # between these two sides
        words = {"aligned": "For aligned", "base": "For base", "tie": "A tie", "neither": "Both bad"}
        payload["votes"] = [(said, sum(vote["vote"] == name for vote in cast)) for name, said in words.items()]
    if PARTS[2] in parts:
        payload["settings"] = [
            ("Judged", judged_on(result)),
            *setting_rows(result),
            ("Limits", " ".join(limits(result))),
        ]
    return payload, charts
