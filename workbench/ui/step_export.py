"""Step 5, Export: what a run leaves (finished, or stopped and kept), as downloads, a push to the Hub, commands and a
model card.

Every file that leaves is made under the run's own folder (``exports/``) or a temporary one that is taken away; no path
comes from the page. A Hub token is used for one push and kept nowhere.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.jsonfile import write_json
from workbench.progress import Progress
from workbench.ui import context, downloads, export_share, export_view, html, making, quota, state, votes
from workbench.ui.model_panel import Job
from workbench.ui.page import Page

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
ROWS = ("adapter", "merged", "gguf", "vectors", "report", "notebook", "pairs")
WEIGHTS = (".safetensors", ".gguf")
MAKE = {"merged": "Merge", "gguf": "Write GGUF"}
NO_TOKEN = "Needs a token with write access: paste one from your Hub settings. It is used once and kept nowhere."
PUSHED = (
    "What goes up: the adapter (of steering, the vectors), the model card with its figures, and result.json with the "
    "settings and held-out numbers. The report, which shows held-out prompts and answers, and the pairs stay here."
)
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
        self.makes: dict[str, gr.Button] = {}
        with gr.Row(elem_classes="rw-row"):
            with gr.Column(scale=3):
                with gr.Column(elem_classes=["rw-panel", "rw-takes"], elem_id="rw-take"):
                    for name in ROWS:
                        self._row(name)
                self.timer = gr.Timer(1.0, active=False)
                with gr.Column(elem_classes="rw-panel", elem_id="rw-hub"):
                    self._hub()
                self.sharing = export_share.Panel(page, chosen)
                self.repeat = html.view("export-repeat", elem_id="rw-export-repeat", elem_classes="rw-fill")
            with gr.Column(scale=2):
                self.card = html.view("export-card", elem_id="rw-export-card", elem_classes="rw-fill")
        self._wire()

    def _row(self, name: str) -> None:
        with gr.Row(elem_classes="rw-take"):
            self.rows[name] = html.view("export-take")
            if name in export_view.MADE:
                self.makes[name] = gr.Button(MAKE[name], elem_id=f"rw-make-{name}")
            self.buttons[name] = gr.Button(
                "Download", elem_classes="i-download", visible=name not in export_view.MADE, elem_id=f"rw-take-{name}"
            )

    def _hub(self) -> None:
        html.markup(
            html.Markup(
                '<header class="between"><div><h2>Push to the Hugging Face Hub</h2>'
                '<p class="sm s">{} Private until you say otherwise.</p></div></header>'
            ).format(PUSHED)
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
        takes = [*self.rows.values(), *self.buttons.values(), *self.makes.values(), self.timer]
        page.on_show("export", self.show, [self.head, *takes, *self.sharing.shown, self.repeat, self.card])
        page.download(self.everything.click, self.all_of_it)
        for name in ("adapter", "vectors", "notebook"):
            page.download(self.buttons[name].click, partial(self.zipped_kind, kind=name))
        page.download(self.buttons["report"].click, self.report)
        page.download(self.buttons["pairs"].click, self.pairs)
        for name, button in self.makes.items():
            page.download(self.buttons[name].click, partial(self.made_file, kind=name))
            page.on(button.click, partial(self.make, kind=name), None, takes, queue=False)
        page.on(self.timer.tick, self.watch, None, takes, quiet=True, concurrency_limit=None)
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
        return (
            {
                self.head: html.value({"title": f"{name} is ready to take away", "sub": export_view.about(status)}),
                self.repeat: html.value(export_view.commands(run, status)),
                self.card: html.value(export_view.card(run, status, card_text(run))),
            }
            | self.taken(visitor, run)
            | self.sharing.updates(visitor, run)
        )

    def taken(self, visitor: str, run: Any) -> dict[Any, Any]:
        """The rows as they stand now, their buttons, and whether anything is to be watched."""
        rows = export_view.takes(run, run.status(), visitor)
        updates: dict[Any, Any] = {part: html.value(rows[key]) for key, part in self.rows.items()}
        for name, button in self.buttons.items():
            updates[button] = gr.Button(interactive="off" not in rows[name])
        for name, button in self.makes.items():
            whole, busy = export_view.made_of(run, name) is not None, "busy" in rows[name]
            updates[button] = gr.Button(
                "Cancel" if busy else MAKE[name], visible=busy or not whole, interactive="off" not in rows[name]
            )
            updates[self.buttons[name]] = gr.Button(visible=whole and not busy)
        return updates | {self.timer: gr.Timer(active=making.working(run.id))}

    def watch(self, visitor: str) -> dict[Any, Any]:
        """How far what is being made has come."""
        return self.taken(visitor, chosen(visitor))

    # -- downloads -----------------------------------------------------------------------------------------------------

    def zipped_kind(self, visitor: str, kind: str) -> Path:
        """What is written at once: adapter, vectors or notebook, zipped."""
        from workbench.export import export

        run = chosen(visitor)
        if reason := export_view.takes(run, run.status(), visitor)[kind].get("off"):
            raise UserError(reason)
        state.import_engine()
        with tempfile.TemporaryDirectory(prefix="rahf-export-") as folder:
            export(run.path, Path(folder), kinds=[kind], scores=scores_of(visitor))
            return zipped(f"{context.run_name(run.status())}-{kind}.zip", {"": Path(folder)})

    def make(self, visitor: str, kind: str) -> dict[Any, Any]:
        """Begin to make the merged model or the GGUF file, or cancel it; what was made stays in the run's folder."""
        run = chosen(visitor)
        if (now := making.look(run.id, kind)) is not None and now.working:
            making.cancel(run.id, kind)
            return self.taken(visitor, run)
        if reason := export_view.takes(run, run.status(), visitor)[kind].get("off"):
            raise UserError(reason)
        need_room(visitor, run)
        scores = scores_of(visitor)

        def work(progress: Progress) -> None:
            need_room(visitor, run)  # what was free may have gone while this waited
            write(run, kind, scores, progress)

        making.start(visitor, run.id, kind, work)
        return self.taken(visitor, run)

    def made_file(self, visitor: str, kind: str) -> Path:
        """What was made, zipped."""
        run = chosen(visitor)
        folder = export_view.made_of(run, kind)
        if folder is None:
            raise UserError(
                f"There is no {export_view.takes(run, run.status(), visitor)[kind]['title']} yet: press {MAKE[kind]} first."
            )
        return zipped(f"{context.run_name(run.status())}-{kind}.zip", {"": folder})

    def report(self, visitor: str) -> Path:
        """The run's report: one HTML page."""
        from workbench.export import report

        run = chosen(visitor)
        to = downloads.place(f"{context.run_name(run.status())}-report.html")
        to.write_text(report(run.path, scores_of(visitor)), encoding="utf-8")
        return to

    def pairs(self, visitor: str) -> Path:
        """The clean pairs of the run by their part in it, and this visitor's votes."""
        run = chosen(visitor)
        with tempfile.TemporaryDirectory(prefix="rahf-export-") as folder:
            write_pairs(run, visitor, Path(folder))
            return zipped(f"{context.run_name(run.status())}-pairs.zip", {"": Path(folder)})

    def all_of_it(self, visitor: str) -> Path:
        """All of the above (merged model and GGUF only if they were made), one zip."""
        from workbench.export import export, report

        state.import_engine()
        run, scores = chosen(visitor), scores_of(visitor)
        name, rows = context.run_name(run.status()), export_view.takes(run, run.status(), visitor)
        with tempfile.TemporaryDirectory(prefix="rahf-export-") as folder:
            for kind in ("adapter", "vectors", "notebook"):
                if "off" not in rows[kind]:
                    export(run.path, Path(folder, kind), kinds=[kind], scores=scores)
            Path(folder, "pairs").mkdir()
            write_pairs(run, visitor, Path(folder, "pairs"))
            Path(folder, f"{name}-report.html").write_text(report(run.path, scores), encoding="utf-8")
            made = {kind: export_view.made_of(run, kind) for kind in export_view.MADE}
            return zipped(f"{name}.zip", {"": Path(folder)} | {kind: at for kind, at in made.items() if at is not None})

    # -- the Hub -------------------------------------------------------------------------------------------------------

    def tokened(self, visitor: str, token: str) -> dict[Any, Any]:
        """Push can be pressed once there is a token; what it is stays unread until then."""
        there = bool(str(token or "").strip())
        return {self.push: gr.Button(interactive=there)} | ({self.pushed: said(READY)} if there else {})

    def push_it(self, visitor: str, repository: str, visibility: str, token: str) -> Iterator[dict[Any, Any]]:
        """Push what ``PUSHED`` says. The token field is emptied whatever happens."""
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
        except Exception:
            yield blank | {self.pushed: said(NO_TOKEN)}
            raise
        yield blank | {self.pushed: said(f"Pushed to {wanted}.")}


