"""How time and memory of capture and of step 3 grow: one size after another is doubled, three times, all others held, and
the exponent that is measured (the slope of log seconds, or log bytes, over log size) stands beside the one that follows
from counting products and what must be held. What a stage takes with next to nothing to do is measured too, and taken off
before the exponent of time is.

``python -m workbench bench growth`` prints the table that stands in assets/docs/speed.md. Memory is that of a whole pass;
of step 3 that of training alone, with targets that are known already, whose own size is their count of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from workbench.bench import Measure, interleaved
from workbench.bench.synthetic import INSTRUCTION, llama, peak_bytes
from workbench.progress import Progress

REPEATS = 2
RANK = 8  # of adapters


@dataclass(frozen=True)
class Size:
    """A piece of work: ``pairs`` of answers of so many ``tokens`` each, with their prompts; a model of ``blocks`` x
    ``width``; the deepest target block is number ``depth`` (from 1), and ``batch`` answers make a step."""

    pairs: int
    tokens: int
    blocks: int
    width: int
    depth: int = 0
    batch: int = 0

    @property
    def inner(self) -> int:
        return round(self.width * 8 / 3 / 32) * 32  # as in ``synthetic.llama``

    @property
    def traffic(self) -> int:
        """Inputs and outputs of a block's linear layers."""
        return 11 * self.width + 3 * self.inner


CAPTURE = Size(pairs=16, tokens=256, blocks=2, width=256)
STEP3 = Size(pairs=8, tokens=128, blocks=8, width=256, depth=2, batch=16)
NOTHING = {"pairs": 8, "tokens": 4, "blocks": 1, "width": 64, "depth": 1, "batch": 16}  # next to nothing to do
# what grows, through which sizes, and what is other than usual meanwhile
CAPTURE_GROWS: dict[str, tuple[Sequence[int], dict[str, int]]] = {
    "pairs": ((16, 32, 64, 128), {}),
    "tokens": ((256, 512, 1024, 2048), {}),
    "blocks": ((2, 4, 8, 16), {}),
    "width": ((64, 128, 256, 512), {}),
}
STEP3_GROWS: dict[str, tuple[Sequence[int], dict[str, int]]] = {
    "pairs": ((8, 16, 32, 64), {}),
    "tokens": ((128, 256, 512, 1024), {}),
    "blocks": ((2, 4, 8, 16), {}),
    "width": ((64, 128, 256, 512), {}),
    "depth": ((1, 2, 4, 8), {}),
    "batch": ((16, 32, 64), {"pairs": 32}),
}


@dataclass(frozen=True)
class Growth:
    """What came of doubling one size: medians of ``seconds`` and peaks in ``bytes`` (None where they cannot be told), and
    of both the exponents. ``nothing`` are the seconds that are taken off first."""

    stage: str
    grows: str
    sizes: list[int]
    seconds: list[float]
    nothing: float
    bytes: list[int | None]
    seconds_expected: float
    seconds_measured: float
    bytes_expected: float
    bytes_measured: float | None


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log values over log sizes, by least squares."""
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 4) + 0.0  # no minus before a 0


# -- what is expected --------------------------------------------------------------------------------------------------


def forward(size: Size, tokens: int, adapter: bool = False) -> dict[str, float]:
    """Operations of one sequence in one block: those with the weights, of attention (each token with those before it), and
    of an adapter on all linear layers."""
    return {
        "weights": 2 * tokens * (4 * size.width**2 + 3 * size.width * size.inner),
        "attention": 2 * tokens**2 * size.width,
        "adapter": 2 * tokens * RANK * size.traffic if adapter else 0,
    }


def capture_operations(size: Size) -> float:
    """All blocks, both answers of every pair, once."""
    return 2 * size.pairs * size.blocks * sum(forward(size, size.tokens).values())


def step3_operations(size: Size) -> float:
    """Blocks up to the deepest target: three passes for the targets, two of them after an instruction, and one that is
    trained. Back, the frozen weights cost one pass more, attention two and a half, the adapter two."""
    instructed = sum(forward(size, size.tokens + INSTRUCTION, adapter=True).values())
    bare, trained = forward(size, size.tokens), forward(size, size.tokens, adapter=True)
    back = trained["weights"] + 2.5 * trained["attention"] + 2 * trained["adapter"]
    return 2 * size.pairs * size.depth * (2 * instructed + sum(bare.values()) + sum(trained.values()) + back)


def capture_held(size: Size) -> float:
    """Numbers: a batch of at most 8,192 tokens on its way through one block, and the states that are kept."""
    batch = min(8192, 2 * size.pairs * size.tokens)
    return batch * (4 * size.width + 3 * size.inner) + 2 * size.pairs * size.blocks * size.width


def step3_held(size: Size) -> float:
    """Numbers: one part of a batch, kept in every block for the way back, and a block's gradients; the adapter with its
    gradients and the optimiser's two."""
    from workbench.tokens import part_tokens

    part = min(part_tokens("cpu"), size.batch * size.tokens)
    return part * (size.depth + 1) * size.traffic + 4 * RANK * size.traffic * size.depth


