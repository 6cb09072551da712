"""From series to drawings: pure functions that turn numbers into the JSON that ``chart`` in static/_kit.js draws.

Coordinates are per cent of the plot (x to the right, y upwards), so that the drawing stretches and the words do not.
Every chart says in its title what is seen, has a fixed height, and carries its numbers as a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from workbench.statistics import wilson

Chart = dict[str, Any]
Point = tuple[float, float]
Rate = tuple[float, float, float | None, float | None]  # step, value, low, high

KEEP = 240  # points drawn per line: more than a line of 500 pixels can show
LABEL_GAP = 13.0  # two 12-pixel labels one above the other, in per cent of a 118-pixel plot
NEAR = 0.4  # a block with less than this share of its distance left counts as near its target
ROOM = 74.0  # per cent of the width up to which a label fits beside the end of a line
DASHES = ("", "5 3", "2 3", "9 3", "9 3 2 3", "1 4")


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """``[0.93, 0.98]``, or an empty string where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def duration(seconds: float | None) -> str:
    """``39 s``, ``2 min 50 s`` or ``1 h 05 min``; a dash where nothing is known."""
    if seconds is None or not math.isfinite(seconds):
        return "\N{EN DASH}"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(seconds: float) -> str:
    """``1:04`` for a length of time in seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def amount(size: float | None) -> str:
    """Bytes as ``0.38 GB``, ``6.9 MB`` or ``12 kB``; a dash where nothing is known."""
    if size is None:
        return "\N{EN DASH}"
    for unit, name, digits, least in ((1e9, "GB", 2, 0.1), (1e6, "MB", 1, 0.05), (1e3, "kB", 0, 0.5)):
        if size >= unit * least:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size:.0f} B"


def short(value: float) -> str:
    """A number for a label: two decimals below 10, fewer above, no trailing zeros on an axis."""
    if value == 0:
        return "0"
    if abs(value) < 0.005:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def thin(points: Sequence[Any], limit: int = KEEP) -> list[Any]:
    """At most ``limit`` of the points, evenly chosen, always with the first and the last."""
    if len(points) <= limit:
        return list(points)
    step = (len(points) - 1) / (limit - 1)
    return [points[round(i * step)] for i in range(limit)]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """The mean over ``window`` values on either side (fewer at the ends), so that the curve does not lag behind."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    ends = [(max(0, i - window), min(len(values), i + window + 1)) for i in range(len(values))]
    return [(sums[b] - sums[a]) / (b - a) for a, b in ends]


def ceiling(value: float) -> float:
    """The next 1, 2, 4 or 5 times a power of ten that is at least ``value``: its half is round too."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value * 0.9999)


def spread(heights: Sequence[float], gap: float = LABEL_GAP) -> list[float]:
    """Heights moved apart just enough that neighbours stand ``gap`` from each other, in order, within 0 to 100."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [0.0] * len(heights)
    floor = 0.0
    for i in order:
        placed[i] = max(heights[i], floor)
        floor = placed[i] + gap
    roof = 100.0
    for i in reversed(order):
        placed[i] = min(placed[i], roof)
        roof = placed[i] - gap
    return placed


def x_ticks(total: int, unit: str = "") -> list[dict[str, Any]]:
    """Zero, round numbers and the last step; the ones too near to the last are left out."""
    total = max(1, total)
    step = ceiling(total / 4)
    ticks = [{"at": 0.0, "text": "0", "edge": "first"}]
    at = step
    while step >= 1 and at < total * (0.78 if unit else 0.9) - 1e-9:
        ticks.append({"at": round(100 * at / total, 2), "text": f"{at:.0f}"})
        at += step
    return [*ticks, {"at": 100.0, "text": f"{total}{unit}", "edge": "last"}]


def y_ticks(low: float, high: float) -> list[dict[str, Any]]:
    """Three lines: bottom, middle and top."""
    texts = [f"{value:.6g}" for value in (low, (low + high) / 2, high)]
    return [{"at": at, "text": text, "zero": at == 0} for at, text in zip((0, 50, 100), texts, strict=True)]


def _place(points: Iterable[Point], total: int, low: float, high: float) -> list[list[float]]:
    span = (high - low) or 1.0
    clip = lambda value: min(100.0, max(0.0, value))  # noqa: E731 - a word for the line below
    return [[round(clip(100 * x / max(1, total)), 2), round(clip(100 * (y - low) / span), 2)] for x, y in points]


