"""The settings of the next run: what was typed, what is wrong with it, and the JSON the ``align-settings`` view draws.

What a visitor typed is kept as it was typed (``settings["align"]["draft"]`` of the workspace); it becomes a RunConfig
only here, and only if every part of it is right. A draft holds typed fields by name and three keys of its own:
``preset`` (a name of rahf.presets, whose values stand below what was typed), ``strength`` (one of WAYS) and
``layers`` ({blocks, over}: blocks that came with a preset or a file though the model may lack them; they count until
others are picked in step 2 than ``over``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from workbench.errors import UserError
from workbench.runs.names import listed
from workbench.statistics import rounded_down
from workbench.ui import align_fields, align_view, charts, context, pairs_data
from workbench.ui.align_fields import field_groups, known_fields, label, summary
from workbench.ui.state import Workspace

NOT_TYPED = ("model", "pairs", "layers")  # chosen in other places, never taken from a field
WAYS = {  # how strength is chosen
    "auto": "Calibrated (default)",
    "relative": "Aim at a relative strength",
    "alpha": "Set alpha by hand",
}
WAY_INFO = {
    "auto": "A ladder of strengths is tried on prompts of the pairs; the one that moves most answers while they stay fluent is "
    "taken.",
    "relative": "Alpha follows from how long the difference vectors are, measured in stage 2.",
    "alpha": "Used as it is. What it means depends on the model: look at the relative strength.",
}
COLLAPSE, RISK = 1.0, 0.5  # relative strengths at which answers collapse, and begin to
# settings that decide how long a difference is
LIKE = ("foundation", "states", "instruct_tuning", "positive", "negative")
ANY_STRENGTH = "0.3"  # a relative strength to begin with


def kept(workspace: Workspace) -> dict[str, Any]:
    """What the step keeps in the workspace: draft, undo, note, new."""
    mine = workspace.settings.get("align")
    return mine if isinstance(mine, dict) else {}


def draft_of(workspace: Workspace) -> dict[str, Any]:
    """What the visitor has typed so far, by field; fields not in it have their default."""
    draft = kept(workspace).get("draft")
    return dict(draft) if isinstance(draft, dict) else {}


def preset_list() -> dict[str, Any]:
    """The engine's presets by name: objects with label, help, values."""
    from workbench.rahf.presets import PRESETS

    return PRESETS


def preset_of(draft: Mapping[str, Any]) -> str:
    """The name of the draft's preset; the first one where none was chosen, or one that no longer exists."""
    name, known = draft.get("preset"), preset_list()
    return name if isinstance(name, str) and name in known else next(iter(known))


def preset_fields(name: str) -> dict[str, Any]:
    """What a preset sets of a run's fields, without its blocks and without what the page chooses elsewhere."""
    values = preset_list()[name].values
    return {key: value for key, value in values.items() if key in known_fields() and key not in (*NOT_TYPED, "seed")}


def shared(name: str) -> dict[str, Any]:
    """What of a preset stands in the draft itself, because step 1 shows it too."""
    return {key: value for key, value in preset_fields(name).items() if key == "step1_share"}


def way_of(values: Mapping[str, Any], asked: Any = None) -> str:
    """How strength is chosen: as ``asked`` (one of WAYS), or as the values say."""
    if asked in WAYS:
        return asked
    if values.get("alpha") not in (None, "", "auto"):
        return "alpha"
    return "relative" if values.get("relative_strength") not in (None, "", "auto") else "auto"


# -- blocks ------------------------------------------------------------------------------------------------------------


def model_blocks(workspace: Workspace) -> int | None:
    """How many blocks the chosen model has, where that is known."""
    known = workspace.model.get("blocks") or (context.demo_blocks() if workspace.model_source == "demo" else None)
    return int(known) if known else None


def blocks_of(draft: Mapping[str, Any], workspace: Workspace) -> list[int]:
    """The blocks of the next run: those that came along with a preset or a file, else the picked; [] for automatic."""
    came, picked = draft.get("layers"), sorted(workspace.picked or [])
    if isinstance(came, dict) and isinstance(came.get("blocks"), list) and came.get("over") == picked:
        return sorted(block for block in came["blocks"] if type(block) is int)
    return picked


