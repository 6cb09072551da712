"""Starting work that fills a device: what every step that has a Start does, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import quota, state

if TYPE_CHECKING:
    from workbench.runs.store import Run


def start_run(visitor: str, kind: str, config: dict[str, Any], coming: int) -> Run:
    """Make a run of ``kind`` that will write some ``coming`` bytes, and let it start when the device is free.

    Raises UserError, and then leaves nothing behind, if the visitor's share of the disk or the queue has no room.
    """
    from workbench.runs import store, worker

    quota.need(visitor, coming)
    run = store.create(kind, config, owner=visitor)
    quota.expect(run, coming)
    state.forget_models()
    try:
        worker.submit(run)
    except UserError:
        run.delete()
        raise
    return run
