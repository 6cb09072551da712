"""Step 4's chat of one visitor: the same message to every column, each with its own history; kept in the workspace, so that
a reload or a restart finds it.

A chat is plain data: ``columns`` and ``names`` (as they were when it was answered), ``turns`` ({"user": text or messages,
"sampling", "answers": one a column or None}), ``marks`` of the last turn (see ``compare_marks``), ``notice``. An answer is
what ``compare_draw`` makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.jsonfile import read_json, write_whole
from workbench.progress import finite
from workbench.ui import answers, compare_columns, compare_marks, state
from workbench.ui.compare_desk import Job, desk
from workbench.ui.compare_draw import blank, draw
from workbench.ui.state import Workspace

if TYPE_CHECKING:
    from workbench.generation import Sampling
    from workbench.runs.store import Run

Chat = dict[str, Any]
FILE = "compare.json"
LONGEST = 4000  # characters of a message
MOST_TURNS = 20
EVERY = 0.05  # seconds between two looks at growing answers
KIND = "chat"  # of a job


def open_chat(workspace: Workspace) -> Chat:
    """The chat as it was left; an empty one where there is none, or its file is damaged."""
    chat = read_json(workspace.folder / FILE) or {}
    whole = isinstance(chat.get("turns"), list) and isinstance(chat.get("columns"), list)
    return chat if whole and _sound(chat) else {"columns": [], "names": [], "turns": [], "marks": None}


def _sound(chat: Chat) -> bool:
    count = len(chat["columns"])
    return all(
        isinstance(turn, dict) and isinstance(turn.get("answers"), list) and len(turn["answers"]) == count
        for turn in chat["turns"]
    )


def save(workspace: Workspace, chat: Chat) -> None:
    """Keep the chat. Raises UserError if the disk does not take it."""
    try:
        workspace.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(workspace.folder / FILE, json.dumps(finite(chat), ensure_ascii=False), sync=False)
    except OSError as error:
        raise UserError(f"The chat could not be kept ({error.strerror or error}): free some disk space.") from error


def clear(visitor: str) -> None:
    """Forget the visitor's chat."""
    desk.stop(visitor, KIND, drop=True)
    (state.open_workspace(visitor).folder / FILE).unlink(missing_ok=True)


def dialogue(chat: Chat, column: int) -> list[dict[str, str]]:
    """What a column has before its next answer: every message so far and its own answers to them."""
    from workbench.pairs import as_messages

    found: list[dict[str, str]] = []
    for turn in chat["turns"]:
        found += as_messages(turn["user"])
        said = turn["answers"][column]
        if said is not None and turn is not chat["turns"][-1]:
            found.append({"role": "assistant", "content": said["text"]})
    return found


# -- what the visitor does ---------------------------------------------------------------------------------------------


def message(text: Any) -> str:
    """A message that was typed. Raises UserError for none, or too long a one."""
    text = str(text or "").strip()
    if not text:
        raise UserError("There is nothing to answer yet: write a prompt.")
    if len(text) > LONGEST:
        raise UserError(f"A message may have up to {LONGEST:,} characters here, not {len(text):,}.")
    return text


def ask(visitor: str, main: Run, prompt: Any, drawn: Sampling) -> Job:
    """A new chat with this first message."""
    return _begin(visitor, main, [], message(prompt), drawn)


def reply(visitor: str, main: Run, text: Any, drawn: Sampling) -> Job:
    """The next message of the chat, to every column with its own history. Raises UserError where there is no chat, it is
    at work, or its columns have changed."""
    chat, text = _at_rest(visitor), message(text)
    columns = compare_columns.columns_of(state.open_workspace(visitor), main)
    if not chat["turns"] or columns != chat["columns"] or None in chat["turns"][-1]["answers"]:
        raise UserError("Not every column has answered yet: ask first, then reply.")
    if len(chat["turns"]) >= MOST_TURNS:
        raise UserError(f"A chat may have {MOST_TURNS} messages here: begin a new one.")
    return _begin(visitor, main, chat["turns"], text, drawn)


def again(visitor: str, main: Run, next_seed: bool) -> Job:
    """The last message answered once more: with the next seed, or with the same (which repeats the answers exactly)."""
    from workbench.generation import Sampling

    chat = _at_rest(visitor)
    if not chat["turns"]:
        raise UserError("There is nothing to answer again yet: ask something.")
    *before, last = chat["turns"]
    kept = dict(last["sampling"])
    drawn = Sampling(**kept | {"seed": (kept["seed"] + next_seed) % 2**31})
    columns = compare_columns.columns_of(state.open_workspace(visitor), main)
    if before and columns != chat["columns"]:
        raise UserError("The columns have changed since the chat began: begin a new one.")
    return _begin(visitor, main, before, last["user"], drawn)


def show_row(visitor: str, main: Run, columns: list[Any], row: dict[str, Any], sampling: dict[str, Any]) -> Job:
    """A row of the list of prompts, opened as a chat of one turn: its answers are read, not drawn again."""
    turn = {"user": row["prompt"], "sampling": sampling, "answers": row["answers"]}
    return _begin(visitor, main, [], turn["user"], None, columns, turn)


