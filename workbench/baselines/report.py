"""A study on paper: what was measured, the verdict, the table with intervals, the figure. Written from the figures, whatever
they say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.baselines import NAMES
from workbench.baselines.finding import worked
from workbench.errors import UserError
from workbench.jsonfile import write_whole

COLUMNS = (
    ("win_rate", "win rate"),
    ("win_rate_lc", "at equal length"),
    ("preferred", "preferred"),
    ("facts_right", "facts right"),
    ("coherence", "coherent"),
    ("kl_from_base", "KL, nats"),
)
UNSEEN = "nobody saw the pairs it is judged by: that guard looks at others, which each seed held out"
SEEN = "the pairs a seed is judged by are those it held out, which that guard looks at too, to RAHF's advantage"
HOW = """## How it was measured

- **Same pairs.** Every method got the same training pairs of a seed (RAHF halves them between its step 1 and its steps 2
  and 3, the others learn from both halves). Only RAHF has a guard (it ends after a step 1 that taught nothing, and goes back to
  its last sound look when answers collapse); @seen@.
- **Same budget** means the same optimiser steps and the same number of answers in a loss, each counted as often as it is
  seen: steps 1 and 3 of RAHF together (RAHF-Dual sees as many answers in more steps). It is not the same time: SCIT reads
  every answer of step 1 under both instructions, steps 2 and 3 read the pairs without gradient, calibration answers
  prompts, and DPO asks the base at every step; so time and memory stand beside. Prompt and base train nothing; steering
  reads the pairs once and tries strengths.
- **Same adapter shape** (LoRA on all linear layers, the same rank); RAHF's reaches only up to its deepest target block.
- **Methods.** SFT: likelihood of the chosen answers. HIR: SFT of both answers, each after the instruction it fits; it
  answers after p+. DPO: TRL's trainer. Steering: mean difference of states, its strength by RAHF's own rule of calibration.
  Prompt: the base after p+. What answers after p+ reads that instruction with every prompt.
- **Each at its defaults; only RAHF and steering choose a strength by themselves.** Nobody was tuned for this budget: SFT and
  HIR take the learning rate of RAHF's step 1 for all their steps, which are more than step 1 has; DPO's is a twentieth of it,
  picked on the bundled pairs with another seed. A rival that somebody tunes may do better than its one point here.
- **Win rate** against the base's own answers to the same prompts with the same luck, ties as halves; one answer a prompt at
  temperature 1. **KL** is the exact divergence from the base (without any instruction) summed over each answer's tokens.
- **Intervals** (95%) take prompts and seeds into account: seeds and prompts are crossed, the variance of the mean is that
  of a table with random rows and columns, with Satterthwaite's degrees of freedom, no more than the seeds have where they
  differ; shares by Wilson at as many independent answers as have that variance. Win rate at equal length and facts: between
  seeds, plus the whole variance within. The verdict tells two methods apart by the interval of their difference on the same
  prompts and seeds: *more often* means that it lies above 0, *as often* that it holds 0 and lies within 5 points of it; where
  it is wider the two *cannot be told* apart. It calls RAHF whichever of its two forms is surely no more than 5 points below
  the better one, at less KL.
- **A seed at which a method failed** counts as the base's own answers, which is what would be left to the user.
- **Time** is that of the whole run in a process of its own: from reading the pairs to its own held-out figures, loading
  included; CPU seconds where all worked on a CPU (other work on the machine does not count), else seconds by the clock.
  Less than a tenth of difference is called none. **Memory** is that process's peak.
