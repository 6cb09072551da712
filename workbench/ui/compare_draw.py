"""Drawing answers on the desk of step 4, a token of all rows a piece."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.generation import Row, Sampling
    from workbench.models import LoadedModel
    from workbench.ui.compare_desk import Job

Said = dict[str, Any]


def blank() -> Said:
    """An answer before its first token. ``seconds`` are of the model's work until it ended, those of other visitors left
    out; ``ended``: it ended itself; ``cut``: the beginning of what was asked did not fit."""
    return {"text": "", "ids": [], "seconds": 0.0, "ended": False, "stopped": False, "cut": False}


def draw(
    job: Job,
    loaded: LoadedModel,
    rows: Sequence[Row],
    sampling: Sampling,
    every: float,
    show: Callable[[list[Said]], None],
) -> Generator[None, None, list[Said]]:
    """Answer the rows in one batch; ``show`` gets them as far as they are, at most every so many seconds. Returns them all,
    unfinished ones too if the job was stopped."""
    from workbench.generation import answer_rows, prompt_room

    rooms = {one: prompt_room(loaded, sampling, one) for one in {row.speaker.instruction for row in rows}}
    cuts = [loaded.boundary.fit(row.prompt, rooms[row.speaker.instruction])[1] for row in rows]
    yield
    began, shown, ends = job.used, 0.0, [0.0] * len(rows)
    now: list[Any] = []

    def said() -> list[Said]:
        return [
            {
                "text": one.text,
                "ids": list(one.ids),
                "seconds": round(end or job.used - began, 4),
                "ended": one.ended,
                "stopped": job.stopping and not one.done,
                "cut": cut,
            }
            for one, end, cut in zip(now, ends, cuts, strict=True)
        ]

    for now in answer_rows(loaded, rows, sampling):
        yield  # the piece ends here: its time counts before it is looked at
        ends = [end or (job.used - began if one.done else 0.0) for one, end in zip(now, ends, strict=True)]
        if job.stopping:
            break
        if time.monotonic() - shown >= every:
            shown = time.monotonic()
            show(said())
    return said()
