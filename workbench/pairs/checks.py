"""What makes a row a pair, and what the lengths of pairs look like to a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError
from workbench.pairs.core import MIN_PAIRS, Pair, PreferencePairs
from workbench.pairs.forms import Raw
from workbench.pairs.messages import Unfit, clean_completion, prompt_of, text_of
from workbench.progress import QUIET, Progress

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.tokens import Limits

REASONS = {
    "not text": "Something else than text (a number, null, or broken characters)",
    "empty": "Empty prompt or answer",
    "identical": "Chosen and rejected are identical",
    "duplicate": "Same pair a second time",
    "contradiction": "The same two answers preferred both ways",
    "prompt not shared": "Chosen and rejected do not answer the same prompt",
    "no answer": "Does not end with an answer",
    "no preference": "Does not say which answer is better",
    "unknown role": "A turn of an unknown speaker",
    "too long": "Longer than the model reads",
}
LONG = 20_000  # characters; more than most models read at once
MANY_DROPPED = 0.5
FEW = 100


def keep_pairs(
    rows: Sequence[tuple[int, dict[str, Any]]], read: Callable[[dict[str, Any]], Raw], progress: Progress = QUIET
) -> tuple[list[Pair], dict[str, list[int]]]:
    """Turn numbered rows into pairs with ``read`` and drop what is none; reasons with row numbers in the second part.

    Of a pair that stands there twice the first is kept; of two that contradict each other, neither.
    """
    dropped: dict[str, list[int]] = {}
    kept: dict[tuple, Pair] = {}
    for done, (number, row) in enumerate(rows):
        if done % 10_000 == 0:
            progress("pairs", done, len(rows), message="checking the pairs")
        try:
            pair = sound(Pair(number, *read(row)))
            if _key(pair) in kept:
                raise Unfit("duplicate")
        except Unfit as unfit:
            dropped.setdefault(unfit.reason, []).append(number)
        else:
            kept[_key(pair)] = pair
    against = [key for key in kept if (key[0], key[2], key[1]) in kept]
    if against:
        dropped["contradiction"] = sorted(kept.pop(key).id for key in against)
    progress("pairs", len(rows), len(rows), message=f"{len(kept)} of {len(rows)} rows kept")
    return list(kept.values()), {reason: dropped[reason] for reason in REASONS if reason in dropped}


def sound(pair: Pair) -> Pair:
    """The pair with cleaned answers. Raises Unfit where it is empty or its sides are equal."""
    pair = replace(pair, chosen=clean_completion(pair.chosen), rejected=clean_completion(pair.rejected))
    if not pair.prompt or not pair.prompt[-1]["content"].strip() or not pair.chosen or not pair.rejected:
        raise Unfit("empty")
    if pair.chosen == pair.rejected:
        raise Unfit("identical")
    return pair


def _key(pair: Pair) -> tuple:
    return tuple((m["role"], m["content"]) for m in pair.prompt), pair.chosen, pair.rejected


def check_pair(pair: Pair, others: Iterable[Pair] = ()) -> Pair:
    """A pair made by hand, cleaned. Raises UserError if reading would drop it beside the ``others``."""
    try:
        pair = Pair(pair.id, prompt_of(pair.prompt), text_of(pair.chosen), text_of(pair.rejected))
        pair = sound(pair)
        key = _key(pair)
        for other in others:
            if key[1:] in (_key(other)[1:], _key(other.swapped())[1:]) and key[0] == _key(other)[0]:
                raise Unfit("duplicate" if key == _key(other) else "contradiction")
    except Unfit as unfit:
        cure = {
            "empty": "The prompt or an answer is empty: fill in all three texts.",
            "identical": "Chosen and rejected are identical: change one of them.",
            "duplicate": "This pair is there already: change it, or leave it out.",
            "contradiction": "Another pair prefers these answers the other way round: change or remove one of them.",
        }
        raise UserError(
            cure.get(unfit.reason, f"This is no pair: {REASONS[unfit.reason].lower()}. Use plain text for all three.")
        ) from unfit
    return pair


def describe_dropped(dropped: dict[str, list[int]], numbers: int = 3) -> str:
    """ "7 identical (rows 3, 9, 20, ...), 1 empty (row 4)", the commonest reason first."""
    parts = []
    for reason, rows in sorted(dropped.items(), key=lambda item: -len(item[1])):
        named = ", ".join(map(str, rows[:numbers])) + (", ..." if len(rows) > numbers else "")
        parts.append(f"{len(rows)} {reason} ({'row' if len(rows) == 1 else 'rows'} {named})")
    return ", ".join(parts)


def find_warnings(pairs: Sequence[Pair], read: int, keys: Sequence[str]) -> list[str]:
    """Sentences about kept pairs that are usable but worth knowing about."""
    found = []
    if read - len(pairs) > MANY_DROPPED * read:
        found.append(f"Only {len(pairs)} of {read} rows could be used: look at why the others were dropped.")
    if len(pairs) < MIN_PAIRS:
        found.append(f"Scores and training need at least {MIN_PAIRS} pairs; there {_are(len(pairs))}.")
    elif len(pairs) < FEW:
        found.append(f"Only {len(pairs)} pairs: every score will have a wide interval; a few hundred are better.")
    longest = {
        "prompt": max(pairs, key=lambda p: sum(len(m["content"]) for m in p.prompt)),
        "answer": max(pairs, key=lambda p: max(len(p.chosen), len(p.rejected))),
    }
    sizes = {
        "prompt": sum(len(m["content"]) for m in longest["prompt"].prompt),
        "answer": max(len(longest["answer"].chosen), len(longest["answer"].rejected)),
    }
    for name, end in (("prompt", "beginning"), ("answer", "end")):
        if sizes[name] > LONG:
            found.append(
                f"The longest {name} has {sizes[name]:,} characters (row {longest[name].id}): a model that reads less "
                f"loses its {end}."
            )
    repeated = [count for count in Counter(keys).values() if count > 1]
    if repeated:
        found.append(
            f"{sum(repeated)} pairs share their prompt with another pair ({len(repeated)} prompts): a split keeps them "
            "together."
        )
    return found


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


# -- lengths in tokens ------------------------------------------------------------------------------------------------


def token_lengths(pairs: PreferencePairs, model: LoadedModel) -> np.ndarray:
    """Tokens of prompt, chosen and rejected of every pair, int64 [N, 3], uncut.

    A prompt counts with its template's markers, an answer with its end-of-text and apart from the prompt.
    """
    boundary = model.boundary

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in boundary.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids]

    unique: dict[str, int] = {}
    which = [unique.setdefault(boundary.render(pair.prompt), len(unique)) for pair in pairs]
    probe = [{"role": "user", "content": "x"}]
    before = len(boundary.prompt_ids(probe)) - count([boundary.render(probe)])[0]  # a beginning-of-text id, or none
    prompts = np.array(count(list(unique)), dtype=np.int64)[which] + before
    answers = [
        np.array(count([boundary.lead + text for text in texts]), dtype=np.int64) + len(boundary.end_ids)
        for texts in ([p.chosen for p in pairs], [p.rejected for p in pairs])
    ]
    return np.stack([prompts, *answers], axis=1)


def cut_rows(pairs: PreferencePairs, model: LoadedModel, limits: Limits | None = None) -> list[int]:
    """The row numbers of pairs that do not fit the limits (shrunk to the model's context) and would be cut."""
    from workbench.tokens import Limits

    return _cut(pairs, token_lengths(pairs, model), (limits or Limits()).within(model.context))


def _cut(pairs: PreferencePairs, lengths: np.ndarray, limits: Limits) -> list[int]:
    too_long = (lengths > np.array([limits.prompt, limits.completion, limits.completion])).any(axis=1)
    return [number for number, cut in zip(pairs.ids, too_long, strict=True) if cut]


def drop_too_long(pairs: PreferencePairs, model: LoadedModel, limits: Limits | None = None) -> PreferencePairs:
    """The pairs that a model reads whole, with the others in the report as "too long". (Kept, they are cut.)

    Raises UserError if none is left.
    """
    rows = cut_rows(pairs, model, limits)
    if len(rows) == len(pairs):
        raise UserError(
            "Every pair is longer than the model reads: choose a model with a longer context, or keep them."
        )
    report = replace(
        pairs.report,
        kept=len(pairs) - len(rows),
        dropped={**pairs.report.dropped, **({"too long": rows} if rows else {})},
    )
    kept = pairs.without(rows)
    return PreferencePairs(kept.dataset, report, pairs.name, pairs.source)


def token_report(
    pairs: PreferencePairs, model: LoadedModel, limits: Limits | None = None, *, resamples: int = 500, seed: int = 0
) -> dict[str, Any]:
    """Lengths in tokens as plain JSON values.

    ``prompt_tokens``, ``chosen_tokens``, ``rejected_tokens``: {p50, p95, max}; ``length_auc``: {value, low, high}, the
    chance that a chosen answer is longer than a rejected one (ties count half; below 0.5 chosen is shorter), with
    the 95% interval of a bootstrap over pairs; ``too_long``: row numbers that would be cut at ``limits``: {prompt,
    completion}; ``histograms``: {prompt: {edges, counts, open}, answers: {edges, chosen, rejected, open}}, where the
    last bin of an open one holds everything above its lower edge.
    """
    from workbench.tokens import Limits

    if not len(pairs):
        raise UserError("There are no pairs to measure: load pairs first.")
    limits = (limits or Limits()).within(model.context)
    lengths = token_lengths(pairs, model)
    prompt, chosen, rejected = lengths.T
    prompt_edges, prompt_open = bin_edges(prompt)
    edges, is_open = bin_edges(np.concatenate([chosen, rejected]))
    return {
        "prompt_tokens": percentiles(prompt),
        "chosen_tokens": percentiles(chosen),
        "rejected_tokens": percentiles(rejected),
        "length_auc": length_auc(chosen, rejected, resamples, seed),
        "too_long": _cut(pairs, lengths, limits),
        "limits": {"prompt": limits.prompt, "completion": limits.completion},
        "histograms": {
            "prompt": {"edges": prompt_edges, "counts": bin_counts(prompt, prompt_edges), "open": prompt_open},
            "answers": {
                "edges": edges,
                "chosen": bin_counts(chosen, edges),
                "rejected": bin_counts(rejected, edges),
                "open": is_open,
            },
        },
    }


def percentiles(lengths: np.ndarray) -> dict[str, float]:
    """Median, 95th percentile and longest."""
    return {"p50": float(np.median(lengths)), "p95": float(np.percentile(lengths, 95)), "max": int(lengths.max())}


def bin_edges(lengths: np.ndarray, bins: int = 24) -> tuple[list[int], bool]:
    """Edges of at most ``bins`` bins of a round width from 0 (the last but for a long tail of 1% or less), and whether
    a tail is beyond them and belongs into the last bin."""
    top, longest = int(np.percentile(lengths, 99)), int(lengths.max())
    if longest <= 2 * top:
        top = longest
    widths = (step * 10**power for power in range(12) for step in (1, 2, 5))
    width = next(width for width in widths if width * bins > top)
    edges = list(range(0, top + width + 1, width))
    if edges[-2] > top:
        edges.pop()
    return edges, longest >= edges[-1]


def bin_counts(lengths: np.ndarray, edges: Sequence[int]) -> list[int]:
    """How many lengths lie in each bin [edge, next edge); what is longer counts in the last."""
    return np.histogram(np.minimum(lengths, edges[-1] - 1), bins=edges)[0].tolist()


def length_auc(chosen: np.ndarray, rejected: np.ndarray, resamples: int = 500, seed: int = 0) -> dict[str, float]:
    """The chance that a random chosen length exceeds a random rejected one, ties half, with a bootstrap interval.

    ``chosen``, ``rejected``: [N], side by side; pairs are drawn, so that both sides of a pair stay together.
    """
    _, codes = np.unique(np.concatenate([chosen, rejected]), return_inverse=True)
    first, second, bins = codes[: len(chosen)], codes[len(chosen) :], int(codes.max()) + 1

    def auc(index: np.ndarray) -> float:
        wins, losses = np.bincount(first[index], minlength=bins), np.bincount(second[index], minlength=bins)
        return float((wins * (np.cumsum(losses) - losses / 2)).sum() / len(index) ** 2)

    rng, count = np.random.default_rng(seed), len(chosen)
    drawn = [auc(rng.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"value": auc(np.arange(count)), "low": float(low), "high": float(high)}
