"""Step 3, Align: settings of a run, its start and stop, and what it does while it works.

The run is a process of its own that writes to its folder; nothing here does long work. A timer looks at the folder of
the selected run as long as that run lives, and sends only what changed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import (
    align_check,
    align_files,
    align_form,
    align_preview,
    align_view,
    context,
    html,
    quota,
    runs_panel,
    runs_view,
    state,
)
from workbench.ui.page import Page
from workbench.ui.starting import start_run

HOWS = ("pause", "keep", "discard")  # ways to stop a run
TICK = 1.0  # seconds between two looks at a live run
GLANCE = 0.3  # seconds between two looks at what is found of the settings


def build(page: Page) -> None:
    """Put the step into the open column."""
    head = html.view("align-head", elem_id="rw-align-head")
    with gr.Row(elem_classes="rw-row"):
        with gr.Column(elem_classes=["rw-side", "rw-late"], scale=0, min_width=372):
            settings = html.view("align-settings", elem_id="rw-align-settings", elem_classes="rw-fill")
            # The view presses these: files travel by Gradio's own buttons.
            save = gr.Button("Save settings", elem_id="rw-save-settings", elem_classes="rw-hidden")
            load = gr.UploadButton("Load settings", elem_id="rw-load-settings", elem_classes="rw-hidden")
            page.download(save.click, saved)
        with gr.Column():
            live = html.view("align-live", elem_id="rw-align-live", elem_classes="rw-fill")
            trial = align_preview.build(page)
    seen = gr.State("")  # what this tab was last shown of the run, so that a tick without news sends nothing
    parts = [head, settings, live, seen]
    runs = runs_panel.build(page, lambda visitor: show(visitor))

    def show(visitor: str) -> dict[Any, Any]:
        updates, mark, alive = drawn(visitor)
        shown = dict(zip(parts, [*updates, mark], strict=True))
        return (
            shown | {timer: gr.Timer(active=alive)} | glancing(visitor) | runs.updates(visitor) | trial.updates(visitor)
        )

    def glancing(visitor: str) -> dict[Any, Any]:
        return {glance: gr.Timer(active=True)} if looking(visitor) else {}

    def glanced(visitor: str) -> dict[Any, Any]:
        if looking(visitor):
            return {glance: gr.skip()}
        return {settings: drawn(visitor)[0][1], glance: gr.Timer(active=looking(visitor))}

    def tick(visitor: str, mark: str) -> dict[Any, Any]:
        if mark == mark_of(visitor):
            return {seen: mark}
        (title, column, panel), now, alive = drawn(visitor)
        updates = {head: title, live: panel, seen: now}
        if not alive or mark.split("@")[0] != now.split("@")[0] or column_moves(visitor):
            updates |= {settings: column} | glancing(visitor)
        if mark.split("@")[0] != now.split("@")[0]:
            updates |= trial.updates(visitor)
        if not alive:  # the run has ended: the other steps may be open now
            updates |= {timer: gr.Timer(active=False)} | page.frame_updates(state.open_workspace(visitor))
            updates |= runs.updates(visitor)
        return updates

    timer = gr.Timer(TICK, active=False)
    glance = gr.Timer(GLANCE, active=False)
    outputs = [*parts, timer, glance, *runs.parts, *trial.parts]
    runs.wire(outputs)
    frame = [page.context, page.steps, page.live]
    page.on(timer.tick, tick, seen, [*outputs, *frame], quiet=True, concurrency_limit=None)
    page.on(glance.tick, glanced, None, [settings, glance], quiet=True, concurrency_limit=None)
    page.on_show("align", show, outputs)

    def edited(visitor: str, sent: dict) -> dict[Any, Any]:
        action = sent.get("action")
        if action == "set":
            remember(visitor, str(sent.get("name")), sent.get("value"))
        elif action == "reset":
            reset(visitor, str(sent.get("name") or ""))
        elif action == "undo":
            undo(visitor, sent.get("id"))
        elif action == "layers-auto":
            redraft(visitor, drop_blocks)
        elif action == "understood":
            keep(visitor, note="")
        elif action == "mend":
            mend(visitor)
        elif action == "copy":
            copy(visitor)
        elif action == "start":
            start(visitor)
        if action in ("start", "copy"):
            return show(visitor)
        return {settings: drawn(visitor, sent.get("n"))[0][1]} | glancing(visitor)

    # One after the other, so that the answer to an earlier key never overtakes that to a later one.
    order = {"trigger_mode": "multiple", "concurrency_id": "align-settings", "concurrency_limit": 1}
    page.on(settings.select, edited, None, outputs, event=True, refresh=True, **order)

    def brought(visitor: str, path: Any) -> dict[Any, Any]:
        load_file(visitor, path)
        return show(visitor) | {load: gr.UploadButton(value=None)}

    page.on(load.upload, brought, load, [*outputs, load], refresh=True, **order)

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
        elif action == "take-back" and (gone := runs_panel.last_deleted(visitor)):
            runs_panel.restore(visitor, gone.id)
        return show(visitor)

    page.on(head.select, pressed, None, outputs, event=True, refresh=True, queue=False)


# -- what is shown -----------------------------------------------------------------------------------------------------


def drawn(visitor: str, answered: Any = None) -> tuple[tuple[str, str, str], str, bool]:
    """The values of heading, settings and live column; the mark of what they show; whether the run lives. ``answered``
    is the number the tab gave the change that this answers."""
    from workbench.runs.files import read_json

    workspace = state.open_workspace(visitor)
    run = state.run_of(workspace)
    fresh = bool(align_form.kept(workspace).get("new"))
    if run is None:
        title = {
            "title": "Align the model",
            "sub": "Choose how, and start. The run is a process of its own: close the page, it goes on.",
        }
        if gone := runs_panel.last_deleted(visitor):
            name = runs_view.name_of(gone)
            title["sub"] = f"{name} is in the bin. {title['sub']}"
            title["actions"] = [{"label": f"Take back {name}", "act": "take-back"}]
        column = new_column(workspace, answered=answered)
        steps = align_form.known_fields()["align_steps"].default
        return (
            (
                html.value(title),
                html.value(column),
                html.value(align_view.nothing_yet(steps, bool(state.runs_of(visitor)))),
            ),
            "",
            False,
        )
    status, story, config = placed(run), align_view.story_of(run), config_of(run)
    alive = status["state"] in align_view.LIVE
    if fresh or status["state"] in ("failed", "interrupted"):
        column = new_column(workspace, quiet=not fresh, answered=answered)
    else:
        told = [read_json(run.path / name) for name in ("calibration.json", "estimate.json")]
        column = align_form.of_run(status, config, story, *told)
    steps = 0 if config.get("align_epochs") else int(config.get("align_steps") or 0)  # of passes, the run itself tells
    values = (
        html.value(align_view.head(status, story, column["start"] is not None and not column["start"]["quiet"])),
        html.value(column),
        html.value(align_view.live(status, story, steps, calibrates(config))),
    )
    return values, mark_of(visitor), alive


def calibrates(config: dict[str, Any]) -> bool:
    """Whether a run tries strengths to choose alpha."""
    return config.get("alpha") in (None, "auto") and config.get("relative_strength") is None


def new_column(workspace: state.Workspace, quiet: bool = False, answered: Any = None) -> dict[str, Any]:
    """The settings column of a run that has not begun, with what is known so far of its problems and costs."""
    column = align_form.new_run(workspace, past(workspace.visitor), checked(workspace), quiet)
    return column | {"answered": answered if type(answered) is int else None}


def checked(workspace: state.Workspace) -> dict[str, Any]:
    """What is known of the draft's problems and costs; nothing while a field is wrong or there are no pairs."""
    values, wrong = align_form.read(align_form.draft_of(workspace), workspace)
    if wrong:
        return align_check.nothing() | {"basis": "Looked at as soon as every setting above is right."}
    return align_check.look(workspace, values) if workspace.pairs else align_check.nothing()


