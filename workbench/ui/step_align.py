"""Step 3, Align: settings of a run, its start and stop, and what it does while it works.

The run is a process of its own that writes to its folder; nothing here does long work. A timer looks at the folder of
the selected run as long as that run lives, and sends only what changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import align_form, align_view, html, runs_panel, state
from workbench.ui.page import Page

HOWS = ("pause", "keep", "discard")  # ways to stop a run
TICK = 1.0  # seconds between two looks at a live run


def build(page: Page) -> None:
    """Put the step into the open column."""
    head = html.view("align-head", elem_id="rw-align-head")
    with gr.Row(elem_classes="rw-row"):
        with gr.Column(elem_classes=["rw-side", "rw-late"], scale=0, min_width=372):
            settings = html.view("align-settings", elem_id="rw-align-settings", elem_classes="rw-fill")
        with gr.Column():
            live = html.view("align-live", elem_id="rw-align-live", elem_classes="rw-fill")
    seen = gr.State("")  # what this tab was last shown of the run, so that a tick without news sends nothing
    parts = [head, settings, live, seen]
    runs = runs_panel.build(page, lambda visitor: show(visitor))

    def show(visitor: str) -> dict[Any, Any]:
        updates, mark, alive = drawn(visitor)
        shown = dict(zip(parts, [*updates, mark], strict=True))
        return shown | {timer: gr.Timer(active=alive)} | runs.updates(visitor)

    def tick(visitor: str, mark: str) -> dict[Any, Any]:
        if mark == mark_of(visitor):
            return {seen: mark}
        (title, column, panel), now, alive = drawn(visitor)
        updates = {head: title, live: panel, seen: now}
        if not alive or mark.split("@")[0] != now.split("@")[0] or column_moves(visitor):
            updates[settings] = column
        if not alive:  # the run has ended: the other steps may be open now
            updates |= {timer: gr.Timer(active=False)} | page.frame_updates(state.open_workspace(visitor))
            updates |= runs.updates(visitor)
        return updates

    timer = gr.Timer(TICK, active=False)
    outputs = [*parts, timer, *runs.parts]
    runs.wire(outputs)
    frame = [page.context, page.steps, page.live]
    page.on(timer.tick, tick, seen, [*outputs, *frame], quiet=True, concurrency_limit=None, trigger_mode="once")
    page.on_show("align", show, outputs)

    def edited(visitor: str, sent: dict) -> dict[Any, Any]:
        action = sent.get("action")
        if action == "set":
            remember(visitor, str(sent.get("name")), sent.get("value"))
        elif action == "alpha-mode":
            toggle_alpha(visitor)
        elif action == "mend":
            mend(visitor)
        elif action == "copy":
            copy(visitor)
        elif action == "start":
            start(visitor)
        return show(visitor) if action in ("start", "copy") else {settings: drawn(visitor)[0][1]}

    # One after the other, so that the answer to an earlier key never overtakes that to a later one.
    order = {"trigger_mode": "multiple", "concurrency_id": "align-settings", "concurrency_limit": 1}
    page.on(settings.select, edited, None, outputs, event=True, refresh=True, **order)

    def pressed(visitor: str, sent: dict) -> dict[Any, Any]:
        action = sent.get("action")
        if action in HOWS:
            stop(visitor, action)
        elif action in ("sooner", "later"):
            runs_panel.move(visitor, run_now(visitor), -1 if action == "sooner" else 1)
        elif action == "resume":
            resume(visitor)
        elif action == "copy":
            copy(visitor)
        return show(visitor)

    page.on(head.select, pressed, None, outputs, event=True, refresh=True, queue=False)


# -- what is shown -----------------------------------------------------------------------------------------------------


def drawn(visitor: str) -> tuple[tuple[str, str, str], str, bool]:
    """The values of heading, settings and live column; the mark of what they show; whether the run lives."""
    workspace = state.open_workspace(visitor)
    run = state.run_of(workspace)
    fresh = bool((workspace.settings.get("align") or {}).get("new"))
    if run is None:
        title = {
            "title": "Align the model",
            "sub": "Choose how, and start. The run is a process of its own: close the page, it goes on.",
        }
        column = align_form.new_run(workspace, past(visitor))
        return (
            (
                html.value(title),
                html.value(column),
                html.value(align_view.nothing_yet(align_form.known_fields()["align_steps"].default)),
            ),
            "",
            False,
        )
    status, story, config = placed(run), align_view.story_of(run), config_of(run)
    alive = status["state"] in align_view.LIVE
    if fresh or status["state"] in ("failed", "interrupted"):
        column = align_form.new_run(workspace, past(visitor), quiet=not fresh)
    else:
        column = align_form.of_run(status, config, story)
    values = (
        html.value(align_view.head(status, story)),
        html.value(column),
        html.value(align_view.live(status, story, int(config.get("align_steps") or 0))),
    )
    return values, mark_of(visitor), alive


def mark_of(visitor: str) -> str:
    """What decides whether a tab shows the latest: run, state, and how much of its story is known."""
    run = state.run_of(state.open_workspace(visitor))
    if run is None:
        return ""
    status = placed(run)
    told = f"{status['state']} {status['stopping']} {status.get('queue')} {status['title']} {status['partial']}"
    return f"{run.id} {told}@{align_view.story_of(run).version}"


def placed(run: Any) -> dict[str, Any]:
    """The run's status, with its place in the queue while it waits there."""
    from workbench.runs import queue

    status = run.status()
    return status | {"queue": queue.place(run)} if status["state"] == "queued" else status


