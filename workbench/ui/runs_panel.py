"""All runs of a visitor, below step 3: names and notes, the queue's order, deleting and taking back, comparing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.runs.store import Run
from workbench.ui import context, html, runs_view, state
from workbench.ui.page import Page


class RunsPanel:
    """The view, its timer, and what presses in it do. ``redraw(visitor)`` gives the updates of the rest of the step."""

    def __init__(self, page: Page, redraw: Callable[[str], dict[Any, Any]]) -> None:
        self.page, self.redraw = page, redraw
        self.view = html.view("align-runs", elem_id="rw-all-runs", elem_classes="rw-fill")
        self.timer = gr.Timer(2.0, active=False)
        self.parts = [self.view, self.timer]

    def wire(self, outputs: Sequence[Any]) -> None:
        """``outputs`` are all parts of the step."""
        self.page.on(self.timer.tick, self.tick, self.view, self.parts, quiet=True, concurrency_limit=None)
        self.page.on(self.view.select, self.pressed, None, outputs, event=True, refresh=True, queue=False)

    def updates(self, visitor: str) -> dict[Any, Any]:
        """The view as it is now, and whether it has to be looked at again."""
        value, moves = drawn(visitor)
        return {self.view: value, self.timer: gr.Timer(active=moves)}

    def tick(self, visitor: str, shown: str) -> dict[Any, Any]:
        value, moves = drawn(visitor)
        updates: dict[Any, Any] = {} if moves else {self.timer: gr.Timer(active=False)}
        return updates if value == shown else updates | {self.view: value}

    def pressed(self, visitor: str, sent: dict) -> dict[Any, Any]:
        action = str(sent.get("action"))
        if action == "restore":
            restore(visitor, sent.get("run"))
        elif action == "compare":
            toggle(visitor, sent.get("run"))
        elif action == "compare-none":
            _keep(visitor, compare=[])
        else:
            run = of_visitor(visitor, sent.get("run"))
            if action == "open":
                state.change(visitor, run=run.id)
                _closed_form(visitor)
            elif action == "describe":
                run.describe(sent.get("title"), sent.get("note"))
            elif action in ("sooner", "later"):
                move(visitor, run, -1 if action == "sooner" else 1)
            elif action == "delete":
                delete(visitor, run)
        return self.redraw(visitor)


def build(page: Page, redraw: Callable[[str], dict[Any, Any]]) -> RunsPanel:
    """Put the panel where it is called."""
    return RunsPanel(page, redraw)


def drawn(visitor: str) -> tuple[str, bool]:
    """The view's value, and whether anything in it moves."""
    from workbench.runs import bin

    workspace = state.open_workspace(visitor)
    statuses = context.statuses(visitor)
    binned = [run for run in bin.thrown_away() if state.may_use(visitor, run)]
    value = runs_view.panel(workspace, statuses, binned, compared(workspace))
    return html.value(value), any(status["state"] in context.LIVE for status in statuses)


def compared(workspace: state.Workspace) -> list[Run]:
    """The runs that stand beside each other; those that are gone have left."""
    ids = (workspace.settings.get("runs") or {}).get("compare")
    runs = [state.run_of(workspace, run_id) for run_id in (ids if isinstance(ids, list) else [])[: runs_view.MOST]]
    return [run for run in runs if run is not None]


def of_visitor(visitor: str, run_id: Any) -> Run:
    """The run of that id if the visitor may use it. Raises UserError: somebody else's run is as good as none."""
    run = state.run_of(state.open_workspace(visitor), str(run_id or "none"))
    if run is None:
        raise UserError("That run is no longer there; it may have been deleted.")
    return run


def toggle(visitor: str, run_id: Any) -> None:
    """Put a run beside the others, or take it away; at most ``MOST`` stand there."""
    run = of_visitor(visitor, run_id)
    now = [one.id for one in compared(state.open_workspace(visitor))]
    chosen = [one for one in now if one != run.id] if run.id in now else [*now, run.id]
    if len(chosen) > runs_view.MOST:
        raise UserError(f"At most {runs_view.MOST} runs can stand beside each other: take one away first.")
    _keep(visitor, compare=chosen)


def move(visitor: str, run: Run, by: int) -> None:
    """Let a waiting run change places with another of this visitor (of anybody's, in owner mode)."""
    from workbench.runs import queue

    queue.move(run, by, owner=None if state.owner_mode() else run.owner)


def delete(visitor: str, run: Run) -> None:
    """Put the run into the bin and offer the way back. Raises UserError while it works."""
    from workbench.runs import bin

    bin.throw_away(run)
    remember_deleted(visitor, run)


def restore(visitor: str, run_id: Any) -> None:
    """Take a run out of the bin and select it. Raises UserError if it is not there, or not this visitor's."""
    from workbench.runs import bin

    mine = next((run for run in bin.thrown_away() if run.id == run_id and state.may_use(visitor, run)), None)
    if mine is None:
        raise UserError(bin.GONE)
    run = bin.restore(mine.id)
    state.change(visitor, run=run.id)
    _keep(visitor, undo=None)


def last_deleted(visitor: str) -> Run | None:
    """The run that was deleted last and can be taken back."""
    from workbench.runs import bin

    kept = (state.open_workspace(visitor).settings.get("runs") or {}).get("undo")
    return next((run for run in bin.thrown_away() if run.id == kept and state.may_use(visitor, run)), None)


def remember_deleted(visitor: str, run: Run) -> None:
    """Offer to undo the deleting of this run."""
    _keep(visitor, undo=run.id)


def _keep(visitor: str, **changes: Any) -> None:
    state.update(visitor, lambda now: {"settings": now.settings | {"runs": (now.settings.get("runs") or {}) | changes}})


def _closed_form(visitor: str) -> None:
    state.update(
        visitor, lambda now: {"settings": now.settings | {"align": (now.settings.get("align") or {}) | {"new": False}}}
    )
