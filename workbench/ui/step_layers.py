"""Step 2, Layers: capture all blocks in a run of its own, see where preference is readable, pick the blocks to align.

The drawing is in static/layers*.js; what is sent there is made in layers_view.py and layers_data.py. Captures are kept
per pooling in ``settings["layers_runs"]``, so that going back to a pooling that was captured shows it at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import html, layers_data, layers_umap, state
from workbench.ui import layers_view as lv
from workbench.ui.page import Page
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.runs.store import Run

LIVE = ("queued", "running")
POLLED = 1.0  # seconds between two looks at what is under way
POOLING_NAMES = {key: name for key, name in lv.POOLINGS}


def build(page: Page) -> None:
    """Put the step into the open column."""
    view = html.view("layers", elem_id="rw-layers")
    data = html.view("layers-data", elem_classes="rw-hidden")
    umap = html.view("layers-umap", elem_classes="rw-hidden")
    pair = html.view("layers-pair", elem_classes="rw-hidden")
    to_align = gr.Button("Align", elem_id="rw-layers-to-align", elem_classes="rw-hidden")
    page.go(to_align.click, "align")

    def tick(visitor: str) -> dict:
        workspace = state.open_workspace(visitor)
        run = current_run(workspace)
        if run is None:
            return {timer: gr.Timer(active=False)}
        if run.state != "finished" or workspace.settings.get("layers_shown") != run.id:
            return show(visitor)
        value = layers_data.umap_value(run)
        return {umap: html.value(value), timer: gr.Timer(active=bool(layers_umap.pending(run.path)))}

    def outputs(made: gr.Timer) -> list:
        return [view, data, umap, pair, made]

    timer = page.timer(POLLED, tick, outputs, refresh=True)

    def show(visitor: str) -> dict:
        """Everything this step shows, from what is on disk."""
        workspace = state.open_workspace(visitor)
        run = current_run(workspace)
        status = run.status() if run else None
        if run is None or status["state"] != "finished":
            return {
                view: html.value(_unready(workspace, status)),
                timer: gr.Timer(active=bool(status) and status["state"] in LIVE),
            }
        try:
            ready = layers_data.ready_view(run)
            picture = layers_data.picture(run)
        except UserError as error:
            broken = {"state": "failed", "error": str(error)}
            return {view: html.value(_unready(workspace, broken)), timer: gr.Timer(active=False)}
        workspace = _settle(workspace, run, ready)
        return {
            view: html.value(_with_choices(workspace, run, ready)),
            data: picture,
            umap: html.value(layers_data.umap_value(run)),
            pair: html.value(_kept_pair(workspace, run, picture)),
            timer: gr.Timer(active=bool(layers_umap.pending(run.path))),
        }

    def start(visitor: str, sent: dict) -> dict:
        workspace = state.open_workspace(visitor)
        run = current_run(workspace)
        if run is not None and run.active():
            return show(visitor)
        from workbench.runs import store, worker

        config = _config(workspace)
        run = store.create("separability", config, owner=visitor)
        worker.spawn(run)
        _remember(workspace, run)
        return show(visitor)

    def stop(visitor: str, sent: dict) -> dict:
        from workbench.runs import worker

        run = current_run(state.open_workspace(visitor))
        if run is not None and run.active():
            worker.stop_soon(run)
        return show(visitor)

    def choose_pooling(visitor: str, sent: dict) -> dict:
        if sent.get("pooling") not in POOLING_NAMES:
            raise UserError("There is no such way of pooling.")
        workspace = state.change(visitor, pooling=sent["pooling"])
        run = current_run(workspace)
        state.change(visitor, separability_run=run.id if run else None)
        return show(visitor)

    def pick(visitor: str, sent: dict) -> dict:
        run = _finished(visitor)
        known = [int(score["layer"]) for score in layers_data.scores(run)["layers"]]
        wanted = sent.get("picked") if isinstance(sent.get("picked"), list) else []
        picked = sorted({layer for layer in wanted if type(layer) is int and layer in known})
        if len(picked) != len(wanted):
            raise UserError(f"Blocks are numbered {known[0]} to {known[-1]}: pick among these.")
        state.change(visitor, picked=picked)
        return {}

    def look(visitor: str, sent: dict) -> dict:
        """Keep which block is on view, for the next reload."""
        layer, projection = sent.get("layer"), sent.get("projection")
        if type(layer) is int and projection in ("pca", "umap", "axis"):
            state.keep_setting(visitor, layers_view={"layer": max(0, layer), "projection": projection})
        return {}

    def open_pair(visitor: str, sent: dict) -> dict:
        workspace, run = state.open_workspace(visitor), _finished(visitor)
        shown = layers_data.one_pair(run, sent.get("id"), _left(workspace))
        state.keep_setting(visitor, layers_pair=shown["id"])
        return {pair: html.value(shown)}

    def lasso(visitor: str, sent: dict) -> dict:
        return {pair: html.value(layers_data.some_pairs(_finished(visitor), sent.get("ids")))}

    def clear(visitor: str, sent: dict) -> dict:
        return {pair: html.value({"kind": "none"})}

    def drop(visitor: str, sent: dict) -> dict:
        workspace, run = state.open_workspace(visitor), _finished(visitor)
        left = state.load_pairs_of(workspace)
        ids = layers_data.ids_now(run, sent.get("ids"), left)
        if not ids:
            raise UserError("These pairs are dropped already.")
        workspace = drop_pairs(workspace, ids)
        count = workspace.pairs["count"]
        note = f"Dropped {_pairs_word(len(ids))}; {count:,} are left."
        return {
            view: html.value(_with_choices(workspace, run, layers_data.ready_view(run))),
            pair: html.value({"kind": "none", "note": note}),
        }

    def umap_of(visitor: str, sent: dict) -> dict:
        run, layer = _finished(visitor), sent.get("layer")
        if type(layer) is not int or not 0 <= layer < len(layers_data.scores(run)["layers"]):
            raise UserError("There is no such block.")
        layers_umap.ask(run.path, layer, lv.drawn(len(layers_data.pair_ids(run))))
        return {timer: gr.Timer(active=True)}

    actions: dict[str, Callable[[str, dict], dict]] = {
        "capture": start, "stop": stop, "pooling": choose_pooling, "pick": pick, "look": look, "open": open_pair,
        "lasso": lasso, "clear": clear, "drop": drop, "umap": umap_of,
    }  # fmt: skip

    def act(visitor: str, sent: dict) -> dict:
        action = actions.get(str(sent.get("action")))
        if action is None:
            raise UserError("This page is older than its server: reload it.")
        return action(visitor, sent)

    # "multiple": Gradio would otherwise drop a second pick that comes while the first is on its way.
    page.on(view.select, act, None, [view, data, umap, pair, timer], event=True, refresh=True, trigger_mode="multiple")
    page.on_show("layers", show, [view, data, umap, pair, timer])


# -- which capture is on view ------------------------------------------------------------------------------------------


def current_run(workspace: Workspace) -> Run | None:
    """The newest capture of this model, these pairs (edits aside) and this pooling, if it still exists."""
    entry = (workspace.settings.get("layers_runs") or {}).get(workspace.pooling)
    pairs = workspace.pairs
    if not entry or not pairs:
        return None
    if (entry["pairs"], entry["name"], entry["model"]) != (pairs["source"], pairs["name"], workspace.model_source):
        return None
    return state.run_of(workspace, entry["run"])


def _remember(began: Workspace, run: Run) -> None:
    source, name = began.pairs["source"], began.pairs["name"]
    entry = {"run": run.id, "pairs": source, "name": name, "model": began.model_source}

    def changes(workspace: Workspace) -> dict[str, Any]:
        runs = dict(workspace.settings.get("layers_runs") or {}) | {began.pooling: entry}
        return {"separability_run": run.id, "settings": workspace.settings | {"layers_runs": runs}}

    state.update(began.visitor, changes)


def _finished(visitor: str) -> Run:
    run = current_run(state.open_workspace(visitor))
    if run is None or run.state != "finished":
        raise UserError("There are no scores yet: capture all blocks first.")
    return run


def _settle(workspace: Workspace, run: Run, ready: dict[str, Any]) -> Workspace:
    """Once a capture is finished: take its suggestion if nothing (or nothing possible) was picked before."""
    known = {block["l"] for block in ready["blocks"]}
    changes: dict[str, Any] = {}
    if workspace.picked is None or not set(workspace.picked) <= known:
        changes["picked"] = ready["suggested"]
    if workspace.separability_run != run.id:
        changes["separability_run"] = run.id
    if workspace.settings.get("layers_shown") != run.id:
        changes["settings"] = workspace.settings | {"layers_shown": run.id}
    return state.change(workspace.visitor, **changes) if changes else workspace


def _config(workspace: Workspace) -> dict[str, Any]:
    device = workspace.settings.get("device")
    return {
        "model": workspace.model_source,
        "pairs": layers_data.snapshot(workspace),
        "pooling": workspace.pooling,
        "local": state.folders_allowed(),
        **({"device": device} if device else {}),
    }


# -- what is shown -----------------------------------------------------------------------------------------------------


def _unready(workspace: Workspace, status: dict[str, Any] | None) -> dict[str, Any]:
    """The view before, during or instead of scores."""
    state_now = status["state"] if status else None
    blocks = workspace.model.get("blocks")
    common = {
        "pooling": workspace.pooling,
        "poolings": lv.POOLINGS,
        "poolingHelp": lv.POOLING_HELP[workspace.pooling],
        "blocks_ahead": blocks or 8,
    }
    if workspace.pairs is None:
        return {**common, "phase": "none", "title": "Layers", "lead": "Load pairs in step 1 first."}
    again = {"label": "Capture again", "action": "capture", "primary": True, "icon": "again"}
    if state_now in LIVE:
        stop = {"label": "Stop", "action": "stop", "icon": "stop", "off": bool(status.get("stopping"))}
        return {
            **common,
            "phase": "running",
            "title": f"Capturing all {blocks} blocks" if blocks else "Capturing all blocks",
            "lead": "It goes on when this page is closed; any tab finds it again.",
            "progress": lv.progress(status, blocks),
            "actions": [stop],
        }
    if state_now in ("failed", "interrupted"):
        return {
            **common,
            "phase": "failed",
            "title": "The capture did not finish",
            "lead": "Your pairs, model and picks are kept.",
            "note": {
                "kind": "err",
                "strong": "It ended before all blocks were scored.",
                "text": status.get("error") or "",
            },
            "progress": lv.progress(status, blocks) if "stage" in status else None,
            "actions": [again],
        }
    if state_now == "stopped":
        return {
            **common,
            "phase": "stopped",
            "title": "The capture was stopped",
            "lead": "Nothing was scored; your pairs, model and picks are kept. Capturing again starts anew.",
            "progress": lv.progress(status, blocks),
            "actions": [again],
        }
    return {
        **common,
        "phase": "before",
        "title": "See in which blocks the model tells chosen from rejected",
        "lead": "Every answer is read once by the model; a linear probe then scores each block on pairs it never saw.",
        "work": lv.work_estimate(workspace.pairs["count"], blocks, _last_time(workspace)),
        "actions": [{"label": "Capture all blocks", "action": "capture", "primary": True, "id": "rw-capture"}],
    }


def _last_time(workspace: Workspace) -> float | None:
    """Seconds a pair took when this visitor captured this model with another pooling or other pairs; None if never."""
    for entry in (workspace.settings.get("layers_runs") or {}).values():
        run = state.run_of(workspace, entry["run"]) if entry["model"] == workspace.model_source else None
        if run is not None and run.state == "finished":
            try:
                found = layers_data.scores(run)
                return float(run.status()["seconds"]) / max(1, int(found["pairs"]))
            except (UserError, KeyError, ValueError, TypeError):
                continue
    return None


def _with_choices(workspace: Workspace, run: Run, ready: dict[str, Any]) -> dict[str, Any]:
    """The finished view with what the visitor chose, and a remark if the pairs changed since."""
    seen = workspace.settings.get("layers_view") or {}
    default = next((i for i, block in enumerate(ready["blocks"]) if block["suggested"]), 0)
    found = layers_data.scores(run)
    note = None
    if workspace.pairs.get("fingerprint") != found.get("pairs_fingerprint"):
        fewer = found.get("pairs", 0) - workspace.pairs["count"]
        strong = (
            f"{_pairs_word(fewer)} fewer than when this was measured." if fewer > 0 else "The pairs were edited since."
        )
        again = [{"label": "Capture again", "action": "capture", "icon": "again"}]
        note = {"kind": "warn", "strong": strong, "text": "Scores and picture are of before.", "actions": again}
    return {
        **ready,
        "pooling": workspace.pooling,
        "poolings": lv.POOLINGS,
        "picked": sorted(workspace.picked or []),
        "layer": seen.get("layer", default),
        "projection": seen.get("projection", "pca"),
        "note": note,
    }


def _kept_pair(workspace: Workspace, run: Run, picture: str) -> dict[str, Any]:
    """The pair that was open, or else a typical one."""
    import json

    for id_ in (workspace.settings.get("layers_pair"), json.loads(picture)["typical"]):
        try:
            return layers_data.one_pair(run, id_, _left(workspace))
        except UserError:
            continue
    return {"kind": "none"}


def _left(workspace: Workspace) -> Any:
    return state.load_pairs_of(workspace) if workspace.pairs and workspace.pairs.get("edited") else None


def drop_pairs(workspace: Workspace, ids: list[int]) -> Workspace:
    """The visitor's pairs without these; picks and scores stay, as scores of before. Raises UserError if too few would
    be left or the disk refuses."""
    from workbench.pairs.core import MIN_PAIRS

    with state.lock_of(workspace.visitor):
        pairs = state.load_pairs_of(workspace)
        if len(pairs) - len(ids) < MIN_PAIRS:
            raise UserError(f"At least {MIN_PAIRS} pairs must stay: drop fewer, or load others in step 1.")
        left = pairs.without(ids)
        path = left.to_jsonl(workspace.folder / "pairs.jsonl")
        about = {"path": str(path), "count": len(left), "fingerprint": left.fingerprint}
        about["edited"] = int(workspace.pairs.get("edited") or 0) + 1
        return state.change(workspace.visitor, pairs=workspace.pairs | about)


def _pairs_word(count: int) -> str:
    return f"{count:,} pair" if count == 1 else f"{count:,} pairs"
