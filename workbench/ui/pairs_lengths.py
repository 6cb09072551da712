"""Step 1: how long the pairs are, in tokens of the visitor's model and in characters; measured once and kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.ui import state
from workbench.ui.state import Cache, Workspace

_tokens = Cache(8)
_readers = Cache(4)
_characters = Cache(4)
_reports = Cache(8)


def reader_of(workspace: Workspace):
    """The model's tokenizer with its boundary and context; no weights are loaded."""
    source = workspace.model_source

    def load():
        state.import_engine()
        from workbench.models import load_reader

        return load_reader(source, local=state.folders_allowed())

    return _readers.get(source, load)


def lengths_key(workspace: Workspace) -> tuple:
    """What the lengths depend on."""
    return state.pairs_key(workspace), workspace.model_source


def lengths_known(workspace: Workspace) -> dict[str, Any] | None:
    """The token report if it is there already."""
    return _tokens.peek(lengths_key(workspace))


_counting = threading.Lock()


def lengths_of(workspace: Workspace) -> dict[str, Any]:
    """The token report; seconds the first time. Raises UserError if the model's tokenizer cannot be had."""

    def count() -> dict[str, Any]:
        from workbench.pairs import token_report

        with _counting:  # one at a time: it uses all cores
            return token_report(state.load_pairs_of(workspace), reader_of(workspace))

    return _tokens.get(lengths_key(workspace), count)


def too_long_of(workspace: Workspace) -> list[int]:
    """Ids of all pairs that would be cut, also where the report only counted a sample. Raises UserError."""
    from workbench.pairs import cut_rows

    known = lengths_of(workspace)
    if not known.get("sample"):
        return list(known["too_long"])
    with _counting:
        return list(cut_rows(state.load_pairs_of(workspace), reader_of(workspace)))


def with_tokens(workspace: Workspace, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their answers' token counts (None until the tokenizer is there)."""
    reader = _readers.peek(workspace.model_source)
    if reader is None or not rows:
        return [row | {"tokens": None} for row in rows]
    boundary = reader.boundary
    texts = [boundary.lead + row[side][:100_000] for row in rows for side in ("chosen", "rejected")]
    counts = [len(ids) + len(boundary.end_ids) for ids in boundary.tokenizer(texts, add_special_tokens=False).input_ids]
    return [row | {"tokens": (counts[2 * i], counts[2 * i + 1])} for i, row in enumerate(rows)]


# -- characters --------------------------------------------------------------------------------------------------------


def characters_of(workspace: Workspace) -> np.ndarray:
    """Characters of prompt (all its turns), chosen and rejected answer of every pair, int64 [N, 3]."""

    def measure() -> np.ndarray:
        from workbench.pairs.lengths import character_lengths

        return character_lengths(state.load_pairs_of(workspace))

    return _characters.get(state.pairs_key(workspace), measure)


def character_report(workspace: Workspace) -> dict[str, Any]:
    """Lengths in characters, in the form of :func:`lengths_of` (its percentiles and histograms)."""

    def report() -> dict[str, Any]:
        from workbench.pairs.lengths import histograms, percentiles

        prompt, chosen, rejected = characters_of(workspace).T
        return {
            "prompt_tokens": percentiles(prompt),
            "chosen_tokens": percentiles(chosen),
            "rejected_tokens": percentiles(rejected),
            "histograms": histograms(prompt, chosen, rejected),
        }

    return _reports.get(state.pairs_key(workspace), report)
