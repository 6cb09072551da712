"""From an analysis of all blocks to the JSON that the views of static/layers*.js draw. Pure functions, no widgets.

Heights in the strip are per cent of its upper part, measured from below; scatter coordinates are float32 in base64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.ui.charts import duration

JSON = dict[str, Any]

TOP = 92.0  # where an AUC of 1 lies, in per cent: above it is room for half a dot
STRIP_HEIGHT = 236.0  # pixels of the strip's upper part on wide screens
LABEL_BELOW = 41.0  # pixels a number and its interval take below the whisker
CURVE_POINTS = 41
DRAWN_PAIRS = 700  # pairs in the scatter: more points hide each other and move slowly
SHORT_TEXT = 300  # characters of a text sent for hovering; a click fetches the whole
STAGES = [("load", "Load", 10), ("capture", "Capture", 50), ("score", "Score", 40), ("project", "Draw", 12)]


def band(score: Mapping[str, float]) -> tuple[float, float]:
    """What 95% of shuffles reach in this block: the narrowest two-sided band the score has."""
    low = score.get("null_auc_p025", score.get("null_auc_p05", 0.5))
    high = score.get("null_auc_p975", score.get("null_auc_p95", 0.5))
    return float(low), float(high)


def strip(scores: Sequence[Mapping[str, float]], suggested: Sequence[int], densities: Sequence[Any] | None) -> JSON:
    """The strip: ``blocks`` (one each) and ``axis``. ``densities``: per block (chosen, rejected) curves, or None."""
    lowest = min([0.4, *(min(band(s)[0], s["probe_auc_low"]) - 0.02 for s in scores)])
    floor = max(0.0, np.floor(lowest * 10) / 10)

    def height(value: float) -> float:
        return round(min(100.0, max(0.0, (value - floor) / (1 - floor) * TOP)), 2)

    first = round(float(floor) * 10) + 1
    ticks = [{"at": height(k / 10), "text": f"{k / 10:.1f}"} for k in range(10, first - 1, -1)]
    blocks = []
    for at, score in enumerate(scores):
        low, high = band(score)
        lo, hi = height(score["probe_auc_low"]), height(score["probe_auc_high"])
        block = {
            "l": int(score["layer"]),
            "auc": round(float(score["probe_auc"]), 4),
            "low": round(float(score["probe_auc_low"]), 4),
            "high": round(float(score["probe_auc_high"]), 4),
            "chance": round(high, 4),
            "v": height(score["probe_auc"]),
            "lo": lo,
            "hi": hi,
            "nlo": height(low),
            "nhi": height(high),
            # The number goes below the whisker unless it would lie on the band of chance or below the drawing.
            "up": lo / 100 * STRIP_HEIGHT - LABEL_BELOW < height(high) / 100 * STRIP_HEIGHT,
            "suggested": int(score["layer"]) in suggested,
        }
        if densities is not None:
            chosen, rejected = densities[at]
            top = max(np.max(chosen), np.max(rejected))
            block |= {"chosen": curve(chosen, top), "rejected": curve(rejected, top)}
        blocks.append(block)
    return {"blocks": blocks, "axis": {"ticks": ticks, "chance": height(0.5)}}


def curve(values: Sequence[float], top: float, points: int = CURVE_POINTS) -> list[float]:
    """A density at ``points`` evenly spaced places, as a share of ``top``."""
    values = np.asarray(values, dtype=float)
    even = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(values)), values)
    return [round(float(v), 3) for v in even / top] if top > 0 else [0.0] * points


# -- scatter -----------------------------------------------------------------------------------------------------------


def auc(chosen: np.ndarray, rejected: np.ndarray) -> float:
    """The share of (chosen, rejected) couples in which chosen is larger; ties count half."""
    order = np.concatenate([chosen, rejected])
    _, inverse, counts = np.unique(order, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    n, m = len(chosen), len(rejected)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def drawn(count: int, limit: int = DRAWN_PAIRS) -> np.ndarray:
    """Which of ``count`` pairs are drawn: all, or ``limit`` of them spread evenly."""
    return np.arange(count) if count <= limit else np.unique(np.linspace(0, count - 1, limit).round().astype(int))


def take_pairs(coords: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of coordinates [L, 2N, 2] (chosen first) those of the pairs ``rows``, in the same layout."""
    n = coords.shape[1] // 2
    return coords[:, np.concatenate([rows, rows + n])]


def shortened(text: str, limit: int = SHORT_TEXT) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def picture_caption(drawn_pairs: int, all_pairs: int) -> str:
    """How many answers the scatter shows."""
    if drawn_pairs < all_pairs:
        return f"{2 * drawn_pairs:,} of {2 * all_pairs:,} answers."
    return f"{2 * drawn_pairs:,} answers."


# -- while it runs -----------------------------------------------------------------------------------------------------


def progress(status: Mapping[str, Any], blocks: int | None = None) -> JSON:
    """The progress panel of a run of a model with ``blocks`` blocks: what is left, and how far each stage is."""
    state, stage = status.get("state"), status.get("stage") or "load"
    stage = {"pairs": "load", "save": "project"}.get(stage, stage)
    names = [name for name, _, _ in STAGES]
    at = names.index(stage) if stage in names else 0
    total = status.get("total") or 0
    part = min(1.0, (status.get("step") or 0) / total) if total else 0.0
    if stage == "score" and blocks and total < blocks:
        part, total = 0.9, 0  # all blocks are scored; what follows are the shortcuts
    live, failed = state in ("queued", "running"), state in ("failed", "interrupted")
    stages, done = [], 0.0
    for k, (_, title, weight) in enumerate(STAGES):
        share = 1.0 if k < at or state == "finished" else part if k == at else 0.0
        done += weight * share
        note = "done" if share == 1.0 else f"{status.get('step', 0):,} of {total:,}" if k == at and total else ""
        stages.append({"name": title, "weight": weight, "done": share, "note": note, "err": failed and k == at})
    return {
        "live": live,
        "heading": _left(status, live),
        "when": f"{duration(status.get('seconds') or 0)} so far" if live else "",
        "stages": stages,
        "whole": done / sum(weight for _, _, weight in STAGES),
    }


def _left(status: Mapping[str, Any], live: bool) -> str:
    if not live:
        words = {"failed": "Failed", "stopped": "Stopped", "interrupted": "Ended"}
        stage = {"pairs": "load", "save": "project"}.get(status.get("stage") or "", status.get("stage"))
        stage = dict((name, title.lower()) for name, title, _ in STAGES).get(stage or "", "start")
        return f"{words.get(str(status.get('state')), 'Over')} during {stage}"
    if status.get("stopping"):
        return "Stopping at the next safe point"
    left = status.get("seconds_left")
    if left is None or (status.get("stage") or "load") in ("load", "pairs"):
        return "Loading the model" if status.get("state") == "running" else "Starting"
    return f"About {duration(max(1.0, left))} left in this stage"


def work_estimate(pairs: int, blocks: int | None, seconds_per_pair: float | None) -> str:
    """What a capture will do, in a sentence; its time only where one was measured before."""
    what = f"{pairs:,} pairs, {2 * pairs:,} answers, {f'all {blocks} blocks' if blocks else 'all blocks'}"
    if seconds_per_pair:
        return f"{what}: about {duration(max(1.0, pairs * seconds_per_pair))}, going by the last time."
    return f"{what}. Each answer is read once; nothing is trained but small probes."
