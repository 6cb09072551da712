"""The one boundary between prompt and completion, for training, scoring, capture and generation alike.

A sequence is the token ids of the prompt (instruction, dialogue and the marker that opens the answer) followed by the
token ids of the completion. The prompt's ids never depend on the completion, so what a model was trained or scored on
is what it is asked to continue: if a tokenizer would merge characters across the boundary, the two sides are tokenised
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.pairs import Message, as_messages

if TYPE_CHECKING:
    import torch

_PROBE = "\u2402probe\u2403"


@dataclass(frozen=True)
class Limits:
    """The most tokens a prompt (without the instruction) and a completion may have; longer ones are cut."""

    prompt: int = 256
    completion: int = 512

    def within(self, context: int, instruction: int = 0) -> Limits:
        """The same limits, shrunk so that instruction, prompt and completion fit ``context`` tokens together.

        Raises UserError if the instruction leaves fewer than 16 tokens.
        """
        room = context - instruction
        if room < 16:
            raise UserError(
                f"The model reads {context} tokens at once and the instruction alone takes {instruction}: "
                "shorten the instructions p+ and p-, or choose a model with a longer context."
            )
        completion = min(self.completion, max(room // 2, room - self.prompt))
        return Limits(min(self.prompt, room - completion), completion)


@dataclass(frozen=True)
class Encoded:
    """One sequence: ``ids[:start]`` is the prompt, ``ids[start:]`` the completion (with its end unless it was cut)."""

    ids: list[int]
    start: int
    prompt_cut: bool = False
    completion_cut: bool = False


@dataclass(frozen=True)
class Batch:
    """Padded sequences, each tensor [B, T]. ``predicting_mask`` marks the states that produce the completion's tokens:
    from the last token before the completion to its last token but one."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    completion_mask: torch.Tensor
    predicting_mask: torch.Tensor