def looking(visitor: str) -> bool:
    """Whether the column shows a draft of which something is still being found."""
    workspace = state.open_workspace(visitor)
    run = state.run_of(workspace)
    shown = run is None or align_form.kept(workspace).get("new") or run.state in ("failed", "interrupted")
    return bool(shown) and checked(workspace)["working"]


def mark_of(visitor: str) -> str:
    """What decides whether a tab shows the latest: run, state, and how much of its story is known."""
    run = state.run_of(state.open_workspace(visitor))
    if run is None:
        return ""
    status = placed(run)
    told = f"{status['state']} {status['stopping']} {status.get('queue')} {status['title']} {status['partial']}"
    story = align_view.story_of(run)
    known = f"{'check' in story.latest} {story.latest.get('alpha')}"  # what the panel of strengths waits for
    return f"{run.id} {told} {known}@{story.version}"


def placed(run: Any) -> dict[str, Any]:
    """The run's status, with its place in the queue while it waits there."""
    from workbench.runs import queue

    status = run.status()
    return status | {"queue": queue.place(run)} if status["state"] == "queued" else status


def column_moves(visitor: str) -> bool:
    """Whether the settings column shows figures of the live run (and not a draft that somebody is typing)."""
    return not align_form.kept(state.open_workspace(visitor)).get("new")


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