def missing_blocks(blocks: list[int], workspace: Workspace) -> str:
    """One sentence if the model lacks some of these blocks, else ""."""
    count = model_blocks(workspace)
    if count is None or not (wrong := [block for block in blocks if not 0 <= block < count]):
        return ""
    which = listed(wrong) if len(wrong) < 5 else f"{wrong[0]} to {wrong[-1]}"
    return f"The model has blocks 0 to {count - 1}, not {which}: pick others in step 2, or use those below."


def place_blocks(
    draft: dict[str, Any], blocks: list[int], workspace: Workspace
) -> tuple[dict[str, Any], list[int] | None]:
    """Draft and picked blocks once these blocks came along: picked where the model has them; else kept beside, so that
    the page can say so."""
    known = model_blocks(workspace) is not None
    if known and not missing_blocks(blocks, workspace):
        return {name: value for name, value in draft.items() if name != "layers"}, sorted(blocks)
    return draft | {"layers": {"blocks": sorted(blocks), "over": sorted(workspace.picked or [])}}, workspace.picked


# -- what was typed ----------------------------------------------------------------------------------------------------


def below(draft: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """What stands under the typed fields: defaults, what the pairs bring along, the preset."""
    values = align_fields.defaults() | {"method": "scit"}
    with contextlib.suppress(UserError):
        values["seed"] = pairs_data.checked_seed(workspace.settings.get("seed"))  # the split that step 1 shows
    if workspace.pairs and workspace.pairs.get("kind") == "bundled":
        values["judge"] = workspace.pairs["source"]  # once edited they are a file, and keep their oracle
    return values | preset_fields(preset_of(draft))


def read(draft: dict[str, Any], workspace: Workspace) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration the draft means, and one sentence per field that is wrong (key "" for the whole)."""
    from workbench.rahf.config import RunConfig

    under = below(draft, workspace)
    values = {name: value for name, value in under.items() if value != known_fields()[name].default}
    values |= {"model": workspace.model_source, "pairs": workspace.pairs_source or "demo", "method": under["method"]}
    way = way_of(under | draft, draft.get("strength"))
    typed = {name: text for name, text in draft.items() if name in known_fields() and name not in NOT_TYPED}
    for name, own in (("alpha", "alpha"), ("relative_strength", "relative")):
        if way != own:  # what was typed for another way is kept, and not used
            typed.pop(name, None)
            values.pop(name, None)
    wrong = {}
    for name, text in typed.items():
        try:  # each alone, so that each gets its own sentence
            values[name] = align_fields.checked(name, text)
        except UserError as error:
            wrong[name] = str(error)
    for name in align_fields.idle(under | values, way):  # nonsense where it means nothing does no harm
        if wrong.pop(name, None):
            values.pop(name, None)
    for name, own in (("alpha", "alpha"), ("relative_strength", "relative")):
        if way == own and name not in wrong and values.get(name) is None:
            example = "1" if name == "alpha" else ANY_STRENGTH
            wrong[name] = f"{label(name)} needs a number, such as {example}; or choose “{WAYS['auto']}” above."
    if blocks := blocks_of(draft, workspace):
        values["layers"] = blocks
        if sentence := missing_blocks(blocks, workspace):
            wrong["layers"] = sentence
    if not wrong:
        try:
            RunConfig.from_dict(values)
        except UserError as error:
            name, text = clash(str(error), draft)
            wrong[name] = text
    return values, wrong


def clash(sentence: str, draft: Mapping[str, Any]) -> tuple[str, str]:
    """A sentence about settings that do not go together, in the page's words, and the field it belongs at."""
    if "p+ and p-" in sentence:
        return "positive", sentence
    named = [name for name in re.findall(r"[a-z_0-9]+", sentence) if name in known_fields() and name != "model"]
    return next((name for name in named if name in draft), named[0] if named else ""), align_fields.in_page_words(
        sentence
    )


# -- strength ----------------------------------------------------------------------------------------------------------


def measured(statuses: list[tuple[dict[str, Any], dict[str, Any]]], wanted: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run measured of the shift per unit of alpha: {mean, blocks, run, alpha}, or None.

    ``statuses`` are (status, config) of this visitor's runs, newest first. Strength is linear in alpha as long as
    model, pairs, method, blocks, and what is trained and fitted (``LIKE``) are the same.
    """
    usual = {name: known_fields()[name].default for name in LIKE}
    for status, config in statuses:
        result = status.get("result") or {}
        strength, alpha = result.get("relative_strength"), result.get("alpha")
        same = all(config.get(name) == wanted.get(name) for name in ("model", "pairs")) and status.get(
            "method"
        ) == wanted.get("method")
        same = same and all(config.get(name, value) == wanted.get(name, value) for name, value in usual.items())
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


def strength_view(per_unit: dict[str, Any] | None, alpha: float | None, aim: float | None = None) -> dict[str, Any]:
    """The gauge before a start: what is aimed at, or from an earlier run's measurement where there is one."""
    if aim is not None:
        guess = f" By {per_unit['run']}, that is alpha {aim / per_unit['mean']:.2g}." if per_unit else ""
        return {"mean": round(aim, 4), "text": f"Aimed at; alpha follows in stage 2.{guess}"}
    if per_unit is None:
        return {"mean": None, "text": "Measured in stage 2 of the run, before anything is fitted."}
    use = alpha if alpha is not None else per_unit["alpha"]
    blocks = per_block({block: value * use for block, value in per_unit["blocks"].items()})
    return {"mean": round(per_unit["mean"] * use, 4), "text": f"{blocks}; as measured by {per_unit['run']}"}


def per_block(shares: Mapping[int, float]) -> str:
    """Relative strength block by block, or its range where there are many."""
    if len(shares) > 4:
        return f"{min(shares.values()):.2f} to {max(shares.values()):.2f} over {len(shares)} blocks"
    return ", ".join(f"block {block}: {value:.2f}" for block, value in sorted(shares.items()))


def strength_of_run(strength: Any, reached: Any = None) -> dict[str, Any]:
    """The gauge of a run, from what it measured; ``reached`` is how far the fitted model's states moved, by block."""
    if not isinstance(strength, dict) or not strength:
        return {"mean": None, "text": "Measured in stage 2."}
    per = {int(block): float(value) for block, value in strength.items()}
    mean = sum(per.values()) / len(per)
    text = per_block(per)
    if isinstance(reached, dict) and reached:
        moved = [float(value) for value in reached.values()]
        text = f"Aimed at {text}. The adapter moves states by {sum(moved) / len(moved):.2f} on average."
    return {"mean": round(mean, 4), "text": text}


def calibration_view(calibration: Any) -> dict[str, Any] | None:
    """What calibration chose and why, for the strength part: {title, reason, text}, or None."""
    if not isinstance(calibration, dict) or not isinstance(calibration.get("reason"), str):
        return None
    chosen, points = calibration.get("chosen"), calibration.get("points") or []
    point = next((one for one in points if one.get("alpha") == chosen), None)
    title = f"Alpha {chosen:.3g}" if isinstance(chosen, (int, float)) else "No alpha"
    if point and isinstance(point.get("relative_strength"), (int, float)):
        title += f", relative strength {point['relative_strength']:.2f}"
    tried = f"{len(points)} strengths tried on {calibration.get('prompts')} prompts"
    seconds = calibration.get("seconds")
    tried += f" in {charts.duration(seconds)}." if isinstance(seconds, (int, float)) else "."
    return {"title": title, "reason": align_fields.stages(calibration["reason"]), "text": tried}


def alpha_error(alpha: float | None, per_unit: dict[str, Any] | None) -> str:
    """Why this alpha would ruin every answer, if it would."""
    if alpha is None or per_unit is None or alpha * per_unit["mean"] <= COLLAPSE:
        return ""
    return (
        f"Alpha {alpha:g} would move states by {alpha * per_unit['mean']:.2f} times their own size. Above 1, every "
        f"answer collapses. Choose {rounded_down(RISK / per_unit['mean']):g} or less, or let it be calibrated."
    )


def with_way(
    draft: dict[str, Any], way: str, workspace: Workspace, statuses: list[tuple[dict[str, Any], dict[str, Any]]]
) -> dict[str, Any]:
    """The draft with strength chosen another way, and a number to begin with where none was typed yet."""
    under, draft = below(draft, workspace), draft | {"strength": way}
    per_unit = measured(statuses, read(draft | {"strength": "auto"}, workspace)[0])
    if way == "alpha" and (under | draft).get("alpha") in (None, "", "auto"):
        draft["alpha"] = f"{per_unit['alpha']:.3g}" if per_unit else "1"
    if way == "relative" and (under | draft).get("relative_strength") in (None, "", "auto"):
        draft["relative_strength"] = f"{per_unit['mean'] * per_unit['alpha']:.2g}" if per_unit else ANY_STRENGTH
    return draft


def strength_part(draft: dict[str, Any], values: dict[str, Any], under: dict[str, Any]) -> dict[str, Any]:
    """The three ways, which one is on, and what stands in the fields of the other two."""
    way = way_of(under | draft, draft.get("strength"))
    typed = {name: draft.get(name, under.get(name)) for name in ("alpha", "relative_strength")}
    shown = {name: align_fields.word(name, value) if value is not None else "" for name, value in typed.items()}
    return {
        "way": way,
        "ways": [{"value": name, "label": text} for name, text in WAYS.items()],
        "info": WAY_INFO[way],
        "changed": way != way_of(under) or any(name in draft and way == own for name, own in OWN_FIELD),
        "alpha": shown["alpha"] if way == "alpha" else "",
        "relative_strength": shown["relative_strength"] if way == "relative" else "",
    }


OWN_FIELD = (("alpha", "alpha"), ("relative_strength", "relative"))  # the field of each way


# -- the JSON ----------------------------------------------------------------------------------------------------------


def new_run(
    workspace: Workspace,
    statuses: list[tuple[dict[str, Any], dict[str, Any]]],
    check: dict[str, Any] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """The settings column for a run that has not begun. ``check`` is what align_check found of these settings;
    ``quiet`` where something else is the page's first action."""
    draft = draft_of(workspace)
    values, wrong = read(draft, workspace)
    under = below(draft, workspace)
    per_unit = measured(statuses, values)
    strength = strength_part(draft, values, under)
    if "alpha" not in wrong and (sentence := alpha_error(values.get("alpha"), per_unit)):
        wrong["alpha"] = sentence
    main, groups = field_groups(under | values | draft, under, strength["way"])
    mend = None
    if "alpha" in wrong and per_unit:
        mend = {"label": f"Use alpha {per_unit['alpha']:g}, relative {per_unit['mean'] * per_unit['alpha']:.2f}"}
    blocks = blocks_of(draft, workspace)
    check = check or {"problems": [], "rows": [], "working": False}
    return {
        "heading": "New run",
        "sub": subtitle(wrong),
        "locked": False,
        "copy": False,
        "method": values["method"],
        "method_changed": values["method"] != under["method"],
        "strength_part": strength,
        "alpha_found": None,
        "calibration": None,
        "strength": strength_view(per_unit, values.get("alpha"), values.get("relative_strength")),
        "layers": blocks,
        "layers_text": "chosen automatically from the scores",
        "layers_mend": layers_mend(workspace) if "layers" in wrong else None,
        "errors": {name: text for name, text in wrong.items() if name},
        "main": main,
        "groups": groups,
        "summary": summary(under | {name: value for name, value in values.items() if name not in wrong}),
        "changed": changed_names(draft, under, strength["changed"]),
        "presets": [{"value": name, "label": preset.label} for name, preset in preset_list().items()],
        "preset": preset_of(draft),
        "preset_help": align_fields.stages(str(preset_list()[preset_of(draft)].help)),
        "undo": undo_view(workspace),
        "note": kept(workspace).get("note") or None,
        "files": True,
        "start": start_view(workspace, values["method"], blocks, wrong, check, quiet),
        "mend": mend,
        "check": check,
        "facts": [],
    }


def subtitle(wrong: Mapping[str, str]) -> str:
    """The line under the column's heading: how many settings are wrong, if any."""
    if not wrong:
        return "Everything has a default that works."
    many = "One setting needs" if len(wrong) == 1 else f"{len(wrong)} settings need"
    return f"{many} a look before it can start."


def layers_mend(workspace: Workspace) -> dict[str, str]:
    """The way out of blocks that the model does not have."""
    picked = sorted(workspace.picked or [])
    if picked and not missing_blocks(picked, workspace):
        return {"label": f"Use blocks {listed(picked)} of step 2"}
    return {"label": "Let the blocks be chosen"}


def changed_names(draft: dict[str, Any], under: dict[str, Any], strength: bool) -> int:
    """How many settings differ from the preset, or from the defaults."""
    own = {*NOT_TYPED, "alpha", "relative_strength"}
    names = [name for name in draft if name in known_fields() and name not in own]
    return sum(not align_fields.same(name, draft[name], under[name]) for name in names) + bool(strength)


def undo_view(workspace: Workspace) -> dict[str, Any] | None:
    """The button that takes the last great change back (or does it again)."""
    undo = kept(workspace).get("undo")
    return {"label": undo["label"], "id": undo["id"]} if isinstance(undo, dict) else None


def start_view(
    workspace: Workspace, method: str, blocks: list[int], wrong: dict[str, str], check: dict[str, Any], quiet: bool
) -> dict[str, Any]:
    """The start button: whether it is on, and the sentence beside it."""
    busy = "" if workspace.pairs else "Start is off: there are no pairs yet. Load some in step 1."
    first = wrong.get("") or next((f"Start is off: look at “{label(name)}” first." for name in wrong), "")
    stop = next((one["text"] for one in check["problems"] if one["severity"] == "stop"), "")
    where = "blocks " + (listed(blocks) if blocks else "chosen automatically")
    count = workspace.pairs["count"] if workspace.pairs else "No"
    field = next(iter(name for name in wrong if name), "") if workspace.pairs else "pairs"
    return {
        "field": field,
        "label": f"Start {align_fields.word('method', method)}",
        "on": not (busy or wrong or stop),
        "text": busy or first or (f"Start is off: {stop}" if stop else f"{count} pairs, {where}."),
        "quiet": quiet,
    }


def of_run(
    status: dict[str, Any],
    config: dict[str, Any],
    story: align_view.Story,
    calibration: dict[str, Any] | None = None,
    estimate: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The settings column of a run that began: its own configuration, locked, and what it costs. ``calibration`` and
    ``estimate`` are what the run's folder holds of them."""
    live = status["state"] in align_view.LIVE
    result = status.get("result") or {}
    known = align_fields.defaults() | {name: value for name, value in config.items() if name in known_fields()}
    way = way_of(known)
    main, groups = field_groups(known, align_fields.defaults(), way, locked=True)
    found = result.get("alpha", story.latest.get("alpha"))
    blocks = result.get("layers") or story.latest.get("layers") or config.get("layers")
    strength = strength_part({}, known, known)
    reached = {block: points[-1][1] for block, points in story.reached.items() if points}
    return {
        "heading": "Settings of this run",
        "sub": "Fixed while it runs." if live else "As it ran.",
        "locked": True,
        "copy": True,
        "method": str(config.get("method") or "scit"),
        "strength_part": strength,
        "alpha_found": f"{found:.3g}" if isinstance(found, (int, float)) else None,
        "calibration": calibration_view(result.get("calibration") or calibration),
        "strength": strength_of_run(result.get("relative_strength") or story.latest.get("relative_strength"), reached),
        "layers": list(blocks) if isinstance(blocks, (list, tuple)) else [],
        "layers_text": "chosen automatically",
        "errors": {},
        "main": main,
        "groups": groups,
        "summary": summary(known),
        "changed": 0,
        "presets": [],
        "files": True,
        "start": None,
        "mend": None,
        "facts": cost(status, story, result, (result.get("estimated") or estimate or {})),
    }


def cost(
    status: dict[str, Any], story: align_view.Story, result: dict[str, Any], estimated: dict[str, Any]
) -> list[list[Any]]:
    """Rows of [what, figure, whether it is measured]: what the run took beside what was estimated."""
    live = status["state"] in align_view.LIVE
    left, spent = status.get("seconds_left"), status.get("seconds")
    guess = estimated.get("seconds")
    if live and isinstance(left, (int, float)) and status.get("stage") == "align":
        guess = (spent or 0) + left
    memory = result.get("peak_memory_bytes") or story.latest.get("memory_bytes")
    speed = result.get("tokens_per_second") or story.latest.get("tokens_per_second")
    rows = [
        ["Time, estimated", charts.duration(guess), False],
        ["Time so far" if live else "Time, taken", charts.duration(spent), True],
        ["Memory, estimated peak", charts.amount(estimated.get("memory_bytes")), False],
        ["Memory now" if live else "Memory, peak", charts.amount(memory), True],
    ]
    if isinstance(speed, (int, float)):
        rows.append(["Speed", f"{speed:,.0f} tokens/s", False])
    return [row for row in rows if row[1] != charts.duration(None)]  # what is not known has no row