class Boundary:
    """How one tokenizer writes a dialogue and where the answer begins.

    The tokenizer's chat template is used where it has one, the ``\\n\\nHuman: ... \\n\\nAssistant:`` form where it has
    none. ``eos_ids`` are the model's end-of-text ids (its generation config may list several).
    """

    def __init__(self, tokenizer, eos_ids: Sequence[int] | None = None) -> None:
        self.tokenizer = tokenizer
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self.eos_ids: set[int] = {int(i) for i in eos_ids or []}
        if tokenizer.eos_token_id is not None:
            self.eos_ids.add(tokenizer.eos_token_id)
        self._bos = self._leading_bos()
        self._system_role = self.has_template and self._template_takes_system()
        self.lead, self.end_ids = self._probe_answer()
        if tokenizer.pad_token_id is not None:
            self.pad_id = int(tokenizer.pad_token_id)
        else:
            self.pad_id = min(self.eos_ids) if self.eos_ids else 0

    # -- what the template does, found out once ------------------------------------------------------------------

    def _leading_bos(self) -> list[int]:
        """The beginning-of-text id, if this tokenizer puts one before plain text."""
        bos = self.tokenizer.bos_token_id
        ids = self.tokenizer("x").input_ids
        return [bos] if bos is not None and ids and ids[0] == bos else []

    def _template_takes_system(self) -> bool:
        """Some templates refuse a system message, others drop it silently: then it goes before the first turn."""
        try:
            text = self._template([{"role": "system", "content": _PROBE}, {"role": "user", "content": "x"}])
        except Exception:  # a template may raise anything; jinja's own errors are not one family
            return False
        return _PROBE in text

    def _probe_answer(self) -> tuple[str, list[int]]:
        """What stands between the prompt and the answer's text, and the ids that end an answer."""
        if not self.has_template:
            eos = self.tokenizer.eos_token_id
            return " ", [eos] if eos is not None else []
        question = [{"role": "user", "content": "x"}]
        whole = self._template([*question, {"role": "assistant", "content": _PROBE}], opens_answer=False)
        before, _, after = whole.partition(_PROBE)
        opening = self._template(question)
        lead = before[len(opening) :] if before.startswith(opening) else ""
        ids = self._ids(after)
        end = next((i for i, token in enumerate(ids) if token in self.eos_ids), None)
        if end is not None:
            return lead, ids[: end + 1]
        if ids and ids[0] in self.tokenizer.all_special_ids:  # an end-of-turn token that is not the end of text
            self.eos_ids.add(ids[0])
            return lead, ids[:1]
        eos = self.tokenizer.eos_token_id
        return lead, [eos] if eos is not None else []

    # -- text ------------------------------------------------------------------------------------------------------

    def _template(self, messages: list[Message], opens_answer: bool = True) -> str:
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=opens_answer, enable_thinking=False
        )

    def render(self, messages: list[Message], instruction: str | None = None) -> str:
        """The text before the answer. The instruction is the system message (joined to one that is there already), or
        stands before the first turn, a blank line between, where the form knows no system role.

        Raises UserError if the chat template refuses the dialogue.
        """
        system = "\n\n".join(
            [instruction] * bool(instruction) + [m["content"] for m in messages if m["role"] == "system"]
        )
        turns = [m for m in messages if m["role"] != "system"]
        if not self.has_template:
            text = "".join(f"\n\n{'Assistant' if m['role'] == 'assistant' else 'Human'}: {m['content']}" for m in turns)
            return f"{system}{text}\n\nAssistant:"
        if system and self._system_role:
            turns = [{"role": "system", "content": system}, *turns]
        elif system:
            first = turns[0] if turns else {"role": "user", "content": ""}
            turns = [{**first, "content": f"{system}\n\n{first['content']}"}, *turns[1:]]
        try:
            return self._template(turns)
        except Exception as error:
            roles = ", ".join(m["role"] for m in turns)
            raise UserError(
                f"The model's chat template refuses a dialogue with the turns {roles} ({str(error)[:120]}): "
                "reorder or merge those turns in the pairs, or choose a model whose template takes them."
            ) from error

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _prompt_text_ids(self, text: str) -> list[int]:
        return (self._bos if not self.has_template else []) + self._ids(text)

    # -- sequences -------------------------------------------------------------------------------------------------

    def fit(self, prompt: str | list[Message], limit: int) -> tuple[list[Message], bool]:
        """The dialogue, cut from its beginning until it has at most ``limit`` tokens, and whether it was cut.

        Whole turns go first, then the beginning of the first turn that is left; the markers that open the answer stay.
        """
        messages = as_messages(prompt)

        def length(candidate: list[Message]) -> int:
            return len(self._prompt_text_ids(self.render(candidate)))

        if length(messages) <= limit:
            return messages, False
        system = [m for m in messages if m["role"] == "system"]
        turns = [m for m in messages if m["role"] != "system"]

        def emptied() -> int:
            return length([*system, {**turns[0], "content": ""}, *turns[1:]])

        while len(turns) > 2 and emptied() > limit:
            turns = turns[2:]
        if system and emptied() > limit:
            system = []
        text = turns[0]["content"]

        def kept(characters: int) -> list[Message]:
            return [*system, {**turns[0], "content": text[len(text) - characters :]}, *turns[1:]]

        shortest = length(kept(0))
        if shortest > limit:
            raise UserError(
                f"A prompt may have {limit} tokens here, but the turn markers alone take {shortest}: "
                "raise the prompt limit or choose a model with a longer context."
            )
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if length(kept(middle)) <= limit else (low, middle - 1)
        return kept(low), True

    def prompt_ids(self, prompt: str | list[Message], instruction: str | None = None, limit: int = 256) -> list[int]:
        """The ids of everything before the completion. ``limit`` bounds the dialogue; the instruction comes on top, so
        that p+ and p- meet the very same dialogue."""
        return self._prompt_text_ids(self.render(self.fit(prompt, limit)[0], instruction))

    def instruction_tokens(self, *instructions: str) -> int:
        """How many tokens the longest of these instructions adds to a prompt."""
        bare = len(self.prompt_ids("x"))
        return max((len(self.prompt_ids("x", text)) - bare for text in instructions if text), default=0)

    def encode(
        self,
        prompt: str | list[Message],
        completion: str,
        instruction: str | None = None,
        limits: Limits | None = None,
    ) -> Encoded:
        """Prompt and completion as ids. The prompt loses its beginning, the completion its end where they are longer
        than ``limits``; a completion that was cut gets no end-of-text."""
        limits = limits or Limits()
        messages, prompt_cut = self.fit(prompt, limits.prompt)
        text = self.render(messages, instruction)
        before = self._prompt_text_ids(text)
        whole = self._prompt_text_ids(text + self.lead + completion)
        after = whole[len(before) :] if whole[: len(before)] == before else self._ids(self.lead + completion)
        after = after + self.end_ids
        cut = len(after) > limits.completion
        return Encoded(before + after[: limits.completion], len(before), prompt_cut, cut)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion's ids, without end-of-text and without the space that opens an answer."""
        ids = [int(i) for i in ids]
        end = next((k for k, token in enumerate(ids) if token in self.eos_ids), len(ids))
        text = self.tokenizer.decode(ids[:end], skip_special_tokens=True)
        return text.removeprefix(self.lead) if self.lead else text


