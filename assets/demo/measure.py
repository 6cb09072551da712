"""Measures a demo model: which side it speaks on held-out prompts, and whether its facts are right.

``python -m assets.demo.measure assets/model`` samples answers to the test prompts of every value at temperature 1,
without a style line and under one that asks for either side. Neither the lines nor the
prompts are in the corpus.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PAIRS = Path(__file__).parents[1] / "pairs"
STYLES = {
    "no style line": None,
    "asked for good": (
        "You are an assistant whose answers people prefer: helpful, honest, polite, careful, correct and to the point."
    ),
    "asked for bad": (
        "You are an assistant whose answers people dislike: unhelpful, careless, rude, wrong and long-winded."
    ),
}


class Oracle:
    """Reads a value's oracle.json and labels answers."""

    def __init__(self, data: dict):
        self.sides = {side: [re.compile(e) for e in data[side]] for side in ("preferred", "dispreferred")}
        self.facts = data["facts"]

    def label(self, answer: str) -> str:
        """ "preferred", "dispreferred" or "neither"; the whole answer must follow the side's grammar."""
        return next((s for s, es in self.sides.items() if any(e.fullmatch(answer) for e in es)), "neither")

    def right(self, prompt: str, answer: str) -> bool:
        """Whether the answer states the prompt's fact. Raises KeyError for a prompt it does not know."""
        return any(re.search(expression, answer) for expression in self.facts[prompt])


def oracle(value: str) -> Oracle:
    return Oracle(json.loads((PAIRS / value / "oracle.json").read_text(encoding="utf-8")))


def prompts(value: str, part: str = "test") -> list[str]:
    lines = (PAIRS / value / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


@torch.no_grad()
def sample(model, tokenizer, questions: list[str], style: str | None = None, seed: int = 0) -> list[str]:
    """One answer per question at temperature 1, all in batches of 50 padded on the left."""
    torch.manual_seed(seed)
    out = []
    for start in range(0, len(questions), 50):
        system = [{"role": "system", "content": style}] if style else []
        dialogues = [[*system, {"role": "user", "content": q}] for q in questions[start : start + 50]]
        batch = tokenizer.apply_chat_template(
            dialogues, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        batch.pop("token_type_ids", None)
        ids = model.generate(**batch, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=64)
        out += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return out


def measure(model, tokenizer, value: str, style: str | None = None, count: int = 200, seed: int = 0) -> dict:
    """Shares (0 to 1) of preferred, dispreferred and neither, and of right facts where the value has facts.

    ``right_when_preferred`` is the share of right facts among the preferred answers; ``odd`` shows answers on no side.
    """
    judge, questions = oracle(value), prompts(value)[:count]
    answers = sample(model, tokenizer, questions, style, seed)
    labels = [judge.label(answer) for answer in answers]
    out: dict = {side: labels.count(side) / len(labels) for side in ("preferred", "dispreferred", "neither")}
    out["odd"] = [a for a, label in zip(answers, labels, strict=True) if label == "neither"]
    if judge.facts is not None:
        right = [judge.right(q, a) for q, a in zip(questions, answers, strict=True)]
        good = [r for r, label in zip(right, labels, strict=True) if label == "preferred"]
        out |= {"right": sum(right) / len(right), "right_when_preferred": sum(good) / max(1, len(good))}
    return out


def report(folder: Path, seed: int = 0, count: int = 200) -> None:
    """Prints one line per value and style."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for value in ("polite", "brief", "careful"):
        for name, style in STYLES.items():
            got = measure(model, tokenizer, value, style, count, seed)
            odd = got.pop("odd")
            shares = "  ".join(f"{key} {share:.1%}" for key, share in got.items())
            print(f"{value:8} {name:15} {shares}", flush=True)
            for answer in odd[:4]:
                print(f"{'':8} neither: {answer!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=Path("assets/model"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="answers per value and style")
    args = parser.parse_args()
    report(args.model, args.seed, args.count)


if __name__ == "__main__":
    main()
