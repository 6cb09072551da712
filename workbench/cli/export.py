"""The verb that takes a run away: ``export``."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench.runs import store


def add_verbs(verb) -> None:
    """``export``."""
    it = verb("export", "Copy a run's adapter, or the merged model, with a model card.", export, show_export)
    it.add_argument("run", metavar="RUN")
    it.add_argument("--to", required=True, metavar="DIR")
    it.add_argument("--merge", action="store_true", help="merge the adapter into the weights")
    it.add_argument("--push", metavar="HUB_ID", help="also push to the Hub (signed in, or HF_TOKEN)")


def export(options: Namespace) -> dict[str, Any]:
    """What ``export --json`` prints."""
    from workbench.runs.loading import need_adapter

    run = store.find_run(options.run)
    need_adapter(run)
    from workbench.export import export as write

    return write(
        run.path,
        Path(options.to).expanduser(),
        merge=options.merge,
        push=options.push,
        token=os.environ.get("HF_TOKEN"),
    )


def show_export(result: dict[str, Any]) -> str:
    """What was written, and where."""
    return f"{len(result['files'])} files, {result['bytes'] / 1e6:.1f} MB in {result['path']}"
