"""The fields of a run's settings as the page shows them: words, groups, which mean nothing now, which were changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from workbench.errors import UserError

ELSEWHERE = {"model", "pairs", "method", "layers", "alpha", "relative_strength"}  # shown in places of their own
MAIN = ("foundation",)
GROUPS = (  # title, what it is about, fields; a field that is named nowhere stands in the last
    (
        "Stage 1: instruct",
        "Teaches the model both sides of the pairs.",
        (
            "instruct_tuning",
            "instruct_steps",
            "instruct_epochs",
            "instruct_batch",
            "instruct_rate",
            "instruct_schedule",
            "instruct_warmup",
            "step1_share",
            "label_smoothing",
            "instructions",  # no setting of its own: it fills the two texts
            "positive",
            "negative",
            "force",
        ),
    ),
    (
        "Stage 2: patterns and strength",
        "Reads how states differ between the sides, and how far they may move.",
        ("states", "response", "calibration_prompts", "drift_limit"),
    ),
    (
        "Stage 3: fit",
        "Fits the adapter to the moved states.",
        ("align_steps", "align_epochs", "align_batch", "align_rate", "stop_on_collapse"),
    ),
    (
        "Both trainings",
        "How stages 1 and 3 are optimised.",
        (
            "optimizer",
            "schedule",
            "warmup",
            "weight_decay",
            "max_grad_norm",
            "accumulation",
            "checkpoint_every",
            "seed",
        ),
    ),
    ("Adapter", "The size of what is trained.", ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")),
    (
        "Judging",
        "What is kept to judge by, and how often.",
        ("judge", "held_out", "evaluate_every", "evaluate_prompts", "max_new_tokens"),
    ),
    ("Lengths and machine", "What is cut, and where it is computed.", ()),
)
LABELS = {
    "method": "Method",
    "optimizer": "Optimiser",
    "layers": "Blocks",
    "foundation": "Start from",
    "lora_rank": "Rank",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "lora_targets": "Adapted layers",
    "dtype": "Number format",
    "held_out": "Held-out pairs",
    "positive": "Instruction p+",
    "negative": "Instruction p\N{MINUS SIGN}",
    "instruct_tuning": "Stage 1 trains",
    "instruct_steps": "Steps of stage 1",
    "instruct_epochs": "Passes of stage 1",
    "instruct_batch": "Batch of stage 1",
    "instruct_rate": "Learning rate of stage 1",
    "step1_share": "Share of pairs for stage 1",
    "align_steps": "Steps of stage 3",
    "align_epochs": "Passes of stage 3",
    "align_batch": "Batch of stage 3",
    "align_rate": "Learning rate of stage 3",
    "warmup": "Warm-up",
    "instruct_warmup": "Warm-up of stage 1",
    "instruct_schedule": "Schedule of stage 1",
    "align_completion_tokens": "Longest completion in stages 2 and 3, tokens",
    "relative_strength": "Relative strength",
    "calibration_prompts": "Prompts for calibration",
    "drift_limit": "Answers that may break",
    "stop_on_collapse": "Stop when answers fall apart",
    "force": "Go on whatever stage 1 learned",
    "alpha": "Alpha",
    "max_grad_norm": "Longest gradient",
    "accumulation": "Batches a step",
    "quantization": "Base weights in",
    "prompt_tokens": "Longest prompt, tokens",
    "completion_tokens": "Longest completion, tokens",
    "max_new_tokens": "Longest answer, tokens",
    "evaluate_every": "Steps between looks",
    "evaluate_prompts": "Prompts a look",
    "checkpoint_every": "Steps between checkpoints",
}
WORDS = {
    "base": "Base model",
    "instructed": "Instructed model (stage 1)",
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
    "lora": "An adapter (LoRA)",
    "full": "All weights",
    "adamw": "AdamW",
    "adafactor": "Adafactor",
    "adamw_8bit": "AdamW, 8-bit states",
    "8bit": "8 bits",
    "4bit": "4 bits",
    "same": "As in stage 3",
    "scit": "SCIT",
    "dual": "Dual",
}
OWN_WORDS = {
    ("quantization", "none"): "Full precision",
    ("device", "auto"): "Automatic",
    ("device", "cpu"): "CPU",
    ("device", "cuda"): "GPU (cuda)",
    ("device", "mps"): "Apple GPU (mps)",
    ("dtype", "auto"): "Automatic",
    ("judge", "auto"): "Automatic: the pairs\N{RIGHT SINGLE QUOTATION MARK} oracle, else a probe",
    ("judge", "probe"): "A probe trained on the pairs",
    ("judge", "none"): "Nobody",
}
EMPTY = {"instruct_warmup": "as in stage 3", "align_completion_tokens": "the same"}  # what an empty field means
SHORT = {  # in place of the engine's help where the column is narrow
    "instruct_epochs": "Passes over the pairs, in place of a number of steps.",
}


@cache
def known_fields() -> dict[str, Any]:
    """Every field of RunConfig by its name, with default and metadata (help, choices, low, high)."""
    from workbench.rahf.config import RunConfig

    return {item.name: item for item in fields(RunConfig)}


def defaults() -> dict[str, Any]:
    """What every field is where nobody says otherwise."""
    return {name: item.default for name, item in known_fields().items()}


def label(name: str) -> str:
    """A field's name as a person says it."""
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def stages(sentence: str) -> str:
    """A sentence of the engine about the method's steps, which the page calls stages: its own steps are Pairs to Export."""
    return re.sub(r"(?<!\bat )(?<!\bby )\b([Ss])tep(s?) (?=[123]\b)", r"\1tage\2 ", sentence)


