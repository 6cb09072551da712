"""Step 1, Pairs: where they come from, what was kept, how long they are, and every pair to read and edit."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import html, pairs_data, pairs_edit, pairs_table, pairs_view, state
from workbench.ui.html import Markup
from workbench.ui.model_panel import Job
from workbench.ui.page import TROUBLE, Page, error_markup, log
from workbench.ui.pairs_layout import PairsLayout
from workbench.ui.state import Workspace


def build(page: Page) -> None:
    """Put the step into the open column."""
    PairsStep(page)


class PairsStep(PairsLayout):
    """The handlers between the step's components."""

    def __init__(self, page: Page) -> None:
        self.page = page
        super().__init__()
        page.on_show("pairs", self.show, self.everything)
        self._wire()

    # -- wiring --------------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        page, on = self.page, self.page.on
        everything = self.everything

        def takes(take):
            """A handler that loads pairs and shows them."""

            def handler(visitor: str, *values: Any) -> dict:
                take(visitor, *values)
                return self.show(visitor)

            return handler

        def start_demo(visitor: str) -> dict:
            state.change(visitor, model={"source": "demo"})
            pairs_data.take_bundled(visitor, "demo")
            return self.show(visitor)

        def upload(visitor: str, path: Any) -> dict:
            if not path:
                return {}
            try:
                pairs_data.take_upload(visitor, str(path))
            except pairs_data.Unmapped as unmapped:
                asked = {page.error: html.value(error_markup(f"{unmapped} You can choose them below."))}
                return self.show(visitor) | asked
            return self.show(visitor)

        reading = "Reading the pairs"
        on(self.demo.click, start_demo, None, everything, refresh=True, busy="Reading the demo’s pairs")
        for listener, component in ((self.first_upload.upload, self.first_upload), (self.file.upload, self.file)):
            taken = on(listener, upload, component, everything, refresh=True, busy=reading)
            on(taken.then, lambda visitor: {self.file: None}, None, self.file, quiet=True, queue=False)
        on(
            self.bundled.select,
            takes(lambda v, sent: pairs_data.take_bundled(v, sent.get("source"))),
            None,
            everything,
            event=True,
            refresh=True,
            busy=reading,
        )
        on(self.read_text.click, takes(pairs_data.take_text), self.text, everything, refresh=True, busy=reading)
        hub = [
            on(listener, self._hub, self.hub, everything, refresh=True, busy="Asking the Hub", concurrency_limit=4)
            for listener in (self.read_hub.click, self.hub.submit)
        ]
        on(self.stop_hub.click, lambda visitor: None, cancels=hub)
        on(self.other.click, lambda visitor: self._open_source("Paste"), None, everything)
        on(self.source.select, lambda visitor, name: self._sources(name), self.source, list(self.sources.values()))
        for dropdown in self.columns.values():
            on(dropdown.input, self._map, list(self.columns.values()), everything, refresh=True, busy=reading)

        counted = on(
            self.counting.tick,
            self._count,
            None,
            [self.lengths, self.counting],
            quiet=True,
            concurrency_limit=2,
            trigger_mode="once",
        )
        # The table gets its token counts afterwards; its view then asks for what it shows by then.
        on(counted.then, self._again, None, self.table, quiet=True, concurrency_limit=2)
        # "multiple": Gradio would otherwise drop a question that comes while another is on its way.
        on(
            self.table.select,
            self._browse,
            None,
            [self.table, self.editor],
            event=True,
            quiet=True,
            trigger_mode="multiple",
            concurrency_id="pair-table",
            concurrency_limit=6,
        )
        on(
            self.editor.select,
            self._edited,
            None,
            everything,
            event=True,
            refresh=True,
            busy="Changing the pairs",
            trigger_mode="multiple",
            concurrency_id="pair-edit",
            concurrency_limit=4,
        )
        page.download(self.clean.click, self._clean_file)
        page.go(self.onward.click, "layers")

    # -- handlers ------------------------------------------------------------------------------------------------------

    def show(self, visitor: str) -> dict[Any, Any]:
        """The whole step as the workspace has it."""
        workspace = state.open_workspace(visitor)
        pairs = workspace.pairs
        if not pairs and workspace.settings.get("unmapped"):
            return self._open_source("Upload") | self._columns(workspace)
        if not pairs:
            return {self.empty: gr.Column(visible=True), self.work: gr.Column(visible=False)}
        parts, trouble = pairs_data.parts_of(workspace)
        known = pairs_data.lengths_known(workspace)
        updates = {
            self.empty: gr.Column(visible=False),
            self.work: gr.Column(visible=True),
            self.rest: gr.Column(visible=True),
            self.acts: gr.Row(visible=True),
            self.title: html.value(pairs_view.title(pairs, parts, trouble)),
            self.source: {"upload": "Upload", "bundled": "Bundled", "paste": "Paste", "hub": "Hub"}[pairs["kind"]],
            self.card: html.value(pairs_view.source_card(pairs)),
            self.bundled: html.value(self._bundled(pairs)),
            self.recognised: html.value(pairs_view.recognised(pairs)),
            self.report: html.value(pairs_view.report(pairs, parts)),
            self.lengths: html.value(pairs_view.lengths(known) if known else pairs_view.lengths_waiting()),
            self.counting: gr.Timer(active=known is None),
            self.table: html.value(pairs_table.fresh(workspace)),
            self.editor: _closed(),
        }
        return updates | self._columns(workspace) | self._sources(updates[self.source])

    def _columns(self, workspace: Workspace) -> dict[Any, Any]:
        """The three dropdowns with the uploaded file's columns."""
        names, chosen = pairs_data.columns_of(workspace)
        return {self.mapping: gr.Row(visible=len(names) > 1)} | {
            dropdown: gr.Dropdown(choices=names, value=chosen.get(side) if chosen.get(side) in names else None)
            for side, dropdown in self.columns.items()
        }

    def _bundled(self, pairs: dict[str, Any] | None) -> Markup:
        loaded = pairs["source"] if pairs and pairs["kind"] == "bundled" and not pairs["edited"] else None
        try:
            return pairs_view.bundled_list(pairs_data.demo_list(), loaded)
        except UserError as error:
            return html.note(str(error), kind="warn")

    def _sources(self, name: Any) -> dict[Any, Any]:
        return {column: gr.Column(visible=source == name) for source, column in self.sources.items()}

    def _open_source(self, name: str) -> dict[Any, Any]:
        """The source panel alone, for a visitor without pairs."""
        nothing = html.value(Markup())
        return {
            self.empty: gr.Column(visible=False),
            self.work: gr.Column(visible=True),
            self.rest: gr.Column(visible=False),
            self.acts: gr.Row(visible=False),
            self.title: html.value(pairs_view.title(None, None)),
            self.source: name,
            self.card: html.value(pairs_view.source_card(None)),
            self.bundled: html.value(self._bundled(None)),
            self.recognised: nothing,
            self.mapping: gr.Row(visible=False),
            self.report: nothing,
        } | self._sources(name)

    def _hub(self, visitor: str, name: Any):
        job = Job(lambda: pairs_data.take_hub(visitor, name))
        for seconds in job.wait():
            yield {self.page.busy: self.page.busy_value(f"Loading from the Hub, {seconds:.0f} s")}
        job.result()
        yield self.show(visitor)

    def _map(self, visitor: str, *names: Any) -> dict[Any, Any]:
        workspace = state.open_workspace(visitor)
        if not all(names[1:]) or (not names[0] and workspace.settings.get("unmapped")):
            return {}  # not all chosen yet
        pairs_data.map_columns(visitor, dict(zip(pairs_data.SIDES, names, strict=True)))
        return self.show(visitor)

    def _count(self, visitor: str) -> dict[Any, Any]:
        """Count tokens once, then show the lengths. Whatever happens, the timer is off then."""
        updates: dict[Any, Any] = {self.counting: gr.Timer(active=False)}
        try:
            workspace = state.open_workspace(visitor)
            if workspace.pairs:
                updates[self.lengths] = html.value(pairs_view.lengths(pairs_data.lengths_of(workspace)))
        except UserError as error:
            updates[self.lengths] = html.value(pairs_view.lengths_waiting(str(error)))
        except Exception:
            log.exception("tokens could not be counted")
            updates[self.lengths] = html.value(pairs_view.lengths_waiting(TROUBLE))
        return updates

    # -- table and editor ----------------------------------------------------------------------------------------------

    def _again(self, visitor: str) -> dict[Any, Any]:
        workspace = state.open_workspace(visitor)
        return {self.table: html.value(pairs_table.fresh(workspace))} if workspace.pairs else {}

    def _browse(self, visitor: str, sent: dict) -> dict[Any, Any]:
        """A question of the page: rows for the table, or a pair for the editor."""
        workspace = state.open_workspace(visitor)
        if not workspace.pairs:
            return {}
        if sent.get("action") == "open":
            return {self.editor: html.value(pairs_table.opened(workspace, sent))}
        return {self.table: html.value(pairs_table.answer(workspace, sent))}

    def _edited(self, visitor: str, sent: dict) -> dict[Any, Any]:
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
            pairs_edit.step(visitor, action)
        else:
            raise UserError("This page is older than its server: reload it.")
        updates = self.show(visitor)
        if pair is not None:
            opened = pairs_table.one_pair(state.open_workspace(visitor), pair)
            updates[self.editor] = html.value(opened | {"stamp": time.time_ns()})
        return updates

    def _clean_file(self, visitor: str):
        return pairs_data.clean_file(visitor)


def _closed() -> str:
    """The editor's value when no pair is open. Stamped: the page ignores a value that it has already."""
    return html.value({"kind": "none", "stamp": time.time_ns()})