"""


def table(pooled: Sequence[dict[str, Any]]) -> str:
    """The pooled rows as Markdown."""
    shown = [(key, name) for key, name in COLUMNS if any(row.get(key) is not None for row in pooled)]
    timed = "cpu_seconds" if any(row.get("cpu_seconds") is not None for row in pooled) else "seconds"
    lines = [
        "| method | "
        + " | ".join(name for _, name in shown)
        + f" | {'CPU s' if timed == 'cpu_seconds' else 'seconds'} | memory, GB |",
        "| --- " * (len(shown) + 3) + "|",
    ]
    for row in pooled:
        name = f"{NAMES[row['method']]} ({worked(row)})" if worked(row) else NAMES[row["method"]]
        cells = [name, *(cell(row, key) for key, _ in shown)]
        spent, most = row.get(timed), row.get("peak_memory_bytes")
        cells += [f"{spent:.0f}" if spent is not None else "-", f"{most / 1e9:.2f}" if most else "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(row: dict[str, Any], key: str) -> str:
    """A figure with its interval, as a share or in nats."""
    if row.get(key) is None:
        return "-"
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    if row["method"] == "base" and key in ("win_rate", "win_rate_lc", "kl_from_base"):  # against itself
        return "50%" if key != "kl_from_base" else "0"
    if key == "kl_from_base":
        return f"{row[key]:.2f} [{low:.2f}, {high:.2f}]"
    return f"{row[key]:.1%} [{low:.1%}, {high:.1%}]"


def differences(found: Sequence[dict[str, Any]]) -> str:
    """Every other method less RAHF as Markdown."""
    lines = [f"| less {NAMES[found[0]['ours']]} | win rate, points | KL, nats |", "| --- " * 3 + "|"]
    for row in found:
        wins = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in row["win_rate"]))
        kl = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*row["kl_from_base"])
        lines.append(f"| {NAMES[row['method']]} | {wins} | {kl} |")
    return "\n".join(lines)


WAY = (
    "What the looks during training saw: win rate and KL on some of each seed's own held-out prompts, means over the seeds, "
    "without intervals. (For RAHF these are the steps of its step 3 alone.)"
)


def paths(found: dict[str, list[dict[str, Any]]]) -> str:
    """The looks during training as Markdown."""
    lines = ["| method | steps | win rate, KL after so many of them |", "| --- " * 3 + "|"]
    for method, looks in found.items():
        seen = [f"{look['step']}: {look['win_rate']:.0%}, {look['kl_from_base']:.2f}" for look in looks if look["step"]]
        lines.append(f"| {NAMES[method]} | {looks[-1]['of']} | {'; '.join(seen)} |")
    return "\n".join(lines)


def by_seed(rows: Sequence[dict[str, Any]]) -> str:
    """The rows a seed as Markdown."""
    lines = [
        "| method | seed | alpha | win rate | coherent | KL, nats | seconds | CPU, s | memory, GB |",
        "| --- " * 9 + "|",
    ]
    for row in rows:
        most = row.get("peak_memory_bytes")
        strength = _number(row.get("alpha"), ".3g") + " (highest tried)" * bool(row.get("highest_tried"))
        cells = [NAMES[row["method"]], str(row["seed"]), strength]
        cells += (
            [cell(row, key) for key in ("win_rate", "coherence", "kl_from_base")] if "error" not in row else ["-"] * 3
        )
        cells += [_number(row.get("seconds"), ".0f"), _number(row.get("cpu_seconds"), ".0f")]
        lines.append("| " + " | ".join([*cells, f"{most / 1e9:.2f}" if most else "-"]) + " |")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def write(result: dict[str, Any], figure: str, path: Path) -> None:
    """The study as Markdown at ``path``, and its figure beside it. Raises UserError if the disk refuses."""
    picture = path.with_suffix(".svg")
    pieces = [
        "# Is RAHF worth it?",
        f"Written by `{result['command']}`, whatever it says.",
        *(
            [f"**{result['finding'][0]}**", *result["finding"][1:]]
            if result["finding"]
            else ["Nobody judged the answers."]
        ),
        f"![{result['title']}]({os.path.relpath(picture, path.parent)})",
        result["setting"],
        table(result["pooled"]),
        *([differences(result["against"])] if result.get("against") else []),
        *[
            f"{NAMES[row['method']]}, seed {row['seed']}, has no result and counts as the base: {row['error']}"
            for row in result["rows"]
            if "error" in row
        ],
        *(
            f"{NAMES[row['method']]}, seed {row['seed']}, took the highest strength that was tried: more might have done more."
            for row in result["rows"]
            if row.get("highest_tried")
        ),
        HOW.strip().replace("@seen@", UNSEEN if result.get("test") else SEEN),
        *(["## On the way", WAY, paths(result["paths"])] if result.get("paths") else []),
        "## Seed by seed",
        by_seed(result["rows"]),
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(picture, figure)
        write_whole(path, "\n\n".join(pieces) + "\n")
    except OSError as error:
        raise UserError(
            f"The study could not be written to {path} ({error.strerror or error}): choose another file."
        ) from error
