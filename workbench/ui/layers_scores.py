"""What step 2 says in words and numbers: what can be read, every score with its meaning, what shortcuts explain.

Pure functions, no widgets, no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from workbench.ui.charts import interval
from workbench.ui.layers_view import JSON, band

POOLINGS = {  # how the states at an answer's tokens become one vector per block: name, meaning
    "mean": (
        "Mean of answer",
        "The mean of the states at the answer's tokens: steady, and what most studies use.",
    ),
    "last": (
        "Last token",
        "The state at the answer's last token, which has read all of it: sharp, and more easily thrown by how it ends.",
    ),
    "predicting": (
        "Predicting states",
        "The mean of the states that choose the answer's tokens, from the prompt's last one on: what an alignment moves.",
    ),
    "difference": (
        "Per-token difference",
        "The mean over as many tokens as the shorter side has: both sides are read equally far, so length tells less.",
    ),
}
SITES = {  # where in a block the states are read: name, meaning
    "block": ("Block output", "What a block passes on: everything added up so far. Alignments act here."),
    "attention": ("Attention output", "What the block's attention alone adds: what it fetched from earlier tokens."),
    "mlp": ("MLP output", "What the block's feed-forward part alone adds: what it made of the token itself."),
}
TABLE = [  # key of the value, title, keys of its interval, digits, what it means
    ("layer", "Block", (), 0, "The block, counted from 0 at the input."),
    (
        "probe_auc",
        "Probe AUC",
        ("probe_auc_low", "probe_auc_high"),
        2,
        "How often a linear probe ranks a chosen answer above a rejected one, on prompts it never saw: "
        "0.5 is guessing, 1 is always. In brackets the 95% interval.",
    ),
    (
        "null_auc_mean",
        "Chance",
        ("null_auc_p025", "null_auc_p975"),
        2,
        "What the same probe reaches when chosen and rejected are swapped at random; 95% of swaps lie in the brackets.",
    ),
    (
        "paired_accuracy",
        "Paired accuracy",
        ("paired_accuracy_low", "paired_accuracy_high"),
        2,
        "The share of held-out pairs whose chosen answer lies further along the mean difference than its rejected one, "
        "with its 95% interval. No probe is fitted for it.",
    ),
    (
        "fisher",
        "Fisher ratio",
        (),
        2,
        "The squared gap between the two sides' means on the preference axis, in units of their variance. "
        "It has no interval.",
    ),
    (
        "d_prime",
        "d\N{PRIME}",
        (),
        2,
        "The gap between the two sides' means in standard deviations: at 1 they overlap widely, at 3 hardly. "
        "It has no interval.",
    ),
    (
        "silhouette",
        "Silhouette",
        (),
        2,
        "Whether an answer lies nearer to its own side than to the other, on the preference axis: "
        "\N{MINUS SIGN}1 to 1, 0 is neither. It has no interval.",
    ),
    (
        "explained",
        "Explained",
        (),
        3,
        "The share of all the variance in a block that lies along the mean difference: "
        "small even where preference is easy to read. It has no interval.",
    ),
    (
        "p_value",
        "p",
        (),
        3,
        "The share of random swaps that reach the block's AUC: the smaller, the less it is luck. "
        "It cannot be smaller than one over the number of swaps and one.",
    ),
]
EXPLANATIONS = [
    (
        "Held-out",
        "Every number is of pairs that the probe or direction was not fitted on; pairs of one prompt stay together.",
    ),
    *((title, meaning) for key, title, _, _, meaning in TABLE if key != "layer"),
    (
        "Shortcuts",
        "The same probe on less: the answer's length, its words in any order, its prompt alone, and the states of a model "
        "of the same shape with random weights. A block that reads no more than these shows no preference of the model.",
    ),
]
CONTROL_NAMES = {
    "length": "Answer length",
    "words": "Bag of words",
    "random": "Random weights",
    "prompt": "Prompt only",
}
CONTROL_ALONE = {  # as the beginning of a sentence about a block
    "length": "Answer length alone",
    "words": "A bag of words",
    "random": "A model with random weights",
    "prompt": "The prompt alone",
}
CONTROL_HELP = {
    "length": "How many tokens an answer has, and nothing else.",
    "words": "Which words an answer has, in any order.",
    "random": "The best block of a model of the same shape whose weights are random: what the text alone gives away.",
    "prompt": "The prompt without any answer. Both sides share it, so this must be chance.",
}


def reading(pooling: str, site: str, captured: Callable[[str, str], bool]) -> JSON:
    """The choice of what is read: every pooling and site with its meaning; ``captured(pooling, site)`` marks those
    whose scores are there."""
    return {
        "pooling": pooling,
        "site": site,
        "words": f"{POOLINGS[pooling][0]}, {SITES[site][0].lower() if site != 'mlp' else SITES[site][0]}",
        "meaning": POOLINGS[pooling][1],
        "poolings": [[key, name, meaning, captured(key, site)] for key, (name, meaning) in POOLINGS.items()],
        "sites": [[key, name, meaning, captured(pooling, key)] for key, (name, meaning) in SITES.items()],
    }


def table(scores: Sequence[Mapping[str, Any]]) -> JSON:
    """All scores: ``columns`` (title, meaning), ``cells`` as texts [value, interval] for the eye, and ``keys`` with
    ``rows`` of plain numbers (None where there is none) for a file."""
    columns = [column for column in TABLE if column[0] in scores[0]]
    keys = [name for key, _, ends, _, _ in columns for name in (key, *ends) if name in scores[0]]
    return {
        "columns": [{"title": title, "meaning": meaning} for _, title, _, _, meaning in columns],
        "cells": [[_cell(score, key, ends, digits) for key, _, ends, digits, _ in columns] for score in scores],
        "keys": keys,
        "rows": [
            [int(score[key]) if key == "layer" else _number(score.get(key), 6) for key in keys] for score in scores
        ],
        "explanations": [list(pair) for pair in EXPLANATIONS],
    }


def _cell(score: Mapping[str, Any], key: str, ends: Sequence[str], digits: int) -> list[str]:
    value = score.get(key)
    if value is None:
        return ["\N{EN DASH}", ""]
    text = f"{float(value):.{digits}f}"
    if key == "p_value" and float(text) == 0:
        text = "<0.001"
    return [text, interval(*(score.get(end) for end in ends), digits) if ends else ""]


def _number(value: Any, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def controls(scores: Sequence[Mapping[str, float]], shortcuts: Sequence[Mapping[str, Any]]) -> JSON:
    """The panel of shortcuts: one row per shortcut, and for each block its own row and what the comparison says."""
    order = list(CONTROL_NAMES)
    known = sorted(shortcuts, key=lambda s: order.index(s["name"]) if s["name"] in order else len(order))
    rows = [
        {
            "key": str(s["name"]),
            "name": CONTROL_NAMES.get(s["name"], str(s["name"])),
            "help": CONTROL_HELP.get(s["name"], ""),
            "auc": float(s["auc"]),
            "low": _number(s.get("low"), 6),
            "high": _number(s.get("high"), 6),
            "nlo": _number(s.get("null_low"), 6),
            "nhi": _number(s.get("null_high"), 6),
        }
        for s in known
    ]
    blocks = []
    for score in scores:
        low, high = band(score)
        blocks.append(
            {
                "name": "This block, probe",
                "help": "The probe on the states of the block on view.",
                "auc": float(score["probe_auc"]),
                "low": float(score["probe_auc_low"]),
                "high": float(score["probe_auc_high"]),
                "nlo": low,
                "nhi": high,
                "title": shortcut_title(score, rows),
            }
        )
    edges = [value for row in rows + blocks for value in (row["auc"], row["low"], row["nlo"]) if value is not None]
    return {
        "rows": rows,
        "blocks": blocks,
        "from": float(max(0.0, min(0.4, np.floor((min(edges) - 0.02) * 10) / 10))),
        "caption": "Held-out AUC of the same probe on less. Grey: chance, 95% of random swaps.",
        "leak": leak(rows),
    }


def leak(rows: Sequence[Mapping[str, Any]]) -> str:
    """A warning where the prompts alone tell the sides apart, which they cannot if both sides answer the same one."""
    prompt = next((row for row in rows if row.get("key") == "prompt"), None)
    if prompt is None or prompt["nhi"] is None or prompt["nlo"] <= prompt["auc"] <= prompt["nhi"]:
        return ""
    return "The prompts alone tell chosen from rejected, which must be chance: look how these pairs were made."


def explained(found: Mapping[str, Any]) -> bool:
    """Whether the best block cannot be told from some shortcut, by the engine's judgement in layers.json; where an older
    version wrote the file, the engine is asked again."""
    names = found.get("explained_by")
    if names is None:
        from workbench.representations import explaining
        from workbench.representations.controls import Control

        known = Control.__dataclass_fields__
        controls = [Control(**{key: row[key] for key in known if key in row}) for row in found.get("controls") or []]
        names = explaining([SimpleNamespace(**row) for row in found["layers"]], controls)
    return bool(names)


def shortcut_title(score: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> str:
    """What comparing a block with the strongest shortcut says."""
    layer = int(score["layer"])
    if score["probe_auc"] <= score.get("null_best_p95", band(score)[1]):
        return f"Block {layer} reads no more than chance"
    if not rows:
        return f"Block {layer} has no shortcut to compare with"
    best = max(rows, key=lambda row: row["auc"])
    if best["auc"] >= score["probe_auc"]:
        return f"{_alone(best)} tells as much as block {layer}"
    close = [row for row in rows if _reaches(row, score)]
    if close:
        return f"{_alone(max(close, key=lambda row: row['auc']))} comes close to block {layer}"
    return f"No shortcut explains block {layer}"


def _alone(row: Mapping[str, Any]) -> str:
    return CONTROL_ALONE.get(row.get("key", ""), row["name"])


def _reaches(row: Mapping[str, Any], score: Mapping[str, float]) -> bool:
    """Whether a shortcut cannot be told from a block, by the rule of the engine's ``explaining``."""
    ends = row["auc"] if row.get("high") is None else row["high"]
    above = row.get("nhi") is None or row["auc"] > row["nhi"]
    return above and ends >= score["probe_auc_low"]


def lead(found: Mapping[str, Any]) -> str:
    """The sentences under the title: what was measured, and why these blocks are suggested."""
    cut = int(found.get("cut") or 0)
    parts = [f"Each of the {found.get('pairs', 0):,} pairs is scored by a linear probe that never saw it."]
    parts.append(str(found.get("reason") or ""))
    if cut:
        parts.append("One pair was too long and was cut." if cut == 1 else f"{cut:,} pairs were too long and were cut.")
    return " ".join(part for part in parts if part)
