"""Which alpha? A ladder of strengths, answered in preview, and the one that moves most answers while they stay sound.

Nothing is fitted for it: ``workbench.preview`` draws the answers that a perfect fit would give at each strength, all with
the same luck, and what the bundled values' oracles say of them agrees with what they say of fitted adapters (README). No
judge is needed: an answer *leans to chosen* if the preferred side of step 1 finds it more likely than the dispreferred
side does. Both sides know the training pairs of step 1, so this is the method's own yardstick and no independent
witness. How far an answer leans is not asked: the mean of that is ruled by a few answers, and on the bundled values its
noise hid what the share shows. A broken answer can please the yardstick too, so strengths at which more than a few
answers have drifted (are unlike anything the base would say, stuck, or far too long) do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.cache import rows_together
from workbench.evaluation import repeats, rows_of
from workbench.generation import Answer, Sampling, kept_a_token, prompt_ids
from workbench.likelihood import score_completions
from workbench.models import LoadedModel
from workbench.pairs import PreferencePairs
from workbench.preview import Reader, Shift, preview
from workbench.progress import Progress
from workbench.rahf.adapters import activate
from workbench.rahf.config import RunConfig
from workbench.rahf.patterns import choose_alpha, short_alpha
from workbench.statistics import wilson
from workbench.tokens import Limits

LADDER = (0.06, 0.1, 0.15, 0.2, 0.26, 0.34, 0.44, 0.57, 0.75)  # mean ||alpha v|| / ||h|| over the target blocks
STEEPEST = 100.0  # the most that `alpha` may be: a step 1 that moved little gives a short difference, but a right one
WITHOUT_GAIN = 0.26  # the relative strength that is taken where no strength gains anything
ROWS, LANES = 96, 3  # answers drawn together, and the passes that each takes, with a cache for each
LEANING_IS = (
    "The share of answers that the preferred side of step 1 finds more likely than the dispreferred side does. Both know the "
    "training pairs: the method's own yardstick, not an independent one."
)
DRIFT_IS = (
    "The share of answers that are less likely under the base than 99% of those that are not moved, repeat themselves, or "
    "are more than twice as long as any of these or of the pairs'."
)


@dataclass(frozen=True, eq=False)
class Rung:
    """One strength of the ladder: per prompt whether its answer leans to chosen, and whether it has drifted; two bool [N]."""

    alpha: float
    leans: np.ndarray
    drifted: np.ndarray
    answers: list[Answer]


def shift_of(config: RunConfig, layers: Sequence[int]) -> Shift:
    """The shift that step 3 fits, for a preview: between what step 1 taught, at the deepest target block."""
    first, last = config.instructed_adapters[0], config.instructed_adapters[-1]
    positive, negative = (config.positive, config.negative) if config.uses_instructions else (None, None)
    bare = Reader(first) if config.foundation == "instructed" else Reader()
    return Shift(max(layers), Reader(first, positive), Reader(last, negative), bare, config.states == "predicting")


def calibrate(
    loaded: LoadedModel,
    pairs: PreferencePairs,
    unit: dict[int, float],
    config: RunConfig,
    limits: Limits,
    progress: Progress,
) -> dict[str, Any]:
    """Find alpha on prompts that step 1 has not seen and nobody is judged by: those of steps 2 and 3.

    ``unit`` {block: relative strength at alpha 1} as ``Patterns.collect`` measures it; the adapters of step 1 must be in
    ``loaded``. Returns plain data: ``points`` by alpha (alpha, relative_strength, leaning, drift, both with 95%
    intervals, mean_tokens, repeating, within), ``base``, ``chosen``, ``reason`` and what the figures are. Raises Stopped.
    """
    mean = sum(unit.values()) / len(unit)
    alphas = [short_alpha(share / max(mean, 1e-9)) for share in LADDER]
    alphas = sorted({min(alpha, STEEPEST) for alpha in alphas})
    some = list(pairs.select(range(min(config.calibration_prompts, len(pairs)))))
    rungs = _climb(loaded, some, [0.0, *alphas], config, limits, shift_of(config, list(unit)), progress)
    return told(rungs, mean, config.drift_limit, choose_alpha(unit, WITHOUT_GAIN), LEANING_IS)


def told(rungs: Sequence[Rung], mean: float, drift_limit: float, otherwise: float, leaning_is: str) -> dict[str, Any]:
    """A climbed ladder (no strength first) and the choice among its rungs as plain data, see :func:`calibrate`. ``mean``
    is the relative strength at alpha 1."""
    base, rungs = rungs[0], rungs[1:]
    allowed = min(1.0, float(base.drifted.mean()) + drift_limit)
    chosen, reason = choose(base, rungs, allowed, otherwise)
    return {
        "points": [_point(rung, mean, allowed) for rung in rungs],
        "chosen": chosen,
        "reason": reason,
        "base": {name: _point(base, mean, 1.0)[name] for name in ("leaning", "drift", "mean_tokens")},
        "drift_limit": allowed,
        "prompts": len(base.leans),
        "leaning_is": leaning_is,
        "drift_is": DRIFT_IS,
    }


def choose(base: Rung, rungs: Sequence[Rung], allowed: float, otherwise: float) -> tuple[float, str]:
    """The alpha to fit, and why: the middle of the strengths that move as many answers as the best one does.

    Only strengths whose share of drifted answers is at most ``allowed``, or within one standard error above it, count:
    of a few dozen prompts a single answer would decide otherwise. Those next to the best whose share of answers that lean
    to chosen lies within one standard error of its (of the paired difference over prompts) are as good as it; of these
    the one nearest to their geometric middle keeps the greatest distance from moving too little and from falling apart.
    ``otherwise`` is taken where no more answers lean to chosen than in the ``base``, or the strongest below it that
    counts.
    """
    sound = [rung for rung in rungs if _is_sound(rung, allowed)]
    if not sound:
        weakest = rungs[0]
        return weakest.alpha, (
            f"Even the weakest strength makes {weakest.drifted.mean():.0%} of answers drift (allowed: {allowed:.0%}), so "
            "it is taken; expect little. More steps or pairs in step 1, or other blocks, may help."
        )
    before = f"{base.leans.mean():.0%}"
    best = max(sound, key=lambda rung: rung.leans.mean())
    if not _moves(best, base, len(sound)):
        beside = min(rungs, key=lambda rung: abs(np.log(rung.alpha / otherwise)))
        if not _is_sound(beside, allowed):
            otherwise = max((rung.alpha for rung in sound if rung.alpha < otherwise), default=sound[0].alpha)
        return otherwise, (
            f"No strength makes more answers lean to chosen than chance could (at best {best.leans.mean():.0%}, {before} "
            f"before), so alpha {otherwise:.3g} is taken: the usual relative strength of {WITHOUT_GAIN}, or less where "
            "that makes answers drift or takes an unusual alpha."
        )
    level = [rung for rung in rungs if _is_sound(rung, allowed) and _as_good(rung, best)]
    first = last = rungs.index(best)
    while first > 0 and rungs[first - 1] in level:
        first -= 1
    while last + 1 < len(rungs) and rungs[last + 1] in level:
        last += 1
    centre = (rungs[first].alpha * rungs[last].alpha) ** 0.5
    taken = min(rungs[first : last + 1], key=lambda rung: abs(np.log(rung.alpha / centre)))
    span = f" between {rungs[first].alpha:.3g} and {rungs[last].alpha:.3g}" if last > first else ""
    return taken.alpha, (
        f"At alpha {taken.alpha:.3g} {taken.leans.mean():.0%} of answers lean to chosen ({before} before)"
        + (f", as many as at any strength{span}," if span else ", the most,")
        + f" and {taken.drifted.mean():.0%} have drifted ({allowed:.0%} allowed, give or take one standard error)."
    )


def _is_sound(rung: Rung, allowed: float) -> bool:
    share = float(rung.drifted.mean())
    return share - (share * (1 - share) / len(rung.drifted)) ** 0.5 <= allowed


def _moves(best: Rung, base: Rung, tried: int) -> bool:
    """Whether more answers lean to chosen than in the base: the sign test of the prompts where the two differ, held to
    5% for the best of so many that were ``tried``."""
    gained, lost = int((best.leans & ~base.leans).sum()), int((base.leans & ~best.leans).sum())
    chance = sum(math.comb(gained + lost, k) for k in range(gained, gained + lost + 1)) / 2 ** (gained + lost)
    return chance * tried < 0.05


def _as_good(rung: Rung, best: Rung) -> bool:
    short = best.leans.astype(float) - rung.leans
    if len(short) < 2:
        return False
    return (
        float(short.mean()) <= float(short.std(ddof=1)) / len(short) ** 0.5 + 1e-9
    )  # a single answer is no difference


def prompts_together(strengths: int, tokens: float, a_token: float) -> int:
    """How many prompts are answered at once, at so many strengths each (see :func:`workbench.cache.rows_together`)."""
    return max(1, rows_together(ROWS, tokens, LANES * a_token) // strengths)


def _climb(
    loaded: LoadedModel,
    pairs: Sequence,
    alphas: Sequence[float],
    config: RunConfig,
    limits: Limits,
    shift: Shift,
    progress: Progress,
) -> list[Rung]:
    """Answer every pair's prompt at every alpha (the first being 0: the base's own answers) and measure the answers."""
    sampling = Sampling(max_new_tokens=config.max_new_tokens, seed=config.seed)
    prompts = [pair.prompt for pair in pairs]
    longest = max((len(ids) for ids in prompt_ids(loaded, prompts, sampling, None)), default=0)
    longest += loaded.boundary.instruction_tokens(config.positive, config.negative) + config.max_new_tokens
    together = prompts_together(len(alphas), longest, kept_a_token(loaded))
    answers: list[list[Answer]] = [[] for _ in alphas]
    leans: list[list[bool]] = [[] for _ in alphas]
    for start in range(0, len(prompts), together):
        progress("calibrate", start, len(prompts), "Trying strengths")
        some = range(start, min(start + together, len(prompts)))
        rows = [(place, alpha) for alpha in alphas for place in some]
        for now in preview(
            loaded,
            [prompts[place] for place, _ in rows],
            [alpha for _, alpha in rows],
            shift,
            sampling,
            [place for place, _ in rows],
        ):
            done = sum(answer.done for answer in now.answers) / len(rows)
            progress("calibrate", start + int(done * len(some)), len(prompts))
        for number in range(len(alphas)):
            mine = slice(number * len(some), (number + 1) * len(some))
            answers[number] += now.answers[mine]
            leans[number] += (now.margin[mine] > 0).tolist()
    return climbed(loaded, pairs, alphas, answers, np.array(leans), limits, sampling)


def climbed(
    loaded: LoadedModel,
    pairs: Sequence,
    alphas: Sequence[float],
    answers: Sequence[Sequence[Answer]],
    leans: np.ndarray,
    limits: Limits,
    sampling: Sampling,
) -> list[Rung]:
    """The rungs of a ladder: ``answers`` [alphas][N] to the pairs' prompts, with no strength first; ``leans`` bool
    [alphas, N]: whether they lean to chosen."""
    prompts = [pair.prompt for pair in pairs]
    activate(loaded, [])
    flat = [row for given in answers for row in rows_of(loaded, prompts, given, sampling)]
    surprise = -score_completions(loaded, flat).numpy().reshape(len(alphas), len(prompts))
    ceiling = np.percentile(surprise[0], 99)
    encode = loaded.boundary.encode
    given = [encode(p.prompt, text, None, limits) for p in pairs for text in (p.chosen, p.rejected)]
    longest = 2 * max([len(item.ids) - item.start for item in given] + [len(answer.ids) for answer in answers[0]])
    rungs = []
    for number, alpha in enumerate(alphas):
        drifted = np.array(
            [
                bool(value > ceiling) or repeats(answer.ids) or len(answer.ids) > longest
                for value, answer in zip(surprise[number], answers[number], strict=True)
            ]
        )
        rungs.append(Rung(alpha, leans[number], drifted, list(answers[number])))
    return rungs


def _point(rung: Rung, mean: float, allowed: float) -> dict[str, Any]:
    count = len(rung.leans)
    figures: dict[str, Any] = {"alpha": rung.alpha, "relative_strength": round(rung.alpha * mean, 4)}
    for name, hits in (("leaning", rung.leans), ("drift", rung.drifted)):
        low, high = wilson(int(hits.sum()), count)
        figures |= {name: float(hits.mean()), f"{name}_low": low, f"{name}_high": high}
    return figures | {
        "mean_tokens": _mean_tokens(rung),
        "repeating": sum(repeats(answer.ids) for answer in rung.answers) / count,
        "within": _is_sound(rung, allowed),
    }


def _mean_tokens(rung: Rung) -> float:
    return float(np.mean([len(answer.ids) for answer in rung.answers]))
