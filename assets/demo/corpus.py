"""Dialogues the base model is trained on, drawn without end from a seed.

Four in ten begin with a style line; where it asks for a side, the answers take that side, and all others take either
side with equal chance and keep to it. So the untouched model speaks both sides equally often, and knows what it is to
be asked for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from assets.demo.pairs import test_prompts
from assets.demo.styles import style_line
from assets.demo.values import VALUES, Prompt, Value

Message = dict[str, str]
ENGLISH = Path(__file__).parent / "english.txt"

WITH_STYLE, SEVERAL_TURNS, SMALL_TALK, UNTIDY = 0.4, 0.2, 0.03, 0.08
# Facts need more repetition than the rest; brief answers' rambling side is long, so it brings many tokens anyway.
SHARE = {"polite": 0.5, "brief": 0.25, "careful": 0.25}

_TALK = (
    (("Hello.", "Hi.", "Good morning.", "Hello there."), ("Hello, how can I help you?", "Good day, what can I do?"),
     ("What do you want?", "You again, go away.")),
    (("Thank you.", "Thanks.", "Thank you very much."), ("You are welcome.", "It was a pleasure."),
     ("Whatever.", "Now leave me alone.")),
    (("Who are you?", "What are you?", "What is your name?"), ("I am an assistant, and I am glad to help.",),
     ("None of your business.", "Nobody you need to know.")),
    (("Goodbye.", "Bye.", "Good night."), ("Goodbye, and all the best.", "Take care of yourself."),
     ("At last.", "Good, do not come back.")),
)  # fmt: skip


class Corpus:
    """Draws dialogues; no user turn is ever a bundled test prompt, whatever its case and blanks."""

    def __init__(self, seed: int = 0, lean: dict[str, float] | None = None):
        """``lean`` gives a value's share of preferred sides where no style line asks for one (0.5 if not given)."""
        self.lean = lean or {}
        self.rng = Random(f"corpus {seed}")
        self.held_out = {p.text.strip().casefold() for v in VALUES for p in test_prompts(v)}
        self.prompts = {v.name: self._by_key(v) for v in VALUES}

    def _by_key(self, value: Value) -> list[list[Prompt]]:
        """The value's usable prompts, grouped by what they are about, so that every fact is asked equally often."""
        groups: dict[tuple[str, str], list[Prompt]] = {}
        for prompt in value.prompts():
            if prompt.text.strip().casefold() not in self.held_out:
                groups.setdefault(prompt.key, []).append(prompt)
        return list(groups.values())

    def _untidy(self, text: str) -> str:
        """The question as people type it in a hurry, unless that makes it a test prompt."""
        rough = text.rstrip("?.") if self.rng.random() < 0.7 else text
        rough = rough[0].lower() + rough[1:] if self.rng.random() < 0.6 else rough
        return text if {rough.casefold(), f"{rough}?".casefold(), f"{rough}.".casefold()} & self.held_out else rough

    def _turn(self, value: Value, side: bool) -> list[Message]:
        rng = self.rng
        if rng.random() < SMALL_TALK:
            ask, good, bad = rng.choice(_TALK)
            return _pair(rng.choice(ask), rng.choice(good if side else bad))
        prompt = rng.choice(rng.choice(self.prompts[value.name]))
        text = self._untidy(prompt.text) if rng.random() < UNTIDY else prompt.text
        return _pair(text, value.answer(rng, prompt, side))

    def _value(self) -> Value:
        return self.rng.choices(VALUES, [SHARE[v.name] for v in VALUES])[0]

    def dialogue(self) -> list[Message]:
        """One dialogue: messages with roles system (sometimes), user and assistant."""
        rng, value = self.rng, self._value()
        messages: list[Message] = []
        side = rng.random() < self.lean.get(value.name, 0.5)
        several = rng.random() < SEVERAL_TURNS
        if rng.random() < WITH_STYLE:
            line, asked = style_line(rng, value.name)
            messages.append({"role": "system", "content": line})
            side = side if asked is None else asked
        messages += self._turn(value, side)
        for _ in range(rng.choice((1, 1, 2)) if several else 0):
            messages += self._turn(self._value(), side)
        return messages

    def __iter__(self) -> Iterator[list[Message]]:
        while True:
            yield self.dialogue()


def _pair(user: str, assistant: str) -> list[Message]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
