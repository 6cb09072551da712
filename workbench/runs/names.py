"""What a run is called where nobody gave it a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.baselines import METHODS

TRAINED = [method for method in METHODS if method != "steering"]  # all blocks, no strength


def named(status: dict[str, Any]) -> str:
    """A run in words: its title, or method, blocks and alpha (see ``Run.status``)."""
    if status.get("title"):
        return str(status["title"])
    method = str(status.get("method") or "run")
    words = [method.upper() if method in ("scit", *TRAINED) else method.capitalize()]
    blocks = [block for block in status.get("layers") or [] if isinstance(block, int)]
    if blocks and method not in TRAINED:
        words.append(f"block{'s' if len(blocks) > 1 else ''} {listed(blocks)}")
    if isinstance(alpha := status.get("alpha"), (int, float)):
        words.append(f"alpha {alpha:.3g}")
    if status.get("partial"):
        words.append(f"stopped at step {status['partial']['steps']} of {status['partial']['of']}")
    return ", ".join(words)


def listed(blocks: Sequence[int]) -> str:
    """``5 and 7``, ``3, 5 and 7``."""
    texts = [str(block) for block in blocks]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
