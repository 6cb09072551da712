"""The forms in which the ecosystem writes preference pairs, as a list of small recognisers.

A :class:`Format` looks at the columns and at some rows; if it fits, it says which column plays which role and reads
rows one by one. The first that fits is used, so the more particular stand before the more general.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import UserError
from workbench.pairs.forms import (
    INSTRUCTION,
    Format,
    Raw,
    Roles,
    Row,
    Sample,
    instruction_of,
    is_dialogue,
    is_list,
    join,
    split_dialogues,
    value_of,
    with_system,
)
from workbench.pairs.messages import Unfit, is_dialogue_text, messages_of, prompt_of, split_dialogue, text_of
from workbench.pairs.verdicts import VERDICTS

SHARED = 0.9  # of sampled rows must begin alike before plain texts are taken for prompt + answer


# -- TRL, HH, UltraFeedback -------------------------------------------------------------------------------------------


def _fits_hh(sample: Sample) -> Roles | None:
    dialogues = sample.mostly("chosen", is_dialogue_text) and sample.mostly("rejected", is_dialogue_text)
    return sample.roles("chosen", "rejected") if dialogues else None


def _read_hh(row: Row, roles: Roles) -> Raw:
    sides = [text_of(row.get(roles[side])) for side in ("chosen", "rejected")]
    if not all(side.strip() for side in sides):
        raise Unfit("empty")
    if not all(is_dialogue_text(side) for side in sides):
        raise Unfit("no answer")
    return split_dialogues(*(split_dialogue(side) for side in sides))


_PROMPTS = ("prompt", "question", "query")


def _explicit_roles(sample: Sample) -> Roles | None:
    for name in _PROMPTS:
        if roles := sample.roles(name, "chosen", "rejected", optional=("system",)):
            return {"prompt": roles.pop(name), **roles}
    return None


def _fits_ultrafeedback(sample: Sample) -> Roles | None:
    whole = sample.mostly("chosen", is_dialogue) and sample.mostly("rejected", is_dialogue)
    plain = any(sample.mostly(name, lambda value: isinstance(value, str)) for name in _PROMPTS)
    return _explicit_roles(sample) if whole and plain else None


def _read_explicit(row: Row, roles: Roles) -> Raw:
    prompt = with_system(value_of(row, roles, "system"), prompt_of(row.get(roles["prompt"])))
    return join(prompt, row.get(roles["chosen"]), row.get(roles["rejected"]))


def _fits_implicit(sample: Sample) -> Roles | None:
    whole = sample.mostly("chosen", is_dialogue) and sample.mostly("rejected", is_dialogue)
    return sample.roles("chosen", "rejected") if whole else None


def _read_implicit(row: Row, roles: Roles) -> Raw:
    return split_dialogues(messages_of(row.get(roles["chosen"])), messages_of(row.get(roles["rejected"])))


def shared_beginning(first: str, second: str) -> str:
    """The words both texts begin with, up to the space before the first difference; "" if there are none."""
    length = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    shared = first[:length]
    cut = max((i for i, character in enumerate(shared) if character.isspace()), default=-1)
    return shared[: cut + 1].rstrip()


def _fits_implicit_text(sample: Sample) -> Roles | None:
    roles = sample.roles("chosen", "rejected")
    if not roles:
        return None
    rows = [[row.get(column) for column in roles.values()] for row in sample.rows]
    texts = [sides for sides in rows if all(isinstance(side, str) for side in sides)]
    alike = [sides for sides in texts if sides[0] == sides[1] or len(shared_beginning(*sides).split()) >= 2]
    return roles if texts and len(alike) >= SHARED * len(texts) else None


def _read_implicit_text(row: Row, roles: Roles) -> Raw:
    chosen, rejected = (text_of(row.get(roles[side])) for side in ("chosen", "rejected"))
    if chosen.strip() == rejected.strip():
        raise Unfit("identical" if chosen.strip() else "empty")
    prompt = shared_beginning(chosen, rejected)
    if not prompt.strip():
        raise Unfit("prompt not shared")
    return [{"role": "user", "content": prompt}], chosen[len(prompt) :].lstrip(" "), rejected[len(prompt) :].lstrip(" ")


# -- LLaMA-Factory ----------------------------------------------------------------------------------------------------


def _fits_llama_factory(sample: Sample) -> Roles | None:
    return sample.roles("instruction", "chosen", "rejected", optional=INSTRUCTION)


def _read_llama_factory(row: Row, roles: Roles) -> Raw:
    return join(instruction_of(row, roles), row.get(roles["chosen"]), row.get(roles["rejected"]))


def _fits_sharegpt(sample: Sample) -> Roles | None:
    if not sample.mostly("conversations", is_list):
        return None
    return sample.roles("conversations", "chosen", "rejected", optional=("system",))


def _read_sharegpt(row: Row, roles: Roles) -> Raw:
    prompt = with_system(value_of(row, roles, "system"), messages_of(row.get(roles["conversations"])))
    return join(prompt, row.get(roles["chosen"]), row.get(roles["rejected"]))


# -- OpenAI -----------------------------------------------------------------------------------------------------------


def _fits_openai(sample: Sample) -> Roles | None:
    return sample.roles("input", "preferred_output", "non_preferred_output")


def _read_openai(row: Row, roles: Roles) -> Raw:
    return join(
        messages_of(row.get(roles["input"])), row.get(roles["preferred_output"]), row.get(roles["non_preferred_output"])
    )


FORMATS: tuple[Format, ...] = (
    Format(
        "openai", "OpenAI preference fine-tuning", "an input with messages and two outputs", _fits_openai, _read_openai
    ),
    Format("sharegpt", "ShareGPT (LLaMA-Factory)", "conversations and two answers", _fits_sharegpt, _read_sharegpt),
    Format("hh", "Anthropic HH", "two whole dialogues of Human and Assistant turns", _fits_hh, _read_hh),
    Format(
        "ultrafeedback",
        "UltraFeedback binarized",
        "two dialogues that repeat the prompt",
        _fits_ultrafeedback,
        _read_explicit,
    ),
    Format("trl-explicit", "TRL explicit prompt", "a prompt and two answers", _explicit_roles, _read_explicit),
    Format(
        "llama-factory", "LLaMA-Factory", "an instruction and two answers", _fits_llama_factory, _read_llama_factory
    ),
    Format(
        "trl-implicit", "TRL implicit prompt", "two dialogues with the same beginning", _fits_implicit, _read_implicit
    ),
    Format(
        "trl-implicit-text",
        "TRL implicit prompt",
        "two texts whose shared beginning is the prompt",
        _fits_implicit_text,
        _read_implicit_text,
    ),
    *VERDICTS,
)


def named(columns: Sequence[str], most: int = 200) -> str:
    """Columns in a sentence, shortened where they are many or long."""
    text = " ".join(", ".join(map(str, columns)).split())
    return text if len(text) <= most else f"{text[:most]}..."


def recognise(
    columns: Sequence[str], rows: Sequence[Row], name: str, wanted: str | None = None
) -> tuple[Format, Roles]:
    """The first format that fits, with its roles; ``wanted`` names one that must fit.

    ``name`` is what the source is called in messages. Raises UserError if none fits.
    """
    sample = Sample(columns, rows)
    if wanted is not None and wanted not in {form.name for form in FORMATS}:
        raise UserError(f"There is no format called {wanted!r}: choose one of {', '.join(f.name for f in FORMATS)}.")
    for form in FORMATS:
        if wanted in (None, form.name) and (roles := form.fits(sample)):
            return form, roles
    found = named(columns) or "no columns"
    if wanted is not None:
        raise UserError(f"{name} is not in the format {wanted} (its columns are {found}): leave the format open.")
    if sample.roles("chosen", "rejected"):
        raise UserError(
            f"{name} has chosen and rejected answers but no prompt (its columns are {found}): add a column called "
            "prompt, or say which column it is."
        )
    raise UserError(
        f"{name} has the columns {found}, but pairs need prompt, chosen and rejected (or whole dialogues in chosen and "
        "rejected): rename the columns, or say which is which."
    )
