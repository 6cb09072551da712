"""The page's frame: header, steps line, runs drawer, model panel, a column per step; and finding all again at load."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import context, html, model_panel, state
from workbench.ui.html import Markup
from workbench.ui.page import Page


def build() -> gr.Blocks:
    """The whole page, not yet served."""
    from workbench.ui import step_align, step_compare, step_export, step_layers, step_pairs

    with gr.Blocks(
        title="RAHF Workbench", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)
    ) as demo:
        page = Page()
        page.context = html.view("context", elem_id="rw-context")
        page.steps = html.view("steps", elem_id="rw-steps")
        page.live = gr.Timer(2, active=False)
        with gr.Sidebar(position="right", open=False, width=340, elem_id="rw-runs", elem_classes="rw-runs") as drawer:
            drawer_list = html.markup(Markup("<h2>Runs</h2>"), elem_id="rw-runs-list")
        with gr.Column(elem_id="rw-main"):
            panel = model_panel.build()
            page.busy = html.markup(elem_id="rw-busy")
            page.error = html.markup(elem_id="rw-error")
            modules = (step_pairs, step_layers, step_align, step_compare, step_export)
            for name, module in zip(state.STEPS, modules, strict=True):
                with gr.Column(visible=False, elem_id=f"rw-step-{name}", elem_classes="rw-step") as column:
                    page.columns[name] = column
                    module.build(page)
        _wire(page, demo, drawer, drawer_list, panel)
    return demo


# -- events ------------------------------------------------------------------------------------------------------------


def _wire(page: Page, demo: gr.Blocks, drawer: gr.Sidebar, drawer_list: gr.HTML, panel: model_panel.ModelPanel) -> None:
    page.finish()
    panel.wire(page)

    def open_step(visitor: str, sent: dict) -> dict:
        return page.show_step(visitor, str(sent.get("step")))

    page.on(page.steps.select, open_step, None, page.show_outputs, event=True)

    def pressed(visitor: str, sent: dict) -> dict:
        item = sent.get("item")
        if item == "pairs":
            return page.show_step(visitor, "pairs")
        if item in ("model", "device"):
            return panel.show(visitor)
        if item == "run":
            return {drawer: gr.Sidebar(open=True), drawer_list: _drawer(visitor)}
        return {}

    page.on(page.context.select, pressed, None, [*page.show_outputs, drawer, drawer_list, *panel.outputs], event=True)

    def choose_run(visitor: str, sent: dict) -> dict:
        if sent.get("close"):
            return {drawer: gr.Sidebar(open=False)}
        run = state.run_of(state.open_workspace(visitor), sent.get("run"))
        if run is None:
            raise UserError("That run is no longer there; its folder may have been deleted.")
        state.change(visitor, run=run.id)
        return page.show_step(visitor, "align") | {drawer: gr.Sidebar(open=False), drawer_list: _drawer(visitor)}

    page.on(drawer_list.select, choose_run, None, [*page.show_outputs, drawer, drawer_list], event=True)

    def watch(visitor: str, shown_context: str, shown_steps: str, shown_runs: str) -> dict:
        updates = page.frame_updates(state.open_workspace(visitor)) | {drawer_list: _drawer(visitor)}
        shown = {page.context: shown_context, page.steps: shown_steps, drawer_list: shown_runs}
        return {part: update for part, update in updates.items() if part not in shown or update != shown[part]}

    page.on(
        page.live.tick,
        watch,
        [page.context, page.steps, drawer_list],
        [page.context, page.steps, page.live, drawer_list],
        quiet=True,
        concurrency_limit=None,
    )

    def load(kept: Any) -> dict:
        """Find the visitor's workspace, or begin one, and show the step it was left in."""
        visitor = kept if state.is_visitor(kept) else state.new_visitor()
        context.warm_up()
        return {page.visitor: visitor} | page.show_nearest(visitor) | {drawer_list: _drawer(visitor)}

    outputs = list(dict.fromkeys([page.visitor, *page.show_outputs, page.error, drawer_list]))
    demo.load(load, page.visitor, outputs, show_progress="hidden", api_visibility="private")


def _drawer(visitor: str) -> str:
    seen = context.look(state.open_workspace(visitor))
    close = Markup(
        '<button type="button" class="btn ghost sm" aria-label="Close the list of runs"{}>{}</button>'
    ).format(html.send(close=True), html.icon("close"))
    return html.value(
        Markup('<div class="runshead"><h2>Runs</h2>{}</div><nav aria-label="Runs">{}</nav>').format(
            close, context.runs_list(seen)
        )
    )
