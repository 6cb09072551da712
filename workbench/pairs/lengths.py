"""How long pairs are: in tokens as a model reads them, and whether length alone tells the sides apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import UserError
from workbench.progress import QUIET, Progress

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs.core import PreferencePairs
    from workbench.tokens import Limits


EXACT = 20_000  # pairs: of more, the tokens of a sample are counted
SAMPLE = 5_000
LONGEST = 50  # by characters, of each of prompt, chosen and rejected: counted whatever the sample


def token_lengths(pairs: PreferencePairs, model: LoadedModel, progress: Progress = QUIET) -> np.ndarray:
    """Tokens of prompt, chosen and rejected of every pair, int64 [N, 3], uncut.

    A prompt counts with its template's markers, an answer with its end-of-text and apart from the prompt.
    """
    boundary = model.boundary

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in boundary.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids]

    probe = [{"role": "user", "content": "x"}]
    before = len(boundary.prompt_ids(probe)) - count([boundary.render(probe)])[0]  # a beginning-of-text id, or none
    after = len(boundary.end_ids)
    lengths = np.zeros((len(pairs), 3), dtype=np.int64)
    done = 0
    for batch in pairs.batches("prompt", "chosen", "rejected"):
        progress("tokens", done, len(pairs), message="counting tokens")
        rows = slice(done, done + len(batch))
        unique: dict[str, int] = {}
        prompts = batch.column("prompt").to_pylist()
        which = [unique.setdefault(boundary.render(prompt), len(unique)) for prompt in prompts]
        lengths[rows, 0] = np.array(count(list(unique)))[which] + before
        for column, side in ((1, "chosen"), (2, "rejected")):
            texts = [boundary.lead + text for text in batch.column(side).to_pylist()]
            lengths[rows, column] = np.array(count(texts)) + after
        done += len(batch)
    progress("tokens", done, len(pairs), message="tokens counted")
    return lengths


def character_lengths(pairs: PreferencePairs) -> np.ndarray:
    """Characters of prompt (all its messages), chosen and rejected of every pair, int64 [N, 3]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [np.zeros((0, 3), dtype=np.int64)]
    for batch in pairs.batches("prompt", "chosen", "rejected"):
        prompts = batch.column("prompt")
        prompts = prompts.combine_chunks() if isinstance(prompts, pa.ChunkedArray) else prompts
        contents = np.asarray(pc.utf8_length(prompts.flatten().field("content")), dtype=np.int64)
        owners = np.asarray(pc.list_parent_indices(prompts))
        asked = np.bincount(owners, weights=contents, minlength=len(batch)).astype(np.int64)
        sides = [np.asarray(pc.utf8_length(batch.column(side)), dtype=np.int64) for side in ("chosen", "rejected")]
        parts.append(np.stack([asked, *sides], axis=1))
    return np.concatenate(parts)


def cut_rows(pairs: PreferencePairs, model: LoadedModel, limits: Limits | None = None) -> list[int]:
    """The row numbers of pairs that do not fit the limits (shrunk to the model's context) and would be cut."""
    from workbench.tokens import Limits

    return _cut(pairs, token_lengths(pairs, model), (limits or Limits()).within(model.context))


def _cut(pairs: PreferencePairs, lengths: np.ndarray, limits: Limits) -> list[int]:
    return pairs.numbers[_over(lengths, limits)].tolist()


def _over(lengths: np.ndarray, limits: Limits) -> np.ndarray:
    return (lengths > np.array([limits.prompt, limits.completion, limits.completion])).any(axis=1)


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
    kept.report = report
    return kept