def need_room(visitor: str, run: Any) -> None:
    """Raises UserError if the run's merged model does not fit into the memory that is free, or into what the visitor may
    still fill of the disk. A base whose build cannot be read is let through: loading it says why."""
    state.import_engine()  # two threads must not import it at once
    from workbench.models import pick_device, pick_dtype
    from workbench.rahf.facts import shape_of
    from workbench.runs.loading import base_of, need_memory

    base = base_of(run, device="cpu")
    need_memory(**base)
    try:
        shape = shape_of(base["source"])
    except UserError:
        return
    weights = shape.blocks * shape.block_weights + shape.other_weights
    quota.need(visitor, int(weights * pick_dtype(base["dtype"], pick_device("cpu")).itemsize))


def write(run: Any, kind: str, scores: Path | None, progress: Progress) -> None:
    """Make ``exports/<kind>`` of a run, whole or not at all, and write down of which adapter it is."""
    from workbench.export import export

    to = run.path / "exports" / kind
    begun, made_from = to.with_name(f"{kind}.partial"), export_view.adapter_mark(run)
    shutil.rmtree(begun, ignore_errors=True)
    to.parent.mkdir(exist_ok=True)
    try:
        export(run.path, begun, kinds=[kind], scores=scores, progress=progress)
        progress("save", message="Putting it in its place")
        shutil.rmtree(to, ignore_errors=True)
        begun.rename(to)
        write_json(to.with_name(f"{kind}.json"), {"adapter": made_from})
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def scores_of(visitor: str) -> Path | None:
    """The folder of the visitor's scores of blocks, whose pictures a report may show; None without any."""
    workspace = state.open_workspace(visitor)
    run = state.run_of(workspace, workspace.separability_run) if workspace.separability_run else None
    return run.path if run is not None else None


