"""``report.html``: what a run did and what came of it, as one page that opens offline and every plot of which answers."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from typing import Any

from workbench.errors import UserError
from workbench.export.facts import (
    ended_early,
    figure_rows,
    judged_on,
    limits,
    method_name,
    named,
    read_events,
    read_samples,
    setting_rows,
)
from workbench.export.figures import figures
from workbench.export.shell import code, facts, figure, page, section, table
from workbench.jsonfile import read_json
from workbench.rahf.results import read_result

MOST_POINTS, MOST_BLOCKS = 250, 48  # pairs and blocks of the scatter: a report is to stay small
COLUMNS = [{"name": "Base", "colour": "base"}, {"name": "Aligned", "colour": "aligned"}]
TOLD = ("load", "pairs", "check", "patterns", "calibrate", "align", "save")  # stages whose sentences are worth keeping


def report(folder: Path, scores: Path | None = None) -> str:
    """The report of a run as one HTML page without outside parts. ``scores`` is the folder of scores of blocks
    (``separability``), whose pictures are shown if they are of the same model and pairs. Raises UserError."""
    result = read_result(folder)
    drawn = {one["id"]: figure(one) for one in figures(folder, result)}
    early, rows = ended_early(result), figure_rows(result)
    looks, cloud = _looks(folder), _cloud(scores if scores is not None else folder, result)
    parts = [
        (
            "results",
            "What came of it",
            [
                f"<p>{escape(judged_on(result))}</p>",
                "<div class='two'>",
                drawn.get("held-out", ""),
                table(("Figure", "Base", "Aligned"), rows, numbers=True) if rows else "",
                "</div>",
                *(f"<p class='s'>{escape(sentence)}</p>" for sentence in limits(result)),
            ],
        ),
        ("answers", "Answers side by side", [_answers(looks)] if looks else []),
        ("pairs", "The pairs", [facts(_pairs(folder, result))]),
        ("layers", "The blocks", [_two(drawn | {"cloud": _scatter(cloud)}, "layers", "cloud")]),
        ("strength", "The strength", [_two(drawn, "leaning", "drift")]),
        ("training", "The training", [_two(drawn, "loss-instruct", "loss-align"), _two(drawn, "looks", "left")]),
        ("settings", "How it was made", [facts(setting_rows(result)), _every_setting(result)]),
        ("notes", "What happened on the way", [_notes(folder, result)]),
        ("repeat", "How to repeat it", [_repeat(folder, result)]),
    ]
    shown = [(name, title, markup) for name, title, inner in parts if (markup := "".join(inner))]
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in shown)
    head = (
        f"<h1>{escape(folder.name)}</h1><p class='lead'>{escape(_lead(result))}</p>"
        + (f"<div class='note'>{escape(early)}</div>" if early else "")
        + f"<nav aria-label='Parts'>{links}</nav>"
    )
    body = head + "".join(section(name, title, markup) for name, title, markup in shown)
    return page(folder.name, body, {"columns": COLUMNS, "looks": looks, "cloud": cloud})


def _lead(result: dict[str, Any]) -> str:
    pairs = result.get("pairs") if isinstance(result.get("pairs"), dict) else {}
    trained = sum(pairs.get(part, 0) for part in ("instruct", "fit"))
    return (
        f"{named(result['config']['model'])}, aligned with {method_name(result)} on {trained} preference pairs of "
        f"{named(result['config']['pairs'])}; {pairs.get('held_out', 0)} pairs held out to judge it by."
    )


def _two(drawn: dict[str, str], *names: str) -> str:
    inner = "".join(drawn.get(name, "") for name in names)
    return f"<div class='two'>{inner}</div>" if inner else ""


def _looks(folder: Path) -> list[dict[str, Any]]:
    """Answers at each look of step 3 and, last, on the held-out pairs: {name, rows: [{prompt, answers}]}."""

    def rows(samples: Any) -> list[dict[str, Any]]:
        return [
            {
                "prompt": str(one.get("prompt")),
                "answers": [{"text": str(one.get(side))} for side in ("base", "aligned")],
            }
            for one in samples
            if isinstance(one, dict)
        ]

    found = {}
    for event in read_events(folder):
        if event.get("stage") == "align" and isinstance(samples := event["metrics"].get("samples"), list):
            found[event.get("step", 0)] = {"name": f"Step {event.get('step', 0)}", "rows": rows(samples)}
    looks = [found[step] for step in sorted(found)]
    if samples := read_samples(folder):
        looks.append({"name": f"At the end, {len(samples)} held-out prompts", "rows": rows(samples)})
    return looks


def _answers(looks: list[dict[str, Any]]) -> str:
    slider = (
        "<label for='look'>Look <input type='range' id='look' min='0' step='1'></label><output id='look-said' for='look'>"
        "</output>"
        if len(looks) > 1
        else ""
    )
    return (
        "<p class='s'>Same prompt, same seed. Move the slider to see what was answered earlier in the training.</p>"
        f"<div class='bar'>{slider}<label>Find <input type='search' id='find'></label></div><div id='answers-host'></div>"
        "<noscript><p>The answers need scripts to be shown.</p></noscript>"
    )


def _pairs(folder: Path, result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("From", named(result["config"]["pairs"]))]
    said = [
        str(event.get("message") or "")
        for event in read_events(folder)
        if event.get("stage") in ("pairs", "load")
        and (" kept" in str(event.get("message")) or event["metrics"].get("cut"))
    ]
    rows += [("Read", sentence) for sentence in dict.fromkeys(said)]
    if isinstance(parts := result.get("pairs"), dict):
        rows.append(("Split", ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in parts.items())))
    return [*rows, ("Fingerprint", str(result.get("pairs_fingerprint")))]


def _cloud(folder: Path, result: dict[str, Any]) -> dict[str, Any] | None:
    """The PCA of every block, places rounded to thousandths of the box; None where there are no pictures, or others'."""
    from workbench.representations.analysis import COORDS
    from workbench.representations.files import read_arrays

    scores = read_json(folder / "layers.json") or {}
    if not (folder / COORDS).exists():
        return None
    own = [scores.get("model_fingerprint"), scores.get("pairs_fingerprint")]
    if own != [result.get("model_fingerprint"), result.get("pairs_fingerprint")]:
        return None
    try:
        coords = read_arrays(folder / COORDS)[0]["pca"]  # [blocks, 2N, 2], chosen first
    except (UserError, KeyError):
        return None
    import numpy as np

    half = coords.shape[1] // 2
    step = max(1, -(-half // MOST_POINTS))
    blocks = range(0, len(coords), max(1, -(-len(coords) // MOST_BLOCKS)))
    picked = np.r_[np.arange(0, half, step), half + np.arange(0, half, step)]
    points = []
    for block in blocks:
        places = coords[block][picked].astype(float)
        low, span = places.min(0), np.maximum(np.ptp(places, axis=0), 1e-9)
        points.append(np.rint((places - low) / span * 1000).astype(int).ravel().tolist())
    start = next((at for at, block in enumerate(blocks) if block in (result.get("layers") or [])), 0)
    names = [f"pair {at + 1}" for at in range(0, half, step)]
    return {"blocks": list(blocks), "points": points, "prompts": names, "start": start, "all": half}


def _scatter(cloud: dict[str, Any] | None) -> str:
    if not cloud:
        return ""
    count = len(cloud["prompts"])
    shown = f"{count} of {cloud['all']} pairs" if count < cloud["all"] else f"{count} pairs"
    return (
        "<figure class='fig' id='fig-cloud'><h3>The states of each block, in the plane where they differ most</h3>"
        f"<p class='s'>PCA of {shown}: filled circles are chosen answers, hollow squares rejected ones. A picture, not "
        "evidence: the figure above is held out.</p><div class='bar'><label for='block'>Block <input type='range' id='block' "
        "min='0' step='1'></label><output id='block-said' for='block'></output></div><svg class='cloud' id='cloud' "
        "viewBox='0 0 660 420' role='img' aria-label='Scatter of chosen and rejected answers at one block'></svg></figure>"
    )


def _every_setting(result: dict[str, Any]) -> str:
    config = result["config"] | {name: named(result["config"][name]) for name in ("model", "pairs")}
    rows = [(name, "auto" if value is None else str(value)) for name, value in config.items()]
    return f"<details><summary>Every setting ({len(rows)})</summary>{facts(rows)}</details>"


def _notes(folder: Path, result: dict[str, Any]) -> str:
    """Sentences that the run wrote about itself, and what it took: what went wrong is here too."""
    status = read_json(folder / "status.json") or {}
    said = []
    for event in read_events(folder):
        sentence = str(
            event["metrics"].get("collapsed") or (event.get("message") if event.get("stage") in TOLD else "") or ""
        )
        if len(sentence) > 25 and "rows read" not in sentence:
            said.append(sentence)
    rows = [("Ended", str(result.get("collapse") or ended_early(result) or "after all its steps"))]
    if error := status.get("error"):
        rows.append(("Last error", str(error)))
    seconds = {name: value for name, value in (result.get("seconds") or {}).items() if value}
    if seconds:
        rows.append(("Took", ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())))
    if memory := result.get("peak_memory_bytes"):
        rows.append(("Most memory", f"{memory / 1e9:.2f} GB"))
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in dict.fromkeys(said))
    return facts(rows) + (f"<ul>{listed}</ul>" if listed else "")


def _repeat(folder: Path, result: dict[str, Any]) -> str:
    config = result["config"]
    verb = "align" if result["method"] in ("scit", "dual") else f"baseline {result['method']}"
    model, pairs, name = map(shlex.quote, (named(config["model"]), named(config["pairs"]), folder.name))
    lines = [
        f"python -m workbench {verb} --model {model} --pairs {pairs} --config config.yaml",
        f"python -m workbench export {name} --to out/ --kind notebook   # a script that needs public packages only",
    ]
    return (
        "<p>config.yaml is in the run's folder. Equal versions on a CPU repeat the run bit for bit; other versions or devices "
        "change the last digits.</p>" + code("\n".join(lines))
    )
