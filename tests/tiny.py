"""Tiny random models and tokenizers made on the spot: no test needs a network or a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from workbench.models import LoadedModel, wrap_model

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = (
    "the quick brown fox jumps over a lazy dog. what is it? it is a good answer, of course! "
    "no, never. please tell me how many days a week has: seven days. Human: Assistant: "
)

FAMILIES: dict[str, dict] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 16},
    "gpt2": {},
    "gpt_neox": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phi": {},
    "mistral": {"sliding_window": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


def tiny_tokenizer(chat: bool = True, bos: bool = False, pad: bool = True, vocab: int = 384) -> PreTrainedTokenizerFast:
    """A byte-level BPE that can spell any text; ``chat`` gives it a template, ``bos`` and ``pad`` those tokens."""
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>", "<|bos|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([TEXT] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|system|>", "<|user|>", "<|assistant|>"]})
    if pad:
        tokenizer.pad_token = "<|pad|>"
    if bos:
        tokenizer.bos_token = "<|bos|>"
    if chat:
        tokenizer.chat_template = CHAT
    return tokenizer


def tiny_model(
    family: str = "llama",
    *,
    layers: int = 3,
    width: int = 32,
    context: int = 256,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **settings,
) -> LoadedModel:
    """A random decoder of a family of transformers, with a tokenizer that fits it."""
    tokenizer = tokenizer or tiny_tokenizer()
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": context,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **FAMILIES[family],
        **settings,
    }
    if family not in ("gpt2", "opt"):
        values.setdefault("intermediate_size", 2 * width)
    if family not in ("gpt2", "gpt_neox", "opt", "phi"):
        values.setdefault("num_key_value_heads", 2)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **values)).eval().requires_grad_(False)
    return wrap_model(model, tokenizer, name=f"tiny-{family}")


PAIRS = [
    {
        "prompt": f"what is it, number {i}?",
        "chosen": "it is a good answer, of course!" + " please" * (i % 3),
        "rejected": "no, never. a lazy dog" + " jumps" * (i % 4),
    }
    for i in range(24)
]


def saved(folder: Path, loaded: LoadedModel, pairs: Sequence[dict] = PAIRS) -> dict[str, str]:
    """The settings ``model`` and ``pairs`` of a run on this model and these pairs, which now lie in the folder."""
    loaded.model.save_pretrained(folder / "model")
    loaded.tokenizer.save_pretrained(folder / "model")
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in pairs))
    return {"model": str(folder / "model"), "pairs": str(folder / "pairs.jsonl")}
