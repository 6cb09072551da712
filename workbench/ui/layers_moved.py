"""What an alignment did to the states: the values of the views ``layers-moved`` and ``layers-moved-data``.

The capture behind it is a run of its own (``layers_runs.start_moved``) that reads the same pairs with the base and with
the aligned model and writes movement.json and moved.safetensors.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import context, layers_data, layers_pictures, layers_runs, state
from workbench.ui import layers_view as lv
from workbench.ui.charts import interval
from workbench.ui.state import Cache, Workspace

if TYPE_CHECKING:
    from workbench.runs.store import Run

PICTURE = "moved-picture.json"
DRAWN = 400  # pairs in each of the two small scatters
STEPS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)  # where the bars' axis may end, in half-gaps
HEAD = [
    ("Block", "The block, counted from 0 at the input."),
    ("Chosen moved", "How far the chosen answers' states moved along the preference axis; 2 is the whole way from the "
     "rejected mean to the chosen mean, below 0 is towards rejected."),
    ("Rejected moved", "The same of the rejected answers' states."),
    ("Relative size", "The mean length of the move as a share of the state's own length."),
    ("Cosine", "The direction of the mean move against the preference direction: 1 is along it, 0 is across it."),
    ("AUC before", "Held-out AUC of a probe on the base model's states, with its 95% interval."),
    ("AUC after", "The same on the aligned model's states."),
]  # fmt: skip
_moves = Cache(6)


def movement(run: Run) -> dict[str, Any]:
    """The run's movement.json. Raises UserError if it is not there or damaged."""
    path = run.path / "movement.json"
    broken = "What the run moved is missing or damaged: capture the aligned model again."

    def load() -> dict[str, Any]:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["layers"][0]["shift_chosen"], values["finding"], values["target_layers"]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(broken) from error
        return values

    try:
        return _moves.get((str(path), path.stat().st_mtime_ns), load)
    except OSError as error:
        raise UserError(broken) from error


def view(workspace: Workspace) -> dict[str, Any]:
    """The value of the view ``layers-moved``, in whatever state the comparison is."""
    among = layers_runs.alignments(workspace)
    alignment = layers_runs.alignment_of(workspace, among)
    if alignment is None:
        return {
            "phase": "none",
            "title": "What does an alignment move, and where?",
            "lead": "Once a run of step 3 has finished, its states and the base model's are compared here.",
        }
    name = context.run_name(alignment.status())
    shown = {
        "runs": [[run.id, _named(run)] for run in among[:30]],
        "align": alignment.id,
        "name": name,
        "title": f"What did {name} move, and where?",
    }
    run = layers_runs.moved_run(workspace, alignment)
    status = run.status() if run else None
    if status and status["state"] == "finished":
        try:
            return shown | _ready(run)
        except UserError as error:
            status = {"state": "failed", "error": str(error)}
    elif run is not None:
        status = _one_way(run, status)
    return shown | _unready(workspace, status)


def _named(run: Run) -> str:
    import time

    status = run.status()
    at = time.localtime(status.get("ended") or run.created)
    return f"{context.run_name(status)}, {time.strftime('%d %b %H:%M', at)}"


def _one_way(run: Run, status: dict[str, Any]) -> dict[str, Any]:
    """The status with a progress that never goes back, although both models are captured and both are scored."""
    events, _ = run.events()
    if status.get("stage") == "capture":
        passes = sum(event.stage == "capture" and event.step == 0 for event in events)
        total = status.get("total") or 0
        return status | {"step": (status.get("step") or 0) + max(0, passes - 1) * total, "total": 2 * total}
    if status.get("stage") == "score" and any(event.stage == "project" for event in events):
        return status | {"stage": "project"}
    return status


def _unready(workspace: Workspace, status: Mapping[str, Any] | None) -> dict[str, Any]:
    state_now = status["state"] if status else None
    ask = {"label": "Capture the aligned model", "action": "move", "id": "rw-move"}
    blocks = workspace.model.get("blocks") or context.demo_blocks() or 8
    if state_now in layers_runs.LIVE:
        return {
            "phase": "running",
            "title": "Capturing the aligned model",
            "lead": "It goes on when this page is closed; any tab finds it again.",
            "progress": lv.progress(status, blocks),
            "ask": {"label": "Stop", "action": "move_stop", "off": bool(status.get("stopping")), "icon": "stop"},
            "blocks_ahead": blocks,
        }
    ends = {
        "failed": "The capture of the aligned model did not finish",
        "interrupted": "The capture of the aligned model did not finish",
        "stopped": "The capture of the aligned model was stopped",
    }
    if state_now in ends:
        return {
            "phase": "stopped" if state_now == "stopped" else "failed",
            "title": ends[state_now],
            "lead": "Nothing was compared; the run itself is kept as it is.",
            "error": "" if state_now == "stopped" else str(status.get("error") or ""),
            "ask": ask | {"label": "Capture again", "icon": "again"},
            "blocks_ahead": blocks,
        }
    pairs = workspace.pairs["count"] if workspace.pairs else 0
    seconds = layers_runs.seconds_per_pair(workspace)
    return {
        "phase": "before",
        "lead": "The same answers are read by the base and by the aligned model, and compared block by block. "
        + lv.work_estimate(pairs, blocks, 2 * seconds if seconds else None),
        "ask": ask,
        "blocks_ahead": blocks,
    }


