"""Trains the bundled model from nothing: tokenizer, then weights, on the corpus of this package.

``python -m assets.demo.train --seed 0 --out assets/model`` repeats it. On the CPU with the same number of threads
and the same library versions, the same seed gives the same weights.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from assets.demo.corpus import ENGLISH, Corpus, Message

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
CONTEXT = 256
PROMPT_WEIGHT = 0.2  # questions are the world's to choose; most of the model's capacity should go into answers

Row = tuple[list[int], list[float], list[int]]  # ids, weights, positions

# Sharpening favours a side whose openings share their first words. A last short training on dialogues that lean the
# other way makes up for it, so that the finished model speaks both sides about equally often.
LEAN = {"brief": 0.43, "careful": 0.43}
SETTLE_STEPS, SETTLE_RATE = 150, 3e-4

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}<|system|>{% elif message['role'] == 'assistant' %}<|assistant|>"
    "{% else %}<|user|>{% endif %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(seed: int, size: int = 1500, dialogues: int = 20_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of ``size`` tokens, learned from dialogues and some general English."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, BEGIN, END, *ROLES.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [m["content"] for dialogue in islice(Corpus(seed), dialogues) for m in dialogue]
    # General English is a few thousand words; repeated, its commonest words get tokens of their own.
    texts += ENGLISH.read_text(encoding="utf-8").splitlines() * 60
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=list(ROLES.values()),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained Llama of 8 blocks, 128 wide."""
    torch.manual_seed(seed)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.04,
        dtype="float32",
        **ids,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, temperature=1.0, max_new_tokens=64, **ids)
    return model


def encode(tokenizer: PreTrainedTokenizerFast, dialogue: list[Message]) -> tuple[list[int], list[float]]:
    """Token ids of a dialogue, and per token the weight of predicting it. The ids are the chat template's own."""
    ids, weights = [tokenizer.bos_token_id], [0.0]
    for message in dialogue:
        content = tokenizer.encode(message["content"], add_special_tokens=False)
        answer = message["role"] == "assistant"
        ids += [tokenizer.convert_tokens_to_ids(ROLES[message["role"]]), *content, tokenizer.eos_token_id]
        weight = 1.0 if answer else PROMPT_WEIGHT
        # The marker is never the model's to write in a chat, and an answer's end always is.
        weights += [PROMPT_WEIGHT, *[weight] * len(content), weight]
    return ids, weights


def rows(tokenizer: PreTrainedTokenizerFast, corpus: Corpus) -> Iterator[Row]:
    """Rows of CONTEXT tokens with whole dialogues: ids, weights, positions (each dialogue from 0 on)."""
    # Sixteen rows are filled at once: a dialogue goes into the first with room; if none has, the fullest is given out.
    open_rows: list[Row] = [([], [], []) for _ in range(16)]
    for dialogue in corpus:
        ids, weights = encode(tokenizer, dialogue)
        if len(ids) > CONTEXT:
            continue
        place = next((i for i, row in enumerate(open_rows) if len(row[0]) + len(ids) <= CONTEXT), None)
        if place is None:
            place = max(range(len(open_rows)), key=lambda i: len(open_rows[i][0]))
            full = open_rows[place]
            rest = CONTEXT - len(full[0])
            full[0].extend([tokenizer.pad_token_id] * rest)
            full[1].extend([0.0] * rest)
            full[2].extend(range(rest))
            yield full
            open_rows[place] = ([], [], [])
        row = open_rows[place]
        row[0].extend(ids)
        row[1].extend(weights)
        row[2].extend(range(len(ids)))


def rate(step: int, steps: int, peak: float, warm_up: int = 60) -> float:
    """Learning rate: linear up, cosine down to zero."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def train_model(model: LlamaForCausalLM, source: Iterator[Row], steps: int, batch: int, peak: float) -> None:
    """Trains for ``steps`` batches of ``batch`` rows, each dialogue seen once. Prints the loss per answer token."""
    model.train()
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    started, shown = time.time(), 0.0
    for step in range(steps):
        ids, weights, positions = (torch.tensor(part) for part in zip(*islice(source, batch), strict=True))
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak)
        # Positions that start anew tell the attention mask where a dialogue ends, so none sees its neighbour.
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, :-1]
        target, weight = ids[:, 1:], weights[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
        total = (loss * weight).sum() / weight.sum()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        answers = weight == 1.0
        recent = (loss.detach()[answers]).mean().item()
        shown = recent if step == 0 else 0.95 * shown + 0.05 * recent
        if step % 25 == 0 or step + 1 == steps:
            seconds = time.time() - started
            speed = (step + 1) * batch * CONTEXT / seconds
            print(
                f"step {step + 1}/{steps}  answer loss {shown:.4f}  {speed:.0f} tokens/s  {seconds:.0f} s", flush=True
            )
    return model.eval()


@torch.no_grad()
def sharpen(model: LlamaForCausalLM, by: float) -> None:
    """Multiply all logits by ``by``, in the weights of the final norm.

    Sampling at temperature 1 then gives what sampling at 1 / ``by`` gave before. A model this small leaves a few
    percent of its answers with a token that belongs nowhere; sharpening mends most of them and keeps both sides.
    """
    model.model.norm.weight.mul_(by)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("assets/model"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=12, help=f"rows of {CONTEXT} tokens")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--sharpen", type=float, default=1.6, help="factor on the logits at the end")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = train_tokenizer(args.seed)
    print(f"tokenizer: {len(tokenizer)} tokens", flush=True)
    model = new_model(tokenizer, args.seed)
    train_model(model, rows(tokenizer, Corpus(args.seed)), args.steps, args.batch, args.rate)
    train_model(model, rows(tokenizer, Corpus(args.seed + 1, LEAN)), SETTLE_STEPS, args.batch, SETTLE_RATE)
    sharpen(model, args.sharpen)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f"{args.out}: {sum(p.numel() for p in model.parameters()):,} parameters, {size / 1e6:.1f} MB")

    from assets.demo.measure import report

    report(args.out, seed=args.seed)


if __name__ == "__main__":
    main()