def _marks(now: float, total: int, state: str) -> list[dict[str, Any]]:
    """Where the run stands: dashed while it lives, red where it broke off, nothing at the end."""
    at = round(100 * now / max(1, total), 2)
    if state == "finished" or at >= 99.5 or now <= 0:
        return []
    return [{"at": min(at, 100.0), "stop": state in ("failed", "interrupted")}]


def _label(x: float, y: float, **words: Any) -> dict[str, Any]:
    """Words beside the end of a line; where there is no room to the right, above it (or below a high one)."""
    if x <= ROOM:
        return {"x": round(x + 1.5, 2), "y": y, **words}
    return {"x": 100.0, "y": y + 10 if y < 78 else y - 14, "side": "r", **words}


def loss_finding(values: Sequence[float], ended: bool = False) -> str:
    """What a (smoothed) loss curve shows, as a sentence."""
    if len(values) < 6:
        return "The loss, first steps"
    first, now = values[0], values[-1]
    recent = values[-max(3, len(values) // 5)] - now
    if now > first * 1.1:
        return "The loss rose" if ended else "The loss is rising"
    if first - now < 0.03 * abs(first):
        return "The loss did not move" if ended else "The loss has not moved yet"
    if recent < 0.07 * (first - now):
        return "The loss levelled off" if ended else "The loss is levelling off"
    return "The loss was still falling" if ended else "The loss is falling"


def loss_chart(points: Sequence[Point], total: int, *, state: str = "running", sub: str = "") -> Chart:
    """The loss by step. ``points`` are (step, loss)."""
    ended = state not in ("running", "queued")
    sub = sub or "mean distance to the shifted states, by step"
    return series_chart(
        points, total, name="Loss", finding=lambda mean: loss_finding(mean, ended), sub=sub, state=state
    )


def series_chart(
    points: Sequence[Point],
    total: int,
    *,
    name: str,
    finding: Callable[[Sequence[float]], str],
    sub: str,
    exact: bool = False,
    state: str = "running",
) -> Chart:
    """A number of every step, without an interval: raw values faint, their running mean strong (with ``exact`` the
    values themselves). ``finding`` says what the strong line shows."""
    points = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    if not points:
        return pending(name, sub, total, y_ticks(0, 1))
    mean = smooth([y for _, y in points], 0 if exact else min(6, len(points) // 12))
    top = ceiling(max(max(mean), sorted(y for _, y in points)[int(0.98 * (len(points) - 1))]))
    lines = _place([(x, m) for (x, _), m in zip(points, mean, strict=True)], total, 0, top)
    x, y = lines[-1]
    return {
        "name": f"{name} by step",
        "title": finding(mean),
        "sub": sub,
        "x": x_ticks(total),
        "y": y_ticks(0, top),
        "lines": [
            {"points": thin(_place(points, total, 0, top)), "color": "ink-3", "faint": True},
            {"points": thin(lines)},
        ],
        "marks": _marks(points[-1][0], total, state),
        "labels": [_label(x, y, strong=short(mean[-1]))],
        "table": {
            "head": ["Step", name, "Running mean"],
            "rows": thin([[f"{a:.0f}", short(b), short(m)] for (a, b), m in zip(points, mean, strict=True)], 25),
        },
    }


def fit_finding(left: Mapping[int, float], ended: bool = False) -> str:
    """What the shares of distance left show, as a sentence."""
    near = sum(share <= NEAR for share in left.values())
    many = len(left)
    who = f"Block {next(iter(left))}" if many == 1 else "Both blocks" if many == 2 else f"All {many} blocks"
    was = "was" if many == 1 else "were"
    if near == many:
        return f"{who} near {'its target' if many == 1 else 'their targets'}"
    if near:
        return f"{near} of {many} blocks near their targets"
    if min(left.values()) > 0.9:
        return f"{who} {'stayed' if ended else 'still'} far from {'its target' if many == 1 else 'their targets'}"
    return f"{who} {was} on {'its' if many == 1 else 'their'} way" if ended else f"{who} on the way"


def fit_chart(blocks: Mapping[int, Sequence[Point]], total: int, *, state: str = "running") -> Chart:
    """The distance left per target block, as a share of the shift ``alpha v``: {block: [(step, share)]}."""
    sub = "distance left, as a share of \N{DOUBLE VERTICAL LINE}\N{GREEK SMALL LETTER ALPHA}v\N{DOUBLE VERTICAL LINE}"
    blocks = {block: points for block, points in sorted(blocks.items()) if points}
    if not blocks:
        return pending("Distance left per block", sub, total, y_ticks(0, 1))
    top = max(1.0, ceiling(max(y for points in blocks.values() for _, y in points) * 0.95))
    title = fit_finding({block: points[-1][1] for block, points in blocks.items()}, state not in ("running", "queued"))
    return _blocks_chart(blocks, total, top, "Distance left per block, by step", title, sub, state)


def reached_chart(
    blocks: Mapping[int, Sequence[Point]], total: int, *, aim: Mapping[Any, float] | None = None, state: str = "running"
) -> Chart:
    """How far states have moved per target block, as a share of their own length: {block: [(step, share)]}, beside the
    relative strength ``aim`` {block: share} that is fitted."""
    name = "Relative strength reached, by step"
    blocks = {block: points for block, points in sorted(blocks.items()) if points}
    aims = {int(block): share for block, share in (aim or {}).items() if int(block) in blocks}
    sub = "length of the move over length of the state"
    if not blocks:
        return pending("Relative strength reached", sub, total, y_ticks(0, 1))
    if aims:
        sub += "; aim " + ", ".join(f"{share:.2f}" for share in aims.values())
    top = ceiling(1.05 * max([y for points in blocks.values() for _, y in points] + [*aims.values()]))
    now = sum(points[-1][1] for points in blocks.values()) / len(blocks)
    title = f"States have moved by {now:.2f} of their length"
    return _blocks_chart(blocks, total, top, name, title, sub, state)


def _blocks_chart(
    blocks: Mapping[int, Sequence[Point]], total: int, top: float, name: str, title: str, sub: str, state: str
) -> Chart:
    """One line a block, told apart by dashes and labelled at its end."""
    lines = {block: _place(points, total, 0, top) for block, points in blocks.items()}
    now = {block: points[-1][1] for block, points in blocks.items()}
    steps = sorted({x for points in blocks.values() for x, _ in points})
    at = {block: dict(points) for block, points in blocks.items()}
    ends = [points[-1] for points in lines.values()]
    heights = [y for _, y in ends]
    if max(x for x, _ in ends) > ROOM:  # no room beside the ends: above their lines, the lowest below its own
        lowest = heights.index(min(heights)) if len(heights) > 1 and min(heights) > 14 else -1
        heights = [y - 10 if i == lowest else y + 10 for i, y in enumerate(heights)]
    heights = spread(heights)
    return {
        "name": name,
        "title": title,
        "sub": sub,
        "x": x_ticks(total),
        "y": y_ticks(0, top),
        "lines": [{"points": thin(points), "dash": DASHES[i % 6]} for i, points in enumerate(lines.values())],
        "marks": _marks(steps[-1], total, state),
        "labels": [
            {"x": round(x + 1.5, 2) if x <= ROOM else 100.0, "y": height, "side": "" if x <= ROOM else "r"}
            | {"text": f"block {block}", "strong": f"{now[block]:.2f}"}
            for block, (x, _), height in zip(lines, ends, heights, strict=True)
        ],
        "table": {
            "head": ["Step", *(f"Block {block}" for block in blocks)],
            "rows": thin([[f"{x:.0f}", *(short(at[b][x]) if x in at[b] else "" for b in blocks)] for x in steps], 25),
        },
    }


def rate_chart(
    points: Sequence[Rate],
    total: int,
    *,
    name: str,
    sub: str,
    title: str = "",
    base: float | None = None,
    base_text: str = "",
    low: float = 0.0,
    high: float = 1.0,
    now: float = 0.0,
    state: str = "running",
) -> Chart:
    """A share (or another number between ``low`` and ``high``) on held-out prompts with its 95% band, and the base as a
    dashed line.

    ``points`` are (step, value, low, high); ``now`` is the step at which the run stands (its look at held-out prompts
    may lie behind it).
    """
    if not points:
        return pending(name, sub, total, y_ticks(low, high))
    banded = [point for point in points if point[2] is not None and point[3] is not None]
    lines = _place([(x, y) for x, y, _, _ in points], total, low, high)
    lows = _place([(x, a) for x, _, a, _ in banded], total, low, high)
    highs = _place([(x, b) for x, _, _, b in banded], total, low, high)
    step, value, a, b = points[-1]
    refs, labels = [], []
    at = None if base is None else _place([(0, base)], 1, low, high)[0][1]
    if at is not None:
        refs = [{"at": at, "color": "base"}]
    marks = _marks(max(step, now), total, state)
    x, y = lines[-1]
    beside = _label(max([x, *(mark["at"] for mark in marks)]), y, strong="aligned", color="aligned")
    if at is not None and abs(beside["y"] - at) < 9:  # do not write over the base's dashes
        beside["y"] = at - 14 if at > 50 else at + 14
    if at is not None and base_text:
        place = {"x": 100.0, "y": at - 11 if at > 20 else at + 11, "side": "r"}
        if abs(place["y"] - beside["y"]) < LABEL_GAP:  # both at the end would cover each other
            place = {"x": 2.0, "y": place["y"]}
        labels.append(place | {"strong": base_text, "color": "base"})
    return {
        "name": name,
        "title": title or f"{name} {value:.2f}",
        "interval": interval(a, b),
        "sub": sub,
        "x": x_ticks(total),
        "y": y_ticks(low, high),
        "bands": [{"points": [[p[0], p[1], q[1]] for p, q in zip(lows, highs, strict=True)], "color": "aligned"}],
        "lines": [{"points": lines, "color": "aligned"}],
        "refs": refs,
        "marks": marks,
        "labels": [*labels, beside],
        "table": {
            "head": ["Step", name, "95% interval"],
            "rows": [[f"{x:.0f}", f"{y:.3f}", interval(lo, hi, 3) or "none"] for x, y, lo, hi in points],
        },
    }


def coherence_title(value: float, base: float | None) -> str:
    """Whether answers stay fluent, as a sentence: the guard beside every claim of "more preferred"."""
    reference = 1.0 if base is None else base
    if value < 0.5 * reference:
        return f"Coherence has collapsed: {value:.2f}"
    if reference < 0.5:
        return f"Even base is not coherent: {value:.2f}"
    return f"Coherence drops: {value:.2f}" if value < reference - 0.05 else f"Coherence holds: {value:.2f}"


def coherence_chart(
    points: Sequence[Rate], total: int, *, base: float | None = None, now: float = 0.0, state: str = "running"
) -> Chart:
    """The share of fluent answers by step beside the base's."""
    sub = "share of fluent answers" + (f"; dashed: base, {base:.2f}" if base is not None else "")
    lowest = min((p[2] if p[2] is not None else p[1] for p in points), default=1.0)
    lowest = min(lowest, base if base is not None else 1.0)
    title = coherence_title(points[-1][1], base) if points else ""
    low = 0.5 if lowest >= 0.5 else 0.0
    return rate_chart(points, total, name="Coherence", sub=sub, title=title, base=base, low=low, now=now, state=state)


def amount_chart(
    points: Sequence[Rate],
    total: int,
    *,
    name: str,
    title: str,
    sub: str,
    base: float | None = None,
    now: float = 0.0,
    state: str = "running",
) -> Chart:
    """A number without a natural end, by step, from 0 up: (step, value, low, high), the last two None without interval."""
    ends = [value for point in points for value in point[1:] if value is not None]
    high = ceiling(max([*ends, base or 0.0], default=1.0) * 1.02)
    text = "base" if base is not None else ""
    return rate_chart(
        points, total, name=name, title=title, sub=sub, base=base, base_text=text, high=high, now=now, state=state
    )


def trend(values: Sequence[float], what: str) -> str:
    """``what`` "grows", "shrinks" or "holds steady", from the (smoothed) beginning to the end."""
    if len(values) < 6:
        return f"{what}, first steps"
    few = max(2, len(values) // 10)
    first, now = sum(values[:few]) / few, sum(values[-few:]) / few
    word = "grows" if now > 1.5 * first else "shrinks" if now < first / 1.5 else "holds steady"
    return f"{what} {word}"


def calibration_chart(calibration: Mapping[str, Any]) -> Chart:
    """The ladder of strengths that alpha was chosen from: the shares of answers that lean to chosen and that have drifted,
    with their intervals, the limit of drift, and the chosen point. Rungs stand at even distances, weakest first."""
    points, chosen = list(calibration["points"]), calibration["chosen"]
    name, limit = "Answers that lean to chosen, and that drift, by strength", calibration["drift_limit"]
    at = [round(100 * (i + 0.5) / len(points), 2) for i in range(len(points))]
    best = min(range(len(points)), key=lambda i: abs(points[i]["alpha"] - chosen))
    met = abs(points[best]["alpha"] - chosen) <= 0.02 * max(chosen, 1e-9)
    x = at[best] if met else _between([point["alpha"] for point in points], at, chosen)

    def drawn(key: str) -> list[list[float]]:
        return [[x, round(min(100.0, max(0.0, 100 * p[key])), 2)] for x, p in zip(at, points, strict=True)]

    leaning, drift = drawn("leaning"), drawn("drift")
    title = f"At alpha {short(chosen)}, {points[best]['leaning']:.0%} of answers lean to chosen, {points[best]['drift']:.0%} drift"
    if not met:
        title = f"Alpha {short(chosen)} is taken: no strength moves answers for sure"
    shown = [i for i in range(len(points)) if len(points) <= 6 or (i - best) % 2 == 0]
    line = round(min(100.0, 100 * limit), 2)
    high = leaning[best][1] > 60
    return {
        "name": name,
        "title": title,
        "sub": "shares of answers by alpha, below it relative strength",
        "two": True,
        "x": [
            {"at": at[i], "text": short(points[i]["alpha"]), "more": f"{points[i]['relative_strength']:.2f}"}
            for i in shown
        ],
        "y": y_ticks(0, 1),
        "bands": [
            {"points": [[a[0], a[1], b[1]] for a, b in zip(drawn(f"{key}_low"), drawn(f"{key}_high"), strict=True)]}
            | color
            for key, color in (("leaning", {"color": "aligned"}), ("drift", {"color": "ink-3"}))
        ],
        "lines": [{"points": leaning, "color": "aligned"}, {"points": drift, "color": "ink-2", "dash": "5 3"}],
        "refs": [{"at": line, "color": "ink-3"}],
        "marks": [{"at": x, "stop": False}],
        "dots": [{"x": x, "y": leaning[best][1], "color": "aligned"}] if met else [],
        "labels": [
            {"x": 0.5, "y": line + 8, "text": f"drift limit {limit:.0%}"},
            {"x": x, "y": leaning[best][1] + (-14 if high else 14), "side": "m", "strong": "chosen"},
            *_ends(leaning, drift, line),
        ],
        "table": {
            "head": ["Alpha", "Strength", "Lean to chosen", "95% interval", "Drift", "95% interval", "Tokens", ""],
            "rows": [
                [
                    short(point["alpha"]),
                    f"{point['relative_strength']:.2f}",
                    f"{point['leaning']:.3f}",
                    interval(point["leaning_low"], point["leaning_high"], 3),
                    f"{point['drift']:.3f}",
                    interval(point["drift_low"], point["drift_high"], 3),
                    f"{point['mean_tokens']:.1f}",
                    "chosen" if met and i == best else "" if point["within"] else "drifts too far",
                ]
                for i, point in enumerate(points)
            ],
        },
    }


def _between(values: Sequence[float], at: Sequence[float], value: float) -> float:
    """Where ``value`` lies between the (rising) ``values`` that stand ``at`` these places."""
    for (low, x), (high, y) in pairwise(zip(values, at, strict=True)):
        if low <= value <= high:
            return round(x + (y - x) * (value - low) / ((high - low) or 1.0), 2)
    return at[0] if value < values[0] else at[-1]


def _ends(leaning: Sequence[Sequence[float]], drift: Sequence[Sequence[float]], limit: float) -> list[dict[str, Any]]:
    """The names of both lines at opposite ends, where they meet neither each other nor the limit's own label."""
    (x, rising), (_, over), end = leaning[0], leaning[-1], drift[-1][1]
    below = end > 80 or 14 < end < over
    return [
        {"x": x, "y": max(rising + 12, limit + 20), "strong": "lean to chosen", "color": "aligned"},
        {"x": 100.0, "y": end + (-11 if below else 9), "side": "r", "strong": "drift", "color": "ink-2"},
    ]


def votes_chart(outcomes: Sequence[float]) -> Chart:
    """The running share of blind votes for aligned (1 won, 0.5 tie, 0 lost) with its Wilson band."""
    total = max(24, 8 * math.ceil((len(outcomes) + 1) / 8))
    wins, points = 0.0, []
    for i, outcome in enumerate(outcomes, 1):
        wins += outcome
        points.append((float(i), wins / i, *wilson(wins, i)))
    spec = rate_chart(points, total, name="Running win rate of blind votes", sub="", base=0.5)
    spec.update(height=96, x=x_ticks(total, " votes"))
    spec["labels"] = [{"x": 100.0, "y": 37.0, "side": "r", "text": "no preference"}]
    spec["refs"] = [{"at": 50.0, "color": "base"}]
    spec["marks"] = []
    spec["empty"] = None
    if points:
        x, y = points[-1][0] / total * 100, points[-1][1] * 100
        label = _label(x, min(y, 86.0), strong=f"{points[-1][1]:.2f}", color="aligned")
        if abs(label["y"] - 50) < 9:
            label["y"] = 62.0
        spec["labels"].append(label)
        spec["table"]["head"][0] = "Votes"
    return spec


def pending(name: str, sub: str, total: int, y: list[dict[str, Any]]) -> Chart:
    """The place of a chart whose first number has not come yet: same size, same axes."""
    return {"name": name, "title": name, "sub": sub, "x": x_ticks(total), "y": y, "empty": "no numbers yet"}
