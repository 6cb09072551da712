"""Did anything suffer? Text that no training saw under base and speaker, facts, and tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.errors import UserError
from workbench.evaluation import BASE, Measured, batch_tokens
from workbench.generation import Speaker, speaking
from workbench.likelihood import token_logps
from workbench.models import LoadedModel
from workbench.pairs import PreferencePairs, as_messages, demo_values, load_pairs, prompt_text
from workbench.statistics import Z95, bootstrap, wilson
from workbench.tokens import Encoded, Limits, by_length

MOST = 400  # documents
COUNTED = ("acc", "acc_norm", "exact_match")  # metrics that are shares of examples
ALLOWED = 0.05  # a loss up to this share counts as none
MOST_BYTES = 64 << 20
NO_HARNESS = "Tasks need the package lm_eval, which is not installed here: pip install lm_eval, or leave --tasks out."


@dataclass(frozen=True)
class Text:
    """Documents that no training saw. ``about`` says what they are; each is (prompt, text): a text without prompt is read
    plainly, without any turn markers."""

    about: str
    documents: list[tuple[Any, str]]


def held_out_text(source: str | None, model: str, pairs: PreferencePairs) -> Text:
    """The documents of a file (``source``: paragraphs, or JSON lines with a column text); without one, for the demo model the
    bundled test dialogues of the values that ``pairs`` are not about, both sides, else the prompts of ``pairs``.

    Raises UserError for a file that cannot be read or holds nothing.
    """
    if source:
        return Text(f"the text in {Path(source).name}", [(None, text) for text in _documents(Path(source))])
    if model == "demo":
        name = pairs.source.partition(":")[0]
        others = [v for v in demo_values() if name not in (f"demo/{v.name}", *(["demo"] if v.default else []))]
        found = [
            (pair.prompt, answer)
            for value in others
            for pair in list(load_pairs(f"demo/{value.name}:test"))[: MOST // (2 * len(others))]
            for answer in (pair.chosen, pair.rejected)
        ]
        return Text(f"test dialogues about other things ({', '.join(v.name for v in others)}), both sides", found)
    prompts = dict.fromkeys(prompt_text(pair.prompt) for pair in pairs)
    return Text("the prompts of the held-out pairs", [(None, prompt) for prompt in list(prompts)[:MOST]])


def _documents(path: Path) -> list[str]:
    path = path.expanduser()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path.name} is larger than {MOST_BYTES >> 20} MB: give less text.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"The text {path.name} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is no text in UTF-8: give a text file, or JSONL with a column text.") from error
    if path.suffix.lower() == ".jsonl":
        try:
            found = [str(json.loads(line)["text"]) for line in text.splitlines() if line.strip()]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path.name} has a line that is not of the form {{"text": ...}}.') from error
    else:
        found = text.split("\n\n")
    found = [document.strip() for document in found if document.strip()]
    if not found:
        raise UserError(f"{path.name} holds no text: give paragraphs with empty lines between them.")
    return found[:MOST]


def surprise(loaded: LoadedModel, text: Text, speaker: Speaker = BASE) -> tuple[np.ndarray, np.ndarray]:
    """Of every document: its negative log-likelihood in nats, and its tokens, two [N]. A speaker's instruction stands
    before documents with a prompt; plain text is read without. Raises UserError if no document has two tokens."""
    rows = []
    for prompt, document in text.documents:
        if prompt is not None:
            extra = loaded.boundary.instruction_tokens(speaker.instruction) if speaker.instruction else 0
            limits = Limits().within(loaded.context, extra)
            rows.append(loaded.boundary.encode(as_messages(prompt), document, speaker.instruction, limits))
        else:
            ids = loaded.tokenizer(document).input_ids[: loaded.context]
            if len(ids) > 1:
                rows.append(Encoded(ids, 1))
    if not rows:
        raise UserError(f"In {text.about} no document has two tokens: give more text.")
    nats, tokens = np.zeros(len(rows)), np.array([len(row.ids) - row.start for row in rows], float)
    with torch.inference_mode(), speaking(loaded, speaker):
        for some in by_length(rows, batch_tokens(loaded)):
            batch = [rows[index] for index in some]
            logps, _ = token_logps(loaded.model, batch, loaded.boundary.pad_id, loaded.device)
            nats[some] = -logps.double().sum(1).cpu().numpy()
    return nats, tokens


def text_figures(base: tuple[np.ndarray, np.ndarray], ours: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """``text_perplexity`` (exp of nats a token over all documents) and ``text_ratio`` (by how much it is the base's), each
    with its 95% interval, by bootstrap over documents; base and speaker have the same documents."""
    (before, _), (nats, tokens) = base, ours
    figures = _rate("text_perplexity", nats, tokens)
    return figures | _rate("text_ratio", nats - before, tokens)


def _rate(name: str, values: np.ndarray, tokens: np.ndarray) -> dict[str, Any]:
    """exp of the sum of values over the sum of tokens, resampling documents."""
    draws = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    low, high = np.percentile(values[draws].sum(1) / tokens[draws].sum(1), [2.5, 97.5])
    found = {name: values.sum() / tokens.sum(), f"{name}_low": low, f"{name}_high": high}
    return {key: math.exp(min(50.0, float(value))) for key, value in found.items()}


def fact_figures(base: Measured, ours: Measured, groups: np.ndarray) -> dict[str, Any]:
    """``facts_gained``: the share of right facts less the base's, on the same prompts, with its interval; {} where no
    oracle knows facts."""
    if "facts_right" not in ours.each:
        return {}
    known = ~np.isnan(ours.each["facts_right"])
    apart = (ours.each["facts_right"] - base.each["facts_right"])[known]
    low, high = bootstrap(apart, groups[known])
    return {"facts_gained": float(apart.mean()), "facts_gained_low": low, "facts_gained_high": high}


def finding(row: dict[str, Any]) -> str:
    """What the figures of one run say, as sentences."""
    said = []
    if (ratio := row.get("text_ratio")) is not None:
        low, high = row["text_ratio_low"], row["text_ratio_high"]
        word = _suffered(low - 1, high - 1)
        said.append(f"Held-out text {word}: perplexity is {ratio:.2f} times the base's [{low:.2f}, {high:.2f}].")
    if (gained := row.get("facts_gained")) is not None:
        low, high = row["facts_gained_low"], row["facts_gained_high"]
        said.append(f"Facts {_suffered(-high, -low)}: {gained:+.0%} right [{low:+.0%}, {high:+.0%}].")
    return " ".join(said)


def _suffered(low: float, high: float) -> str:
    """A loss with these bounds in a word: told from none, or from one of ``ALLOWED``, by its interval."""
    if high < 0:
        return "improved"
    return "did not suffer" if high <= ALLOWED else "suffered" if low > ALLOWED else "may have suffered"


# -- lm-evaluation-harness ---------------------------------------------------------------------------------------------


class Tasks:
    """Task files of lm-evaluation-harness: one YAML file, or a folder of them; none that comes with the package is known
    here, so nothing is fetched that a file does not name. A task file may run code that lies beside it: trust it first.

    Raises UserError if the package is missing or no task is found.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path).expanduser()
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path] if path.suffix in (".yaml", ".yml") else []
        if not files or not files[0].exists():
            raise UserError(f"{path} is no task: give a YAML file of lm-evaluation-harness, or a folder of them.")
        try:
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise UserError(NO_HARNESS) from error
        try:
            self._manager = TaskManager(include_path=str(files[0].parent.resolve()), include_defaults=False)
        except Exception as error:  # whatever reading a stranger's YAML raises
            raise UserError(f"The tasks in {path} cannot be read ({_short(error)}).") from error
        self.names = [name for name in map(_task_name, files) if name in self._manager.all_tasks]
        if not self.names:
            raise UserError(f"{path} names no task: a task file has a line task: NAME.")

    def scores(
        self, loaded: LoadedModel, speaker: Speaker = BASE, limit: int | None = None, seed: int = 0
    ) -> dict[str, Any]:
        """{task: {metric: {"value", "low", "high"}}} of a speaker. Intervals are Wilson's for shares, else from the harness's
        standard errors (None where it gives none). Chat models are asked in their template. Raises UserError if a task
        fails."""
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        template = loaded.boundary.has_template
        try:
            with speaking(loaded, speaker):
                model = HFLM(
                    pretrained=loaded.model, tokenizer=loaded.tokenizer, max_length=loaded.context, batch_size=8
                )
                found = simple_evaluate(
                    model=model,
                    tasks=self.names,
                    task_manager=self._manager,
                    limit=limit,
                    bootstrap_iters=1000,
                    log_samples=False,
                    apply_chat_template=template,
                    system_instruction=speaker.instruction if template else None,
                    random_seed=seed,
                    numpy_random_seed=seed,
                    torch_random_seed=seed,
                )
        except Exception as error:
            raise UserError(f"The tasks failed ({_short(error)}): mend the task file.") from error
        counts = found.get("n-samples", {})
        return {
            task: _metrics(values, counts.get(task, {}).get("effective")) for task, values in found["results"].items()
        }


def _task_name(path: Path) -> str:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("task:"):
            return line.partition(":")[2].strip().strip("'\"")
    return ""


def _metrics(values: dict[str, Any], count: int | None) -> dict[str, dict[str, float | None]]:
    """The harness calls a metric "acc,none" and its standard error "acc_stderr,none"."""
    found = {}
    for key, value in values.items():
        name, _, kind = key.partition(",")
        if not kind or name.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error, low, high = values.get(f"{name}_stderr,{kind}"), None, None
        if name in COUNTED and count:
            low, high = wilson(value * count, count)
        elif isinstance(error, (int, float)) and math.isfinite(error):
            low, high = value - Z95 * error, value + Z95 * error
        label = name if kind == "none" else f"{name} ({kind})"
        found[label] = {"value": float(value), "low": low, "high": high}
    return found


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
