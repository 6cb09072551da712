"""Base and aligned answers to the same prompts, against one side alone (the floor) and against transformers' own
``generate`` called for one side after the other (the naive way)."""

from __future__ import annotations

from workbench.bench import Measure, interleaved
from workbench.bench.synthetic import GivenIds, feedback_lengths, lively, llama, sequences
from workbench.progress import Progress

BLOCKS, WIDTH = 8, 512
TOKENS, REPEATS = 128, 3


def run(name: str, progress: Progress, prompts: int) -> Measure:
    """128 new tokens for each of the prompts; nothing ends an answer before."""
    import torch

    from workbench.generation import Sampling, Speaker, answer_together, generate
    from workbench.rahf.adapters import add_adapter
    from workbench.rahf.config import RunConfig

    loaded = llama(BLOCKS, WIDTH)
    add_adapter(loaded, "aligned", RunConfig(), max(1, 2 * BLOCKS // 3), 0)
    lively(loaded.model, "aligned")
    asked = sequences([(prompt, 0) for prompt, _ in feedback_lengths(prompts, seed=3)])
    loaded.boundary = GivenIds({(str(place), None): one for place, one in enumerate(asked)})
    names, sampling = [str(place) for place in range(prompts)], Sampling(max_new_tokens=TOKENS)
    kept = {}

    def ours() -> None:
        *_, kept["ours"] = answer_together(loaded, names, sampling, [Speaker(), Speaker("aligned")])

    @torch.inference_mode()
    def naive() -> None:
        width = max(len(one.ids) for one in asked)
        ids = torch.tensor([[0] * (width - len(one.ids)) + one.ids for one in asked], device=loaded.device)
        mask = torch.tensor([[0] * (width - len(one.ids)) + [1] * len(one.ids) for one in asked], device=loaded.device)
        model, settings = loaded.model, {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": True}
        with model.disable_adapter():
            model.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, **settings)
        model.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, **settings)

    ways = {
        "ours": ours,
        "aligned alone": lambda: generate(loaded, names, sampling, "aligned"),
        "base alone": lambda: generate(loaded, names, sampling),
        "naive": naive,
    }
    seconds = interleaved(ways, REPEATS, progress, "bench")
    goal = 1.25 if prompts == 1 else 1.15 if loaded.device.type == "cuda" else 1.6
    return Measure(
        name=name,
        seconds=seconds["ours"],
        over_floor=seconds["ours"] / seconds["aligned alone"],
        speedup_over_naive=seconds["naive"] / seconds["ours"],
        tokens_per_second=2 * prompts * TOKENS / seconds["ours"],
        goals={"over_floor": goal},
        details={
            "model": loaded.name,
            "new_tokens": TOKENS,
            "tokens_of_an_answer": [len(side[0].ids) for side in kept["ours"]],
            "seconds": seconds,
        },
    )
