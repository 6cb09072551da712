"""What is read of finished answers in step 4: each token along the preference axes and under the models that stand beside
each other, where an answer parts from the reference's, and what an oracle says. Done on the desk, a pass a piece.

Of several columns one is the reference: the first that is the bare base, else the first. Log-probabilities are always
those of another column less those of the reference, so that above 0 is what the other model found likelier.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from workbench.ui import answers

if TYPE_CHECKING:
    from workbench.generation import Sampling, Speaker
    from workbench.models import LoadedModel
    from workbench.reading import Axes

Marks = dict[str, Any]


def reference_of(columns: Sequence[dict[str, Any]]) -> int:
    """The place of the column that the others are held against."""
    return next((place for place, column in enumerate(columns) if column["kind"] == "base"), 0)


def parting(reference: Sequence[int], ids: Sequence[int]) -> int | None:
    """The first token at which two answers differ (its place in ``ids``; its length where only the end differs); None for
    equal ones."""
    for place, (one, other) in enumerate(zip(reference, ids, strict=False)):
        if one != other:
            return place
    return None if len(reference) == len(ids) else min(len(reference), len(ids))


def read(
    loaded: LoadedModel,
    speakers: Sequence[Speaker],
    dialogues: Sequence[Any],
    ids: Sequence[list[int]],
    reference: int,
    axes: Axes | None,
    sampling: Sampling,
) -> Generator[None, None, list[Marks]]:
    """One answer a column, read by the models concerned. Returns for each: ``pieces`` (the tokens' texts), ``prefs`` (a list
    of tokens' scores a block; None without axes), ``own`` and ``other`` (log-probabilities in nats, by its own model and by
    the one it is held against), ``against`` (that column's place) and ``parts`` (see :func:`parting`)."""
    from workbench.reading import token_logprobs, token_preferences

    found: list[Marks] = [
        {
            "pieces": answers.pieces(loaded.boundary.decode, one),
            "prefs": None,
            "against": reference if place != reference else next(k for k in range(len(ids)) if k != reference),
            "parts": parting(ids[reference], one) if place != reference else None,
        }
        for place, one in enumerate(ids)
    ]
    if axes is not None:
        prefs = token_preferences(loaded, dialogues, ids, axes, sampling)
        for marks, values in zip(found, prefs, strict=True):
            marks["prefs"] = [[round(float(value), 2) for value in line] for line in values]
        yield
    for place, speaker in enumerate(speakers):
        mine = [k for k, marks in enumerate(found) if place in (k, marks["against"])]
        read = token_logprobs(loaded, [dialogues[k] for k in mine], [ids[k] for k in mine], speaker, sampling)
        for k, values in zip(mine, read, strict=True):
            found[k]["own" if k == place else "other"] = [round(value, 3) for value in values]
        yield
    return found


def mean(values: Sequence[float]) -> float | None:
    """The mean preference of an answer's tokens; None for an empty one."""
    return round(sum(values) / len(values), 3) if values else None
