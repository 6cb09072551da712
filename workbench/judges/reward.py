"""A reward model as a judge: a sequence classifier with one output, from a folder or the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.errors import UserError
from workbench.judges.base import ScoringJudge
from workbench.models import HUB_ID, context_of, pick_device, pick_dtype
from workbench.pairs import as_messages, prompt_text

BATCH_TOKENS = 8192  # padded tokens a batch


class RewardJudge(ScoringJudge):
    """Scores answers by a trained reward model. Only safetensors are read and no code of its repository is ever run.

    A model with a chat template reads the dialogue with the answer in it; one with a separator token (an encoder) prompt
    and answer as two texts; any other the ``Human: ... Assistant: ...`` form. What is longer than it can read loses its
    beginning. Raises UserError if there is no such model, or if it gives anything but one trained number.
    """

    def __init__(self, source: str, device: Any = "auto", dtype: str = "auto") -> None:
        where = pick_device(str(device))
        self.model, self._tokenizer = _load(source, where, dtype)
        shown = Path(source).name if Path(source).expanduser().is_dir() else source
        self.name = f"the reward model {shown}"
        self.about = "A model trained on other people's preferences, which need not be those of these pairs."
        config = self.model.config.get_text_config()
        self._longest = context_of(config, self._tokenizer)
        # A decoder reads its score at the last token that is not this one. Without one, only answers of one length go
        # together, so that no token stands behind the last.
        self._pad = config.pad_token_id
        if self._pad is None:
            config.pad_token_id = -1

    def encode(self, prompt: Any, answer: str) -> dict[str, list[int]]:
        """What the model reads: its ``input_ids`` and, where it has such, ``token_type_ids``. Raises UserError."""
        tokenizer = self._tokenizer
        if getattr(tokenizer, "chat_template", None):
            messages = [*as_messages(prompt), {"role": "assistant", "content": answer}]
            try:
                text = tokenizer.apply_chat_template(messages, tokenize=False)
            except Exception as error:  # a template may raise anything
                raise UserError(
                    f"The chat template of {self.name} refuses a dialogue of these pairs ({str(error)[:120]}): "
                    "choose another judge."
                ) from error
            return {"input_ids": self._cut(tokenizer(text, add_special_tokens=False).input_ids)}
        if tokenizer.sep_token:
            cut = {"truncation": "only_first", "max_length": self._longest}
            try:
                found = tokenizer(prompt_text(prompt), answer, **cut)
            except Exception:  # the answer alone is too long
                found = tokenizer(prompt_text(prompt), answer, truncation=True, max_length=self._longest)
            return {key: list(found[key]) for key in ("input_ids", "token_type_ids") if key in found}
        turns = [*as_messages(prompt), {"role": "assistant", "content": answer}]
        text = "".join(f"\n\n{'Assistant' if m['role'] == 'assistant' else 'Human'}: {m['content']}" for m in turns)
        return {"input_ids": self._cut(tokenizer(text).input_ids)}

    def _cut(self, ids: list[int]) -> list[int]:
        if len(ids) <= self._longest:
            return ids
        first = ids[:1] if ids[0] == self._tokenizer.bos_token_id else []
        return first + ids[len(ids) - self._longest + len(first) :]

    @torch.inference_mode()
    def scores(self, prompts: Sequence, answers: Sequence[str]) -> np.ndarray:
        rows = [self.encode(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        found = np.zeros(len(rows))
        for some in self._batches([len(row["input_ids"]) for row in rows]):
            logits = self.model(**self._padded([rows[index] for index in some])).logits
            found[some] = logits[:, 0].double().cpu().numpy()
        if not np.isfinite(found).all():
            raise UserError(f"{self.name} gives scores that are no numbers: choose another judge.")
        return found

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        while order:
            longest = lengths[order[0]]
            count = max(1, BATCH_TOKENS // max(1, longest))
            some = [index for index in order[:count] if self._pad is not None or lengths[index] == longest]
            yield some
            order = order[len(some) :]

    def _padded(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self._pad or 0, "token_type_ids": 0}
        made = {key: [row[key] + [fill[key]] * (width - len(row[key])) for row in rows] for key in rows[0]}
        made["attention_mask"] = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
        return {key: torch.tensor(values, device=self.model.device) for key, values in made.items()}


def _load(source: str, where: torch.device, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = Path(source).expanduser()
    if not path.is_dir() and not HUB_ID.fullmatch(source):
        raise UserError(f"There is no reward model {source[:80]!r}: give a folder or a Hub id such as org/name.")
    folder = str(path) if path.is_dir() else source
    safe = {"trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=pick_dtype(dtype, where), use_safetensors=True, output_loading_info=True, **safe
        )
    except Exception as error:  # what a model's files make its own code raise is of no one family
        why = " ".join(str(error).split())[:160]
        raise UserError(
            f"The reward model {source} could not be loaded ({why}): give a folder or a Hub id of a sequence classifier in "
            "safetensors."
        ) from error
    if model.config.num_labels != 1 or found["missing_keys"]:
        what = (
            "its head is not trained" if model.config.num_labels == 1 else f"it gives {model.config.num_labels} numbers"
        )
        raise UserError(f"{source} is no reward model ({what}): give a sequence classifier with one trained output.")
    return model.to(where).eval().requires_grad_(False), tokenizer
