"""Is a speaker better than the base, and what did it cost? Both on pairs that neither was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch

from workbench.generation import Answer, Sampling, Speaker, generate, prompt_ids, speaking
from workbench.judges import NEITHER, PREFERRED, Judge, RuleJudge, ScoringJudge, beats
from workbench.likelihood import completion_logits, score_completions
from workbench.models import LoadedModel
from workbench.pairs import PreferencePairs, prompt_key
from workbench.progress import QUIET, Progress
from workbench.rahf.adapters import activate
from workbench.statistics import bootstrap, distinct, length_controlled, share
from workbench.tokens import Encoded, Limits, by_length

BASE = Speaker()
SHARES = ("preference_accuracy", "unfinished", "repetition", "coherence")
COMPARED = ("win_rate", "preferred", "preference_accuracy", "reward_margin", "coherence", "kl_from_base", "mean_tokens")


@dataclass
class Baseline:
    """What the base does on a set of pairs; every other speaker is held against it.

    ``surprise``: how unlikely it finds its own answers, the mean negative log-likelihood of each in nats a token;
    ``fluent_below``: the value that 99% of these stay below; ``groups`` [N]: the same number for pairs of one prompt, which
    count as one observation in every interval.
    """

    pairs: list
    answers: list[Answer]
    scores: np.ndarray | None
    chosen: np.ndarray
    rejected: np.ndarray
    surprise: np.ndarray
    fluent_below: float
    groups: np.ndarray


@dataclass
class Measured:
    """One speaker: its figures with intervals (see :func:`measure`), its answers, the judge's score of each answer where
    it gives scores, and ``each``: the values [N], one a pair, whose means the figures are."""

    figures: dict[str, Any]
    answers: list[Answer]
    scores: np.ndarray | None
    each: dict[str, np.ndarray]


def rows_of(
    loaded: LoadedModel,
    prompts: Sequence,
    answers: Sequence[Answer],
    sampling: Sampling,
    instruction: str | None = None,
) -> list[Encoded]:
    """Generated answers as sequences, token for token as they were drawn (never tokenised again), after the prompts as the
    speaker with this instruction read them."""
    rows = []
    for before, answer in zip(prompt_ids(loaded, prompts, sampling, instruction), answers, strict=True):
        end = loaded.boundary.end_ids[-1:] if answer.ended or not answer.ids else []
        ids = answer.ids + (end or [loaded.boundary.pad_id] * (not answer.ids))
        rows.append(Encoded(before + ids, len(before)))
    return rows


def likelihoods(
    loaded: LoadedModel, pairs: Sequence, limits: Limits, speaker: Speaker = BASE
) -> tuple[np.ndarray, np.ndarray]:
    """Mean log-probability a token that the speaker gives the chosen and the rejected answers: two [N]."""
    encode, instruction = loaded.boundary.encode, speaker.instruction
    if instruction:
        limits = limits.within(loaded.context, loaded.boundary.instruction_tokens(instruction))
    items = [encode(p.prompt, a, instruction, limits) for p in pairs for a in (p.chosen, p.rejected)]
    with speaking(loaded, speaker):
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
    surprise = -score_completions(loaded, rows_of(loaded, prompts, answers, sampling)).numpy()
    chosen, rejected = likelihoods(loaded, rows, limits)
    texts = [answer.text for answer in answers]
    scores = judge.scores(prompts, texts) if isinstance(judge, ScoringJudge) else None
    groups = np.unique([prompt_key(prompt) for prompt in prompts], return_inverse=True)[1]
    return Baseline(rows, answers, scores, chosen, rejected, surprise, float(np.percentile(surprise, 99)), groups)


@torch.inference_mode()
def beside_base(
    loaded: LoadedModel, speaker: Speaker, rows: Sequence[Encoded], plain: Sequence[Encoded]
) -> tuple[np.ndarray, np.ndarray]:
    """What one pass of speaker and base over the speaker's answers tells: KL(speaker || base) along each, in nats an answer,
    and how unlikely the base finds it (its mean negative log-likelihood, nats a token); two float64 [N].

    ``rows`` are the answers after what the speaker read (its instruction too), ``plain`` the same answers after what the
    base reads. At every token of an answer the exact divergence of the two next-token distributions; their sum is an
    unbiased estimate of the divergence of the two distributions over answers.
    """
    divergence, surprise = np.zeros(len(rows)), np.zeros(len(rows))
    for some in by_length(rows, batch_tokens(loaded)):
        logps = []
        for who, items in ((speaker, rows), (BASE, plain)):
            batch = [items[index] for index in some]
            with speaking(loaded, who):
                logits, targets, mask = completion_logits(loaded.model, batch, loaded.boundary.pad_id, loaded.device)
            logps.append(torch.log_softmax(logits.float(), dim=-1))
        apart = (logps[0].exp() * (logps[0] - logps[1])).sum(-1)
        divergence[some] = (apart * mask).sum(1).double().cpu().numpy()
        likely = (logps[1].gather(-1, targets[..., None]).squeeze(-1) * mask).sum(1) / mask.sum(1).clamp(min=1)
        surprise[some] = -likely.double().cpu().numpy()
    return divergence, surprise


def batch_tokens(loaded: LoadedModel) -> int:
    """Tokens a batch, so that whole distributions over a large vocabulary do not fill the memory (256 MB each)."""
    return max(1, min(4096, 2**26 // max(1, len(loaded.tokenizer))))


def measure(
    loaded: LoadedModel,
    name: str,
    speaker: Speaker,
    baseline: Baseline,
    judge: Judge | None,
    sampling: Sampling,
    limits: Limits,
) -> Measured:
    """All figures of one speaker with 95% intervals (``_low``, ``_high``), and its answers.

    Log-probabilities are means a token, read after the speaker's instruction where it has one. ``reward_margin`` is how
    much more the speaker gained over the base on chosen than on rejected answers; ``win_rate`` counts its sampled answers
    against the base's to the same prompts with the same luck, ties as halves, and ``win_rate_lc`` is the same had they been
    equally long; ``coherence`` is the share of answers that fit one of the oracle's two forms or, without an oracle, do not
    repeat themselves and are no less likely under the base than 99% of the base's own. ``unfinished`` is the share cut off
    at the longest answer, ``repetition`` the share that is stuck, ``perplexity_base`` how perplexing the base finds the
    answers (exp of the mean over answers), ``distinct_2`` how many different pairs of neighbouring tokens they hold, as a
    share of all pairs (None without any). Intervals of shares are Wilson's, those of ``distinct_2`` by the jackknife, all
    others by bootstrap, over prompts.
    """
    prompts, groups = [pair.prompt for pair in baseline.pairs], baseline.groups
    activate(loaded, [])
    if speaker == BASE:
        answers, chosen, rejected = baseline.answers, baseline.chosen, baseline.rejected
        kl, surprise = np.zeros(len(prompts)), baseline.surprise
    else:
        answers = generate(loaded, prompts, sampling, speaker.adapter, speaker.instruction, steering=speaker.steering)
        chosen, rejected = likelihoods(loaded, baseline.pairs, limits, speaker)
        plain = rows_of(loaded, prompts, answers, sampling)
        rows = rows_of(loaded, prompts, answers, sampling, speaker.instruction) if speaker.instruction else plain
        kl, surprise = beside_base(loaded, speaker, rows, plain)
    each = {
        "preference_accuracy": (chosen > rejected).astype(float),
        "reward_margin": (chosen - baseline.chosen) - (rejected - baseline.rejected),
        "kl_from_base": kl,
        "unfinished": np.array([not answer.ended for answer in answers], float),
        "repetition": np.array([repeats(answer.ids) for answer in answers], float),
        "mean_tokens": np.array([len(answer.ids) for answer in answers], float),
    }
    figures: dict[str, Any] = {"name": name, "pairs": len(prompts)}
    told, scores = judged(judge, baseline, prompts, answers, each)
    each["coherence"] = coherent(judge, baseline, answers, surprise, each["repetition"])
    for key, values in each.items():
        figures |= {key: float(values.mean())} | _interval(key, (share if key in SHARES else bootstrap)(values, groups))
    for key, values in (("perplexity_chosen", -chosen), ("perplexity_base", surprise)):
        figures[key] = _exp(values.mean())
        figures |= _interval(key, tuple(map(_exp, bootstrap(values, groups))))
    figures["distinct_2"], *bounds = distinct([answer.ids for answer in answers], groups)
    return Measured(figures | _interval("distinct_2", bounds) | told, answers, scores, each)


def judged(
    judge: Judge | None,
    baseline: Baseline,
    prompts: Sequence,
    answers: Sequence[Answer],
    each: dict[str, np.ndarray],
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Win rate against the base and, where an oracle judges, the shares of its labels and of right facts; and the judge's
    scores. What it says of each answer goes into ``each``."""
    if judge is None:
        rates = ("win_rate", "win_rate_lc")
        return {"judge": None} | {f"{rate}{end}": None for rate in rates for end in ("", "_low", "_high")}, None
    texts, theirs = ([answer.text for answer in given] for given in (answers, baseline.answers))
    scores, groups = None, baseline.groups
    if isinstance(judge, ScoringJudge):
        scores = baseline.scores if answers is baseline.answers else judge.scores(prompts, texts)
        outcomes = beats(scores, baseline.scores, texts, theirs)
    elif answers is baseline.answers:
        outcomes = np.full(len(texts), 0.5)  # nobody needs to be asked which of two equal answers is better
    else:
        outcomes = judge.outcomes(prompts, texts, theirs)
    each["win_rate"] = outcomes
    figures = {"judge": judge.name, "win_rate": float(outcomes.mean())} | _interval("win_rate", share(outcomes, groups))
    longer = [len(answer.ids) - len(base.ids) for answer, base in zip(answers, baseline.answers, strict=True)]
    controlled, *bounds = length_controlled(outcomes, longer, groups)
    figures |= {"win_rate_lc": controlled} | _interval("win_rate_lc", bounds)
    if isinstance(judge, RuleJudge):
        labels = np.array(judge.labels(texts))
        each["preferred"], each["neither"] = labels == PREFERRED, labels == NEITHER
        for key in ("preferred", "neither"):
            each[key] = each[key].astype(float)
            figures |= {key: float(each[key].mean())} | _interval(key, share(each[key], groups))
        found, facts = facts_of(judge, prompts, texts, groups)
        figures |= found
        each |= facts
    return figures, scores


