"""Real runs of ``align`` on a CPU, each in a process of its own, whose peak memory is held against what was told before
they began: random models of several shapes, and pairs with the lengths of UltraFeedback."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.bench.synthetic import feedback_lengths
from workbench.errors import UserError
from workbench.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAIRS, CONTEXT = 48, 2048
# A run as the preset "small" makes it, with only so many steps and answers as its hungriest moment needs.
SHORT = {
    "device": "cpu", "force": True, "judge": "none", "held_out": 12, "alpha": 0.5, "accumulation": 1,
    "instruct_steps": 2, "align_steps": 2, "evaluate_prompts": 4, "evaluate_every": 2, "max_new_tokens": 16,
    "completion_tokens": 512,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model to be made (a family of transformers, so many ``blocks`` x ``width``, a ``vocabulary``) and the settings
    of its run beside the preset's."""

    family: str
    blocks: int
    width: int
    vocabulary: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.family} {self.blocks} x {self.width}, {self.vocabulary:,} tokens"


CASES = (
    Case("llama", 4, 256, 8_000, {"method": "scit"}),
    Case("llama", 8, 512, 32_000, {"method": "scit"}),
    Case("llama", 8, 512, 32_000, {"method": "dual"}),
    Case("llama", 8, 512, 32_000, {"method": "scit", "dtype": "bfloat16"}),
    Case("gpt2", 6, 512, 16_000, {"method": "scit"}),
)


@dataclass(frozen=True)
class Found:
    """A run that was made: bytes that were told, and the most that its process held."""

    name: str
    settings: dict[str, Any]
    told: int
    held: int
    parts: dict[str, float]

    @property
    def error(self) -> float:
        """How much more was told than held, as a share of what was held."""
        return self.told / self.held - 1


def check(progress: Progress, cases: tuple[Case, ...] = CASES) -> list[Found]:
    """Make every run. Raises UserError if one fails."""
    found = []
    for number, case in enumerate(cases):
        progress("bench", number, len(cases), message=case.name)
        with tempfile.TemporaryDirectory() as folder:
            found.append(run(case, Path(folder)))
    progress("bench", len(cases), len(cases))
    return found


def run(case: Case, folder: Path) -> Found:
    """The model, the pairs and the run in this folder."""
    from workbench.rahf.presets import preset_values

    settings = preset_values("small") | SHORT | dict(case.settings)
    settings |= {"layers": f"{case.blocks // 2},{round(0.8 * case.blocks)}", **made(case, folder)}
    given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "workbench", "align", "--json", "--now", "--out", str(folder / "run"), *given]
    places = os.environ | {"RAHF_RUNS": str(folder / "runs"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=places)
    if done.returncode:
        raise UserError(f"The run on {case.name} failed: {done.stderr.strip()[-300:]}")
    result = json.loads(done.stdout)
    told = json.loads((folder / "run" / "estimate.json").read_text())
    return Found(
        case.name, dict(case.settings), told["memory_bytes"], result["peak_memory_bytes"], told["parts"]["memory"]
    )


def made(case: Case, folder: Path) -> dict[str, str]:
    """The settings ``model`` and ``pairs`` of a run, which now lie in the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = words(case.vocabulary)
    sizes = {
        "vocab_size": case.vocabulary,
        "hidden_size": case.width,
        "num_hidden_layers": case.blocks,
        "num_attention_heads": case.width // 64,
        "max_position_embeddings": CONTEXT,
        **{name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    }
    if case.family != "gpt2":
        sizes["intermediate_size"] = round(case.width * 8 / 3 / 32) * 32
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(case.family, **sizes))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs(case.vocabulary))))
    return {"model": str(folder / "model"), "pairs": str(folder / "pairs.jsonl")}


def words(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer that knows so many words, each a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {word: number for number, word in enumerate(["<end>", "<pad>", "<unknown>"])}
    known |= {f"w{number}": number for number in range(len(known), vocabulary)}
    core = Tokenizer(models.WordLevel(known, unk_token="<unknown>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<end>", pad_token="<pad>", unk_token="<unknown>", model_max_length=CONTEXT
    )


def pairs(vocabulary: int) -> list[dict[str, str]]:
    """Pairs of random words with the lengths of UltraFeedback."""
    draw = random.Random(0)

    def text(tokens: int) -> str:
        return " ".join(f"w{draw.randrange(3, vocabulary)}" for _ in range(tokens))

    lengths = feedback_lengths(2 * PAIRS)
    rows = zip(lengths[:PAIRS], lengths[PAIRS:], strict=True)
    return [
        {"prompt": text(prompt), "chosen": text(chosen), "rejected": text(rejected)}
        for (prompt, chosen), (_, rejected) in rows
    ]
