"""What the pictures of step 2 are made of: packed coordinates with what they show, and values to colour points by.

Pure functions of arrays and lists; static/layers_coords.js unpacks what they make.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.ui import layers_view as lv

JSON = dict[str, Any]

BEGIN, PARTED = 0.7, 0.85  # AUCs in the picture from which the two sides begin to part, and part
STEPS = 32767  # of an int16: a coordinate is off by a thirty-thousandth of its block's reach at most
MOST_LABELS = 8  # values of a column that get a colour of their own
MOST_COLUMNS = 24  # columns that are offered
LABEL = 40  # characters of a value in a legend
LOOKED_AT = 400  # rows by which a column is judged
AXES = ("first", "second", "third")
_SIDED = re.compile(r"^(?:(chosen|rejected)[ _.-]?(.+)|(.+?)[ _.-]?(chosen|rejected))$", re.IGNORECASE)


# -- coordinates -------------------------------------------------------------------------------------------------------


def packed(coords: np.ndarray) -> JSON:
    """Coordinates [L, 2N, D] as int16 in base64 (C order, little-endian) and, per block, the size of one step."""
    coords = np.asarray(coords, dtype=np.float64)
    scale = np.abs(coords).reshape(len(coords), -1).max(axis=1, initial=0.0) / STEPS
    scale[scale == 0] = 1.0
    whole = np.round(coords / scale[:, None, None]).astype("<i2")
    return {"xy": base64.b64encode(np.ascontiguousarray(whole).tobytes()).decode("ascii"), "scale": scale.tolist()}


def parted(xy: np.ndarray) -> tuple[float, np.ndarray]:
    """How well the eye can tell the sides of one block's picture [2N, D] (chosen first): the AUC along the line
    between the two means, and that line's direction (0 where the means are the same)."""
    n = len(xy) // 2
    towards = xy[:n].mean(axis=0) - xy[n:].mean(axis=0)
    length = float(np.linalg.norm(towards))
    if not length > 0:
        return 0.5, np.zeros(xy.shape[1])
    along = xy @ (towards / length)
    return lv.auc(along[:n], along[n:]), towards / length


def finding(auc: float, towards: np.ndarray, kind: str) -> str:
    """What one block's picture shows, in words; ``kind`` is "pca", "axis" or "umap"."""
    if auc < BEGIN:
        return "the two sides overlap"
    if auc < PARTED:
        return "the two sides begin to part"
    if kind == "axis":
        return "chosen and rejected part along the preference axis"
    if kind == "pca":
        for axis, name in enumerate(AXES[: len(towards)]):
            if abs(towards[axis]) > 0.9:
                return f"chosen and rejected part along the {name} axis"
    return "chosen and rejected part"


def axis_names(kind: str, dims: int, share: np.ndarray | None = None) -> list[str]:
    """The names of a picture's axes, with the share of variance where it is known. Those of PCA are not called PC 1 and
    PC 2: each block's plane of components is turned onto the block before it."""
    if kind == "axis":
        others = ["largest other component"] if dims == 2 else ["other axis 1", "other axis 2"]
        return ["preference axis, means at \N{MINUS SIGN}1 and +1", *others]
    if kind == "umap":
        return ["UMAP 1, no unit", "UMAP 2", "UMAP 3"][:dims]
    if share is None:
        return [f"PCA {k + 1}" for k in range(dims)]
    return [f"PCA {k + 1}, {share[k]:.0%}{' of variance' if k == 0 else ''}" for k in range(dims)]


def projection(coords: np.ndarray, kind: str, explained: np.ndarray | None = None) -> JSON:
    """One projection of all blocks [L, 2N, D] (chosen first); ``explained`` [L, D]: shares of variance."""
    seen = [parted(block) for block in coords]
    dims = coords.shape[2]
    return {
        **packed(coords),
        "dims": dims,
        "findings": [finding(auc, towards, kind) for auc, towards in seen],
        "parted": [round(auc, 4) for auc, _ in seen],
        "names": [axis_names(kind, dims, None if explained is None else explained[at]) for at in range(len(coords))],
        "same": kind == "pca",
    }


# -- columns -----------------------------------------------------------------------------------------------------------


