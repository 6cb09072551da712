"""What texts have in common: hashes of their letters, and their words in overlapping threes (MinHash)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np

ALIKE = 0.8  # Jaccard similarity of three-word stretches above which two texts are nearly the same
BANDS, ROWS = 10, 4
ENDS = 400  # characters at each end of a text whose words are compared
_SIGNS = bytes(code for code in range(128) if not chr(code).isalpha())
_LOWER = bytes(code + 32 if 65 <= code <= 90 else code for code in range(256))
_OTHER_SIGNS = re.compile(r"[^\w]|_")
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\d_]+")


def letters(text: str) -> bytes:
    """A text's letters: no case, no spaces, no signs, no digits."""
    if text.isascii():
        return text.encode().translate(_LOWER, _SIGNS)
    folded = unicodedata.normalize("NFKC", text).casefold().encode("utf-8", "replace").translate(_LOWER, _SIGNS)
    return _OTHER_SIGNS.sub("", folded.decode()).encode()


def ends(text: str, size: int = ENDS) -> str:
    """A long text's beginning and end."""
    return text if len(text) <= 2 * size else f"{text[:size]} {text[-size:]}"


def digest(*parts: bytes, size: int = 16) -> bytes:
    """One hash of several pieces, their limits included."""
    found = blake2b(digest_size=size)
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


class Groups:
    """Disjoint sets of the numbers 0 to ``count`` - 1."""

    def __init__(self, count: int) -> None:
        self.parent = np.arange(count)

    def root(self, index: int) -> int:
        parent = self.parent
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    def join(self, members: Iterable[int]) -> None:
        """Put these into one set."""
        roots = {self.root(int(index)) for index in members}
        self.parent[list(roots)] = min(roots)

    def sets(self) -> list[np.ndarray]:
        """The sets of two and more, largest first."""
        roots = np.array([self.root(index) for index in np.flatnonzero(self.parent != np.arange(len(self.parent)))])
        if not len(roots):
            return []
        label = self.parent.copy()
        label[self.parent != np.arange(len(self.parent))] = roots
        return sorted((run for run in runs(label)), key=lambda run: (-len(run), run[0]))


def runs(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of equal keys ([N] or [N, 2]), ascending, for every key that is there twice or more."""
    if keys.ndim == 2:
        order = np.lexsort(keys.T[::-1])
        new = (keys[order][1:] != keys[order][:-1]).any(axis=1)
    else:
        order = np.argsort(keys, kind="stable")
        new = keys[order][1:] != keys[order][:-1]
    starts = np.flatnonzero(np.concatenate([[True], new])) if len(keys) else np.zeros(0, dtype=int)
    ends = np.append(starts[1:], len(keys))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        yield np.sort(order[start:end])


class Words:
    """Texts as hashes of their three-word stretches, added one by one."""

    def __init__(self) -> None:
        self._vocabulary: dict[str, int] = {}
        self._texts: list[np.ndarray] = []

    def add(self, text: str) -> None:
        """One text more."""
        known = self._vocabulary
        found = _WORD.findall(ends(text).casefold())
        self._texts.append(np.array([known.setdefault(word, len(known)) for word in found], dtype=np.uint32))

    def alike(self) -> list[tuple[int, int]]:
        """Pairs of texts whose stretches are the same to ALIKE and more; of many, each with the first of them."""
        shingles = self._shingles()
        filled = np.array([len(item) > 0 for item in shingles], dtype=bool)
        owners = np.flatnonzero(filled)
        if len(owners) < 2:
            return []
        signatures = _signatures([shingles[owner] for owner in owners])
        found: set[tuple[int, int]] = set()
        for band in range(BANDS):
            part = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
            mixed = np.zeros(len(part), dtype=np.uint64)
            for column in part.T:
                mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
                mixed ^= mixed >> np.uint64(29)
            for run in runs(mixed):
                found.update((int(owners[run[0]]), int(owners[other])) for other in run[1:])
        return sorted(pair for pair in found if jaccard(shingles[pair[0]], shingles[pair[1]]) >= ALIKE)

    def _shingles(self) -> list[np.ndarray]:
        weights = np.random.default_rng(0).integers(1 << 63, size=len(self._vocabulary) + 1, dtype=np.uint64)
        odd = [np.uint64(item) for item in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)]
        made = []
        for words in self._texts:
            if len(words) < 3:
                made.append(np.zeros(0, dtype=np.uint32))
                continue
            hashed = weights[words]
            made.append(((hashed[:-2] * odd[0] + hashed[1:-1] * odd[1] + hashed[2:] * odd[2]) >> 32).astype(np.uint32))
        return made


def _signatures(shingles: Sequence[np.ndarray]) -> np.ndarray:
    """MinHash, uint32 [texts, BANDS * ROWS]."""
    rng = np.random.default_rng(1)
    every = np.concatenate(shingles)
    starts = np.concatenate([[0], np.cumsum([len(item) for item in shingles])[:-1]])
    out = np.empty((len(shingles), BANDS * ROWS), dtype=np.uint32)
    for column in range(BANDS * ROWS):
        shift, factor = rng.integers(1 << 32, size=2, dtype=np.uint32)
        mixed = (every ^ shift) * (factor | np.uint32(1))
        mixed ^= mixed >> np.uint32(15)
        mixed *= np.uint32(0x85EBCA6B)
        out[:, column] = np.minimum.reduceat(mixed, starts)
    return out


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Size of intersection over size of union of two arrays taken as sets."""
    one, other = set(first.tolist()), set(second.tolist())
    return len(one & other) / max(1, len(one | other))