def column_moves(visitor: str) -> bool:
    """Whether the settings column shows figures of the live run (and not a draft that somebody is typing)."""
    return not (state.open_workspace(visitor).settings.get("align") or {}).get("new")


def past(visitor: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Status and configuration of this visitor's latest runs, newest first."""
    out = []
    for run in state.runs_of(visitor)[:20]:
        try:
            out.append((run.status(), config_of(run)))
        except UserError:
            continue  # a damaged folder tells nothing about others
    return out


_configs = state.Cache(64)


def config_of(run: Any) -> dict[str, Any]:
    """The run's settings, read once: YAML is slow, and they never change. Raises UserError."""
    return _configs.get(run.id, run.config)


# -- what is done ------------------------------------------------------------------------------------------------------


def _keep(visitor: str, **changes: Any) -> None:
    state.update(
        visitor, lambda now: {"settings": now.settings | {"align": (now.settings.get("align") or {}) | changes}}
    )


def _redraft(visitor: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the draft while nobody else can, so that two quick edits both count."""

    def settings(now: state.Workspace) -> dict[str, Any]:
        kept = now.settings.get("align") or {}
        return {"settings": now.settings | {"align": kept | {"draft": change(align_form.draft_of(now))}}}

    state.update(visitor, settings)


def remember(visitor: str, name: str, value: Any) -> None:
    """Keep what was typed into a field; anything that is no field of a run is ignored."""
    typed = isinstance(value, (str, int, float, bool)) and len(str(value)) <= 20_000
    if name == "preset":
        _redraft(visitor, lambda draft: preset(str(value), draft))
    elif typed and name in align_form.known_fields() and name not in ("model", "pairs", "layers"):
        _redraft(visitor, lambda draft: draft | {name: value})


def preset(name: str, draft: dict[str, Any]) -> dict[str, Any]:
    """The draft with a preset's settings; the defaults for an unknown one. The method stays."""
    values = {key: value for key, value in align_form.PRESETS.get(name, {}).items() if key != "label"}
    return {"method": draft.get("method", "scit"), "preset": name} | values


def toggle_alpha(visitor: str) -> None:
    """Between "chosen automatically" and a number of one's own (the one last found, where there is one)."""
    workspace = state.open_workspace(visitor)
    draft = align_form.draft_of(workspace)
    if draft.get("alpha") not in (None, "auto"):
        _keep(visitor, draft={name: value for name, value in draft.items() if name != "alpha"})
        return
    per_unit = align_form.measured(past(visitor), align_form.read(draft, workspace)[0])
    _keep(visitor, draft=draft | {"alpha": f"{per_unit['alpha']:.3g}" if per_unit else "1"})


def mend(visitor: str) -> None:
    """Put the alpha of the run that was measured in place of one that would collapse."""
    workspace = state.open_workspace(visitor)
    draft = align_form.draft_of(workspace)
    per_unit = align_form.measured(past(visitor), align_form.read(draft | {"alpha": "1"}, workspace)[0])
    _keep(
        visitor,
        draft={name: value for name, value in draft.items() if name != "alpha"}
        | ({"alpha": f"{per_unit['alpha']:g}"} if per_unit else {}),
    )


def copy(visitor: str) -> None:
    """Make the selected run's settings the draft of a new one."""
    known = align_form.known_fields()
    config = run_now(visitor).config()
    draft = {}
    for name, value in config.items():
        if (
            name in known
            and name not in ("model", "pairs", "layers")
            and value is not None
            and value != known[name].default
        ):
            draft[name] = value
    _keep(visitor, draft=draft, new=True)
    state.change(visitor, picked=config.get("layers") or state.open_workspace(visitor).picked)


def start(visitor: str) -> None:
    """Check everything, make the run, let it start when the device is free, select it. Returns at once. Raises UserError."""
    from workbench.rahf.config import RunConfig
    from workbench.runs import store, worker

    with state.lock_of(visitor):  # two clicks, one run
        workspace = state.open_workspace(visitor)
        if not workspace.pairs:
            raise UserError("There are no pairs yet: load some in step 1.")
        values, wrong = align_form.read(align_form.draft_of(workspace), workspace)
        sentence = align_form.alpha_error(values.get("alpha"), align_form.measured(past(visitor), values))
        if wrong or sentence:
            raise UserError(next(iter(wrong.values()), sentence))
        config = RunConfig.from_dict(values)
        config.validate()
        run = store.create("align", config.to_dict(), owner=visitor)
        state.change(visitor, run=run.id)
        _keep(visitor, new=False)
        worker.submit(run)


def resume(visitor: str) -> None:
    """Let the selected run go on from its last checkpoint."""
    from workbench.runs import worker

    worker.resume(run_now(visitor))
    _keep(visitor, new=False)


def stop(visitor: str, how: str) -> None:
    """End the selected run, in one of the ways of ``HOWS``; a live one in the background. Returns at once."""
    from workbench.runs import worker

    run = run_now(visitor)
    if how == "discard":
        runs_panel.remember_deleted(visitor, run)
    if run.active():
        worker.stop_soon(run, how)
    else:
        worker.stop(run, how)


def run_now(visitor: str) -> Any:
    """The selected run. Raises UserError if it is gone or somebody else's."""
    run = state.run_of(state.open_workspace(visitor))
    if run is None:
        raise UserError("There is no run here; it may have been deleted.")
    return run