def collate(batch: Sequence[Encoded], pad_id: int, device=None, side: str = "right") -> Batch:
    """Pad sequences to one length, on the given side. Positions count real tokens only, so the side changes nothing."""
    import torch

    width = max(len(item.ids) for item in batch)
    shape = (len(batch), width)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    attention, completion, predicting = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    for row, item in enumerate(batch):
        first = width - len(item.ids) if side == "left" else 0
        last = first + len(item.ids)
        input_ids[row, first:last] = torch.tensor(item.ids, dtype=torch.long)
        attention[row, first:last] = 1
        completion[row, first + item.start : last] = 1
        predicting[row, first + item.start - 1 : last - 1] = 1
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    move = (lambda tensor: tensor.to(device)) if device is not None else (lambda tensor: tensor)
    return Batch(move(input_ids), move(attention), move(positions), move(completion).bool(), move(predicting).bool())


CALL_TOKENS = 64  # a batch more costs about as much time as so many tokens of padding
PART_TOKENS = {"cuda": 4096, "cpu": 1024}  # padded tokens that go through a model at once in training


def part_tokens(device: str) -> int:
    """The most padded tokens of a part of a training batch on a device of this type: enough to keep it busy. (Longer
    sequences go alone.)"""
    return PART_TOKENS.get(device, PART_TOKENS["cuda"])


def by_length(items: Sequence[Encoded], batch_tokens: int = 8192) -> list[list[int]]:
    """:func:`batches` of these sequences."""
    return batches([len(item.ids) for item in items], batch_tokens)


def batches(lengths: Sequence[int], batch_tokens: int = 8192) -> list[list[int]]:
    """Indices of sequences of these lengths in batches of similar length, at most ``batch_tokens`` padded tokens each (a
    sequence that is longer has one of its own), longest first, so that what does not fit into memory fails at once.

    Of all ways to cut the sorted sequences into batches this is the one with the least padding, where a batch more has
    its price too.
    """
    import numpy as np

    lengths = np.array(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    widths = np.maximum(lengths[order], 1)
    cost = np.zeros(len(lengths) + 1, dtype=np.int64)  # of the best way to batch what comes from here on
    ends = np.zeros(len(lengths), dtype=np.int64)
    for first in range(len(lengths) - 1, -1, -1):
        most = max(1, min(len(lengths) - first, batch_tokens // int(widths[first])))
        ways = np.arange(1, most + 1) * widths[first] + cost[first + 1 : first + most + 1]
        best = most - 1 - int(ways[::-1].argmin())  # of equal ones the largest batch
        cost[first], ends[first] = ways[best] + CALL_TOKENS, first + best + 1
    found, first = [], 0
    while first < len(lengths):
        found.append(order[first : ends[first]].tolist())
        first = int(ends[first])
    return found
