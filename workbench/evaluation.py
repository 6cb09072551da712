"""Is the aligned model better, and what did it cost? Both models on pairs that neither was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.errors import UserError
from workbench.generation import Answer, Sampling, generate
from workbench.judges import NEITHER, PREFERRED, Judge, RuleJudge, choose_judge
from workbench.likelihood import by_length, completion_logits, score_completions
from workbench.models import LoadedModel, load_model
from workbench.pairs import PreferencePairs, prompt_text
from workbench.progress import QUIET, Progress
from workbench.rahf.adapters import activate, load_adapter
from workbench.rahf.config import RunConfig
from workbench.rahf.results import number_format, read_result
from workbench.stamp import check, stamp
from workbench.statistics import bootstrap, length_controlled, wilson
from workbench.tokens import Encoded, Limits

ALIGNED = "aligned"


@dataclass
class Baseline:
    """What the base does on a set of pairs; every other model is held against it.

    ``surprise``: how unlikely it finds its own answers, the mean negative log-likelihood of each in nats a token;
    ``fluent_below``: the value that 99% of these stay below.
    """

    pairs: list
    answers: list[Answer]
    scores: np.ndarray | None
    chosen: np.ndarray
    rejected: np.ndarray
    surprise: np.ndarray
    fluent_below: float


def rows_of(loaded: LoadedModel, prompts: Sequence, answers: Sequence[Answer], limits: Limits) -> list[Encoded]:
    """Generated answers as sequences, token for token as they were drawn (never tokenised again)."""
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        before = loaded.boundary.prompt_ids(prompt, limit=limits.prompt)
        end = loaded.boundary.end_ids[-1:] if answer.ended or not answer.ids else []
        ids = (before + answer.ids + (end or [loaded.boundary.pad_id] * (not answer.ids)))[: loaded.context]
        rows.append(Encoded(ids, min(len(before), len(ids) - 1)))
    return rows


def likelihoods(loaded: LoadedModel, pairs: Sequence, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Mean log-probability a token of the chosen and the rejected answers under the active adapters: two [N]."""
    encode = loaded.boundary.encode
    items = [encode(p.prompt, a, None, limits) for p in pairs for a in (p.chosen, p.rejected)]
    scores = score_completions(loaded, items).numpy()
    return scores[0::2], scores[1::2]


def make_baseline(
    loaded: LoadedModel, pairs: PreferencePairs, judge: Judge | None, sampling: Sampling, limits: Limits
) -> Baseline:
    """The base's answers to the pairs' prompts, and how it likes the pairs' own."""
    activate(loaded, [])
    rows = list(pairs)
    prompts = [pair.prompt for pair in rows]
    answers = generate(loaded, prompts, sampling)
    surprise = -score_completions(loaded, rows_of(loaded, prompts, answers, limits)).numpy()
    chosen, rejected = likelihoods(loaded, rows, limits)
    scores = judge.scores(prompts, [answer.text for answer in answers]) if judge else None
    return Baseline(rows, answers, scores, chosen, rejected, surprise, float(np.percentile(surprise, 99)))


def kl_from_base(loaded: LoadedModel, adapter: str, rows: Sequence[Encoded]) -> np.ndarray:
    """KL(aligned || base) along each answer, nats an answer, float64 [N].

    At every token of an answer the aligned model drew, the exact divergence of the two next-token distributions; their
    sum is an unbiased estimate of the divergence of the two distributions over answers.
    """
    return beside_base(loaded, adapter, rows)[0]


@torch.inference_mode()
def beside_base(loaded: LoadedModel, adapter: str, rows: Sequence[Encoded]) -> tuple[np.ndarray, np.ndarray]:
    """What one pass of either model over the answers tells: the divergence (see :func:`kl_from_base`), and how
    unlikely the base finds each answer (its mean negative log-likelihood, nats a token); two float64 [N]."""
    divergence, surprise = np.zeros(len(rows)), np.zeros(len(rows))
    for some in by_length(rows, _budget(loaded)):
        batch = [rows[index] for index in some]
        logps = []
        for names in ([adapter], []):
            activate(loaded, names)
            logits, targets, mask = completion_logits(loaded.model, batch, loaded.boundary.pad_id, loaded.device)
            logps.append(torch.log_softmax(logits.float(), dim=-1))
        apart = (logps[0].exp() * (logps[0] - logps[1])).sum(-1)
        divergence[some] = (apart * mask).sum(1).double().cpu().numpy()
        likely = (logps[1].gather(-1, targets[..., None]).squeeze(-1) * mask).sum(1) / mask.sum(1).clamp(min=1)
        surprise[some] = -likely.double().cpu().numpy()
    activate(loaded, [])
    return divergence, surprise


