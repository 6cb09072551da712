"""A large file of pairs, and what reading it costs: ``python tests/large_pairs.py FILE [--rows N] [--megabytes M]``.

Writes JSON Lines (CSV by the ending) with prompts, answers and two other columns, in several languages and with some
bad rows, then runs ``python -m workbench check`` on it and prints seconds and peak memory, beside that of the imports.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS = (
    "the a of and to in is it for that with on as was are this by be from or an which you at not have has can will if "
    "answer question model language people time water light house river number letter colour friend window summer "
    "reason music paper garden winter morning evening bridge history science nature engine planet ocean market"
)
OTHER = ("мир и дом не что это как вода", "el la de que y en un los casa agua", "水 火 山 川 日 月 人 木", "🌱 👋 ✨")


def rows(count: int, size: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """``count`` rows of about ``size`` bytes each. One in 100 is a duplicate, one in 500 has an empty answer."""
    rng = random.Random(seed)
    block = [
        " ".join(rng.choices(WORDS.split(), k=40)) + (". " if i % 9 else f". {OTHER[i % 4]} ") for i in range(2000)
    ]
    average = sum(map(len, block)) / len(block)
    blocks = max(3, round(size / average))
    last = None
    for number in range(count):
        if last and number % 100 == 99:
            yield last
            continue
        parts = rng.choices(block, k=max(3, round(blocks * rng.uniform(0.5, 1.5))))
        cuts = max(1, len(parts) // 5), max(2, len(parts) * 3 // 5)
        last = {
            "prompt": f"Question {number}: " + "".join(parts[: cuts[0]]),
            "chosen": f"{number} " + "".join(parts[cuts[0] : cuts[1]]),
            "rejected": "" if number % 500 == 7 else f"{number + 1} " + "".join(parts[cuts[1] :]),
            "source": f"part {number % 7}",
            "score": number % 10 / 10,
        }
        yield last


def write(path: Path, count: int, size: int) -> Path:
    """The file, of ``count`` rows and about ``count * size`` bytes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            table = csv.DictWriter(file, ["prompt", "chosen", "rejected", "source", "score"])
            table.writeheader()
            table.writerows(rows(count, size))
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(count, size))
    return path


def measure(arguments: list[str]) -> tuple[float, float, float, subprocess.CompletedProcess]:
    """Seconds, seconds of processor and peak resident megabytes of a Python process, and how it ended."""
    code = (
        "import resource, runpy, sys\nsys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
        "finally:\n    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    sys.stderr.write(f'\\n{used.ru_utime + used.ru_stime} {used.ru_maxrss / 1024}\\n')\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    busy, peak = map(float, done.stderr.rstrip().splitlines()[-1].split())
    return time.monotonic() - began, busy, peak, done


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--megabytes", type=int, default=1000)
    given = options.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not given.file.exists():
        write(given.file, given.rows, given.megabytes * 1_000_000 // given.rows)
    print(f"{given.file}: {given.file.stat().st_size / 1e6:.0f} MB")
    seconds, busy, floor, _ = measure(["workbench", "check", "demo:test", "--json"])
    print(f"the bundled pairs: {seconds:.1f} s ({busy:.1f} s of processor), peak {floor:.0f} MB")
    seconds, busy, peak, done = measure(["workbench", "check", str(given.file), "--json"])
    print(f"this file: {seconds:.1f} s ({busy:.1f} s of processor), peak {peak:.0f} MB, {peak - floor:.0f} MB above")
    report = json.loads(done.stdout)
    print({name: report[name] for name in ("read", "kept", "dropped")})


if __name__ == "__main__":
    main()
