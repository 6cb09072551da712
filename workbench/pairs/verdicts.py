"""Forms with two (or more) answers and a verdict beside them: a label, scores, or the order of the columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from workbench.pairs.forms import INSTRUCTION, Format, Raw, Roles, Row, Sample, instruction_of, join
from workbench.pairs.messages import Unfit, prompt_of


def _verdict(value: Any, first: Any, second: Any) -> bool:
    """Whether a label prefers the first answer; labels in tables are text ("1"). Raises Unfit for ties and others."""
    names = {str(first): True, str(second): False}
    text = str(value).strip()
    if text.endswith(".0"):
        text = text[:-2]
    if value is None or text not in names:
        raise Unfit("no preference")
    return names[text]


def _by_scores(row: Row, roles: Roles) -> bool:
    try:
        scores = [float(row.get(roles[name])) for name in ("score_first", "score_second")]
    except (TypeError, ValueError) as error:
        raise Unfit("no preference") from error
    if not scores[0] > scores[1] and not scores[1] > scores[0]:  # a tie, or nan
        raise Unfit("no preference")
    return scores[0] > scores[1]


def _fits_two(
    prompts: Sequence[str], answers: tuple[str, str], label: str, scores: tuple[str, str] | None, sample: Sample
) -> Roles | None:
    for name in prompts:
        found = sample.roles(name, *answers, optional=INSTRUCTION if name == "instruction" else ())
        if not found:
            continue
        roles = {**found, "first": found.pop(answers[0]), "second": found.pop(answers[1])}
        roles = {role: column for role, column in roles.items() if role not in answers}
        if name != "instruction":
            roles = {"prompt": roles.pop(name), **roles}
        if label and label in sample.columns:
            return {**roles, "label": sample.columns[label]}
        if scores and (both := sample.roles(*scores)):
            return {**roles, "score_first": both[scores[0]], "score_second": both[scores[1]]}
        if not label and not scores:
            return roles
    return None


def _read_two(first: Any, second: Any, row: Row, roles: Roles) -> Raw:
    if "instruction" in roles:
        prompt = instruction_of(row, roles)
    else:
        asked = row.get(roles["prompt"])
        prompt = prompt_of(asked["full_text"] if isinstance(asked, dict) and "full_text" in asked else asked)
    answers = [row.get(roles["first"]), row.get(roles["second"])]
    if "label" in roles:
        prefers_first = _verdict(row.get(roles["label"]), first, second)
    elif "score_first" in roles:
        prefers_first = _by_scores(row, roles)
    else:
        prefers_first = True
    return join(prompt, *(answers if prefers_first else answers[::-1]))


def _two(name: str, title: str, about: str, prompts, answers, label="", values=(None, None), scores=None) -> Format:
    return Format(
        name,
        title,
        about,
        partial(_fits_two, prompts, answers, label, scores),
        partial(_read_two, values[0], values[1]),
    )


def _fits_ranked(sample: Sample) -> Roles | None:
    return sample.roles("question", "answers") if sample.mostly("answers", _scored) else None


def _scored(answers: Any) -> bool:
    """Whether these are answers with scores, as in [{"text": ..., "pm_score": 3}, ...]."""
    return isinstance(answers, list) and all(
        isinstance(answer, dict) and "text" in answer and isinstance(answer.get("pm_score"), (int, float))
        for answer in answers
    )


def _read_ranked(row: Row, roles: Roles) -> Raw:
    if not _scored(row.get(roles["answers"])):
        raise Unfit("no preference")
    answers = sorted(row[roles["answers"]], key=lambda answer: answer["pm_score"])
    if len(answers) < 2 or answers[0]["pm_score"] == answers[-1]["pm_score"]:
        raise Unfit("no preference")
    return join(prompt_of(row.get(roles["question"])), answers[-1]["text"], answers[0]["text"])


VERDICTS: tuple[Format, ...] = (
    _two(
        "alpaca-comparisons",
        "Alpaca comparisons",
        "two outputs and which one is preferred",
        ("instruction",),
        ("output_1", "output_2"),
        "preference",
        (1, 2),
    ),
    _two(
        "shp",
        "Stanford Human Preferences",
        "a history and two answers with a label",
        ("history",),
        ("human_ref_a", "human_ref_b"),
        "labels",
        (1, 0),
        ("score_a", "score_b"),
    ),
    _two(
        "stack-exchange",
        "Stack Exchange, paired",
        "a question, a better and a worse answer",
        ("question",),
        ("response_j", "response_k"),
    ),
    _two(
        "scored-answers",
        "Two scored answers",
        "a question and two answers with scores",
        ("question", "prompt"),
        ("answer_0", "answer_1"),
        scores=("score_0", "score_1"),
    ),
    _two(
        "labelled-responses",
        "Two responses with a label",
        "a prompt, two responses and the number of the better one",
        ("prompt",),
        ("response_0", "response_1"),
        "better_response_id",
        (0, 1),
    ),
    Format(
        "stack-exchange-scores", "Stack Exchange, scored", "a question and scored answers", _fits_ranked, _read_ranked
    ),
)
