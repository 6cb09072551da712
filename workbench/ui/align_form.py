"""The settings of the next run: what was typed, what is wrong with it, and the JSON the ``align-settings`` view draws.

What a visitor typed is kept as it was typed (``settings["align"]["draft"]`` of the workspace); it becomes a RunConfig
only here, and only if every part of it is right.
"""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any

from workbench.errors import UserError
from workbench.ui import align_view, charts, context, pairs_data
from workbench.ui.state import Workspace

ELSEWHERE = {"model", "pairs", "method", "layers", "alpha"}  # shown in their own places, or chosen in other steps
MAIN = ("foundation",)
GROUPS = (  # what is named nowhere stands in the last
    (
        "Step 1, instruct",
        ("instruct_steps", "instruct_batch", "instruct_rate", "label_smoothing", "positive", "negative", "force"),
    ),
    (
        "Steps 2 and 3, patterns and fit",
        ("states", "response", "relative_strength", "align_steps", "align_batch", "align_rate"),
    ),
    ("Both trainings", ("warmup", "schedule", "accumulation", "gradient_checkpointing", "checkpoint_every", "seed")),
    ("Adapter", ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")),
    ("Judging", ("judge", "held_out", "evaluate_every", "evaluate_prompts", "max_new_tokens")),
    ("Lengths and machine", ()),
)
LABELS = {
    "foundation": "Start from",
    "lora_rank": "Rank",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "lora_targets": "Adapted layers",
    "dtype": "Number format",
    "held_out": "Held-out pairs",
    "positive": "Instruction p+",
    "negative": "Instruction p\N{MINUS SIGN}",
    "instruct_steps": "Steps of step 1",
    "instruct_batch": "Batch of step 1",
    "instruct_rate": "Learning rate of step 1",
    "align_steps": "Steps of step 3",
    "align_batch": "Batch of step 3",
    "align_rate": "Learning rate of step 3",
    "warmup": "Warm-up",
    "relative_strength": "Strength that auto aims at",
    "force": "Go on whatever step 1 learned",
    "alpha": "Alpha",
    "max_new_tokens": "Longest answer, tokens",
    "evaluate_every": "Look every",
    "evaluate_prompts": "Prompts a look",
    "checkpoint_every": "Checkpoint every",
}
WORDS = {
    "base": "Base model",
    "instructed": "Instructed model (step 1)",
    "predicting": "Predicting states",
    "completion": "Completion tokens",
    "both": "Chosen and rejected",
    "chosen": "Chosen",
    "rejected": "Rejected",
    "random": "One of the two at random",
    "all": "All linear layers",
    "attention": "Query and value",
    "constant": "Constant",
    "linear": "Linear",
    "cosine": "Cosine",
}
COLLAPSE, RISK = 1.0, 0.5  # relative strengths at which answers collapse, and begin to


def draft_of(workspace: Workspace) -> dict[str, Any]:
    """What the visitor has typed so far, by field; fields not in it have their default."""
    draft = (workspace.settings.get("align") or {}).get("draft")
    return dict(draft) if isinstance(draft, dict) else {}


def known_fields() -> dict[str, Any]:
    """Every field of RunConfig by its name, with default and metadata (help, choices, low, high)."""
    from workbench.rahf.config import RunConfig

    return {item.name: item for item in fields(RunConfig)}


def label(name: str) -> str:
    """A field's name as a person says it."""
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def meant(name: str, text: Any) -> Any:
    """The value for RunConfig of what was typed: "auto" and nothing at all mean auto where that is possible."""
    text = text.strip() if isinstance(text, str) else text
    return None if text in ("", "auto") and known_fields()[name].default is None else text


def read(draft: dict[str, Any], workspace: Workspace) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration the draft means, and one sentence per field that is wrong (key "" for the whole)."""
    from workbench.rahf.config import RunConfig

    known = known_fields()
    values = {"model": workspace.model_source, "pairs": workspace.pairs_source or "demo"}
    if workspace.pairs and workspace.pairs.get("kind") == "bundled":
        values["judge"] = workspace.pairs["source"]  # once edited they are a file, and keep their oracle
    if workspace.picked:
        values["layers"] = sorted(workspace.picked)
    if seed := pairs_data.seed_of(workspace):  # the split that step 1 shows
        values["seed"] = seed
    wrong = {}
    for name, text in draft.items():
        if name not in known or name in ("model", "pairs", "layers"):
            continue
        try:  # each alone, so that each gets its own sentence
            values[name] = getattr(RunConfig.from_dict({name: meant(name, text)}), name)
        except UserError as error:
            wrong[name] = re.sub(rf"^{name}\b", label(name), str(error))
    if not wrong:
        try:
            config = RunConfig.from_dict(values)
            if workspace.model.get("blocks"):
                config.check_layers(int(workspace.model["blocks"]))
        except UserError as error:
            wrong["layers" if "block" in str(error) else ""] = str(error)
    return {"method": "scit"} | values, wrong


# -- strength ----------------------------------------------------------------------------------------------------------


def measured(statuses: list[tuple[dict[str, Any], dict[str, Any]]], wanted: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run measured of the shift per unit of alpha: {mean, blocks, run, alpha}, or None.

    ``statuses`` are (status, config) of this visitor's runs, newest first. Strength is linear in alpha as long as
    model, pairs, method and blocks are the same.
    """
    for status, config in statuses:
        result = status.get("result") or {}
        strength, alpha = result.get("relative_strength"), result.get("alpha")
        same = all(config.get(name) == wanted.get(name) for name in ("model", "pairs")) and status.get(
            "method"
        ) == wanted.get("method")
        blocks = sorted(int(block) for block in strength) if isinstance(strength, dict) and strength else []
        if same and blocks == sorted(wanted.get("layers") or blocks) and blocks and alpha:
            per = {int(block): float(value) / alpha for block, value in strength.items()}
            return {
                "mean": sum(per.values()) / len(per),
                "blocks": per,
                "run": context.run_name(status),
                "alpha": alpha,
            }
    return None


def strength_view(per_unit: dict[str, Any] | None, alpha: float | None) -> dict[str, Any]:
    """The gauge before a start: from an earlier run's measurement where there is one, else unknown."""
    if per_unit is None:
        return {"mean": None, "text": "Measured in stage 2 of the run, before anything is fitted."}
    use = alpha if alpha is not None else per_unit["alpha"]
    blocks = ", ".join(f"block {block}: {value * use:.2f}" for block, value in sorted(per_unit["blocks"].items()))
    return {"mean": round(per_unit["mean"] * use, 4), "text": f"{blocks}; as measured by {per_unit['run']}"}


def strength_of_run(strength: Any) -> dict[str, Any]:
    """The gauge of a run, from what it measured."""
    if not isinstance(strength, dict) or not strength:
        return {"mean": None, "text": "Measured in stage 2."}
    per = {int(block): float(value) for block, value in strength.items()}
    text = ", ".join(f"block {block}: {value:.2f}" for block, value in sorted(per.items()))
    return {"mean": round(sum(per.values()) / len(per), 4), "text": text}


def alpha_error(alpha: float | None, per_unit: dict[str, Any] | None) -> str:
    """Why this alpha would ruin every answer, if it would."""
    if alpha is None or per_unit is None or alpha * per_unit["mean"] <= COLLAPSE:
        return ""
    return (
        f"Alpha {alpha:g} would move states by {alpha * per_unit['mean']:.2f} times their own size. Above 1, every "
        f"answer collapses. Choose {math.floor(10 * RISK / per_unit['mean']) / 10:g} or less, or let it be chosen."
    )


# -- the JSON ----------------------------------------------------------------------------------------------------------


def field_view(item: Any, value: Any) -> dict[str, Any]:
    """One field of RunConfig for the view, with the value it has or what was typed."""
    shown: dict[str, Any] = {"name": item.name, "label": label(item.name), "help": item.metadata["help"]}
    if isinstance(item.default, bool):
        return shown | {"kind": "check", "value": str(value).lower() == "true"}
    if item.metadata["choices"]:
        options = [{"value": choice, "label": WORDS.get(choice, choice)} for choice in item.metadata["choices"]]
        return shown | {"kind": "choice", "value": str(value), "options": options}
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    kind = "text" if isinstance(item.default, str) else "number"
    kind = "long" if kind == "text" and len(item.default) > 60 else kind
    return shown | {"kind": kind, "value": text, "placeholder": "auto" if item.default is None else None}


def field_groups(values: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The fields shown at once, and the others in groups; ``values`` stand in for defaults."""
    shown = {
        name: field_view(item, values.get(name, item.default))
        for name, item in known_fields().items()
        if name not in ELSEWHERE
    }
    main = [shown.pop(name) for name in MAIN]
    groups: list[dict[str, Any]] = [{"title": title, "fields": []} for title, _ in GROUPS]
    for name, view in shown.items():
        at = next((i for i, (_, names) in enumerate(GROUPS) if name in names), len(GROUPS) - 1)
        groups[at]["fields"].append(view)
    return main, [group for group in groups if group["fields"]]


def summary(values: dict[str, Any]) -> str:
    """A few of the folded settings, so that one sees whether they need opening."""
    now = {name: item.default for name, item in known_fields().items()} | values
    rate = f"{now['align_rate']:g}" if isinstance(now["align_rate"], (int, float)) else str(now["align_rate"])
    steps = f"{now['align_steps']} steps of {now['align_batch']}"
    return f"rank {now['lora_rank']}, {steps}, rate {rate}, {now['states']} states"


def new_run(
    workspace: Workspace, statuses: list[tuple[dict[str, Any], dict[str, Any]]], busy: str = "", quiet: bool = False
) -> dict[str, Any]:
    """The settings column for a run that has not begun. ``busy`` says why none may begin now; ``quiet`` where something
    else is the page's first action."""
    draft = draft_of(workspace)
    values, wrong = read(draft, workspace)
    per_unit = measured(statuses, values)
    alpha = values.get("alpha")
    if "alpha" not in wrong and (sentence := alpha_error(alpha, per_unit)):
        wrong["alpha"] = sentence
    main, groups = field_groups({name: draft.get(name, value) for name, value in (values | draft).items()})
    mend = None
    if "alpha" in wrong and per_unit:
        mend = {"label": f"Use alpha {per_unit['alpha']:g}, relative {per_unit['mean'] * per_unit['alpha']:.2f}"}
    if not workspace.pairs:
        busy = busy or "Start is off: there are no pairs yet. Load some in step 1."
    fine = not wrong and not busy
    first = wrong.get("") or next((f"Start is off: {label(name).lower()} needs a look." for name in wrong), "")
    where = "blocks " + (
        align_view.blocks_text(sorted(workspace.picked)) if workspace.picked else "chosen automatically"
    )
    ready = f"{workspace.pairs['count'] if workspace.pairs else 'No'} pairs, {where}."
    like = next(
        (
            (status, config)
            for status, config in statuses
            if status["state"] == "finished"
            and config.get("model") == values["model"]
            and status.get("method") == values["method"]
        ),
        None,
    )
    facts = []
    if like:
        facts = [
            ["Time, as the last such run took", charts.duration(like[0].get("seconds")), False],
            ["Peak memory, as then", charts.amount((like[0].get("result") or {}).get("peak_memory_bytes")), False],
        ]
    return {
        "heading": "New run",
        "sub": "One setting needs a look before it can start." if wrong else "Everything has a default that works.",
        "locked": False,
        "copy": False,
        "method": values["method"],
        "alpha": "auto" if "alpha" not in draft or draft["alpha"] in ("auto", None) else str(draft["alpha"]),
        "alpha_found": None,
        "strength": strength_view(per_unit, alpha),
        "layers": sorted(workspace.picked or []),
        "layers_text": "chosen automatically from the scores",
        "errors": {name: text for name, text in wrong.items() if name},
        "main": main,
        "groups": groups,
        "summary": summary(values),
        "presets": presets(),
        "preset": str(draft.get("preset") or ""),
        "preset_help": "A starting point for the settings below; every one can still be changed.",
        "start": {
            "label": f"Start {values['method'].upper() if values['method'] == 'scit' else 'Dual'}",
            "on": fine,
            "text": busy or first or ready,
            "quiet": quiet,
        },
        "mend": mend,
        "facts": facts,
    }


# Only what a preset changes; the reference's settings are for 7B models (arXiv 2312.15997, appendix).
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "label": "The paper’s code (7B models)",
        "states": "completion",
        "response": "random",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "lora_targets": "attention",
        "instruct_batch": 64,
        "instruct_rate": 2e-5,
        "align_steps": 450,
        "align_batch": 64,
        "align_rate": 3e-4,
        "schedule": "constant",
        "alpha": 5,
        "foundation": "instructed",
    },
    "quick": {
        "label": "Quick look",
        "instruct_steps": 60,
        "align_steps": 60,
        "evaluate_every": 30,
        "evaluate_prompts": 32,
        "held_out": 60,
    },
}


