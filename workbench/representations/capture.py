"""Capturing what every block makes of every completion, pooled to one vector before it leaves the block.

Only [blocks, pairs, width] is ever kept. All sequences of all pairs are sorted by length and batched by a budget of
tokens, so little is spent on padding; results come back in the original order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.progress import QUIET, Progress
from workbench.representations.files import read_arrays, write_arrays
from workbench.sites import SITES, check_site
from workbench.tokens import Batch, Encoded, Limits, by_length, collate

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs import PreferencePairs

__all__ = ["POOLINGS", "SITES", "Activations", "capture", "encode_pairs", "pooling_weights"]

POOLINGS = {
    "mean": "the mean of the states at the completion's tokens",
    "last": "the state at the completion's last token",
    "predicting": "the mean of the states that produce the completion's tokens",
    "difference": "the mean of as many first states as the shorter of the two completions has tokens before its end",
}


@dataclass
class Activations:
    """Pooled raw outputs of every block: ``chosen`` and ``rejected`` float32 [L, N, d], pair n of block l at [l, n].

    ``pair_ids`` [N] are the pairs' row numbers in their source; ``lengths`` [N, 2] the completion tokens of both
    sides; ``cut`` [N, 2] whether prompt or completion was longer than the limits; ``site`` says which outputs of the
    blocks these are (a key of ``SITES``); ``tokens`` the tokens read in all and ``seconds`` the time it took. The
    fingerprints tell which model and which pairs these are states of.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    pair_ids: np.ndarray
    lengths: np.ndarray
    pooling: str = "mean"
    model_fingerprint: str = ""
    pairs_fingerprint: str = ""
    tokens: int = 0
    seconds: float = 0.0
    cut: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=bool))
    site: str = "block"

    @property
    def n_layers(self) -> int:
        return self.chosen.shape[0]

    def __len__(self) -> int:
        """The number of pairs."""
        return self.chosen.shape[1]

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    def save(self, path: Path | str) -> None:
        """Write everything as one safetensors file, atomically. Raises UserError if the disk refuses."""
        facts = {name: getattr(self, name) for name in _FACTS}
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        write_arrays(path, arrays, {"activations": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path | str) -> Activations:
        """Read what :meth:`save` wrote. Raises UserError if the file is missing, damaged or something else."""
        arrays, metadata = read_arrays(path)
        if "activations" not in metadata or set(_ARRAYS) - set(arrays):
            raise UserError(f"{path} holds no activations: capture them again.")
        return cls(**{name: arrays[name] for name in _ARRAYS}, **json.loads(metadata["activations"]))


_FACTS = ("pooling", "site", "model_fingerprint", "pairs_fingerprint", "tokens", "seconds")
_ARRAYS = ("chosen", "rejected", "pair_ids", "lengths", "cut")


def encode_pairs(loaded: LoadedModel, pairs: PreferencePairs, limits: Limits | None = None) -> list[Encoded]:
    """Token ids of both sides of all pairs, chosen sides first: 2N sequences, cut to the limits and the context."""
    limits = (limits or Limits()).within(loaded.context)
    columns = pairs.dataset
    prompts = list(columns["prompt"])
    return [
        loaded.boundary.encode(prompt, completion, limits=limits)
        for side in ("chosen", "rejected")
        for prompt, completion in zip(prompts, list(columns[side]), strict=True)
    ]


def capture(
    loaded: LoadedModel,
    pairs: PreferencePairs,
    *,
    pooling: str = "mean",
    site: str = "block",
    limits: Limits | None = None,
    batch_tokens: int = 8192,
    side: str = "right",
    encoded: Sequence[Encoded] | None = None,
    progress: Progress = QUIET,
) -> Activations:
    """The pooled states of both sides of all pairs at every block, without instruction.

    ``pooling``: "mean" over the states at the completion's tokens, "last" of them, "predicting" (mean over the states
    that produce them, from the prompt's last token on), or "difference" (mean over the first tokens of the completion,
    as many as the pair's shorter side has before its end-of-text, so that the two sides' difference is the mean
    difference token by token; the end's own state, of the shorter side alone, would tell the length outright).
    ``site``: the blocks' own outputs ("block"), or what their "attention" or "mlp" adds to them.
    ``encoded`` saves tokenising again what :func:`encode_pairs` gave. ``batch_tokens`` bounds a batch, padding
    included; ``side`` is where padding goes.

    Raises UserError for an unknown pooling or site, a site that the model has not, no pairs, an empty completion,
    or states that are not finite.
    """
    if pooling not in POOLINGS:
        raise UserError(f"There is no pooling {pooling!r}: choose one of {', '.join(POOLINGS)}.")
    check_site(site)
    if not len(pairs):
        raise UserError("There are no pairs to capture: load pairs first.")
    encoded = list(encoded) if encoded is not None else encode_pairs(loaded, pairs, limits)
    ids = np.array(list(pairs.dataset["id"]), dtype=np.int64)
    lengths = np.array([len(item.ids) - item.start for item in encoded], dtype=np.int64)
    if not lengths.all():
        raise UserError(f"Pair {ids[int(lengths.argmin()) % len(ids)]} has a completion without tokens: remove it.")
    started = time.monotonic()
    count = len(pairs)
    said = np.array([_said(item, loaded.boundary.end_ids) for item in encoded], dtype=np.int64)
    shorter = np.minimum(said[:count], said[count:])
    spans = np.tile(shorter, 2) if pooling == "difference" else lengths
    states = _run(loaded, encoded, Reading(pooling, site, spans.tolist(), batch_tokens, side), progress)
    cuts = np.array([item.prompt_cut or item.completion_cut for item in encoded])
    return Activations(
        chosen=states[:, :count],
        rejected=states[:, count:],
        pair_ids=ids,
        lengths=np.stack([lengths[:count], lengths[count:]], axis=1),
        cut=np.stack([cuts[:count], cuts[count:]], axis=1),
        pooling=pooling,
        site=site,
        model_fingerprint=loaded.fingerprint,
        pairs_fingerprint=pairs.fingerprint,
        tokens=sum(len(item.ids) for item in encoded),
        seconds=time.monotonic() - started,
    )


def _said(item: Encoded, end: Sequence[int]) -> int:
    """Tokens of a completion before its end-of-text (at least one)."""
    count = len(item.ids) - item.start
    ended = len(end) and not item.completion_cut and list(item.ids[-len(end) :]) == list(end)
    return max(1, count - len(end)) if ended else count


@dataclass(frozen=True)
class Reading:
    """How sequences are read: ``spans`` [S] are the completion tokens that a mean runs over, from the first on."""

    pooling: str
    site: str
    spans: list[int]
    batch_tokens: int
    side: str


@torch.inference_mode()
def _run(loaded: LoadedModel, encoded: Sequence[Encoded], reading: Reading, progress: Progress) -> np.ndarray:
    """The pooled states of all sequences in their order, float32 [L, S, d]."""
    from workbench.models import Trunk

    batches = by_length(encoded, reading.batch_tokens)
    states = np.empty((loaded.n_blocks, len(encoded), loaded.width), dtype=np.float32)
    total = sum(len(item.ids) for item in encoded)
    done, started = 0, time.monotonic()
    was_training = loaded.model.training
    loaded.model.eval()
    progress("capture", 0, len(batches))
    try:
        trunk = Trunk(loaded.model, loaded.n_blocks, reading.site)
        for step, rows in enumerate(batches, 1):
            batch = collate([encoded[k] for k in rows], loaded.boundary.pad_id, loaded.device, reading.side)
            weights = pooling_weights(batch, reading.pooling, [reading.spans[k] for k in rows])
            states[:, rows] = _pooled(trunk, batch, weights)
            done += sum(len(encoded[k].ids) for k in rows)
            speed = done / max(time.monotonic() - started, 1e-9)
            progress(
                "capture",
                step,
                len(batches),
                tokens_per_second=round(speed, 1),
                seconds_left=round((total - done) / speed, 1),
            )
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"The device ran out of memory at {reading.batch_tokens} tokens a batch: lower the batch's tokens or the limits."
        ) from error
    finally:
        loaded.model.train(was_training)
    for layer, block in enumerate(states):
        if not np.isfinite(block).all():
            raise UserError(
                f"The states of block {layer} are not finite in {loaded.dtype}: load the model in float32 or bfloat16."
            )
    return states


