"""Step 2, Layers: capture all blocks in a run of its own, see where preference is readable, read pairs token by token,
pick the blocks to align, and see what an alignment moved.

The drawing is in static/layers*.js; what is sent there is made in layers_*.py. Whatever the visitor looks at is kept in
the workspace, so that a reload finds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import (
    html,
    layers_data,
    layers_drop,
    layers_moved,
    layers_phase,
    layers_runs,
    layers_tokens,
    layers_umap,
    pairs_data,
    state,
)
from workbench.ui.layers_runs import LIVE, current_run, finished_run
from workbench.ui.layers_scores import POOLINGS, SITES
from workbench.ui.page import Page
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.runs.store import Run

POLLED = 1.0  # seconds between two looks at what is under way


def build(page: Page) -> None:
    """Put the step into the open column."""
    LayersStep(page)


class LayersStep:
    """The components of the step and what they do. One view draws everything; the others carry data to it, so that a
    pick or a click never sends the coordinates again."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.view = html.view("layers", elem_id="rw-layers")
        hidden = {"elem_classes": "rw-hidden"}
        self.data, self.umap, self.pair, self.tokens, self.colour, self.moved, self.moved_data, self.leave = (
            html.view(f"layers-{name}", **hidden)
            for name in ("data", "umap", "pair", "tokens", "colour", "moved", "moved-data", "leave")
        )
        to_align = gr.Button("Align", elem_id="rw-layers-to-align", **hidden)
        self.timer = page.timer(POLLED, self.tick, self._shown, refresh=True)
        self.outputs = self._shown(self.timer)
        self.umaps: set[str] = set()  # visitors whose UMAP was asked for and may not have been sent yet
        # "multiple": Gradio would otherwise drop a second pick that comes while the first is on its way.
        options = {"event": True, "refresh": True, "trigger_mode": "multiple"}
        page.on(self.view.select, self.act, None, [*self.outputs, self.colour], **options)
        # Reading tokens has a lane of its own; of pairs opened meanwhile only the last is read.
        page.on(
            self.tokens.select, self.read, None, self.tokens, event=True, quiet=True,
            trigger_mode="always_last", concurrency_limit=8,
        )  # fmt: skip
        page.go(page.on(self.leave.select, self.to_pairs, event=True), "pairs")
        page.go(to_align.click, "align")
        page.on_show("layers", self.show, self.outputs)

    def _shown(self, timer: gr.Timer) -> list:
        return [self.view, self.data, self.umap, self.pair, self.tokens, self.moved, self.moved_data, timer]

    # -- showing -------------------------------------------------------------------------------------------------------

    def show(self, visitor: str) -> dict:
        """Everything this step shows, from what is on disk."""
        workspace = state.open_workspace(visitor)
        run = current_run(workspace)
        status = run.status() if run else None
        if run is None or status["state"] != "finished":
            live = bool(status) and status["state"] in LIVE
            return {
                self.view: html.value(layers_phase.unready(workspace, status)),
                self.timer: gr.Timer(active=live),
            }
        try:
            ready = layers_data.ready_view(run)
            picture = layers_data.picture(run)
        except UserError as error:
            broken = layers_phase.unready(workspace, {"state": "failed", "error": str(error)})
            return {self.view: html.value(broken), self.timer: gr.Timer(active=False)}
        workspace = layers_phase.settle(workspace, run, ready)
        pair = self._kept_pair(workspace, run, picture)
        return {
            self.view: html.value(layers_phase.with_choices(workspace, run, ready)),
            self.data: picture,
            self.umap: html.value(layers_data.umap_value(run)),
            self.pair: html.value(pair),
            self.tokens: html.value(layers_tokens.known(run, pair.get("id"))),
            **self._moved(workspace, run),
        }

    def _moved(self, workspace: Workspace, run: Run) -> dict:
        """What an alignment moved; and whether anything is still to be watched."""
        moved = layers_moved.view(workspace)
        picture = layers_moved.picture(workspace) if moved["phase"] == "ready" else None
        return {
            self.moved: html.value(moved),
            self.moved_data: picture or html.value(None),
            self.timer: gr.Timer(active=moved["phase"] == "running" or bool(layers_umap.pending(run.path))),
        }

    def _kept_pair(self, workspace: Workspace, run: Run, picture: str) -> dict[str, Any]:
        """The pair that was open, or else a typical one."""
        for id_ in (workspace.settings.get("layers_pair"), json.loads(picture)["typical"]):
            try:
                return layers_data.one_pair(run, id_, layers_drop.edited(workspace))
            except UserError:
                continue
        return {"kind": "none"}

    def tick(self, visitor: str) -> dict:
        """What moved since the last look: a capture, a UMAP, a capture of an aligned model."""
        workspace = state.open_workspace(visitor)
        run = current_run(workspace)
        if run is None:
            return {self.timer: gr.Timer(active=False)}
        if run.state != "finished" or workspace.settings.get("layers_shown") != run.id:
            return self.show(visitor)
        updates = self._moved(workspace, run)
        if visitor in self.umaps:
            if not layers_umap.pending(run.path):
                self.umaps.discard(visitor)
            updates[self.umap] = html.value(layers_data.umap_value(run))
        return updates

    # -- what the page sends -------------------------------------------------------------------------------------------

    def act(self, visitor: str, sent: dict) -> dict:
        """Do what a press on the page asks for."""
        actions: dict[str, Callable[[str, dict], dict]] = {
            "capture": self.capture, "stop": self.stop, "read": self.choose_reading, "pick": self.pick,
            "look": self.look, "open": self.open_pair, "lasso": self.lasso, "clear": self.clear,
            "drop": self.drop, "undo": self.undo, "umap": self.ask_umap, "umap_stop": self.stop_umap,
            "colour": self.colour_by, "move": self.move, "move_stop": self.stop_move, "move_choose": self.choose_move,
        }  # fmt: skip
        action = actions.get(sent.get("action")) if isinstance(sent.get("action"), str) else None
        if action is None:
            raise UserError("This page is older than its server: reload it.")
        return action(visitor, sent)

    def capture(self, visitor: str, sent: dict) -> dict:
        """Start capturing what is chosen."""
        layers_runs.start_capture(visitor)
        return self.show(visitor)

    def stop(self, visitor: str, sent: dict) -> dict:
        """Ask the capture to stop."""
        layers_runs.stop(current_run(state.open_workspace(visitor)))
        return self.show(visitor)

    def choose_reading(self, visitor: str, sent: dict) -> dict:
        """Another pooling or site: shown at once where it was captured before."""
        pooling, site = sent.get("pooling"), sent.get("site")
        if not isinstance(pooling, str) or pooling not in POOLINGS or not isinstance(site, str) or site not in SITES:
            raise UserError("There is no such way of reading the states: choose one of the list.")
        workspace = state.change(visitor, pooling=pooling)
        workspace = state.keep_setting(visitor, layers_site=site)
        run = current_run(workspace)
        state.change(visitor, separability_run=run.id if run else None)
        return self.show(visitor)

    def pick(self, visitor: str, sent: dict) -> dict:
        """Blocks to align."""
        known = [int(score["layer"]) for score in layers_data.scores(finished_run(visitor))["layers"]]
        wanted = sent.get("picked") if isinstance(sent.get("picked"), list) else [None]
        picked = sorted({layer for layer in wanted if type(layer) is int and layer in known})
        if len(picked) != len(wanted):
            raise UserError(f"Blocks are numbered {known[0]} to {known[-1]}: pick among these.")
        state.change(visitor, picked=picked)
        return {}

    def look(self, visitor: str, sent: dict) -> dict:
        """Keep what is on view, for the next reload."""
        seen = layers_phase.seen_from(sent)

        def changes(workspace: Workspace) -> dict[str, Any]:
            kept = workspace.settings.get("layers_view") or {}
            return {"settings": workspace.settings | {"layers_view": kept | seen}}

        if seen:
            state.update(visitor, changes)
        return {}

    def open_pair(self, visitor: str, sent: dict) -> dict:
        """One pair in the panel."""
        workspace, run = state.open_workspace(visitor), finished_run(visitor)
        shown = layers_data.one_pair(run, sent.get("id"), layers_drop.edited(workspace))
        state.keep_setting(visitor, layers_pair=shown["id"])
        known = layers_tokens.known(run, shown["id"])
        return {self.pair: html.value(shown)} | ({self.tokens: html.value(known)} if known else {})

    def lasso(self, visitor: str, sent: dict) -> dict:
        """The pairs within a lasso."""
        return {self.pair: html.value(layers_data.some_pairs(finished_run(visitor), sent.get("ids")))}

    def clear(self, visitor: str, sent: dict) -> dict:
        """No pair."""
        return {self.pair: html.value({"kind": "none"})}

    def drop(self, visitor: str, sent: dict) -> dict:
        """Leave pairs out; picks and scores stay, as scores of before."""
        run = finished_run(visitor)
        dropped, workspace = layers_drop.drop(visitor, run, sent.get("ids"))
        count = workspace.pairs["count"]
        note = f"Dropped {layers_phase.pairs_word(dropped)}; {count:,} are left."
        return self._after_edit(workspace, run, {"kind": "none", "note": note, "undo": True})

    def undo(self, visitor: str, sent: dict) -> dict:
        """Take the last drop back."""
        run = finished_run(visitor)
        workspace = layers_drop.undo(visitor)
        count = workspace.pairs["count"]
        return self._after_edit(workspace, run, {"kind": "none", "note": f"Brought back; there are {count:,} again."})

    def _after_edit(self, workspace: Workspace, run: Run, pair: dict[str, Any]) -> dict:
        ready = layers_phase.with_choices(workspace, run, layers_data.ready_view(run))
        return {self.view: html.value(ready), self.pair: html.value(pair)}

    def ask_umap(self, visitor: str, sent: dict) -> dict:
        """Begin to compute the UMAP of all blocks."""
        run = finished_run(visitor)
        layers_data.ask_umap(run)
        self.umaps.add(visitor)
        return {self.umap: html.value(layers_data.umap_value(run)), self.timer: gr.Timer(active=True)}

    def stop_umap(self, visitor: str, sent: dict) -> dict:
        """End it."""
        run = finished_run(visitor)
        layers_umap.stop(run.path)
        return {self.umap: html.value(layers_data.umap_value(run)), self.timer: gr.Timer(active=True)}

    def colour_by(self, visitor: str, sent: dict) -> dict:
        """The values of a column, to colour the picture by."""
        seed = pairs_data.seed_of(state.open_workspace(visitor))
        return {self.colour: html.value(layers_data.colour_values(finished_run(visitor), sent.get("column"), seed))}

    # -- what an alignment moved ---------------------------------------------------------------------------------------

    def move(self, visitor: str, sent: dict) -> dict:
        """Capture the aligned model."""
        run = finished_run(visitor)
        layers_runs.start_moved(visitor)
        return self._moved(state.open_workspace(visitor), run)

    def stop_move(self, visitor: str, sent: dict) -> dict:
        """Ask that capture to stop."""
        run, workspace = finished_run(visitor), state.open_workspace(visitor)
        alignment = layers_runs.alignment_of(workspace, layers_runs.alignments(workspace))
        layers_runs.stop(layers_runs.moved_run(workspace, alignment))
        return self._moved(workspace, run)

    def choose_move(self, visitor: str, sent: dict) -> dict:
        """Look at another alignment."""
        run = finished_run(visitor)
        layers_moved.choose(visitor, sent.get("run"))
        return self._moved(state.open_workspace(visitor), run)

    # -- tokens, and the way to step 1 ---------------------------------------------------------------------------------

    def read(self, visitor: str, sent: dict) -> dict:
        """The open pair token by token; nothing if another pair was opened while the model was busy."""
        workspace, run, id_ = state.open_workspace(visitor), finished_run(visitor), sent.get("id")

        def wanted() -> bool:
            return state.open_workspace(visitor).settings.get("layers_pair", id_) == id_

        try:
            found = layers_tokens.read(workspace, run, id_, wanted)
        except UserError as error:
            if type(id_) is not int:
                raise
            found = {"run": run.id, "id": id_, "error": str(error)}
        return {self.tokens: html.value(found)} if found else {}

    def to_pairs(self, visitor: str, sent: dict) -> dict:
        """Open a measured pair in step 1's editor."""
        now = layers_drop.now_of(visitor, finished_run(visitor), sent.get("id"))
        state.keep_setting(visitor, pairs_open=now)
        return {}