def token_report(
    pairs: PreferencePairs,
    model: LoadedModel,
    limits: Limits | None = None,
    *,
    resamples: int = 500,
    seed: int = 0,
    progress: Progress = QUIET,
) -> dict[str, Any]:
    """Lengths in tokens as plain JSON values.

    ``prompt_tokens``, ``chosen_tokens``, ``rejected_tokens``: {p50, p95, max}; ``length_auc``: {value, low, high}, the
    chance that a chosen answer is longer than a rejected one (ties count half; below 0.5 chosen is shorter), with
    the 95% interval of a bootstrap over pairs; ``too_long``: row numbers that would be cut at ``limits``: {prompt,
    completion}; ``histograms``: {prompt: {edges, counts, open}, answers: {edges, chosen, rejected, open}}, where the
    last bin of an open one holds everything above its lower edge.

    Of more than 20,000 pairs a random sample (by ``seed``) is counted, ``sample`` of them (else None), and beside it the
    longest by characters: ``max`` is the longest counted, ``too_long`` the rows found among those counted, and
    ``too_long_share`` the sample's share.
    """
    from workbench.tokens import Limits

    if not len(pairs):
        raise UserError("There are no pairs to measure: load pairs first.")
    limits = (limits or Limits()).within(model.context)
    sample = SAMPLE if len(pairs) > EXACT else None
    if sample:
        drawn = np.random.default_rng(seed).choice(len(pairs), sample, replace=False)
        by_length = np.argsort(character_lengths(pairs), axis=0)[-LONGEST:]
        counted = np.union1d(drawn, by_length)
        pairs = pairs.select(counted)
        every = token_lengths(pairs, model, progress)
        lengths = every[np.isin(counted, drawn)]
    else:
        lengths = every = token_lengths(pairs, model, progress)
    prompt, chosen, rejected = lengths.T
    return {
        **{
            f"{name}_tokens": percentiles(lengths[:, column]) | {"max": int(every[:, column].max())}
            for column, name in enumerate(("prompt", "chosen", "rejected"))
        },
        "length_auc": length_auc(chosen, rejected, resamples, seed),
        "too_long": _cut(pairs, every, limits),
        "too_long_share": float(_over(lengths, limits).mean()),
        "sample": sample,
        "limits": {"prompt": limits.prompt, "completion": limits.completion},
        "histograms": histograms(prompt, chosen, rejected),
    }


def histograms(prompt: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> dict[str, Any]:
    """Counts of the lengths [N] as plain JSON values: {prompt: {edges, counts, open}, answers: {edges, chosen,
    rejected, open}}; see :func:`bin_edges` for what an open histogram is."""
    prompt_edges, prompt_open = bin_edges(prompt)
    edges, is_open = bin_edges(np.concatenate([chosen, rejected]))
    sides = {"chosen": bin_counts(chosen, edges), "rejected": bin_counts(rejected, edges)}
    return {
        "prompt": {"edges": prompt_edges, "counts": bin_counts(prompt, prompt_edges), "open": prompt_open},
        "answers": {"edges": edges, **sides, "open": is_open},
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
    """The chance that a random chosen length exceeds a random rejected one, ties half, with a 95% interval.

    ``chosen``, ``rejected``: [N], side by side. The interval is a bootstrap's over pairs, so that both sides of a pair
    stay together; above 20,000 pairs it is normal, from the variance of each pair's share in the value.
    """
    _, codes = np.unique(np.concatenate([chosen, rejected]), return_inverse=True)
    first, second, bins = codes[: len(chosen)], codes[len(chosen) :], int(codes.max()) + 1

    def auc(index: np.ndarray) -> float:
        wins, losses = np.bincount(first[index], minlength=bins), np.bincount(second[index], minlength=bins)
        return float((wins * (np.cumsum(losses) - losses / 2)).sum() / len(index) ** 2)

    count = len(chosen)
    value = auc(np.arange(count))
    if count > EXACT:
        wins, losses = np.bincount(first, minlength=bins), np.bincount(second, minlength=bins)
        over = (np.cumsum(losses) - losses / 2)[first] + (count - np.cumsum(wins) + wins / 2)[second]
        half = 1.96 * float(np.std(over / count)) / count**0.5
        return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}
    rng = np.random.default_rng(seed)
    drawn = [auc(rng.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}