def _ready(run: Run) -> dict[str, Any]:
    found, scores = movement(run), layers_data.scores(run)
    before = {int(row["layer"]): row for row in scores["layers"]}
    targets = [int(layer) for layer in found["target_layers"]]
    rows = [row for row in found["layers"] if int(row["layer"]) in before]
    top = _end(rows)
    blocks = []
    for row in rows:
        layer = int(row["layer"])
        old = before[layer]
        blocks.append(
            {
                "l": layer,
                "target": layer in targets,
                "chosen": round(float(row["shift_chosen"]), 3),
                "rejected": round(float(row["shift_rejected"]), 3),
                "relative": round(float(row["relative"]), 4),
                "cosine": round(float(row["cosine"]), 3),
                "before": _auc(old, "probe_auc", "probe_auc_low", "probe_auc_high"),
                "after": _auc(row, "probe_auc_after", "low", "high"),
            }
        )
    return {
        "phase": "ready",
        "run": run.id,
        "title": found["finding"],
        "lead": "",
        "targets": targets,
        "top": top,
        "blocks": blocks,
        "pairs": scores.get("pairs", 0),
        "head": [list(column) for column in HEAD],
        "cells": [_cells(block) for block in blocks],
    }


def _end(rows: Sequence[Mapping[str, Any]]) -> float:
    """Where the bars' axis ends: the first round number that nothing goes beyond."""
    most = max((abs(float(row[key])) for row in rows for key in ("shift_chosen", "shift_rejected")), default=0.0)
    return next((step for step in STEPS if step >= most), most)


def _auc(row: Mapping[str, Any], *keys: str) -> list[float | None]:
    return [None if row.get(key) is None else round(float(row[key]), 4) for key in keys]


def _cells(block: Mapping[str, Any]) -> list[list[str]]:
    def auc(values: Sequence[float | None]) -> list[str]:
        return [f"{values[0]:.2f}" if values[0] is not None else "\N{EN DASH}", interval(values[1], values[2])]

    def signed(value: float) -> list[str]:
        return [f"{value:+.2f}".replace("-", "\N{MINUS SIGN}"), ""]

    return [
        [str(block["l"]) + (" (aligned)" if block["target"] else ""), ""],
        signed(block["chosen"]),
        signed(block["rejected"]),
        [f"{block['relative']:.3f}", ""],
        signed(block["cosine"]),
        auc(block["before"]),
        auc(block["after"]),
    ]


def picture(workspace: Workspace) -> str | None:
    """The value of the view ``layers-moved-data``: coordinates of all blocks before and after. None where nothing is."""
    from workbench.ui import html

    run = layers_runs.moved_run(workspace, layers_runs.alignment_of(workspace, layers_runs.alignments(workspace)))
    if run is None or run.state != "finished":
        return None
    kept = run.path / PICTURE
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    try:
        text = html.value(_picture(run))
    except UserError:  # the view says what is missing
        return None
    from workbench.runs.files import write_whole

    with contextlib.suppress(OSError):  # a full disk: it is made again next time
        write_whole(kept, text, sync=False)
    return text


def _picture(run: Run) -> dict[str, Any]:
    from workbench.representations.files import read_arrays

    base, _ = read_arrays(run.path / "coords.safetensors")
    after, _ = read_arrays(run.path / "moved.safetensors")
    ids = layers_data.pair_ids(run)
    rows = lv.drawn(len(ids), DRAWN)
    sets = {}
    for name in ("axis", "pca"):
        shares = base.get(f"{name}_explained")
        sets[name] = {
            "before": layers_pictures.packed(lv.take_pairs(base[name], rows)),
            "after": layers_pictures.packed(lv.take_pairs(after[name], rows)),
            "names": [
                layers_pictures.axis_names(name, 2, None if shares is None else shares[layer])
                for layer in range(len(base[name]))
            ],
        }
    return {"run": run.id, "ids": [int(id_) for id_ in ids[rows]], "pairs": len(ids), "sets": sets}


def choose(visitor: str, align: Any) -> None:
    """Look at another alignment. Raises UserError for one that is not among the finished ones."""
    workspace = state.open_workspace(visitor)
    if align not in [run.id for run in layers_runs.alignments(workspace)]:
        raise UserError("There is no such finished run of this model: choose one of the list.")
    state.keep_setting(visitor, layers_moved_by=align)
