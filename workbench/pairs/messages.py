"""Dialogues as lists of messages, and what counts as text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from workbench.errors import UserError

Message = dict[str, str]  # {"role": "system" | "user" | "assistant" | "tool", "content": text}

_ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_NAMES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


class Unfit(Exception):
    """A row that cannot become a pair; ``reason`` is a key of :data:`workbench.pairs.checks.REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def text_of(value: Any) -> str:
    """``value`` if it is text that any tokenizer can take.

    Raises Unfit for numbers, null and lists, and for text with NUL characters or halves of characters (lone
    surrogates), which come from damaged files and which no file or tokenizer takes.
    """
    if not isinstance(value, str):
        raise Unfit("not text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Unfit("not text") from error
    if "\x00" in value:
        raise Unfit("not text")
    return value


def clean_completion(text: str) -> str:
    """A completion as every format of ours keeps it.

    Whitespace at its end goes (an end-of-text token follows), and so does one single space at its beginning: in plain
    files it belongs to the place between prompt and answer ("Assistant: text"), and the one boundary in ``tokens.py``
    writes what stands there. A deeper indentation, or a line break at the beginning, is content and stays.
    """
    text = text.rstrip()
    return text[1:] if text[:1] == " " and not text[1:2].isspace() else text


def message_of(value: Any) -> Message:
    """One message in any common spelling: role/content, from/value (ShareGPT), content as parts of type text. Calls of
    tools become text, each on a line as {"name", "arguments"}, as ShareGPT's function_call turns have them.

    Raises Unfit if it is none, has an unknown role, or holds something else than text (pictures).
    """
    if not isinstance(value, dict):
        raise Unfit("not text")
    role = _ROLES.get(str(value.get("role") or value.get("from") or "").strip().lower())
    if role is None:
        raise Unfit("unknown role")
    content = value.get("content", value.get("value"))
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise Unfit("not text")
        content = "\n".join(part["text"] for part in content)
    if calls := value.get("tool_calls") or value.get("function_call"):
        content = "\n".join([*([content] if content else []), *_calls(calls)])
    return {"role": role, "content": text_of(content)}


def _calls(calls: Any) -> list[str]:
    """Calls of tools as JSON. Raises Unfit if they are none."""
    lines = []
    for call in calls if isinstance(calls, list) else [calls]:
        call = call.get("function") or call if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise Unfit("not text")
        arguments = call.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        lines.append(json.dumps({"name": call["name"], "arguments": arguments}, ensure_ascii=False, default=str))
    return lines


def messages_of(value: Any) -> list[Message]:
    """A list of messages (or one message alone) in any common spelling. Raises Unfit."""
    if isinstance(value, dict):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    if not isinstance(value, list):
        raise Unfit("not text")
    return [message_of(item) for item in value]


def is_dialogue_text(text: Any) -> bool:
    """Whether ``text`` is a dialogue of ``\\n\\nHuman:`` and ``\\n\\nAssistant:`` turns (Anthropic HH)."""
    return isinstance(text, str) and (match := _TURN.match(text)) is not None and match[1] == "Human"


def split_dialogue(text: str) -> list[Message]:
    """The turns of an HH dialogue. Whitespace around a turn belongs to the form, not to the turn, and goes."""
    marks = list(_TURN.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        {"role": "user" if mark[1] == "Human" else "assistant", "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]


def prompt_of(value: Any) -> list[Message]:
    """A prompt column's value as messages: plain text is one user message, kept verbatim; an HH dialogue is taken
    apart (its open "Assistant:" at the end dropped); a list is read as messages. Raises Unfit."""
    if not isinstance(value, str):
        return messages_of(value)
    text = text_of(value)
    if not is_dialogue_text(text):
        return [{"role": "user", "content": text}]
    turns = split_dialogue(text)
    return turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns


def as_messages(prompt: str | Sequence[Message]) -> list[Message]:
    """A prompt as messages: plain text is one user message, verbatim. Raises UserError for a list of anything else."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    try:
        return [{"role": message["role"], "content": message["content"]} for message in prompt]
    except (TypeError, KeyError) as error:
        raise UserError(
            "A prompt is plain text or a list of messages with role and content: mend the prompt's form."
        ) from error


def prompt_text(prompt: str | Sequence[Message]) -> str:
    """A prompt for showing: the text alone if it is one user message, else every turn after its speaker's name."""
    messages = as_messages(prompt)
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return "\n\n".join(f"{_NAMES.get(m['role'], m['role'])}: {m['content']}" for m in messages)


def prompt_key(prompt: Sequence[Message]) -> str:
    """What two prompts have in common that must never stand on two sides of a split: letter case, spacing and the
    spelling of characters in Unicode do not tell them apart."""
    return json.dumps([[m["role"], _plain(m["content"])] for m in prompt], ensure_ascii=False)


def _plain(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())