def keep(visitor: str, **changes: Any) -> None:
    """Write keys of what the step keeps, and leave the others alone."""
    state.update(visitor, lambda now: {"settings": now.settings | {"align": align_form.kept(now) | changes}})


Change = Callable[[dict[str, Any], state.Workspace], tuple[dict[str, Any], list[int] | None]]


def redraft(visitor: str, change: Change, label: str = "", note: str | None = None) -> None:
    """Change draft and picked blocks while nobody else can, so that two quick edits both count.

    ``label`` names a change large enough to be taken back, ``note`` is what the column says of it."""

    def changes(now: state.Workspace) -> dict[str, Any]:
        mine, draft = align_form.kept(now), align_form.draft_of(now)
        new, picked = change(draft, now)
        extra = {} if note is None else {"note": note}
        if label:
            extra["undo"] = {
                "label": f"Undo: {label}",
                "id": secrets.token_hex(4),
                "draft": draft,
                "picked": now.picked,
            }
        return {"settings": now.settings | {"align": mine | extra | {"draft": new}}, "picked": picked}

    state.update(visitor, changes)


def remember(visitor: str, name: str, value: Any) -> None:
    """Keep what was typed into a field; anything that is no field of a run is ignored. Raises UserError for a novel."""
    if name == "preset":
        choose_preset(visitor, value)
    elif name == "strength":
        choose_way(visitor, value)
    elif name == "instructions":
        choose_instructions(visitor, value)
    elif name in align_form.known_fields() and name not in align_form.NOT_TYPED:
        if isinstance(value, str) and len(value) > align_files.MOST_TEXT:
            raise UserError(f"{align_form.label(name)} was not changed: {align_files.MOST_TEXT:,} characters at most.")
        if isinstance(value, (str, int, float, bool)) and len(str(value)) <= align_files.MOST_TEXT:
            redraft(visitor, lambda draft, now: (draft | {name: value}, now.picked))


def choose_preset(visitor: str, name: Any) -> None:
    """Fill the settings with a preset's; what was typed can be had back by undo."""
    presets = align_form.preset_list()
    if not isinstance(name, str) or name not in presets:
        return
    preset = presets[name]

    def change(draft: dict[str, Any], now: state.Workspace) -> tuple[dict[str, Any], list[int] | None]:
        draft = {"preset": name} | align_form.shared(name) | {key: draft[key] for key in ("method",) if key in draft}
        if "method" in preset.values:
            draft.pop("method", None)
        blocks = preset.values.get("layers")
        return align_form.place_blocks(draft, list(blocks), now) if blocks else (draft, now.picked)

    redraft(visitor, change, f"preset {preset.label}", note="")


def choose_instructions(visitor: str, value: Any) -> None:
    """Fill p+ and p- with a value's ready-made texts; texts of one's own can be had back by undo."""
    from workbench.rahf.instructions import INSTRUCTIONS, instructions_for

    if isinstance(value, str) and value in INSTRUCTIONS:
        texts = instructions_for(value)
        redraft(visitor, lambda draft, now: (draft | texts, now.picked), f"instructions for {value}")


def choose_way(visitor: str, way: Any) -> None:
    """How strength is chosen; a number of one's own begins with the last one found, where there is one."""
    if way not in align_form.WAYS:
        return
    runs = past(visitor)

    def change(draft: dict[str, Any], now: state.Workspace) -> tuple[dict[str, Any], list[int] | None]:
        return align_form.with_way(draft, way, now, runs), now.picked

    redraft(visitor, change)


def reset(visitor: str, name: str) -> None:
    """Back to the preset (or the default): one field, the strength, or with "" every one."""
    if not name:
        back: Change = lambda draft, now: (  # noqa: E731
            {key: draft[key] for key in ("preset", "layers") if key in draft}
            | align_form.shared(align_form.preset_of(draft)),
            now.picked,
        )
        redraft(visitor, back, "back to the preset")
        return
    gone = ("strength", "alpha", "relative_strength") if name == "strength" else (name,)
    redraft(
        visitor,
        lambda draft, now: (
            {key: value for key, value in draft.items() if key not in gone or key in ("preset", "layers")}
            | {key: value for key, value in align_form.shared(align_form.preset_of(draft)).items() if key in gone},
            now.picked,
        ),
    )