def _push(run: Any, repository: str, private: bool, token: str) -> None:
    state.import_engine()
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


def write_pairs(run: Any, visitor: str, folder: Path) -> None:
    """The clean pairs of a run by their part in it, and the visitor's votes on it, as JSON lines in ``folder``."""
    state.import_engine()
    from workbench.runs.loading import split_of

    split = split_of(run)
    for name in ("instruct", "fit", "held_out"):
        getattr(split, name).to_jsonl(folder / f"{name}.jsonl")
    cast = votes.votes_of(run.path, visitor)
    if mine := [{key: value for key, value in vote.items() if key != "voter"} for vote in cast]:
        votes.append(folder / "votes.jsonl", mine)


def zipped(name: str, folders: dict[str, Path]) -> Path:
    """The files of folders, each under its name in the archive ("": at its top), as a zip to be downloaded; weights do not
    shrink and are not packed. Raises UserError if the disk has no room for it."""
    to = downloads.place(name)
    try:
        with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
            for under, folder in folders.items():
                for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                    how = zipfile.ZIP_STORED if path.suffix in WEIGHTS else None
                    archive.write(path, Path(under, path.relative_to(folder)), how)
    except OSError as error:
        shutil.rmtree(to.parent, ignore_errors=True)
        raise UserError(f"The download could not be made ({error.strerror or error}): free some disk space.") from error
    return to
