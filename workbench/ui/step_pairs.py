"""Step 1, Pairs: where they come from, what was kept, how long they are, and every pair to read and edit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.progress import Progress
from workbench.ui import (
    html,
    pairs_data,
    pairs_edit,
    pairs_files,
    pairs_lengths,
    pairs_mapping,
    pairs_reading,
    pairs_report,
    pairs_table,
    pairs_view,
    state,
)
from workbench.ui.html import Markup
from workbench.ui.model_panel import Job
from workbench.ui.page import TROUBLE, Page, error_markup, log
from workbench.ui.pairs_layout import PairsLayout
from workbench.ui.state import Workspace

OLD_PAGE = "This page is older than its server: reload it."


def build(page: Page) -> None:
    """Put the step into the open column."""
    PairsStep(page)


class PairsStep(PairsLayout):
    """The handlers between the step's components."""

    def __init__(self, page: Page) -> None:
        self.page = page
        super().__init__()
        page.on_show("pairs", self.show, self.everything)
        self._wire_sources()
        self._wire_report()
        self._wire_table()
        page.download(self.clean.click, pairs_files.clean_file)
        page.download(self.formats.select, self._other_file, event=True)
        page.go(self.onward.click, "layers")

    # -- wiring --------------------------------------------------------------------------------------------------------

    def _reads(self, listener: Callable, handler: Callable, inputs: Any = None, **kwargs: Any) -> Any:
        """Wire a generator that reads pairs."""
        outputs = [*self.everything, self.page.error]
        return self.page.on(listener, handler, inputs, outputs, refresh=True, concurrency_limit=4, **kwargs)

    def _wire_sources(self) -> None:
        on, everything = self.page.on, self.everything
        self._reads(self.demo.click, self._start_demo)
        for listener, component in ((self.first_upload.upload, self.first_upload), (self.file.upload, self.file)):
            taken = self._reads(listener, self._upload, component)
            on(taken.then, lambda visitor: {self.file: None}, None, self.file, quiet=True, queue=False)
        self._reads(self.bundled.select, self._take_bundled, event=True)
        self._reads(self.read_text.click, self._take_text, self.text)
        for listener in (self.read_hub.click, self.hub.submit):
            self._reads(listener, self._take_hub, self.hub)
        on(self.columns.select, self._try, None, self.trial, event=True, quiet=True, trigger_mode="multiple")
        self._reads(self.trial.select, self._trial_pressed, event=True)
        self._reads(self.waking.tick, self._wake, trigger_mode="once")
        on(self.reading.select, self._stop, event=True, quiet=True, queue=False)
        on(self.other.click, lambda visitor: self._open_source("Paste"), None, everything)
        on(self.source.select, lambda visitor, name: self._sources(name), self.source, list(self.sources.values()))

    def _wire_report(self) -> None:
        on = self.page.on
        on(self.report.select, self._dropped_rows, None, self.rows, event=True)
        on(self.rows.select, lambda visitor: {self.rows: html.value(Markup())}, None, self.rows, quiet=True)
        on(self.seed.select, self._use_seed, None, self.everything, event=True, refresh=True)
        on(
            self.lengths.select,
            self._drop_long,
            None,
            self.everything,
            event=True,
            refresh=True,
            busy="Counting tokens",
        )
        counted = on(
            self.counting.tick,
            self._count,
            None,
            [self.lengths, self.hints, self.counting],
            quiet=True,
            concurrency_limit=2,
            trigger_mode="once",
        )
        # The table gets its token counts afterwards; its view then asks for what it shows by then.
        on(counted.then, self._again, None, self.table, quiet=True, concurrency_limit=2)

    def _wire_table(self) -> None:
        # "multiple": Gradio would otherwise drop a question that comes while another is on its way.
        many: dict[str, Any] = {"event": True, "trigger_mode": "multiple"}
        self.page.on(
            self.table.select,
            self._asked,
            None,
            [self.table, self.editor],
            quiet=True,
            concurrency_id="pair-table",
            concurrency_limit=6,
            **many,
        )
        self.page.on(
            self.editor.select,
            self._changed,
            None,
            self.everything,
            refresh=True,
            busy="Changing the pairs",
            concurrency_id="pair-edit",
            concurrency_limit=4,
            **many,
        )

    # -- showing -------------------------------------------------------------------------------------------------------

    def show(self, visitor: str) -> dict[Any, Any]:
        """The whole step as the workspace has it."""
        workspace = state.open_workspace(visitor)
        pairs, waiting = workspace.pairs, workspace.settings.get("unmapped")
        if not pairs and waiting:
            return self._open_source(KINDS[waiting["kind"]]) | self._columns(workspace)
        if not pairs:
            return {self.empty: gr.update(visible=True), self.work: gr.update(visible=False)}
        try:
            if pairs_data.must_be_read(workspace):
                return self._asleep()
        except UserError as error:
            return self._lost(error)
        kind = KINDS[waiting["kind"] if waiting else pairs["kind"]]
        return {
            self.empty: gr.update(visible=False),
            self.work: gr.update(visible=True),
            self.rest: gr.update(visible=True),
            self.acts: gr.update(visible=True),
            self.source: kind,
            self.card: html.value(pairs_view.source_card(pairs)),
            self.bundled: html.value(self._bundled(pairs)),
            self.rows: html.value(Markup()),
            self.table: html.value(pairs_table.fresh(workspace)),
            self.editor: _stamped(self._opened(workspace)),
            self.reading: html.value(Markup()),
            **self._facts(workspace),
            **self._columns(workspace),
            **self._sources(kind),
        }

    def _asleep(self) -> dict[Any, Any]:
        """The page until many pairs are read from the server's disk again, after a restart: without waiting for it."""
        return {
            self.empty: gr.update(visible=False),
            self.work: gr.update(visible=False),
            self.reading: html.value(pairs_view.reading("Reading your pairs again", stop=False)),
            self.waking: gr.Timer(active=True),
        }

    def _wake(self, visitor: str) -> Iterator[dict[Any, Any]]:
        yield {self.waking: gr.Timer(active=False)}
        workspace = state.open_workspace(visitor)
        job = Job(lambda: state.load_pairs_of(workspace))
        for seconds in job.wait():
            line = f"Reading your pairs again, {seconds:.0f} s"
            yield {self.reading: html.value(pairs_view.reading(line, stop=False))}
        try:
            job.result()
        except UserError as error:
            yield self._lost(error)
        else:
            yield self.show(visitor)

    def _lost(self, error: UserError) -> dict[Any, Any]:
        """The source panel, for a visitor whose pairs cannot be read any more."""
        return self._open_source("Upload") | {self.page.error: html.value(error_markup(str(error)))}

    def _opened(self, workspace: Workspace) -> dict[str, Any]:
        """The editor's value when the step is shown: the pair that step 2 asked to open (once), else none."""
        wanted = workspace.settings.get("pairs_open")
        if wanted is None:
            return {"kind": "none"}
        state.keep_setting(workspace.visitor, pairs_open=None)
        try:
            return pairs_table.one_pair(workspace, wanted) | {"see": True}
        except UserError:  # removed meanwhile, in another tab
            return {"kind": "none"}

    def _facts(self, workspace: Workspace) -> dict[Any, Any]:
        """Title, report, split and lengths. What takes long to measure comes a moment later."""
        pairs = workspace.pairs
        parts, trouble = pairs_data.parts_of(workspace)
        dropped = pairs_files.dropped_of(workspace)
        there = pairs_files.raw_of(workspace) is not None
        return {
            self.title: html.value(pairs_view.title(pairs, parts, trouble)),
            self.report: html.value(pairs_report.report(pairs, dropped, there)),
            self.split: html.value(pairs_report.split(pairs["count"], parts)),
            self.seed: html.value({"seed": pairs_data.seed_of(workspace)} if parts else {}),
            self.hints: html.value(self._hints(workspace, parts)),
            self.lengths: html.value(self._lengths(workspace)),
            self.counting: gr.Timer(active=not self._measured(workspace)),
        }

    def _measured(self, workspace: Workspace) -> bool:
        return pairs_lengths.lengths_known(workspace) is not None and pairs_data.shared_known(workspace) is not None

    def _hints(self, workspace: Workspace, parts: dict[str, int] | None) -> Markup:
        shared = pairs_data.shared_known(workspace) if parts else None
        near = len(pairs_table.positions(workspace, "near"))
        against = len(workspace.pairs["report"]["dropped"].get("contradiction") or [])
        return pairs_report.hints(workspace.pairs["report"], bool(parts), shared, near, against)

    def _lengths(self, workspace: Workspace, waiting: str = "Tokens are being counted.") -> Markup:
        tokens = pairs_lengths.lengths_known(workspace)
        told = (workspace.pairs["report"].get("hints") or {}).get("lengths")
        characters = pairs_lengths.character_report(workspace)
        return pairs_report.lengths(tokens, characters, told, "" if tokens else waiting)

    def _columns(self, workspace: Workspace) -> dict[Any, Any]:
        """The choice of columns, and the look at what comes of it (closed unless they wait to be chosen)."""
        return {
            self.columns: html.value(pairs_mapping.columns_value(workspace)),
            self.recognised: html.value(
                pairs_view.recognised(workspace.pairs, workspace.settings.get("unmapped")),
            ),
            self.trial: _stamped({"kind": "none"}),
        }

    def _bundled(self, pairs: dict[str, Any] | None) -> Markup:
        loaded = pairs["source"] if pairs and pairs["kind"] == "bundled" and not pairs["edited"] else None
        try:
            return pairs_view.bundled_list(pairs_data.demo_list(), loaded)
        except UserError as error:
            return html.note(str(error), kind="warn")

    def _sources(self, name: Any) -> dict[Any, Any]:
        return {column: gr.update(visible=source == name) for source, column in self.sources.items()}

    def _open_source(self, name: str) -> dict[Any, Any]:
        """The source panel alone, for a visitor without pairs."""
        nothing = html.value(Markup())
        return {
            self.empty: gr.update(visible=False),
            self.work: gr.update(visible=True),
            self.rest: gr.update(visible=False),
            self.acts: gr.update(visible=False),
            self.title: html.value(pairs_view.title(None, None)),
            self.source: name,
            self.card: html.value(pairs_view.source_card(None)),
            self.bundled: html.value(self._bundled(None)),
            self.columns: html.value({"columns": []}),
            self.seed: html.value({}),
            self.counting: gr.Timer(active=False),
            **dict.fromkeys([self.recognised, self.report, self.split, self.hints, self.rows, self.reading], nothing),
            **self._sources(name),
        }

    # -- taking pairs in -----------------------------------------------------------------------------------------------

    def _read(self, visitor: str, what: str, take: Callable[[Progress], Any]) -> Iterator[dict[Any, Any]]:
        """Read pairs, with a line that says how far it is and a way to stop; then show them."""
        reading = pairs_reading.Reading(visitor, take, what)
        for line in reading.wait():
            yield {self.reading: html.value(pairs_view.reading(line))}
        try:
            reading.result()
        except pairs_data.Unmapped:  # the panel that opens says what is missing
            pass
        except Exception:
            yield {self.reading: html.value(Markup())}
            raise
        yield self.show(visitor)

    def _start_demo(self, visitor: str) -> Iterator[dict]:
        state.change(visitor, model={"source": "demo"})
        yield from self._read(
            visitor, "Reading the demo’s pairs", lambda p: pairs_data.take_bundled(visitor, "demo", p)
        )

    def _take_bundled(self, visitor: str, sent: dict) -> Iterator[dict]:
        source = sent.get("source")
        yield from self._read(visitor, "Reading the pairs", lambda p: pairs_data.take_bundled(visitor, source, p))

    def _upload(self, visitor: str, path: Any) -> Iterator[dict]:
        if not path:  # the upload was stopped
            yield {}
        else:
            name = Path(str(path)).name[:80]
            yield from self._read(visitor, f"Reading {name}", lambda p: pairs_data.take_upload(visitor, str(path), p))

    def _take_text(self, visitor: str, text: Any) -> Iterator[dict]:
        yield from self._read(visitor, "Reading the text", lambda p: pairs_data.take_text(visitor, text, p))

    def _take_hub(self, visitor: str, name: Any) -> Iterator[dict]:
        yield from self._read(visitor, "Loading from the Hub", lambda p: pairs_data.take_hub(visitor, name, p))

    def _try(self, visitor: str, sent: dict) -> str:
        """A look at what comes of the chosen columns."""
        return html.value(pairs_mapping.tried(state.open_workspace(visitor), sent) | pairs_table.asked(sent))

    def _trial_pressed(self, visitor: str, sent: dict) -> Iterator[dict]:
        """The chosen columns are used, or the file that waits for them is forgotten."""
        if sent.get("action") == "leave":
            pairs_mapping.leave(visitor)
            yield self.show(visitor)
            return
        pairs_mapping.chosen_of(sent)  # says at once what is missing
        yield from self._read(visitor, "Reading the pairs", lambda p: pairs_mapping.use(visitor, sent, p))

    def _stop(self, visitor: str, sent: dict) -> None:
        pairs_reading.stop(visitor)

    # -- report --------------------------------------------------------------------------------------------------------

    def _count(self, visitor: str) -> dict[Any, Any]:
        """Measure once what takes long, then show it. Whatever happens, the timer is off then."""
        updates: dict[Any, Any] = {self.counting: gr.Timer(active=False)}
        workspace = state.open_workspace(visitor)
        if not workspace.pairs:
            return updates
        try:
            waiting = "Tokens are being counted."
            try:
                pairs_lengths.lengths_of(workspace)
            except UserError as error:
                waiting = f"Lengths in tokens are not known: {error}"
            parts, _ = pairs_data.parts_of(workspace)
            if parts:
                pairs_data.shared_of(workspace)
            updates[self.lengths] = html.value(self._lengths(workspace, waiting))
            updates[self.hints] = html.value(self._hints(workspace, parts))
        except UserError as error:  # the pairs went away meanwhile
            updates[self.page.error] = html.value(error_markup(str(error)))
        except Exception:
            log.exception("the lengths could not be measured")
            updates[self.page.error] = html.value(error_markup(TROUBLE))
        return updates

    def _dropped_rows(self, visitor: str, sent: dict) -> str:
        """Dropped rows as they stand in the source."""
        workspace, reason = state.open_workspace(visitor), str(sent.get("reason"))
        if not workspace.pairs:
            raise UserError(OLD_PAGE)
        numbers = pairs_files.dropped_of(workspace).get(reason, [])
        rows = pairs_files.rows_of(workspace, numbers[: pairs_report.LISTED])
        return html.value(pairs_report.rows_panel(reason, rows, len(numbers)))

    def _use_seed(self, visitor: str, sent: dict) -> dict[Any, Any]:
        workspace = pairs_data.use_seed(visitor, sent.get("seed"))
        return (
            self._facts(workspace) | {self.table: html.value(pairs_table.fresh(workspace))} if workspace.pairs else {}
        )

    def _drop_long(self, visitor: str, sent: dict) -> dict[Any, Any]:
        workspace = state.open_workspace(visitor)
        if not workspace.pairs or sent.get("action") != "drop_long":
            raise UserError(OLD_PAGE)
        ids = pairs_lengths.too_long_of(workspace)
        what = f"dropped {pairs_view.count(len(ids), 'pair')} that were too long"
        pairs_edit.remove_pairs(visitor, ids, workspace.pairs["fingerprint"], what, too_long=True)
        return self.show(visitor)

    # -- table and editor ----------------------------------------------------------------------------------------------

    def _again(self, visitor: str) -> dict[Any, Any]:
        workspace = state.open_workspace(visitor)
        return {self.table: html.value(pairs_table.fresh(workspace))} if workspace.pairs else {}

    def _asked(self, visitor: str, sent: dict) -> dict[Any, Any]:
        """A question of the page: rows for the table, or a pair for the editor."""
        workspace = state.open_workspace(visitor)
        if not workspace.pairs:
            return {}
        if sent.get("action") == "open":
            return {self.editor: html.value(pairs_table.opened(workspace, sent))}
        return {self.table: html.value(pairs_table.answer(workspace, sent))}

    def _changed(self, visitor: str, sent: dict) -> dict[Any, Any]:
        """What the page wants changed."""
        action, version = sent.get("action"), sent.get("version")
        texts = [sent.get(side) for side in pairs_data.SIDES]
        pair = None
        if action == "add":
            pair = pairs_edit.add_pair(visitor, *texts)
        elif action == "save":
            pair = pairs_edit.change_pair(visitor, sent.get("pair"), *texts, version=version)
        elif action == "swap":
            pair = pairs_edit.swap_pair(visitor, sent.get("pair"), version)
        elif action == "remove":
            pairs_edit.remove_pairs(visitor, sent.get("ids"), version)
        elif action == "remove_found":
            pairs_edit.remove_pairs(visitor, pairs_table.ids_found(visitor, sent), version)
        elif action in ("undo", "redo"):
            pairs_edit.step(visitor, action, version)
        else:
            raise UserError(OLD_PAGE)
        updates = self.show(visitor)
        if pair is not None:
            updates[self.editor] = _stamped(pairs_table.one_pair(state.open_workspace(visitor), pair))
        return updates

    def _other_file(self, visitor: str, sent: dict) -> Path:
        return pairs_files.clean_file(visitor, str(sent.get("format")))


KINDS = {"upload": "Upload", "bundled": "Bundled", "paste": "Paste", "hub": "Hub"}


def _stamped(value: dict[str, Any]) -> str:
    """A view's value with a stamp: the page ignores a value that it has already."""
    return html.value(value | {"stamp": time.time_ns()})
