"""Step 4, the lower half: runs judged together on held-out pairs, and other methods on the same pairs; each in a process of
its own."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.ui import compare_baselines, compare_runs, compare_table, html, quota, state
from workbench.ui.page import Page


class Panel:
    """The held-out table around the run chosen above, the baselines, and what presses in them do."""

    def __init__(self, page: Page, run: gr.Dropdown) -> None:
        self.view = html.view("compare-heldout", elem_id="rw-compare-heldout")
        self.others = html.view("compare-baselines", elem_id="rw-compare-baselines")
        self.timer = gr.Timer(1.0, active=False)
        self.parts = [self.view, self.others, self.timer]
        every = {"event": True, "trigger_mode": "multiple"}  # a press counts while a tick is still being kept
        page.on(self.view.select, self.evaluate, run, self.parts, **every)
        page.on(self.others.select, self.press, run, self.parts, **every)
        page.on(self.timer.tick, self.watch, run, self.parts, quiet=True, concurrency_limit=None)

    def updates(self, workspace: state.Workspace, run: Any) -> dict[Any, Any]:
        """The panel as it stands now."""
        held = compare_runs.read(workspace, run)
        judges = compare_runs.judges_for(str(run.config().get("pairs") or ""))
        table = compare_table.table(held, judges, workspace.settings.get("heldout") or {})
        others, busy = compare_baselines.panel(workspace, run)
        return {
            self.view: html.value(table),
            self.others: html.value(others),
            self.timer: gr.Timer(active=held.busy or busy),
        }

    def evaluate(self, visitor: str, sent: dict, run_id: str) -> dict[Any, Any]:
        """Start or stop judging the ticked runs, or remember what was ticked and chosen."""
        run = compare_runs.finished(visitor, run_id)
        workspace = state.open_workspace(visitor)
        action, held = sent.get("action"), compare_runs.read(workspace, run)
        if action == "stop" and held.busy:
            from workbench.runs import worker

            if (judging := state.run_of(workspace, held.status["run"])) is not None:
                worker.stop_soon(judging)
        elif action == "pick":  # what is drawn stays: the next tick may have been made already
            self._keep(visitor, sent, held)
            return {}
        elif action == "evaluate":
            with state.lock_of(visitor):  # two presses, one evaluation
                workspace = self._keep(visitor, sent, held)
                held = compare_runs.read(workspace, run)
                workspace = workspace if held.busy else self._start(visitor, sent, run, held)
        return self.updates(workspace, run)

    def _keep(self, visitor: str, sent: dict, held: compare_runs.Held) -> state.Workspace:
        fit = [row["run"] for row in held.rows if row["same"]]
        given = sent.get("picked") if isinstance(sent.get("picked"), list) else held.picked
        kept = {"picked": [name for name in fit if name in given]}
        kept |= {name: str(sent.get(name) or "")[:500] for name in ("judge", "where", "price")}
        return state.keep_setting(visitor, heldout=kept)

    def _start(self, visitor: str, sent: dict, run: Any, held: compare_runs.Held) -> state.Workspace:
        from workbench.runs import store, worker

        pairs = run.config()["pairs"]
        config: dict[str, Any] = compare_runs.judge_of(sent, pairs)
        # The chosen run first: the others are held against it, and a probe is made from its training pairs.
        picked = sorted(held.picked, key=lambda name: name != run.id)
        config |= {"runs": [str(compare_runs.finished(visitor, name).path) for name in picked], "pairs": pairs}
        quota.need(visitor)
        made = store.create(
            "evaluate", {key: value for key, value in config.items() if value is not None}, owner=visitor
        )
        worker.spawn(made)
        workspace = state.open_workspace(visitor)
        before = state.run_of(workspace, workspace.settings.get("evaluation") or "")
        shown = before.id if before and before.state == "finished" else workspace.settings.get("evaluated")
        return state.keep_setting(visitor, evaluation=made.id, evaluated=shown)

    def press(self, visitor: str, sent: dict, run_id: str) -> dict[Any, Any]:
        """A press beside the baselines."""
        run = compare_runs.finished(visitor, run_id)
        compare_baselines.press(visitor, sent, run)
        return self.updates(state.open_workspace(visitor), run)

    def watch(self, visitor: str, run_id: str) -> dict[Any, Any]:
        """How far the work is."""
        run = compare_runs.finished(visitor, run_id)
        updates = self.updates(state.open_workspace(visitor), run)
        if updates[self.timer].active:
            del updates[self.timer]  # or its second would begin anew
        return updates
