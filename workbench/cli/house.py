"""Verbs that keep house among runs: the queue, names, the bin, and runs beside each other."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from workbench.cli.terminal import duration, plain, table
from workbench.errors import UserError
from workbench.runs import bin, comparing, queue, store


def add_verbs(verb) -> None:
    """``queue``, ``rename``, ``delete``, ``restore``, ``differ``."""
    it = verb("queue", "Show which runs work and which wait, and reorder them.", waiting, show_waiting)
    it.add_argument("run", metavar="RUN", nargs="?", help="with --sooner or --later: the run to move")
    way = it.add_mutually_exclusive_group()
    way.add_argument("--sooner", action="store_true", help="before the one that waits before it")
    way.add_argument("--later", action="store_true", help="after the one that waits after it")

    it = verb("rename", "Give a run a name of your own, or a note.", rename, show_rename)
    it.add_argument("run", metavar="RUN")
    it.add_argument("title", metavar="NAME", nargs="?", help="the name; an empty one takes it back")
    it.add_argument("--note", metavar="TEXT")

    it = verb("delete", "Put a run into the bin, where it stays for a week.", delete, show_delete)
    it.add_argument("run", metavar="RUN")

    it = verb("restore", "Take a run out of the bin; without a name, list what is there.", restore, show_restore)
    it.add_argument("run", metavar="RUN", nargs="?")

    it = verb("differ", "Show in which settings runs differ, and what came of each.", differ, show_differ)
    it.add_argument("runs", metavar="RUN", nargs="+")


def waiting(options: Namespace) -> dict[str, Any]:
    """What ``queue --json`` prints: working and waiting runs in order. Looking also starts what is due."""
    queue.tend()
    if options.run:
        if not (options.sooner or options.later):
            raise UserError("Say where to: python -m workbench queue RUN --sooner, or --later.")
        queue.move(store.find_run(options.run), -1 if options.sooner else 1)
    known = queue.entries()
    rows = []
    for entry in known:
        place = queue.place(entry.run, known) or {"position": 0, "seconds": queue.remaining(entry)}
        rows.append(
            {
                "run": entry.run.name,
                "state": entry.status["state"],
                "device": entry.device,
                "position": place["position"],
                "seconds": place["seconds"],
            }
        )
    return {"queue": rows}


def show_waiting(result: dict[str, Any]) -> str:
    """The queue for a reader."""
    if not result["queue"]:
        return "No run works or waits."
    rows = [
        row | {"place": row["position"] or "works", "starts_in": duration(row["seconds"]) if row["position"] else "-",
               "left": duration(row["seconds"]) if not row["position"] else "-"}
        for row in result["queue"]
    ]  # fmt: skip
    return table(rows, ("place", "run", "device", "starts_in", "left"))


def rename(options: Namespace) -> dict[str, Any]:
    """What ``rename --json`` prints."""
    if options.title is None and options.note is None:
        raise UserError("Say what to call it: python -m workbench rename RUN NAME, or --note TEXT.")
    run = store.find_run(options.run)
    run.describe(options.title, options.note)
    return {"run": run.name} | run.about()


def show_rename(result: dict[str, Any]) -> str:
    """One line."""
    return f"{result['run']}  {result['title'] or '(no name)'}{'  ' + result['note'] if result['note'] else ''}"


def delete(options: Namespace) -> dict[str, Any]:
    """What ``delete --json`` prints."""
    run = store.find_run(options.run)
    bin.throw_away(run)
    return {"run": run.id, "state": "deleted"}


def show_delete(result: dict[str, Any]) -> str:
    """One line, with the way back."""
    return f"{result['run']} deleted; python -m workbench restore {result['run']} takes it back within a week"


def restore(options: Namespace) -> dict[str, Any]:
    """What ``restore --json`` prints: the run, or what is in the bin."""
    if options.run:
        found = [run for run in bin.thrown_away() if run.id.startswith(options.run)]
        if len(found) != 1:
            raise UserError(
                f"{len(found) or 'No'} deleted runs begin with {options.run}: see python -m workbench restore."
            )
        return {"run": bin.restore(found[0].id).name}
    return {"bin": [{"run": run.id, "kind": run.kind, "title": run.about()["title"]} for run in bin.thrown_away()]}


def show_restore(result: dict[str, Any]) -> str:
    """One line, or the bin."""
    if "run" in result:
        return f"{result['run']} is back"
    return table(result["bin"], ("run", "kind", "title")) if result["bin"] else "The bin is empty."


def differ(options: Namespace) -> dict[str, Any]:
    """What ``differ --json`` prints."""
    return comparing.compare([store.find_run(name) for name in options.runs])


def show_differ(result: dict[str, Any]) -> str:
    """A table: a line a setting that differs, and a line a figure; a column a run."""
    names = [f"{number} {run['title'] or run['run']}" for number, run in enumerate(result["runs"], 1)]
    rows = [
        {
            "": row["name"].replace("_", " "),
            **{name: plain(value) for name, value in zip(names, row["values"], strict=True)},
        }
        for row in [*result["settings"], *result["figures"]]
    ]
    return table(rows, ("", *names)) + f"\n{result['same']} other settings are the same."
