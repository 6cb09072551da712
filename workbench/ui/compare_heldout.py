"""Step 4, the lower half: runs judged on held-out pairs, in a process of its own."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.ui import compare_runs, html, quota, state
from workbench.ui.page import Page


class Panel:
    """The held-out table of the run chosen above, and what presses in it do."""

    def __init__(self, page: Page, run: gr.Dropdown) -> None:
        self.view = html.view("compare-heldout", elem_id="rw-compare-heldout")
        self.timer = gr.Timer(1.0, active=False)
        self.parts = [self.view, self.timer]
        page.on(self.view.select, self.evaluate, run, self.parts, event=True)
        page.on(self.timer.tick, self.watch, run, self.parts, quiet=True, concurrency_limit=None)

    def updates(self, workspace: state.Workspace, run: Any) -> dict[Any, Any]:
        """The panel as it stands now."""
        table, busy = compare_runs.table_of(workspace, run)
        return {self.view: html.value(table), self.timer: gr.Timer(active=busy)}

    def evaluate(self, visitor: str, sent: dict, run_id: str) -> dict[Any, Any]:
        """Start (or stop) judging the run on its held-out pairs."""
        from workbench.runs import store, worker

        run = compare_runs.finished(visitor, run_id)
        workspace = state.open_workspace(visitor)
        judging = compare_runs.judging_of(workspace)
        if sent.get("action") == "stop" and judging:
            judging.request_stop()
        elif sent.get("action") == "evaluate" and not (judging and judging.active()):
            quota.need(visitor)
            config = {"runs": [str(run.path)], "pairs": run.config()["pairs"]}
            made = store.create("evaluate", config, owner=visitor)
            worker.spawn(made)
            kept = dict(workspace.settings.get("evaluations") or {})
            workspace = state.keep_setting(visitor, evaluations=kept | {run.id: made.id}, evaluation=made.id)
        return self.updates(workspace, run)

    def watch(self, visitor: str, run_id: str) -> dict[Any, Any]:
        """How far the evaluation is."""
        run = compare_runs.finished(visitor, run_id)
        table, busy = compare_runs.table_of(state.open_workspace(visitor), run)
        updates = {self.view: html.value(table)}
        return updates if busy else updates | {self.timer: gr.Timer(active=False)}
