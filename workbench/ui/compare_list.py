"""Step 4's list of prompts: held-out ones, typed ones or a file's, answered by all columns in batches; kept in the
workspace, to be read, opened above, voted on and downloaded.

A list is plain data: ``columns``, ``names``, ``sampling``, ``rows`` ({"prompt": text or messages, "answers": one a column,
or None as yet}), ``note``. Answers are those of ``compare_draw``, with ``mean`` (the preference of their tokens at ``block``)
and ``oracle`` where there are any.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.jsonfile import read_json, write_whole
from workbench.progress import finite
from workbench.ui import answers, compare_chat, compare_columns, compare_marks, quota, state
from workbench.ui.compare_desk import Job, desk
from workbench.ui.compare_draw import draw
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.generation import Sampling
    from workbench.runs.store import Run

List = dict[str, Any]
FILE = "compare_list.json"
KIND = "list"  # of a job
SIX = 6  # held-out prompts at once
MOST = 200  # prompts of a list
MOST_FILE = 20 * 10**6  # bytes of an uploaded file
ROWS = 32  # answers decoded together
EVERY = 0.25  # seconds between two looks


def open_list(workspace: Workspace) -> List:
    """The list as it was left; an empty one where there is none, or its file is damaged."""
    kept = read_json(workspace.folder / FILE) or {}
    whole = all(isinstance(kept.get(key), list) for key in ("rows", "columns", "names"))
    return kept if whole else {"columns": [], "names": [], "rows": [], "note": ""}


def typed(text: Any) -> tuple[list[Any], str]:
    """The prompts of a text, one a line, and a note. Raises UserError."""
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    if not lines:
        raise UserError("Write at least one prompt, one per line.")
    return [compare_chat.message(line) for line in lines[:MOST]], _first(len(lines) > MOST)


def of_file(path: str) -> tuple[list[Any], str]:
    """The prompts of an uploaded file, and a note. Raises UserError."""
    from workbench.pairs import prompt_text
    from workbench.pairs.prompts import read_prompts

    file = Path(path)
    if (size := file.stat().st_size) > MOST_FILE:
        raise UserError(
            f"{file.name} has {size / 1e6:.0f} MB; a file of prompts may have {MOST_FILE / 1e6:.0f} MB here."
        )
    state.import_datasets()
    found = read_prompts(file, most=MOST)
    for prompt in found.items:
        compare_chat.message(prompt_text(prompt))
    return found.items, _first(found.more)


def _first(more: bool) -> str:
    return f"Only the first {MOST} prompts were taken." if more else ""


def held_out(workspace: Workspace, main: Run) -> tuple[list[Any], str]:
    """Six prompts that the run never trained on, others than those of the list as far as there are, and a note."""
    held = answers.held_out_prompts(main)
    before = [row["prompt"] for row in open_list(workspace)["rows"]]
    fresh = [prompt for prompt in held if prompt not in before] or held
    return random.SystemRandom().sample(fresh, min(SIX, len(fresh))), ""


def ask(visitor: str, main: Run, prompts: list[Any], note: str, drawn: Sampling) -> Job:
    """Begin to answer the prompts in place of the list that is there."""
    quota.need(visitor)
    workspace = state.open_workspace(visitor)
    columns = compare_columns.columns_of(workspace, main)
    made = {
        "columns": columns,
        "names": compare_columns.names(workspace, columns),
        "sampling": asdict(drawn),
        "rows": [{"prompt": prompt, "answers": None} for prompt in prompts],
        "note": note,
    }
    job = desk.ask(
        visitor,
        KIND,
        lambda: compare_columns.ready(workspace, main, columns),
        lambda job, ready: _answering(job, workspace, main, ready, made),
    )
    if job.shown is None:
        job.show(made | {"live": "Waiting for the model", "done": 0})
    return job


def _answering(job: Job, workspace: Workspace, main: Run, ready: compare_columns.Ready, made: List) -> Iterator[None]:
    from workbench.generation import Row, Sampling

    loaded, axes, sampling = ready.loaded, ready.axes, Sampling(**made["sampling"])
    speakers = yield from ready.speakers()
    made["block"] = answers.block_of(main, loaded.n_blocks) if axes is not None else None
    together = max(1, ROWS // len(speakers))
    rows = made["rows"]
    with answers.using(loaded, speakers):
        for first in range(0, len(rows), together):
            if job.stopping:
                break
            some = rows[first : first + together]
            # The streams of luck are counted over the whole list, so that no two prompts have the same.
            wanted = [Row(row["prompt"], one, first + at) for at, row in enumerate(some) for one in speakers]

            def show(said: list[Any], some: list[Any] = some, done: int = first) -> None:
                for at, row in enumerate(some):
                    row["answers"] = said[at * len(speakers) : (at + 1) * len(speakers)]
                job.show(_copied(made) | {"live": "Answering", "done": done})

            said = yield from draw(job, loaded, wanted, sampling, EVERY, show)
            show(said, done=first + len(some))
            yield from _score(loaded, main, made, some, axes, sampling)
            _save(workspace, job, made)
    if job.stopping:
        done = sum(row["answers"] is not None for row in rows)
        made["note"] = f"Stopped after {done} of {len(rows)} prompts. {made['note']}".strip()
        made["rows"] = [row for row in rows if row["answers"] is not None]
    _save(workspace, job, made)
    job.show(_copied(made))


def _save(workspace: Workspace, job: Job, made: List) -> None:
    if job.dropped:
        return
    try:
        workspace.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        whole = made | {"rows": [row for row in made["rows"] if row["answers"] is not None]}
        write_whole(workspace.folder / FILE, json.dumps(finite(whole), ensure_ascii=False), sync=False)
    except OSError as error:
        raise UserError(f"The answers could not be kept ({error.strerror or error}): free some disk space.") from error


def _copied(made: List) -> List:
    return made | {"rows": [dict(row) for row in made["rows"]]}


def _score(loaded: Any, main: Run, made: List, some: list[Any], axes: Any, sampling: Sampling) -> Iterator[None]:
    from workbench.reading import token_preferences

    prompts = [row["prompt"] for row in some for _ in row["answers"]]
    said = [one for row in some for one in row["answers"]]
    if axes is not None:
        values = token_preferences(loaded, prompts, [one["ids"] for one in said], axes, sampling)
        for one, line in zip(said, values, strict=True):
            one["mean"] = compare_marks.mean([float(value) for value in line[made["block"]]])
        yield
    for one, label in zip(
        said, answers.oracle_labels(main, prompts, [one["text"] for one in said]) or [], strict=False
    ):
        one["oracle"] = label


def row_of(made: List, value: Any) -> dict[str, Any] | None:
    """The row of that number with all its answers, or None."""
    try:
        place = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    row = made["rows"][place] if 0 <= place < len(made["rows"]) else None
    return row if row and row["answers"] is not None else None


# -- taking away -------------------------------------------------------------------------------------------------------


def write_file(visitor: str, kind: Any) -> Path:
    """The answers of the list as a file: a row a prompt in JSON Lines, or a table with a column an answer in CSV, whose cells
    no spreadsheet takes for formulas. Raises UserError."""
    from workbench.pairs import prompt_text

    workspace = state.open_workspace(visitor)
    made = open_list(workspace)
    if not made["rows"]:
        raise UserError("There are no answers to download yet: ask some prompts first.")
    target = workspace.folder / f"answers.{'csv' if kind == 'csv' else 'jsonl'}"
    try:
        with target.open("w", encoding="utf-8", newline="") as out:
            if kind == "csv":
                writer = csv.writer(out)
                writer.writerow(["prompt", *map(_cell, made["names"])])
                for row in made["rows"]:
                    writer.writerow(
                        [_cell(prompt_text(row["prompt"])), *(_cell(one["text"]) for one in row["answers"])]
                    )
            else:
                out.writelines(json.dumps(_line(made, row), ensure_ascii=False) + "\n" for row in made["rows"])
    except OSError as error:
        raise UserError(f"The file could not be written ({error.strerror or error}): free some disk space.") from error
    return target


def _line(made: List, row: dict[str, Any]) -> dict[str, Any]:
    said = [
        {"column": name, "text": one["text"], "tokens": len(one["ids"]), "ended": one["ended"]}
        | {key: one[key] for key in ("mean", "oracle") if one.get(key) is not None}
        for name, one in zip(made["names"], row["answers"], strict=True)
    ]
    return {"prompt": row["prompt"], "answers": said, "sampling": made["sampling"]}


def _cell(text: str) -> str:
    """A text that a spreadsheet shows as it is: one that looks like a formula gets an apostrophe before it."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r") else text