def in_page_words(sentence: str) -> str:
    """A sentence of the engine with the page's words: “Longest prompt, tokens”, not prompt_tokens; stage 1, not step 1."""
    sentence = stages(sentence)
    sentence = re.sub(r"leave (?:alpha|it) on auto\b", "let it be calibrated", sentence)
    plain = {"quantization", "optimizer", "accumulation", "foundation", "dtype"}
    for name in sorted(known_fields(), key=len, reverse=True):
        if "_" in name or name in plain:
            sentence = re.sub(rf"\b{name}\b", f"“{label(name)}”", sentence)
    return sentence


def word(name: str, value: Any) -> str:
    """A value as a person says it: ``All linear layers``, ``0.002``, ``auto``, ``yes``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "auto" if name in ("alpha", "layers", "relative_strength") else EMPTY.get(name, "none")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if name == "judge" and text.partition("/")[0] == "demo":
        return f"The rules of {text}"
    return OWN_WORDS.get((name, text)) or (WORDS.get(text, text) if choices(name) or name == "method" else text)


@cache
def choices(name: str) -> tuple[str, ...]:
    """What a field is chosen from on the page; empty where it is typed."""
    if name == "device":
        return ("auto", "cpu", "cuda", "mps")
    if name == "dtype":
        return ("auto", "float32", "bfloat16", "float16")
    if name == "judge":
        from workbench.ui.pairs_data import demo_list

        return ("auto", "probe", "none", *(item["source"] for item in demo_list()))
    return tuple(known_fields()[name].metadata["choices"] or ())


def meant(name: str, text: Any) -> Any:
    """The value for RunConfig of what was typed: "auto" and nothing at all mean auto where that is possible."""
    text = text.strip() if isinstance(text, str) else text
    return None if text in ("", "auto", "none", EMPTY.get(name)) and known_fields()[name].default is None else text


def checked(name: str, typed: Any) -> Any:
    """The value of one field that was typed, alone. Raises UserError with one sentence that names it as the page does."""
    from workbench.rahf.config import RunConfig

    if meant(name, typed) == "" and not isinstance(usual := known_fields()[name].default, str):
        raise UserError(f"{label(name)} is empty: type a {'whole ' * isinstance(usual, int)}number, such as {usual:g}.")
    try:
        value = getattr(RunConfig.from_dict({name: meant(name, typed)}), name)
    except UserError as error:
        raise UserError(re.sub(rf"^{name}\b", lambda _: label(name), str(error))) from error
    if name in ("device", "dtype", "judge") and value not in choices(name):
        if name == "device" and re.fullmatch(r"cuda:[0-9]{1,2}", value):
            return value
        raise UserError(f"{label(name)} must be one of {', '.join(choices(name))}, not {value[:40]!r}.")
    return value


def same(name: str, one: Any, other: Any) -> bool:
    """Whether two values of a field mean the same, however they were typed."""
    if one is other or (type(one) is type(other) and one == other):
        return True
    if isinstance(one, (list, tuple)) or isinstance(other, (list, tuple)):
        return list(one or []) == list(other or [])
    try:
        return checked(name, one) == checked(name, other)
    except UserError:
        return one == other


def given(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a field that may stay empty holds a value that counts: neither nothing nor nonsense."""
    try:
        return checked(name, values.get(name)) is not None
    except UserError:
        return False


