"""Writes the preference pairs of the three values and their oracles.

``python -m assets.demo.pairs --seed 0 --out assets/pairs`` makes the bundled files again, byte for byte.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

from assets.demo.values import VALUES, Prompt, Value

TRAIN, TEST = 600, 200
IDENTICAL, DUPLICATE, EMPTY = (
    7,
    5,
    3,
)  # faulty rows of "polite", so that a first look at the checks has something to show


def _order(value: Value, seed: int) -> list[Prompt]:
    """The value's prompts shuffled, each text once."""
    prompts = list({prompt.text.strip().casefold(): prompt for prompt in value.prompts()}.values())
    Random(f"prompts {value.name} {seed}").shuffle(prompts)
    return prompts


def test_prompts(value: Value, seed: int = 0) -> list[Prompt]:
    """The prompts kept for testing: no training pair and no dialogue of the base model's corpus has them."""
    return _order(value, seed)[:TEST]


def train_prompts(value: Value, seed: int = 0) -> list[Prompt]:
    """The prompts of the clean training pairs."""
    return _order(value, seed)[TEST : TEST + TRAIN]


def row(prompt: Prompt, value: Value, rng: Random) -> dict[str, str]:
    """One preference pair."""
    chosen, rejected = value.answer(rng, prompt, True), value.answer(rng, prompt, False)
    return {"prompt": prompt.text, "chosen": chosen, "rejected": rejected}


def faulty(value: Value, clean: list[dict[str, str]], spare: list[Prompt], rng: Random) -> list[dict[str, str]]:
    """The deliberately faulty rows: identical sides, rows that are there already, empty sides, one far too long."""
    rows = [row(prompt, value, rng) for prompt in spare[: IDENTICAL + EMPTY + 1]]
    same, empty, long = rows[:IDENTICAL], rows[IDENTICAL:-1], rows[-1]
    bad = [r | {"rejected": r["chosen"]} for r in same]
    bad += [dict(r) for r in rng.sample(clean, DUPLICATE)]
    bad += [
        r | {side: blank}
        for r, side, blank in zip(empty, ("rejected", "chosen", "rejected"), ("", "", "  "), strict=True)
    ]
    return [*bad, long | {"rejected": " ".join([long["rejected"]] * 120)}]


def train_rows(value: Value, seed: int = 0) -> list[dict[str, str]]:
    """The training pairs; for "polite" with faulty rows strewn in."""
    rng = Random(f"train {value.name} {seed}")
    rows = [row(prompt, value, rng) for prompt in train_prompts(value, seed)]
    if value.name == "polite":
        for bad in faulty(value, rows[:], _order(value, seed)[TEST + TRAIN :], rng):
            # Never before row 20, and a repeated row always after the row it repeats: the first one is the one to keep.
            first = next((i + 1 for i, r in enumerate(rows) if r == bad), 20)
            rows.insert(rng.randrange(max(first, 20), len(rows) + 1), bad)
    return rows


def test_rows(value: Value, seed: int = 0) -> list[dict[str, str]]:
    """The held-out pairs."""
    rng = Random(f"test {value.name} {seed}")
    return [row(prompt, value, rng) for prompt in test_prompts(value, seed)]


def oracle(value: Value, seed: int = 0) -> dict:
    """The value's judge as data: expressions for whole answers of either side, and the right facts of every prompt."""
    # The prompts of faulty rows are in the order right after the clean ones.
    used = _order(value, seed)[: TEST + TRAIN + IDENTICAL + EMPTY + 1]
    facts = {prompt.text: value.right(prompt) for prompt in used} if value.name == "polite" else None
    return {"name": value.name, "preferred": value.preferred(), "dispreferred": value.dispreferred(), "facts": facts}


def about(value: Value) -> dict:
    """What a reader is told about the value."""
    return {
        "name": value.name,
        "title": value.title,
        "about": value.about,
        "default": value.name == "polite",
        "preferred_side": value.preferred_side,
        "rejected_side": value.rejected_side,
    }


def files(seed: int = 0) -> dict[str, str]:
    """Every bundled file of pairs: its path under the pairs folder and its text."""
    out = {}
    for value in VALUES:
        for name, rows in (("train", train_rows(value, seed)), ("test", test_rows(value, seed))):
            out[f"{value.name}/{name}.jsonl"] = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        for name, data in (("oracle", oracle(value, seed)), ("about", about(value))):
            out[f"{value.name}/{name}.json"] = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("assets/pairs"))
    args = parser.parse_args()
    for name, text in files(args.seed).items():
        path = args.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path}: {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main()
