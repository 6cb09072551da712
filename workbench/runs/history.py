"""What finished runs of this machine teach about those to come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.runs import store

LEARN_FROM = 60  # the newest runs


def history(owner: str | None = None, but: Path | None = None) -> list[dict[str, Any]]:
    """What the newest finished alignments took and measured (see ``rahf.estimate.history_row``), newest first: of one
    owner or of everybody, and not of the run in the folder ``but``."""
    from workbench.rahf.estimate import history_row

    rows = []
    for run in store.list_runs(owner)[:LEARN_FROM]:
        if but is not None and run.path == but.resolve():
            continue
        status = run.status()
        if status["state"] != "finished" or not isinstance(status["result"], dict):
            continue
        try:
            config = run.config()
        except UserError:  # damaged: it teaches nothing
            continue
        if row := history_row(config, status["result"], float(status["seconds"] or 0)):
            rows.append(row)
    return rows
