"""The verb that takes a run away: ``export``."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench.cli.terminal import ProgressLine
from workbench.progress import Progress
from workbench.runs import store

KINDS = ("adapter", "merged", "vectors", "gguf", "notebook", "report")  # workbench.export's own, which loads more


def add_verbs(verb) -> None:
    """``export``."""
    it = verb("export", "Take a run away: adapter, merged model, vectors, GGUF, notebook, report.", export, show_export)
    it.add_argument("run", metavar="RUN")
    it.add_argument("--to", required=True, metavar="DIR", help="an empty or new folder")
    it.add_argument(
        "--kind",
        nargs="+",
        action="extend",
        default=[],
        choices=KINDS,
        metavar="KIND",
        help=f"what to write, one or several: {', '.join(KINDS)} (adapter)",
    )
    it.add_argument("--merge", action="store_true", help="the same as --kind merged")
    it.add_argument("--scores", metavar="RUN", help="a run of separability whose pictures the report shows")
    it.add_argument(
        "--push", metavar="HUB_ID", help="also push to the Hub, privately (signed in, or HF_TOKEN); pairs stay"
    )
    it.add_argument("--public", action="store_true", help="the repository that is pushed to may be public")


def export(options: Namespace) -> dict[str, Any]:
    """What ``export --json`` prints."""
    from workbench.runs.loading import need_adapter

    run = store.find_run(options.run)
    if run.state != "finished":
        need_adapter(run)
    scores = store.find_run(options.scores).path if options.scores else None
    from workbench.export import export as write

    line = ProgressLine()
    try:
        return write(
            run.path,
            Path(options.to).expanduser(),
            kinds=options.kind,
            merge=options.merge,
            scores=scores,
            push=options.push,
            private=not options.public,
            token=os.environ.get("HF_TOKEN"),
            progress=Progress(line),
        )
    finally:
        line.close()


def show_export(result: dict[str, Any]) -> str:
    """What was written, and where."""
    return f"{len(result['files'])} files, {result['bytes'] / 1e6:.1f} MB in {result['path']}"