def columns_changed(visitor: str, before: list[Any], now: list[Any]) -> Chat:
    """The chat after its columns changed: of a single turn the columns that stay keep their answers; a longer chat ends,
    since a new column has no history of its own (one that is taken away changes nothing for the others)."""
    workspace = state.open_workspace(visitor)
    chat = _at_rest(visitor)
    if not chat["turns"] or chat["columns"] != before:
        return chat
    gone = len(now) < len(before)
    kept = [before.index(column) if column in before else None for column in now]
    if len(chat["turns"]) > 1 and not gone:
        asked = chat["turns"][0]["user"]
        chat = {"columns": now, "names": [], "turns": [], "marks": None, "asked": asked}
        chat["notice"] = "A new chat begins: another column has no part in the old one."
    else:
        chat["turns"] = [turn | {"answers": _moved(turn["answers"], kept)} for turn in chat["turns"]]
        marks = _moved(chat["marks"], kept) if chat.get("marks") else None
        same = compare_marks.reference_of(now) == compare_marks.reference_of(before) and len(now) == len(before)
        chat |= {"columns": now, "marks": marks if same and None not in marks else None}
    chat["names"] = compare_columns.names(workspace, now)
    save(workspace, chat)
    return chat


def _moved(items: list[Any], kept: list[int | None]) -> list[Any]:
    return [None if place is None else items[place] for place in kept]


def _at_rest(visitor: str) -> Chat:
    if desk.job(visitor, KIND):
        raise UserError("The answers are still being written: wait for them, or stop them.")
    return open_chat(state.open_workspace(visitor))


# -- answering ---------------------------------------------------------------------------------------------------------


def _begin(
    visitor: str,
    main: Run,
    before: list[Any],
    user: Any,
    drawn: Sampling | None,
    columns: list[Any] | None = None,
    turn: dict[str, Any] | None = None,
) -> Job:
    """Put a turn on the desk; ``turn`` has its answers already and is only to be read."""
    workspace = state.open_workspace(visitor)
    columns = columns or compare_columns.columns_of(workspace, main)
    turn = turn or {"user": user, "sampling": asdict(drawn), "answers": [blank() for _ in columns]}
    chat = {
        "columns": columns,
        "names": compare_columns.names(workspace, columns),
        "turns": [*before, turn],
        "marks": None,
        "live": "" if answers.is_loaded(main) else "Loading the model: a few seconds, the first time",
    }

    job = desk.ask(
        visitor,
        KIND,
        lambda: compare_columns.ready(workspace, main, columns),
        lambda job, ready: _answering(job, workspace, main, ready, chat, asks=drawn is not None),
    )
    if job.shown is None:
        job.show(chat | {"live": chat["live"] or "Thinking"})
    return job


def _answering(
    job: Job, workspace: Workspace, main: Run, ready: compare_columns.Ready, chat: Chat, asks: bool
) -> Iterator[None]:
    """The pieces of a turn: its tokens, then what is read of its answers. Keeps the chat at the end, also of a turn that was
    stopped; of one that failed nothing is kept."""
    from workbench.generation import Row, Sampling

    loaded, sampling = ready.loaded, Sampling(**chat["turns"][-1]["sampling"])
    speakers = yield from ready.speakers()
    dialogues = [dialogue(chat, place) for place in range(len(speakers))]
    with answers.using(loaded, speakers):
        if asks:
            luck = len(chat["turns"]) - 1  # a reply is drawn with other luck than the message before
            rows = [Row(said, one, luck) for said, one in zip(dialogues, speakers, strict=True)]

            def show(said: list[Any]) -> None:
                chat["turns"][-1]["answers"] = said
                job.show(_copied(chat) | {"live": "Answering"})

            chat["turns"][-1]["answers"] = yield from draw(job, loaded, rows, sampling, EVERY, show)
        if not job.stopping:
            chat = yield from _read(job, main, ready, chat, speakers, dialogues, sampling)
    if not job.dropped:
        chat = {key: value for key, value in chat.items() if key != "live"}
        save(workspace, chat)
        job.show(chat)


def _copied(chat: Chat) -> Chat:
    """What is shown must not change while it is looked at."""
    return chat | {"turns": [dict(turn) for turn in chat["turns"]]}


def _read(
    job: Job,
    main: Run,
    ready: compare_columns.Ready,
    chat: Chat,
    speakers: Any,
    dialogues: Any,
    sampling: Sampling,
) -> Iterator[None]:
    turn = chat["turns"][-1]
    job.show(_copied(chat) | {"live": "Reading"})
    yield
    ids = [said["ids"] for said in turn["answers"]]
    reference = compare_marks.reference_of(chat["columns"])
    marks = yield from compare_marks.read(ready.loaded, speakers, dialogues, ids, reference, ready.axes, sampling)
    said = answers.oracle_labels(main, dialogues, [one["text"] for one in turn["answers"]])
    for place, label in enumerate(said or []):
        marks[place]["oracle"] = label
    return chat | {"marks": marks}
