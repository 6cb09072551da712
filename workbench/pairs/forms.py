"""What every form of pairs is read with: the columns of a source, messages and answers, instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.pairs.messages import Message, Unfit, messages_of, text_of

Row = dict[str, Any]
Roles = dict[str, str]  # role -> the source's column
Raw = tuple[list[Message], str, str]  # prompt, chosen, rejected
SAMPLE = 50  # rows that are looked at to tell what a source is
INSTRUCTION = ("input", "system", "history")  # optional columns beside "instruction"


class Sample:
    """The columns of a source and its first rows. Columns are found whatever their letter case."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        self.columns = {str(column).strip().lower(): column for column in columns}
        self.rows = rows[:SAMPLE]

    def roles(self, *names: str, optional: Sequence[str] = ()) -> Roles | None:
        """The columns called ``names`` (and those of the optional ones that are there), or None if one is missing."""
        if any(name not in self.columns for name in names):
            return None
        return {name: self.columns[name] for name in (*names, *optional) if name in self.columns}

    def values(self, role: str) -> list[Any]:
        """The column's values that are not null, in the sampled rows."""
        column = self.columns.get(role)
        return [row[column] for row in self.rows if row.get(column) is not None]

    def mostly(self, role: str, test: Callable[[Any], bool]) -> bool:
        """Whether more than half of the column's values pass: some rows may be broken, and are dropped one by one."""
        passed = [test(value) for value in self.values(role)]
        return 2 * sum(passed) > len(passed)


@dataclass(frozen=True)
class Format:
    """One form: a short ``name``, a ``title`` and one phrase ``about`` it for the screen, what ``fits`` it (the roles
    of columns, or None), and how a row is read with these roles (raises Unfit)."""

    name: str
    title: str
    about: str
    fits: Callable[[Sample], Roles | None]
    read: Callable[[Row, Roles], Raw]


def value_of(row: Row, roles: Roles, role: str) -> Any:
    """A row's value in the column that plays this role; None where there is no such column."""
    return row.get(roles[role]) if role in roles else None


def is_list(value: Any) -> bool:
    """Whether a value could be messages, or one message."""
    return isinstance(value, (list, dict))


def is_dialogue(value: Any) -> bool:
    """Whether a value could be the messages of a whole dialogue."""
    return isinstance(value, list) and len(value) > 1


def _answer(messages: list[Message]) -> str:
    if not messages or messages[-1]["role"] != "assistant":
        raise Unfit("no answer")
    return messages[-1]["content"]


def split_dialogues(chosen: list[Message], rejected: list[Message]) -> Raw:
    """Two whole dialogues: the prompt is everything before the last turn, which must be the same and is an answer."""
    answers = _answer(chosen), _answer(rejected)
    if chosen[:-1] != rejected[:-1] or len(chosen) < 2:
        raise Unfit("prompt not shared")
    return chosen[:-1], *answers


def _completion(value: Any) -> list[Message]:
    return [{"role": "assistant", "content": text_of(value)}] if not is_list(value) else messages_of(value)


def join(prompt: list[Message], chosen: Any, rejected: Any) -> Raw:
    """A prompt and two answers, each plain text, one message, or the whole dialogue again (then that is the prompt)."""
    first, second = _completion(chosen), _completion(rejected)
    if len(first) > 1 or len(second) > 1:
        whole = split_dialogues(*(side if len(side) > 1 else [*prompt, *side] for side in (first, second)))
        asked = [message["content"].strip() for message in whole[0]]
        if prompt and prompt[-1]["content"].strip() not in asked:
            raise Unfit("prompt not shared")
        return whole
    return prompt, _answer(first), _answer(second)


def with_system(system: Any, prompt: list[Message]) -> list[Message]:
    """The prompt after a system message, if there is one and the prompt has none yet."""
    if system in (None, "") or any(message["role"] == "system" for message in prompt):
        return prompt
    return [{"role": "system", "content": text_of(system)}, *prompt]


def instruction_of(row: Row, roles: Roles) -> list[Message]:
    """Earlier turns, then instruction and input on two lines, as LLaMA-Factory and Alpaca put them together."""
    parts = [text_of(row.get(roles["instruction"]))]
    if value_of(row, roles, "input"):
        parts.append(text_of(value_of(row, roles, "input")))
    history: list[Message] = []
    turns = value_of(row, roles, "history") or []
    if not isinstance(turns, list):  # a table's cell: there is no common way to write turns into one
        raise Unfit("not text")
    for turn in turns:
        if not isinstance(turn, (list, tuple)) or len(turn) != 2:
            raise Unfit("not text")
        history += [
            {"role": role, "content": text_of(text)} for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
    prompt = [*history, {"role": "user", "content": "\n".join(part for part in parts if part.strip())}]
    return with_system(value_of(row, roles, "system"), prompt)