def undo(visitor: str, wanted: Any) -> None:
    """Take the last great change back; what stood there since can be had back in the same way. Raises UserError if
    another tab has made another change meanwhile."""

    def changes(now: state.Workspace) -> dict[str, Any]:
        mine = align_form.kept(now)
        last = mine.get("undo")
        if not isinstance(last, dict) or last.get("id") != wanted:
            raise UserError(
                "There was a newer change, perhaps in another tab: nothing was taken back. Look again, then undo."
            )
        said = last["label"]
        label = (
            said.replace("Undo: ", "Redo: ", 1) if said.startswith("Undo: ") else said.replace("Redo: ", "Undo: ", 1)
        )
        turned = {"label": label, "id": secrets.token_hex(4), "draft": align_form.draft_of(now), "picked": now.picked}
        kept = mine | {"draft": last["draft"], "undo": turned, "note": ""}
        return {"settings": now.settings | {"align": kept}, "picked": last["picked"]}

    state.update(visitor, changes)


def drop_blocks(draft: dict[str, Any], now: state.Workspace) -> tuple[dict[str, Any], list[int] | None]:
    """Without blocks that came along from elsewhere, and without picked ones that the model lacks."""
    lacking = now.picked and align_form.missing_blocks(now.picked, now)
    return {name: value for name, value in draft.items() if name != "layers"}, None if lacking else now.picked


def mend(visitor: str) -> None:
    """Put the alpha of the run that was measured in place of one that would collapse."""
    runs = past(visitor)

    def change(draft: dict[str, Any], now: state.Workspace) -> tuple[dict[str, Any], list[int] | None]:
        per_unit = align_form.measured(runs, align_form.read(draft | {"alpha": "1", "strength": "alpha"}, now)[0])
        if per_unit is None:
            return draft | {"strength": "auto"}, now.picked
        return draft | {"alpha": f"{per_unit['alpha']:g}", "strength": "alpha"}, now.picked

    redraft(visitor, change)


def copy(visitor: str) -> None:
    """Make the selected run's settings the draft of a new one, and say what of it could not be taken along."""
    run = run_now(visitor)
    config = run.config()
    take(visitor, config, f"copy of {context.run_name(run.status())}")
    keep(visitor, new=True)


def take(visitor: str, values: dict[str, Any], what: str, always: str = "") -> None:
    """Make these settings the draft. ``always`` is said whether or not something was left out."""
    _, _, left = align_files.into_draft(values, state.open_workspace(visitor))

    def change(_: dict[str, Any], now: state.Workspace) -> tuple[dict[str, Any], list[int] | None]:
        draft, blocks, _ = align_files.into_draft(values, now)
        return align_form.place_blocks(draft, blocks, now) if blocks else (draft, now.picked)

    redraft(visitor, change, what, note=f"{always} {left}".strip())


def saved(visitor: str) -> Path:
    """The settings that the column shows, as a file."""
    workspace = state.open_workspace(visitor)
    run = state.run_of(workspace)
    locked = (
        run is not None and not align_form.kept(workspace).get("new") and run.state not in ("failed", "interrupted")
    )
    return align_files.run_file(run, workspace) if locked else align_files.draft_file(workspace)


def load_file(visitor: str, uploaded: Any) -> None:
    """Make an uploaded file's settings the draft. Raises UserError with one sentence, and then nothing has changed."""
    if not isinstance(uploaded, str) or not uploaded:  # the upload was stopped
        return
    path = Path(uploaded)
    values = align_files.loaded(path)
    count = sum(value is not None for name, value in values.items() if name not in ("model", "pairs"))
    take(visitor, values, f"load {path.name[:40]}", f"Loaded {path.name[:60]}: {count} settings.")
    if state.run_of(state.open_workspace(visitor)) is not None:
        keep(visitor, new=True)


def start(visitor: str) -> None:
    """Check everything, make the run, let it start when the device is free, select it. Returns at once. Raises UserError."""
    from workbench.rahf.config import RunConfig

    with state.lock_of(visitor):  # two clicks, one run
        workspace = state.open_workspace(visitor)
        if not workspace.pairs:
            raise UserError("There are no pairs yet: load some in step 1.")
        values, wrong = align_form.read(align_form.draft_of(workspace), workspace)
        sentence = align_form.alpha_error(values.get("alpha"), align_form.measured(past(visitor), values))
        if wrong or sentence:
            raise UserError(next(iter(wrong.values()), sentence))
        known = align_check.wait(workspace, values)
        if stop := next((one["text"] for one in (known or {}).get("problems", []) if one["severity"] == "stop"), ""):
            raise UserError(f"The run was not started. {stop}")
        config = RunConfig.from_dict(values)
        coming = (known or {}).get("run_bytes", 0)
        run = start_run(visitor, "align", config.to_dict(), coming)
        state.change(visitor, run=run.id)
        keep(visitor, new=False, note="")


def resume(visitor: str) -> None:
    """Let the selected run go on from its last checkpoint."""
    from workbench.runs import worker

    quota.need(visitor)
    state.forget_models()
    worker.resume(run_now(visitor))
    keep(visitor, new=False)


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
