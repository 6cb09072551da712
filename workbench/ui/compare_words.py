"""Which words of an answer are not in the reference's, at their places: what step 4 underlines."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

MOST = 800  # words of either answer; a longer one is not marked, and the page says so
_WORD = re.compile(r"\w+(?:['\N{RIGHT SINGLE QUOTATION MARK}-]\w+)*|[^\w\s]")


def differing(reference: str, text: str) -> list[list[int]] | None:
    """[start, end] of the stretches of ``text`` whose words (or signs) the reference has not in that order, neighbours
    joined; None if one of them is too long to be looked through."""
    old = [match[0].casefold() for match in _WORD.finditer(reference)]
    new = list(_WORD.finditer(text))
    if max(len(old), len(new)) > MOST:
        return None
    matcher = SequenceMatcher(None, old, [match[0].casefold() for match in new], autojunk=False)
    return [
        [new[first].start(), new[last - 1].end()]
        for tag, _, _, first, last in matcher.get_opcodes()
        if tag in ("replace", "insert") and last > first
    ]
