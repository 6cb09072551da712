"""What every export says of a run: settings, figures with their intervals, how it was judged, and what is not known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

METHODS = {
    "scit": "RAHF-SCIT",
    "dual": "RAHF-Dual",
    "sft": "supervised fine-tuning on the chosen answers (SFT)",
    "hir": "hindsight instruction relabelling (HIR)",
    "dpo": "direct preference optimisation (DPO)",
    "steering": "steering by the mean difference of states",
}
FIGURES = (
    ("preferred", "Preferred answers, by the oracle"),
    ("win_rate", "Win rate against the base"),
    ("win_rate_lc", "Win rate at equal length"),
    ("preference_accuracy", "Preference accuracy"),
    ("coherence", "Coherent answers"),
    ("facts_right", "Right facts"),
    ("unfinished", "Answers that did not end"),
    ("distinct_2", "Different word pairs"),
    ("kl_from_base", "KL from the base, nats an answer"),
)


def named(source: str) -> str:
    """A Hub id or a bundled name as it is; of a file or folder only its own name: paths are this machine's business."""
    return Path(source).name if os.path.isabs(source) or Path(source).exists() else source


def on_hub(source: str) -> bool:
    """Whether the name of a model or of pairs is a Hub id that others can load."""
    return named(source) == source and "/" in source and not source.startswith("demo/")


def shareable(result: dict[str, Any]) -> dict[str, Any]:
    """The result without this machine's own paths."""
    config = result["config"] | {name: named(result["config"][name]) for name in ("model", "pairs")}
    return {key: value for key, value in result.items() if key != "adapter"} | {"config": config}


def method_name(result: dict[str, Any]) -> str:
    """The method in words, as they stand within a sentence."""
    return METHODS.get(result["method"], str(result["method"]))


def opened(words: str) -> str:
    """Words at the beginning of a sentence or cell."""
    return words[:1].upper() + words[1:]


def read_samples(folder: Path, count: int = 50) -> list[dict[str, Any]]:
    """The first side-by-side answers of a run: prompt, base, aligned."""
    try:
        with open(folder / "samples.jsonl", encoding="utf-8") as file:
            return [json.loads(line) for _, line in zip(range(count), file, strict=False)]
    except (OSError, ValueError):
        return []


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, oldest first, damaged lines left out (a killed writer leaves half a line)."""
    try:
        lines = (folder / "events.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("metrics"), dict):
            found.append(event)
    return found


def number(figures: dict[str, Any], name: str) -> str | None:
    """``0.98 [0.95, 0.99]``, or the number and that it has no interval; None if it was not measured."""
    value = figures.get(name)
    if value is None:
        return None
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    if low is None or high is None:
        return f"{value:.2f} (no interval)"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def figure_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, base, aligned) of the held-out figures that were measured, with 95% intervals; none of a run that was
    stopped before it was judged."""
    if not result.get("held_out"):
        return []
    base, aligned = result["held_out"]["base"], result["held_out"]["aligned"]
    return [
        (title, number(base, name) or "", number(aligned, name) or "")
        for name, title in FIGURES
        if number(aligned, name) is not None
    ]


def setting_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """(setting, value) of how the run was made; what its method does not have is left out."""
    config = result["config"]
    rows = [
        ("Method", opened(method_name(result))),
        ("Base model", named(config["model"])),
        ("Pairs", named(config["pairs"])),
    ]
    if isinstance(pairs := result.get("pairs"), dict):
        parts = " / ".join(str(pairs.get(part, 0)) for part in ("instruct", "fit", "held_out"))
        rows.append(("Pairs for step 1 / steps 2-3 / held out", parts))
    if layers := result.get("layers"):
        rows.append(("Blocks", f"{', '.join(map(str, layers))} of 0 to {result['n_blocks'] - 1}"))
    if result.get("alpha") is not None:
        rows.append(("Alpha", f"{result['alpha']:g}"))
    if strength := result.get("relative_strength"):
        each = ", ".join(f"{block}: {value:.2f}" for block, value in strength.items())
        rows.append(("Relative strength", f"{sum(strength.values()) / len(strength):.2f} (block {each})"))
    if budget := result.get("budget"):  # of a baseline: it has one training
        rows.append(("Steps, answers a batch", f"{steps_of(result)}, {budget['batch']}"))
    elif result["method"] in ("scit", "dual"):
        rows.append(("Steps, batch, rate", f"{steps_of(result)}, {config['align_batch']}, {config['align_rate']:g}"))
    if result["method"] != "steering":
        rows.append(("LoRA rank and alpha", f"{config['lora_rank']}, {config['lora_alpha']}"))
    if told := result.get("instruction"):
        rows.append(("Has to be told before every prompt", told))
    rows += [
        ("Seed", str(config["seed"])),
        ("Fingerprints of model and pairs", f"{result.get('model_fingerprint')}, {result.get('pairs_fingerprint')}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in (result.get("versions") or {}).items())),
    ]
    return rows


def steps_of(result: dict[str, Any]) -> str:
    """The steps that the adapter has seen, and of how many where it was kept early."""
    partial = result.get("partial")
    return f"{partial['steps']} of {partial['of']}" if partial else str(result["steps"])


def ended_early(result: dict[str, Any]) -> str:
    """A sentence on why step 3 has fewer steps than it was to have; empty if it has them all."""
    if partial := result.get("partial"):
        return f"Partial: this is the adapter of {partial['steps']} of {partial['of']} steps, kept when the run was stopped."
    return str(result.get("collapse") or "")


def judged_on(result: dict[str, Any]) -> str:
    """What the held-out figures were measured on, as a sentence."""
    if not result.get("held_out"):
        return "None: the run was stopped before it was judged. The command evaluate judges it as it is."
    judge = result["held_out"]["aligned"].get("judge")
    return f"On {result['pairs']['held_out']} pairs that no training step saw, with 95% intervals. " + (
        f"Answers are judged by {judge}." if judge else "No judge was available, so there is no win rate."
    )


def limits(result: dict[str, Any]) -> list[str]:
    """What the figures do not show, as sentences."""
    aligned = (result.get("held_out") or {}).get("aligned") or {}
    found = [
        f"One run with one seed ({result['config']['seed']}): the intervals say how much the held-out pairs leave open, not "
        "how much another seed would change.",
        "The figures hold for prompts like the held-out ones. Nothing is known about other languages, tasks or longer talks.",
    ]
    if judge := aligned.get("judge"):
        found.append(f"Answers were judged by {judge}; whoever prefers other things would judge otherwise.")
    wrong = aligned.get("facts_right")
    if isinstance(wrong, (int, float)) and wrong < 1:
        found.append(f"{1 - wrong:.0%} of the held-out answers with a checkable fact still state a wrong one.")
    found.append("Licences of base and pairs go on holding for what was made of them; this card does not know them.")
    return found