def presets() -> list[dict[str, str]]:
    """The presets by name, the defaults first."""
    return [
        {"value": "", "label": "Defaults"},
        *({"value": name, "label": preset["label"]} for name, preset in PRESETS.items()),
    ]


def of_run(status: dict[str, Any], config: dict[str, Any], story: align_view.Story) -> dict[str, Any]:
    """The settings column of a run that began: its own configuration, locked, and what it costs."""
    live = status["state"] in align_view.LIVE
    result = status.get("result") or {}
    main, groups = field_groups(config)
    found = result.get("alpha", story.latest.get("alpha"))
    alpha = config.get("alpha")
    blocks = result.get("layers") or story.latest.get("layers") or config.get("layers")
    left = status.get("seconds_left")
    total = (
        (status.get("seconds") or 0) + left
        if isinstance(left, (int, float)) and live and status.get("stage") == "align"
        else None
    )
    memory = result.get("peak_memory_bytes") or story.latest.get("memory_bytes")
    speed = result.get("tokens_per_second") or story.latest.get("tokens_per_second")
    facts = [["Time, estimated", charts.duration(total), False]] if live else []
    facts += [
        ["Time so far" if live else "Time", charts.duration(status.get("seconds")), True],
        ["Memory now" if live else "Memory, peak", charts.amount(memory), True],
    ]
    if isinstance(speed, (int, float)):
        facts.append(["Speed", f"{speed:,.0f} tokens/s", False])
    facts = [fact for fact in facts if fact[1] != charts.duration(None)]  # what is not known has no row
    return {
        "heading": "Settings of this run",
        "sub": "Fixed while it runs." if live else "As it ran.",
        "locked": True,
        "copy": True,
        "method": str(config.get("method") or "scit"),
        "alpha": "auto" if alpha in (None, "auto") else str(alpha),
        "alpha_found": f"{found:.3g}" if isinstance(found, (int, float)) else None,
        "strength": strength_of_run(result.get("relative_strength") or story.latest.get("relative_strength")),
        "layers": list(blocks) if isinstance(blocks, (list, tuple)) else [],
        "layers_text": "chosen automatically",
        "errors": {},
        "main": main,
        "groups": groups,
        "summary": summary(config),
        "presets": [],
        "start": None,
        "mend": None,
        "facts": facts,
    }