def idle(values: Mapping[str, Any], way: str) -> dict[str, str]:
    """Why fields mean nothing under these settings, by name. ``way``: how strength is chosen, see align_form.way_of."""
    why: dict[str, str] = {}
    if values.get("method") == "dual":
        why["positive"] = why["negative"] = "Not used: Dual gives no instructions, it trains one model a side."
        why["instructions"] = why["positive"]
        why["label_smoothing"] = "Not used: only SCIT has a contrastive term."
    for step, name in (("instruct", "stage 1"), ("align", "stage 3")):
        if given(f"{step}_epochs", values):
            why[f"{step}_steps"] = f"Not used: the passes decide how long {name} trains."
    if way != "auto":
        chosen = "a relative strength is aimed at" if way == "relative" else "alpha is set by hand"
        why["calibration_prompts"] = why["drift_limit"] = f"Not used: {chosen}, so nothing is calibrated."
    return why


def remarks(values: Mapping[str, Any]) -> dict[str, str]:
    """What else to know of a field under these settings, by name; shown in place of its help."""
    if values.get("instruct_tuning") == "full":
        text = "For stage 3 only: stage 1 trains all weights."
        return dict.fromkeys(("lora_rank", "lora_alpha", "lora_dropout", "lora_targets"), text)
    return {}


# -- the JSON ----------------------------------------------------------------------------------------------------------


def field_view(
    item: Any, value: Any, reference: Any = None, idle: str = "", remark: str = "", locked: bool = False
) -> dict[str, Any]:
    """One field of RunConfig for the view, with the value it has or what was typed. ``reference`` is what it has
    untouched; where the value differs the field is marked and can go back."""
    name = item.name
    shown: dict[str, Any] = {
        "name": name,
        "label": label(name),
        "help": idle or remark or SHORT.get(name) or stages(item.metadata["help"]),
        "idle": bool(idle),
    }
    if not same(name, value, reference):
        back = word(name, reference)
        shown |= {"changed": True, "back": None if locked else back if len(back) <= 24 else "default"}
    if isinstance(item.default, bool):
        return shown | {"kind": "check", "value": str(value).lower() == "true"}
    if options := choices(name):
        options = (*options, str(value)) if str(value) not in options else options
        named = [{"value": one, "label": word(name, one)} for one in options]
        return shown | {"kind": "choice", "value": str(value), "options": named}
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    kind = "text" if isinstance(item.default, str) else "number"
    kind = "long" if kind == "text" and len(item.default) > 60 else kind
    return shown | {
        "kind": kind,
        "value": text,
        "placeholder": EMPTY.get(name, "none") if item.default is None else None,
    }


def instructions_view(values: Mapping[str, Any], idle: str) -> dict[str, Any]:
    """The choice of a value whose ready-made instructions fill both texts."""
    from workbench.rahf.instructions import INSTRUCTIONS, value_of

    now = defaults() | dict(values)
    value = value_of(str(now["positive"]), str(now["negative"]))
    options = [{"value": name, "label": name.capitalize()} for name in INSTRUCTIONS]
    return {
        "name": "instructions",
        "label": "Instructions for",
        "kind": "choice",
        "value": value or "own",
        "options": options if value else [*options, {"value": "own", "label": "Texts of your own"}],
        "help": idle or "Fills the two texts below; change them as you like.",
        "idle": bool(idle),
    }


def field_groups(
    values: Mapping[str, Any], reference: Mapping[str, Any], way: str, locked: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The fields shown at once, and the others in groups. ``values`` (typed ones among them) stand in for defaults,
    ``reference`` is what they are compared with."""
    off, notes = idle(values, way), remarks(values)
    shown = {
        name: field_view(
            item,
            values.get(name, item.default),
            reference.get(name, item.default),
            off.get(name, ""),
            notes.get(name, ""),
            locked,
        )
        for name, item in known_fields().items()
        if name not in ELSEWHERE
    }
    shown["instructions"] = instructions_view(values, off.get("instructions", ""))
    main = [shown.pop(name) for name in MAIN]
    groups: list[dict[str, Any]] = []
    for title, about, names in GROUPS:
        groups.append({"title": title, "about": about, "fields": [shown.pop(name) for name in names if name in shown]})
    groups[-1]["fields"] += shown.values()
    for group in groups:
        group["changed"] = sum(bool(field.get("changed")) for field in group["fields"])
    return main, [group for group in groups if group["fields"]]


def summary(values: Mapping[str, Any]) -> str:
    """A few of the folded settings, so that one sees whether they need opening."""
    now = defaults() | dict(values)
    passes = now["align_epochs"]
    steps = f"{passes:g} passes" if isinstance(passes, (int, float)) else f"{now['align_steps']} steps"
    states = WORDS.get(str(now["states"]), str(now["states"])).lower()
    return f"rank {now['lora_rank']}, {steps} of {now['align_batch']}, rate {now['align_rate']:g}, {states}"