def colour_columns(extras: Sequence[dict[str, Any]]) -> list[JSON]:
    """What points can be coloured by besides side and score: answer length, split, and the file's other columns.

    ``extras`` are the rows' other columns, one dictionary a pair. Two numeric columns named for the two sides
    ("chosen_rating" and "rejected_rating") become one, with a value for every answer.
    """
    found: list[JSON] = [{"key": "length", "name": "Answer length"}, {"key": "split", "name": "Training or held out"}]
    rows = extras[:LOOKED_AT]
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name for name in names if _is_numeric([row.get(name) for row in rows])}
    taken: set[str] = set()
    for name in names:
        if name in taken or len(found) >= MOST_COLUMNS:
            continue
        twin = _twin(name, numeric) if name in numeric else None
        if twin:
            chosen, rejected, shared = twin
            taken |= {chosen, rejected}
            found.append({"key": f"sides:{chosen}|{rejected}", "name": f"{shared} of the answer"})
        elif _is_plain([row.get(name) for row in rows]):
            found.append({"key": f"extra:{name}", "name": name})
    return found


def _twin(name: str, names: set[str]) -> tuple[str, str, str] | None:
    """The columns (chosen's, rejected's) that ``name`` is one of, and what they share; None if it has no partner."""
    split = _SIDED.match(name)
    if not split or "|" in name:
        return None
    side, shared = (split[1] or split[4]).lower(), split[2] or split[3]
    swap = {"chosen": "rejected", "rejected": "chosen"}[side]
    start, end = split.span(1) if split[1] else split.span(4)
    other = next((n for n in names if n.lower() == (name[:start] + swap + name[end:]).lower()), None)
    if other is None:
        return None
    return (name, other, shared) if side == "chosen" else (other, name, shared)


def _is_plain(values: Sequence[Any]) -> bool:
    """Whether a column holds single values, not all the same, not nearly all different long texts."""
    there = [value for value in values if not _missing(value)]
    if not there or any(isinstance(value, (dict, list)) for value in there):
        return False
    if _is_numeric(there):
        return len(set(map(float, there))) > 1
    texts = Counter(map(str, there))
    return len(texts) > 1 and len(texts) <= max(MOST_LABELS, len(there) // 2)


def _is_numeric(values: Sequence[Any]) -> bool:
    there = [value for value in values if not _missing(value)]
    return bool(there) and all(_number(value) is not None for value in there)


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):  # no number, or a whole one beyond all floats
        return None
    return number if math.isfinite(number) else None


def colour_of(values: Sequence[Any], name: str, *, unit: str = "", ordered: Sequence[str] = ()) -> JSON:
    """Values (one a pair, or 2N with the chosen answers' first) as a legend and one number or code each.

    Numbers get a sequential scale (``kind`` "number": ``values``, None where there is none, and the scale's ends
    ``low`` and ``high``: the 2nd and 98th percentile). Anything else gets up to eight colours (``kind`` "category":
    ``codes`` into ``labels``, -1 for the rest, -2 for none, and ``counts``), the most frequent first, or in the order
    of ``ordered``.
    """
    common = {"name": name, "unit": unit, "size": len(values)}
    numbers = [None if _missing(value) else _number(value) for value in values]
    there = np.array([number for number in numbers if number is not None])
    if _is_numeric(values) and len(np.unique(there)) > 2:
        low, high = np.quantile(there, [0.02, 0.98])
        if low == high:
            low, high = there.min(), there.max()
        rounded = [None if number is None else float(f"{number:.6g}") for number in numbers]
        ends = {"low": float(low), "high": float(high), "least": float(there.min()), "most": float(there.max())}
        return {**common, "kind": "number", "values": rounded, **ends, "missing": len(values) - len(there)}
    texts = [None if _missing(value) else _label(value) for value in values]
    counts = Counter(text for text in texts if text is not None)
    first = [label for label in ordered if label in counts]
    labels = (first + [text for text, _ in counts.most_common() if text not in first])[:MOST_LABELS]
    place = {label: at for at, label in enumerate(labels)}
    codes = [-2 if text is None else place.get(text, -1) for text in texts]
    tally = Counter(codes)
    return {
        **common,
        "kind": "category",
        "codes": codes,
        "labels": labels,
        "counts": [tally[at] for at in range(len(labels))],
        "other": tally[-1],
        "others": len(counts) - len(labels),
        "missing": tally[-2],
    }


def _label(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return lv.shortened(" ".join(str(value).split()), LABEL)
