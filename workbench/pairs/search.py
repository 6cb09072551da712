"""Finding text in pairs, whatever its letter case, in Arrow's memory."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def positions_of(wanted: str, batches: Iterable[pa.RecordBatch | pa.Table]) -> np.ndarray:
    """Positions of the rows (of all batches, counted through) that contain the text in a message of ``prompt``, in
    ``chosen`` or in ``rejected``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pattern = pattern_of(wanted)
    found, first = [], 0
    for batch in batches:
        hit = np.zeros(len(batch), dtype=bool)
        for name in ("chosen", "rejected"):
            hit |= np.asarray(pc.match_substring_regex(batch.column(name), pattern, ignore_case=True))
        prompts = batch.column("prompt")
        prompts = prompts.combine_chunks() if isinstance(prompts, pa.ChunkedArray) else prompts
        contents = prompts.flatten().field("content")
        owners = np.asarray(pc.list_parent_indices(prompts))
        hit[owners[np.asarray(pc.match_substring_regex(contents, pattern, ignore_case=True))]] = True
        found.append(np.flatnonzero(hit) + first)
        first += len(batch)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def pattern_of(wanted: str) -> str:
    """A regular expression for the text. Together with ignoring case it also takes letters that fold into several for
    those several: "strasse" finds "Straße"."""
    folded, pieces, at = wanted.casefold(), [], 0
    longer = _foldings()
    while at < len(folded):
        for length in (3, 2):
            letters = longer.get(folded[at : at + length])
            if letters:
                pieces.append(f"(?:{re.escape(folded[at : at + length])}|{'|'.join(letters)})")
                at += length
                break
        else:
            pieces.append(_escaped(folded[at]))
            at += 1
    return "".join(pieces)


@cache
def _foldings() -> dict[str, list[str]]:
    """Letters by what they fold into, where that is more than one letter: {"ss": ["ß", "ẞ"], ...}."""
    found: dict[str, list[str]] = {}
    for code in range(0x80, min(sys.maxunicode, 0x1FFFF)):
        if 0xD800 <= code <= 0xDFFF:
            continue
        letter = chr(code)
        if len(folded := letter.casefold()) > 1:
            found.setdefault(folded, []).append(letter)
    return found


def _escaped(letter: str) -> str:
    return re.escape(letter) if letter.isascii() else letter