def _budget(loaded: LoadedModel) -> int:
    """Tokens a batch, so that whole distributions over a large vocabulary do not fill the memory (256 MB each)."""
    return max(1, min(4096, 2**26 // max(1, len(loaded.tokenizer))))


def measure(
    loaded: LoadedModel,
    name: str,
    adapter: str | None,
    baseline: Baseline,
    judge: Judge | None,
    sampling: Sampling,
    limits: Limits,
) -> tuple[dict[str, Any], list[Answer]]:
    """All figures of one model (``adapter`` None: the base itself) with 95% intervals, and its answers.

    Log-probabilities are means a token. ``reward_margin`` is how much more the model gained over the base on chosen
    than on rejected answers; ``win_rate`` counts its sampled answers against the base's to the same prompts with the
    same luck, ties as halves, and ``win_rate_lc`` is the same had they been equally long; ``coherence`` is the share of
    answers that fit one of the oracle's two forms or, without an oracle, do not repeat themselves and are no less likely
    under the base than 99% of the base's own; ``unfinished`` is the share cut off at the longest answer, ``distinct_2``
    how many different pairs of neighbouring tokens the answers hold, as a share of all pairs (None without any).
    """
    prompts = [pair.prompt for pair in baseline.pairs]
    count = len(prompts)
    if adapter is None:
        answers, chosen, rejected = baseline.answers, baseline.chosen, baseline.rejected
        kl, surprise = np.zeros(count), baseline.surprise
    else:
        answers = generate(loaded, prompts, sampling, adapter)
        activate(loaded, [adapter])
        chosen, rejected = likelihoods(loaded, baseline.pairs, limits)
        kl, surprise = beside_base(loaded, adapter, rows_of(loaded, prompts, answers, limits))
    activate(loaded, [])
    margins = (chosen - baseline.chosen) - (rejected - baseline.rejected)
    right = int((chosen > rejected).sum())
    figures: dict[str, Any] = {"name": name, "pairs": count, "preference_accuracy": right / count}
    figures |= _interval("preference_accuracy", wilson(right, count))
    figures |= {"reward_margin": float(margins.mean())} | _interval("reward_margin", bootstrap(margins))
    figures |= judged(judge, baseline, prompts, answers)
    figures |= coherence(judge, baseline, answers, surprise)
    figures |= {"kl_from_base": float(kl.mean())} | _interval("kl_from_base", bootstrap(kl))
    unfinished = sum(not answer.ended for answer in answers)
    figures |= {"unfinished": unfinished / count} | _interval("unfinished", wilson(unfinished, count))
    figures |= {
        "distinct_2": distinct([answer.ids for answer in answers]),
        "perplexity_chosen": math.exp(min(50.0, -float(chosen.mean()))),
        "mean_tokens": float(np.mean([len(answer.ids) for answer in answers])),
    }
    return figures, answers


def judged(judge: Judge | None, baseline: Baseline, prompts: Sequence, answers: Sequence[Answer]) -> dict[str, Any]:
    """Win rate against the base and, where an oracle judges, the shares of its labels and of right facts."""
    if judge is None or baseline.scores is None:
        rates = ("win_rate", "win_rate_lc")
        return {"judge": None} | {f"{rate}{end}": None for rate in rates for end in ("", "_low", "_high")}
    texts = [answer.text for answer in answers]
    scores = judge.scores(prompts, texts)
    outcomes = (scores > baseline.scores) + (scores == baseline.scores) / 2
    wins = float(outcomes.sum())
    figures = {"judge": judge.name, "win_rate": wins / len(texts)} | _interval("win_rate", wilson(wins, len(texts)))
    longer = [len(answer.ids) - len(base.ids) for answer, base in zip(answers, baseline.answers, strict=True)]
    controlled, *bounds = length_controlled(outcomes, longer)
    figures |= {"win_rate_lc": controlled} | _interval("win_rate_lc", (bounds[0], bounds[1]))
    if isinstance(judge, RuleJudge):
        labels = judge.labels(texts)
        preferred = labels.count(PREFERRED)
        figures |= {"preferred": preferred / len(labels)} | _interval("preferred", wilson(preferred, len(labels)))
        figures["neither"] = labels.count(NEITHER) / len(labels)
        known = [fact for fact in judge.facts_right(prompts, texts) if fact is not None]
        if known:
            figures["facts_right"] = sum(known) / len(known)
            figures |= _interval("facts_right", wilson(sum(known), len(known)))
    return figures


def coherence(
    judge: Judge | None, baseline: Baseline, answers: Sequence[Answer], surprise: Sequence[float]
) -> dict[str, Any]:
    """The share of answers that are language still, with its Wilson interval (see :func:`measure`). ``surprise`` is how
    unlikely the base finds each answer, as :func:`beside_base` gives it."""
    if isinstance(judge, RuleJudge):
        good = len(answers) - judge.labels([answer.text for answer in answers]).count(NEITHER)
    else:
        good = sum(
            bool(value <= baseline.fluent_below) and not repeats(answer.ids)
            for value, answer in zip(surprise, answers, strict=True)
        )
    return {"coherence": good / len(answers)} | _interval("coherence", wilson(good, len(answers)))


def distinct(answers: Sequence[Sequence[int]], size: int = 2) -> float | None:
    """Distinct-n (Li et al. 2016): the different runs of ``size`` tokens in all answers, as a share of all such runs; None
    where there is none."""
    runs = [tuple(ids[at : at + size]) for ids in answers for at in range(len(ids) - size + 1)]
    return len(set(runs)) / len(runs) if runs else None


def repeats(ids: Sequence[int], span: int = 4, times: int = 4) -> bool:
    """Whether some run of up to ``span`` tokens stands ``times`` times in a row: an answer that is stuck."""
    for size in range(1, span + 1):
        for start in range(len(ids) - size * times + 1):
            if all(ids[start + k] == ids[start + k + size] for k in range(size * (times - 1))):
                return True
    return False


def _interval(name: str, bounds: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_low": bounds[0], f"{name}_high": bounds[1]}


def evaluate(
    folders: Sequence[Path],
    pairs: PreferencePairs,
    *,
    judge: str = "auto",
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Hold the runs in ``folders`` against their base on ``pairs``, which they should not have seen.

    Returns ``models`` (the base first, then a row a run, see :func:`measure`), ``pairs``, ``judge`` and ``samples``.
    All runs must have the same base. Raises UserError.
    """
    if limit is not None:
        pairs = pairs.select(range(min(limit, len(pairs))))
    results = [read_result(Path(folder)) for folder in folders]
    configs = [RunConfig.from_dict(result["config"]) for result in results]
    if len({config.model for config in configs}) != 1:
        raise UserError("The runs have different base models: evaluate those of one model at a time.")
    first = configs[0]
    progress("load", message="Loading the model")
    dtype = number_format(Path(folders[0]), first.dtype)
    loaded = load_model(first.model, device=device, dtype=dtype, quantization=first.quantization)
    decider = choose_judge(judge, pairs.source, loaded, None, None)
    if decider is None and judge != "none":
        from workbench.pairs import load_pairs

        known = load_pairs(first.pairs)
        check({"pairs": results[0].get("pairs_fingerprint")}, {"pairs": known.fingerprint}, f"run {folders[0].name}")
        training = first.split(known).instruct
        decider = choose_judge(judge, pairs.source, loaded, training, max(results[0]["layers"]))
    limits = Limits(first.prompt_tokens, first.completion_tokens).within(loaded.context)
    sampling = Sampling(max_new_tokens=first.max_new_tokens, seed=seed)
    progress("evaluate", 0, len(folders) + 1, "Base")
    baseline = make_baseline(loaded, pairs, decider, sampling, limits)
    figures, _ = measure(loaded, "base", None, baseline, decider, sampling, limits)
    models, samples = [figures], [_sample(p, a) for p, a in zip(baseline.pairs, baseline.answers, strict=True)]
    for number, folder in enumerate(folders, 1):
        progress("evaluate", number, len(folders) + 1, folder.name)
        load_adapter(loaded, folder / "adapter", ALIGNED)
        figures, answers = measure(loaded, folder.name, ALIGNED, baseline, decider, sampling, limits)
        models.append(figures)
        for sample, answer in zip(samples, answers, strict=True):
            sample[folder.name] = answer.text
        loaded.model.delete_adapter(ALIGNED)
    progress("evaluate", len(folders) + 1, len(folders) + 1)
    return {
        "models": models,
        "pairs": len(pairs),
        "judge": decider.name if decider else None,
        "samples": samples,
        "made_of": stamp(loaded.fingerprint, pairs.fingerprint, seed),
    }


def _sample(pair, answer: Answer) -> dict[str, Any]:
    return {"prompt": prompt_text(pair.prompt), "base": answer.text}