# -- what is measured --------------------------------------------------------------------------------------------------


Work = tuple[Callable[[], Any], Callable[[], int | None]]  # what is timed, and what tells the bytes


def capture_work(size: Size) -> Work:
    """A whole capture."""
    from workbench.bench.capture import made
    from workbench.representations.capture import capture

    loaded = llama(size.blocks, size.width)
    pairs, encoded = made(size.pairs, size.tokens, size.tokens)

    def work() -> None:
        capture(loaded, pairs, encoded=encoded)

    return work, lambda: peak_bytes(work)


def step3_work(size: Size) -> Work:
    """A whole step 3 is timed; its training with known targets is weighed."""
    from workbench.bench.step3 import align, fitted, made, prepared
    from workbench.rahf.config import RunConfig
    from workbench.rahf.patterns import Patterns

    config = RunConfig(method="scit", align_batch=size.batch, align_rate=1e-4, lora_rank=RANK)
    loaded = prepared(llama(size.blocks, size.width), config)
    prompt = size.tokens // 3
    examples = made(config, [(prompt, size.tokens - prompt)] * (2 * size.pairs))
    layers = [size.depth - 1]

    def weighed() -> int | None:
        patterns = Patterns(loaded, examples, config, layers)
        patterns.get(range(len(examples)))
        return peak_bytes(lambda: fitted(loaded, patterns, config))

    return (lambda: align(loaded, examples, config, layers)), weighed


def grown(stage: str, grows: str, progress: Progress) -> Growth:
    """Double one size of a stage ("capture" or "step 3")."""
    base, every, operations, held, work = {
        "capture": (CAPTURE, CAPTURE_GROWS, capture_operations, capture_held, capture_work),
        "step 3": (STEP3, STEP3_GROWS, step3_operations, step3_held, step3_work),
    }[stage]
    sizes, others = every[grows]
    points = [replace(base, **others, **{grows: size}) for size in sizes]
    made = [work(point) for point in points]
    ways = {f"{stage}, {grows} {size}": timed for size, (timed, _) in zip(sizes, made, strict=True)}
    ways["nothing"] = work(replace(base, **NOTHING))[0]
    *seconds, nothing = interleaved(ways, REPEATS, progress, "bench").values()
    peaks = [weighed() for _, weighed in made]
    return Growth(
        stage=stage,
        grows=grows,
        sizes=list(sizes),
        seconds=seconds,
        nothing=nothing,
        bytes=peaks,
        seconds_expected=exponent(sizes, [operations(point) for point in points]),
        seconds_measured=exponent(sizes, [max(value - nothing, 1e-9) for value in seconds]),
        bytes_expected=exponent(sizes, [held(point) for point in points]),
        bytes_measured=exponent(sizes, peaks) if all(peaks) else None,
    )


def run(name: str, progress: Progress) -> Measure:
    """Every size of both stages; ``seconds`` is what all of it took."""
    started = perf_counter()
    found = [grown("capture", grows, progress) for grows in CAPTURE_GROWS]
    found += [grown("step 3", grows, progress) for grows in STEP3_GROWS]
    return Measure(
        name=name,
        seconds=perf_counter() - started,
        details={"rows": [asdict(one) for one in found], "text": table(found)},
    )


def table(found: Sequence[Growth]) -> str:
    """The rows as Markdown."""
    lines = [
        "| stage | what grows | seconds (of them for nothing) | expected | measured | MB | expected | measured |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        sizes = ", ".join(map(str, one.sizes))
        seconds = ", ".join(f"{value:.2f}" for value in one.seconds) + f" ({one.nothing:.2f})"
        peaks = ", ".join("?" if value is None else f"{value / 1e6:.0f}" for value in one.bytes)
        weighed = "?" if one.bytes_measured is None else f"{one.bytes_measured:.2f}"
        lines.append(
            f"| {one.stage} | {one.grows}: {sizes} | {seconds} | {one.seconds_expected:.2f} | {one.seconds_measured:.2f} "
            f"| {peaks} | {one.bytes_expected:.2f} | {weighed} |"
        )
    return "\n".join(lines)
