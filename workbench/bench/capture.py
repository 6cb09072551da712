"""Capturing: pooled in the hook and batched by length, against one sequence at a time with all hidden states kept, and
against the floor of the same batches run through the model with nothing read."""

from __future__ import annotations

import numpy as np

from workbench.bench import Measure, interleaved
from workbench.progress import Progress

PAIRS, REPEATS = 60, 3


def run(progress: Progress) -> Measure:
    """On the demo model and some of the demo pairs."""
    import torch

    from workbench.models import Trunk, load_model
    from workbench.pairs import load_pairs
    from workbench.representations import encode_pairs
    from workbench.representations.capture import capture, in_batches
    from workbench.tokens import collate

    loaded = load_model("demo")
    pairs = load_pairs("demo")
    pairs = pairs.select(np.random.default_rng(0).permutation(len(pairs))[:PAIRS].tolist())
    encoded = encode_pairs(loaded, pairs)
    tokens = sum(len(item.ids) for item in encoded)
    trunk = Trunk(loaded.model, loaded.n_blocks)
    kept = {}

    def ours() -> None:
        kept["ours"] = capture(loaded, pairs, encoded=encoded)

    @torch.inference_mode()
    def floor() -> None:
        for rows in in_batches(encoded, 8192):
            batch = collate([encoded[k] for k in rows], loaded.boundary.pad_id, loaded.device)
            trunk(batch.input_ids, batch.attention_mask, batch.position_ids)

    @torch.inference_mode()
    def naive() -> None:
        states = []
        for item in encoded:
            ids = torch.tensor([item.ids], device=loaded.device)
            states.append(torch.stack(loaded.model(ids, output_hidden_states=True).hidden_states[1:])[:, 0])
        kept["naive"] = states
        kept["means"] = [one[:, item.start :].float().mean(1) for one, item in zip(states, encoded, strict=True)]

    seconds = interleaved({"ours": ours, "floor": floor, "naive": naive}, REPEATS, progress, "bench")
    pooled = np.concatenate([kept["ours"].chosen, kept["ours"].rejected], axis=1)[
        :-1
    ]  # the last is normed in the other
    others = torch.stack(kept["means"], dim=1).cpu().numpy()[:-1]
    return Measure(
        name="capture",
        seconds=seconds["ours"],
        over_floor=seconds["ours"] / seconds["floor"],
        speedup_over_naive=seconds["naive"] / seconds["ours"],
        memory_over_naive=pooled[0].nbytes * loaded.n_blocks / sum(one.nbytes for one in kept["naive"]),
        tokens_per_second=tokens / seconds["ours"],
        details={"pairs": PAIRS, "tokens": tokens, "largest_difference": float(np.abs(pooled - others).max())},
    )