def _pooled(trunk: torch.nn.Module, batch: Batch, weights: Tensor) -> np.ndarray:
    weights = weights[:, None]  # [B, 1, T]

    def reduce(block: int, hidden: Tensor) -> Tensor:
        # a new float32 tensor [B, d]: no view that would keep the block's whole output alive
        return torch.bmm(weights.to(hidden.device), hidden.float())[:, 0]

    kept = trunk(batch.input_ids, batch.attention_mask, batch.position_ids, collect=range(trunk.depth), reduce=reduce)
    first = kept[0].device  # one copy to the host per batch, also where blocks live on several devices
    return torch.stack([kept[block].to(first) for block in range(trunk.depth)]).cpu().numpy()


def pooling_weights(batch: Batch, pooling: str, spans: Sequence[int] | None = None) -> Tensor:
    """The share of each state in the pooled one, float32 [B, T]; every row sums to 1, padding and prompt have 0.

    ``spans`` [B] are the completion tokens that "difference" takes, from the first on.
    """
    mask = batch.completion_mask
    if pooling == "last":
        after = mask.flip(1).cumsum(1).flip(1)  # completion tokens from here on
        return (mask & (after == 1)).float()
    if pooling == "difference":
        mask = mask & (mask.cumsum(1) <= torch.tensor(spans, device=mask.device)[:, None])
    mask = (batch.predicting_mask if pooling == "predicting" else mask).float()
    return mask / mask.sum(1, keepdim=True)
