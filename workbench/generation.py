"""Answers: sampled from one speaker, or from several together in one batch: the base, an adapter, an instruction, steering.

Each prompt has a stream of random numbers of its own, fixed by the seed and its place in the list, and every token is
drawn by inverting the distribution at the next of them. So all speakers answer with the same luck, an answer does
not depend on which other prompts are in the batch (but for rounding), and equal distributions give equal answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from workbench import processes
from workbench.acting import BASE, acting, adapted, on_own_rows, rows_stay_apart
from workbench.cache import ROOM, bytes_a_token, joined, keeps_all, rows_together, with_room
from workbench.errors import UserError
from workbench.models import LoadedModel
from workbench.narrow import Narrow
from workbench.tokens import batches, part_tokens


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. ``temperature`` 0 takes the likeliest token; ``top_p`` keeps the likeliest tokens that
    together have that probability; ``max_new_tokens`` ends an answer that did not end itself."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    seed: int = 0

    def validate(self) -> Sampling:
        """Itself; raises UserError for values that mean nothing."""
        if not 0 <= self.temperature <= 10:
            raise UserError(f"Temperature must be between 0 and 10, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"Top-p must be above 0 and at most 1, not {self.top_p}.")
        if not 1 <= self.max_new_tokens <= 4096:
            raise UserError(f"The longest answer must have 1 to 4096 tokens, not {self.max_new_tokens}.")
        return self


@dataclass(frozen=True)
class Steering:
    """Vectors added to block outputs while an answer is generated: ``vectors[block]`` is [d], scaled by ``alpha``."""

    vectors: dict[int, Tensor]
    alpha: float


@dataclass(frozen=True)
class Speaker:
    """Who answers: the base (nothing given), or the base with an adapter (its name), with an instruction before every
    prompt, with steering, or with several of these."""

    adapter: str | None = None
    instruction: str | None = None
    steering: Steering | None = None


@dataclass(frozen=True)
class Row:
    """One answer that is wanted: to this prompt, by this speaker; rows of equal ``stream`` are drawn with the same luck."""

    prompt: Any
    speaker: Speaker
    stream: int = 0


@dataclass
class Answer:
    """One answer so far: its token ids (without end-of-text), and whether it ended itself or was ended."""

    decode: Callable[[Sequence[int]], str] = field(repr=False)
    ids: list[int] = field(default_factory=list)
    done: bool = False
    ended: bool = False

    @property
    def text(self) -> str:
        """The answer as text, decoded when asked for."""
        return self.decode(self.ids)


@dataclass(frozen=True)
class Step:
    """Both sides of every prompt after one more token."""

    base: list[Answer]
    aligned: list[Answer]


def generate(
    loaded: LoadedModel,
    prompts: Sequence,
    sampling: Sampling,
    adapter: str | None = None,
    instruction: str | None = None,
    batch_rows: int = 64,
    steering: Steering | None = None,
) -> list[Answer]:
    """One answer a prompt, by one speaker (see :class:`Speaker`), ``batch_rows`` together (or fewer: see
    :func:`workbench.cache.rows_together`).

    Raises UserError for sampling settings out of range.
    """
    answers: list[Answer] = []
    ids = prompt_ids(loaded, prompts, sampling, instruction)
    longest = max(map(len, ids), default=0) + sampling.max_new_tokens
    together = rows_together(batch_rows, longest, kept_a_token(loaded))
    with acting(loaded, {adapter} if adapter else set()):
        for first in range(0, len(prompts), together):
            some = ids[first : first + together]
            rows, streams = [adapter or BASE] * len(some), range(first, first + len(some))
            *_, last = _decode(loaded, some, rows, streams, sampling, [steering] * len(some))
            answers.extend(last)
    return answers


def answer_together(
    loaded: LoadedModel, prompts: Sequence, sampling: Sampling, speakers: Sequence[Speaker]
) -> Iterator[list[list[Answer]]]:
    """The answers of several speakers to the same prompts with the same luck, decoded in one batch.

    Yields [speaker][prompt] after every token: the same lists, growing. Rows of the base are token for token those of the
    model without adapter. Raises UserError for settings out of range.
    """
    count = len(prompts)
    rows = [Row(prompt, one, stream) for one in speakers for stream, prompt in enumerate(prompts)]
    for answers in answer_rows(loaded, rows, sampling):
        yield [answers[place * count : (place + 1) * count] for place in range(len(speakers))]


def answer_rows(loaded: LoadedModel, rows: Sequence[Row], sampling: Sampling) -> Iterator[list[Answer]]:
    """Answers in one batch, each row with its own prompt, speaker and luck: a chat in which speakers went their own ways
    has a prompt for each. Yields [row] after every token: the same list, growing.

    Between two tokens nothing of this is left in the model, so several of these can take turns, token by token. Raises
    UserError for settings out of range.
    """
    ids = [prompt_ids(loaded, [row.prompt], sampling, row.speaker.instruction)[0] for row in rows]
    adapters = [row.speaker.adapter or BASE for row in rows]
    steering = [row.speaker.steering for row in rows]
    yield from _decode(loaded, ids, adapters, [row.stream for row in rows], sampling, steering)


def compare(
    loaded: LoadedModel,
    prompts: Sequence,
    sampling: Sampling,
    adapter: str = "aligned",
    steering: Steering | None = None,
) -> Iterator[Step]:
    """Base and aligned answers to the same prompts, decoded in one batch: yields both sides after every token.

    ``steering`` acts on the aligned rows only; ``adapter`` may be ``BASE``. See :func:`answer_together`.
    """
    speakers = [Speaker(), Speaker(None if adapter == BASE else adapter, steering=steering)]
    for base, aligned in answer_together(loaded, prompts, sampling, speakers):
        yield Step(base, aligned)


@contextmanager
def speaking(loaded: LoadedModel, speaker: Speaker) -> Iterator[None]:
    """The speaker's adapter and steering act on every pass made within, on all rows and positions. (Its instruction
    belongs into what is encoded.)"""
    with acting(loaded, {speaker.adapter} if speaker.adapter else set()), _steer(loaded, speaker.steering, None):
        yield


@torch.inference_mode()
def kept_a_token(loaded: LoadedModel) -> float:
    """The bytes of keys and values that the model keeps of a token while it answers: seen in a pass of two tokens, since
    families differ in what they keep."""
    ids = torch.zeros(1, 2, dtype=torch.long, device=loaded.device)
    output = loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True)
    return bytes_a_token(getattr(output, "past_key_values", None))


def prompt_ids(loaded: LoadedModel, prompts: Sequence, sampling: Sampling, instruction: str | None) -> list[list[int]]:
    """The ids before each answer, prompts cut to the :func:`prompt_room`."""
    room = prompt_room(loaded, sampling, instruction)
    return [loaded.boundary.prompt_ids(prompt, instruction, limit=room) for prompt in prompts]


def prompt_room(loaded: LoadedModel, sampling: Sampling, instruction: str | None = None) -> int:
    """The most tokens a prompt may have, so that instruction and answer fit too; longer ones lose their beginning
    (``Boundary.fit`` tells whether). Raises UserError for settings out of range or too long an instruction."""
    sampling.validate()
    extra = loaded.boundary.instruction_tokens(instruction) if instruction else 0
    room = loaded.context - extra - min(sampling.max_new_tokens, loaded.context // 2)
    if room < 8:
        raise UserError(f"The instruction takes {extra} of the model's {loaded.context} tokens: shorten it.")
    return room


@torch.inference_mode()
def _decode(
    loaded: LoadedModel,
    prompts: list[list[int]],
    adapters: list[str],
    streams: Sequence[int],
    sampling: Sampling,
    steering: Sequence[Steering | None],
) -> Iterator[list[Answer]]:
    """Decode rows side by side, each with its adapter, stream of luck and steering; yields the answers after every token
    (the same list, growing)."""
    boundary, device = loaded.boundary, loaded.device
    width = max(len(ids) for ids in prompts)
    longest = max(1, min(sampling.max_new_tokens, loaded.context - width))
    luck = torch.stack([luck_of(sampling.seed, index, longest) for index in streams]).to(device)
    lanes = lanes_of(loaded, prompts, adapters, steering, room=longest)
    answers = [Answer(boundary.decode) for _ in prompts]
    for step in range(longest):
        for lane in lanes:
            logits = lane.forward(loaded) if step else lane.read(loaded)
            tokens = processes.in_step(pick(logits[:, -1].float(), luck[lane.rows, step], sampling))
            append_tokens(boundary, [answers[row] for row in lane.rows], tokens.tolist())
            lane.advance(tokens)
        yield answers
        if all(answer.done for answer in answers):
            return


@dataclass
class Lane:
    """Rows that go through the model together, with their cache, which has ``room`` for so many tokens more at once (0:
    it is left as the model makes it)."""

    rows: list[int]
    adapters: list[str]
    steering: list[Steering | None]
    input_ids: Tensor
    mask: Tensor
    positions: Tensor
    room: int = ROOM
    cache: Any = None

    def read(self, loaded: LoadedModel) -> Tensor:
        """:meth:`forward` of the prompts: rows of one adapter and about one length go together, so that adapters act on
        their own rows only and little padding is read. Where the model's cache does not keep everything, all go in one
        pass."""
        lengths, groups = self.mask.sum(1).tolist(), []
        for name in dict.fromkeys(self.adapters):
            rows = [row for row, one in enumerate(self.adapters) if one == name]
            found = batches([lengths[row] for row in rows], part_tokens(loaded.device.type))
            groups += [[rows[place] for place in places] for places in found]
        if len(groups) == 1 or not keeps_all(DynamicCache(config=_base(loaded.model).config)):
            return self.forward(loaded)
        parts = [self._part(rows) for rows in groups]
        logits = torch.cat([part.forward(loaded) for part in parts])
        if not all(keeps_all(part.cache) for part in parts):  # the model makes a cache of its own
            return self.forward(loaded)
        self.cache = joined([(part.rows, part.cache) for part in parts], self.room)
        return logits[torch.tensor([row for rows in groups for row in rows]).argsort()]

    def _part(self, rows: list[int]) -> Lane:
        """Some of the rows, without the padding that only the others need."""
        width = int(self.mask[rows].sum(1).max())
        tensors = (tensor[rows, -width:] for tensor in (self.input_ids, self.mask, self.positions))
        adapters, steering = [self.adapters[row] for row in rows], [self.steering[row] for row in rows]
        return Lane(rows, adapters, steering, *tensors, room=0)

    def forward(self, loaded: LoadedModel) -> Tensor:
        """Logits of the last position, [rows, 1, V]."""
        model, base = loaded.model, _base(loaded.model)
        takes = inspect.signature(base.forward).parameters
        inputs = {
            "input_ids": self.input_ids,
            "attention_mask": self.mask,
            "past_key_values": self.cache,
            "use_cache": True,
        }
        if "position_ids" in takes:
            inputs["position_ids"] = self.positions
        if "logits_to_keep" in takes:
            inputs["logits_to_keep"] = 1
        names = set(self.adapters)
        layers = adapted(model)  # not kept: somebody may have loaded another adapter since the last token
        mixed = len(names) > 1
        own = on_own_rows(layers, self.adapters) if mixed else nullcontext()
        narrow = Narrow() if self.input_ids.shape[1] == 1 and loaded.device.type == "cpu" else nullcontext()
        with self._steered(loaded), acting(loaded, set() if mixed else names - {BASE}, layers), own, narrow:
            output = model(**inputs)
        fresh = self.cache is None and self.room
        self.cache = with_room(output.past_key_values, self.room) if fresh else output.past_key_values
        return output.logits

    @contextmanager
    def _steered(self, loaded: LoadedModel) -> Iterator[None]:
        """Every row's own steering acts within."""
        with ExitStack() as stack:
            for one in dict.fromkeys(id(item) for item in self.steering if item is not None):
                places = [place for place, item in enumerate(self.steering) if id(item) == one]
                stack.enter_context(_steer(loaded, self.steering[places[0]], places))
            yield

    def advance(self, tokens: Tensor) -> None:
        self.input_ids = tokens[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self.positions = self.positions[:, -1:] + 1


def _base(model: nn.Module) -> nn.Module:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def lanes_of(
    loaded: LoadedModel,
    prompts: list[list[int]],
    adapters: list[str],
    steering: Sequence[Steering | None],
    room: int = ROOM,
) -> list[Lane]:
    """One lane for all rows, or one for each adapter: in families whose layers see rows and positions as one axis, and
    for full fine-tunings, which take the base's place."""
    full = loaded.tuned is not None and any(name in loaded.tuned for name in adapters)
    if len(set(adapters)) == 1 or (not full and rows_stay_apart(loaded)):
        groups = [list(range(len(prompts)))]
    else:
        groups = [[row for row, name in enumerate(adapters) if name == wanted] for wanted in dict.fromkeys(adapters)]
    width = max(len(ids) for ids in prompts)
    input_ids = torch.full((len(prompts), width), loaded.boundary.pad_id, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return [
        Lane(
            rows,
            [adapters[row] for row in rows],
            [steering[row] for row in rows],
            *(tensor[rows].to(loaded.device) for tensor in (input_ids, mask, positions)),
            room=min(room, ROOM),
        )
        for rows in groups
    ]


def luck_of(seed: int, index: int, length: int) -> Tensor:
    """The random numbers of one prompt, uniform in [0, 1)."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % (2**63))
    return torch.rand(length, generator=generator, dtype=torch.float64)


def pick(logits: Tensor, luck: Tensor, sampling: Sampling) -> Tensor:
    """The next token of every row, [B]: the one in whose share of the distribution the row's random number falls."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= sampling.top_p
        probabilities = probabilities.scatter(-1, order, ordered.masked_fill(outside, 0.0))
    edges = probabilities.cumsum(-1)
    target = (luck.to(edges.dtype) * edges[:, -1])[:, None]
    return torch.searchsorted(edges, target, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)


def append_tokens(boundary, answers: list[Answer], tokens: list[int]) -> None:
    for answer, token in zip(answers, tokens, strict=True):
        if answer.done:
            continue
        if token in boundary.eos_ids:
            answer.done = answer.ended = True
        else:
            answer.ids.append(token)


@contextmanager
def _steer(loaded: LoadedModel, steering: Steering | None, rows: Sequence[int] | None) -> Iterator[None]:
    """Adds the steering vectors to the given rows' block outputs (None: all rows'), for as long as the context lasts."""
    if steering is None or steering.alpha == 0 or (rows is not None and not rows):
        yield
        return
    where = slice(None) if rows is None else list(rows)

    def shifted(block: int):
        vector = steering.vectors[block].to(loaded.device, loaded.dtype) * steering.alpha

        def hook(module, args, output):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[where] += vector
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    hooks = [loaded.blocks[block].register_forward_hook(shifted(block)) for block in steering.vectors]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