def facts_of(
    oracle: RuleJudge, prompts: Sequence, texts: Sequence[str], groups: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``facts_right``, the share of right facts with its interval, and as values [N], not a number where no fact is known;
    both empty where the oracle knows none of them."""
    facts = np.array(oracle.facts_right(prompts, texts), dtype=float)
    known = ~np.isnan(facts)
    if not known.any():
        return {}, {}
    figures = {"facts_right": float(facts[known].mean())}
    return figures | _interval("facts_right", share(facts[known], groups[known])), {"facts_right": facts}


def coherent(
    judge: Judge | None, baseline: Baseline, answers: Sequence[Answer], surprise: np.ndarray, stuck: np.ndarray
) -> np.ndarray:
    """Which answers are language still (see :func:`measure`), 1 or 0 each. ``surprise`` is how unlikely the base finds each
    answer, as :func:`beside_base` gives it; ``stuck`` says which repeat themselves."""
    if isinstance(judge, RuleJudge):
        return np.array([label != NEITHER for label in judge.labels([answer.text for answer in answers])], float)
    return ((surprise <= baseline.fluent_below) & (stuck == 0)).astype(float)


def measure_all(
    loaded: LoadedModel,
    speakers: Mapping[str, Speaker],
    pairs: PreferencePairs,
    judge: Judge | None,
    sampling: Sampling,
    limits: Limits,
    progress: Progress = QUIET,
) -> dict[str, Measured]:
    """Several speakers of one loaded model against one baseline: "base" first, then each by its name."""
    total = len(speakers) + 1
    progress("evaluate", 0, total, "Base")
    baseline = make_baseline(loaded, pairs, judge, sampling, limits)
    found = {"base": measure(loaded, "base", BASE, baseline, judge, sampling, limits)}
    for number, (name, speaker) in enumerate(speakers.items(), 1):
        progress("evaluate", number, total, name)
        found[name] = measure(loaded, name, speaker, baseline, judge, sampling, limits)
    progress("evaluate", total, total)
    return found


def differences(measured: Sequence[Measured], groups: np.ndarray) -> list[dict[str, Any]]:
    """Every two speakers beside each other, on the same prompts: ``name``, ``than``, and for each of ``COMPARED`` the
    difference of the figures (the first's less the second's) with its 95% interval, by bootstrap over prompts. Where a
    judge gives scores, ``head_to_head`` is the share of prompts at which the first's answer wins, ties as halves."""
    found = []
    for first, second in permutations(measured, 2):
        row: dict[str, Any] = {"name": first.figures["name"], "than": second.figures["name"]}
        for key in COMPARED:
            if key in first.each and key in second.each:
                apart = first.each[key] - second.each[key]
                row |= {key: float(apart.mean())} | _interval(key, bootstrap(apart, groups))
        if first.scores is not None and second.scores is not None:
            texts = ([answer.text for answer in one.answers] for one in (first, second))
            wins = beats(first.scores, second.scores, *texts)
            row |= {"head_to_head": float(wins.mean())} | _interval("head_to_head", share(wins, groups))
        found.append(row)
    return found


def repeats(ids: Sequence[int], span: int = 4, times: int = 4) -> bool:
    """Whether some run of up to ``span`` tokens stands ``times`` times in a row: an answer that is stuck."""
    for size in range(1, span + 1):
        for start in range(len(ids) - size * times + 1):
            if all(ids[start + k] == ids[start + k + size] for k in range(size * (times - 1))):
                return True
    return False


def _exp(value: float) -> float:
    return math.exp(min(50.0, float(value)))


def _interval(name: str, bounds: Sequence[float | None]) -> dict[str, float | None]:
    return {f"{name}_low": bounds[0], f"{name}_high": bounds[1]}
