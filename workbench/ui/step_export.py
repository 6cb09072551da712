"""Step 5, Export: what a run leaves (finished, or stopped and kept), as downloads, a push to the Hub, commands and a
model card.

Every file that leaves is made under the run's own folder (``exports/``) or a fresh temporary one; no path comes from
the page. A Hub token is used for one push and kept nowhere.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.jsonfile import write_json
from workbench.ui import context, export_view, html, quota, state, votes
from workbench.ui.model_panel import Job
from workbench.ui.page import Page

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
NO_TOKEN = "Needs a token with write access: paste one from your Hub settings. It is used once and kept nowhere."
READY = "The token is used for this push and kept nowhere."


def build(page: Page) -> None:
    """Put the step into the open column."""
    Step(page)


class Step:
    """The components of the step and what they do."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with gr.Row(elem_classes="rw-title"):
            self.head = html.view("export-head", elem_id="rw-export-head")
            with gr.Row(elem_classes="rw-acts"):
                self.everything = gr.Button(
                    "Download everything", variant="primary", elem_classes="i-download", elem_id="rw-everything"
                )
        self.rows: dict[str, gr.HTML] = {}
        self.buttons: dict[str, gr.Button] = {}
        with gr.Row(elem_classes="rw-row"):
            with gr.Column(scale=3):
                with gr.Column(elem_classes=["rw-panel", "rw-takes"], elem_id="rw-take"):
                    for name, label in (
                        ("adapter", "Download"),
                        ("merged", "Merge"),
                        ("report", "Download"),
                        ("pairs", "Download"),
                    ):
                        with gr.Row(elem_classes="rw-take"):
                            self.rows[name] = html.view("export-take")
                            self.buttons[name] = gr.Button(label, elem_classes="i-download", elem_id=f"rw-take-{name}")
                            if name == "merged":
                                self.merged = gr.Button(
                                    "Download", elem_classes="i-download", visible=False, elem_id="rw-take-merged-file"
                                )
                with gr.Column(elem_classes="rw-panel", elem_id="rw-hub"):
                    self._hub()
                self.repeat = html.view("export-repeat", elem_id="rw-export-repeat", elem_classes="rw-fill")
            with gr.Column(scale=2):
                self.card = html.view("export-card", elem_id="rw-export-card", elem_classes="rw-fill")
        self._wire()

    def _hub(self) -> None:
        html.markup(
            html.Markup(
                '<header class="between"><div><h2>Push to the Hugging Face Hub</h2>'
                '<p class="sm s">Adapter and model card. Private until you say otherwise.</p></div></header>'
            )
        )
        with gr.Row(elem_classes="rw-hub"):
            self.repository = gr.Textbox(
                label="Repository", placeholder="your-name/your-adapter", max_lines=1, elem_id="rw-repository"
            )
            self.visibility = gr.Dropdown(
                label="Visibility", choices=["Private", "Public"], value="Private", filterable=False
            )
        with gr.Row(elem_classes="rw-hub"):
            self.token = gr.Textbox(
                label="Token", type="password", placeholder="hf_...", max_lines=1, elem_id="rw-token"
            )
            self.push = gr.Button("Push", interactive=False, elem_classes="i-upload", elem_id="rw-push")
        self.pushed = html.markup(
            html.Markup('<p class="sm s" role="status">{}</p>').format(NO_TOKEN), elem_id="rw-pushed"
        )

    def _wire(self) -> None:
        page = self.page
        outputs = [self.head, *self.rows.values(), self.buttons["merged"], self.merged, self.repeat, self.card]
        page.on_show("export", self.show, outputs)
        page.download(self.everything.click, self.all_of_it)
        page.download(self.buttons["adapter"].click, self.adapter)
        page.download(self.buttons["report"].click, self.report)
        page.download(self.buttons["pairs"].click, self.pairs)
        page.download(self.merged.click, self.merged_file)
        page.on(self.buttons["merged"].click, self.merge, None, outputs, concurrency_id="gpu", concurrency_limit=1)
        page.on(self.token.change, self.tokened, self.token, [self.push, self.pushed], quiet=True, queue=False)
        page.on(
            self.push.click,
            self.push_it,
            [self.repository, self.visibility, self.token],
            [self.pushed, self.token, self.push],
        )

    # -- showing -------------------------------------------------------------------------------------------------------

    def show(self, visitor: str) -> dict[Any, Any]:
        """Everything of the step, from disk."""
        run = chosen(visitor)
        status = run.status()
        name = context.run_name(status)
        rows = export_view.takes(run, status, visitor)
        whole = export_view.merged_of(run) is not None
        return {
            self.head: html.value({"title": f"{name} is ready to take away", "sub": export_view.about(status)}),
            **{part: html.value(rows[key]) for key, part in self.rows.items()},
            self.buttons["merged"]: gr.Button(visible=not whole),
            self.merged: gr.Button(visible=whole),
            self.repeat: html.value(export_view.commands(run, status)),
            self.card: html.value(export_view.card(run, status, card_text(run))),
        }

    # -- downloads -----------------------------------------------------------------------------------------------------

    def adapter(self, visitor: str) -> Path:
        """The adapter with its card, zipped."""
        from workbench.export import export

        run = chosen(visitor)
        to = Path(tempfile.mkdtemp(prefix="rahf-export-")) / "adapter"
        export(run.path, to)
        return zipped(to, f"{context.run_name(run.status())}-adapter.zip")

    def merge(self, visitor: str) -> Iterator[dict[Any, Any]]:
        """Merge adapter and base in a thread, the seconds counted; the result stays in the run's folder."""
        from workbench.export import export

        run = chosen(visitor)
        to = run.path / "exports" / "merged"
        row = export_view.takes(run, run.status(), visitor)["merged"]

        def work() -> None:
            partial, made_from = to.with_name("merged.partial"), export_view.adapter_mark(run)
            shutil.rmtree(partial, ignore_errors=True)
            export(run.path, partial, merge=True)
            shutil.rmtree(to, ignore_errors=True)
            partial.rename(to)
            write_json(to.with_name("merged.json"), {"adapter": made_from})

        quota.need(visitor)
        to.parent.mkdir(exist_ok=True)
        job = Job(work)
        for seconds in job.wait():
            yield {
                self.rows["merged"]: html.value(row | {"size": f"merging, {seconds:.0f} s"}),
                self.buttons["merged"]: gr.Button(interactive=False),
            }
        job.result()
        yield self.show(visitor) | {self.buttons["merged"]: gr.Button(visible=False, interactive=True)}

    def merged_file(self, visitor: str) -> Path:
        """The merged model, zipped without compressing (weights do not shrink)."""
        run = chosen(visitor)
        folder = export_view.merged_of(run)
        if folder is None:
            raise UserError("There is no merged model yet: press Merge first.")
        return zipped(folder, f"{context.run_name(run.status())}-merged.zip", pack=False)

    def report(self, visitor: str) -> Path:
        """The run's report: one HTML page."""
        from workbench.export import report

        run = chosen(visitor)
        to = Path(tempfile.mkdtemp(prefix="rahf-export-")) / f"{context.run_name(run.status())}-report.html"
        to.write_text(report(run.path), encoding="utf-8")
        return to

    def pairs(self, visitor: str) -> Path:
        """The clean pairs of the run by their part in it, and this visitor's votes."""
        state.import_engine()
        from workbench.runs.loading import split_of

        run = chosen(visitor)
        split = split_of(run)
        to = Path(tempfile.mkdtemp(prefix="rahf-export-")) / "pairs"
        to.mkdir()
        for name in ("instruct", "fit", "held_out"):
            getattr(split, name).to_jsonl(to / f"{name}.jsonl")
        mine = [
            {key: value for key, value in vote.items() if key != "voter"} for vote in votes.votes_of(run.path, visitor)
        ]
        if mine:
            votes.append(to / "votes.jsonl", mine)
        return zipped(to, f"{context.run_name(run.status())}-pairs.zip")

    def all_of_it(self, visitor: str) -> Path:
        """All of the above (the merged model only if it was made), one zip."""
        name = context.run_name(chosen(visitor).status())
        to = Path(tempfile.mkdtemp(prefix="rahf-export-")) / name
        to.mkdir()
        for made in (self.adapter(visitor), self.report(visitor), self.pairs(visitor)):
            if made.suffix == ".zip":
                shutil.unpack_archive(made, to / made.stem.rpartition("-")[2])
                shutil.rmtree(made.parent, ignore_errors=True)
            else:
                shutil.copyfile(made, to / made.name)
        merged = export_view.merged_of(chosen(visitor))
        if merged is not None:
            shutil.copytree(merged, to / "merged")
        return zipped(to, f"{name}.zip")

    # -- the Hub -------------------------------------------------------------------------------------------------------

    def tokened(self, visitor: str, token: str) -> dict[Any, Any]:
        """Push can be pressed once there is a token; what it is stays unread until then."""
        there = bool(str(token or "").strip())
        return {self.push: gr.Button(interactive=there)} | ({self.pushed: said(READY)} if there else {})

    def push_it(self, visitor: str, repository: str, visibility: str, token: str) -> Iterator[dict[Any, Any]]:
        """Push adapter and card. The token field is emptied whatever happens."""
        wanted, secret = str(repository or "").strip(), str(token or "").strip()
        blank = {self.token: "", self.push: gr.Button(interactive=False)}
        try:
            if not secret:
                raise UserError(NO_TOKEN)
            if not REPOSITORY.fullmatch(wanted):
                raise UserError(
                    "Name the repository as your-name/your-adapter: letters, digits, dots, dashes and underscores."
                )
            run = chosen(visitor)
            job = Job(lambda: _push(run, wanted, visibility != "Public", secret))
            for seconds in job.wait():
                yield {self.pushed: said(f"Pushing to {wanted}: {seconds:.0f} s")}
            job.result()
        except UserError:
            yield blank | {self.pushed: said(NO_TOKEN)}
            raise
        yield blank | {self.pushed: said(f"Pushed to {wanted}.")}


def _push(run: Any, repository: str, private: bool, token: str) -> None:
    from workbench.export import export

    with tempfile.TemporaryDirectory(prefix="rahf-push-") as folder:
        export(run.path, Path(folder) / "adapter", push=repository, token=token, private=private)


def said(sentence: str) -> str:
    """A line of status as the value of a markup component."""
    return html.value(html.Markup('<p class="sm s" role="status">{}</p>').format(sentence))


def card_text(run: Any) -> str:
    """The model card's file. Raises UserError as the engine does."""
    from workbench.export import model_card

    return model_card(run.path)


def chosen(visitor: str) -> Any:
    """The selected run if it has an aligned model, else the visitor's newest one that has. Raises UserError if there is
    none."""
    selected = state.run_of(state.open_workspace(visitor))
    runs = ([selected] if selected is not None else []) + state.runs_of(visitor)
    found = next((run for run in runs if context.usable(run.status())), None)
    if found is None:
        raise UserError("Step 5 needs a finished run: align a model in step 3 first.")
    return found


def zipped(folder: Path, name: str, pack: bool = True) -> Path:
    """The files of a folder as a zip in a fresh temporary folder."""
    to = Path(tempfile.mkdtemp(prefix="rahf-export-")) / name
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED if pack else zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return to
