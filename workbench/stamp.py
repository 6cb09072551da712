"""What a result was made of: the model, the pairs, the seed and the versions of what computed it."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from typing import Any

from workbench.errors import UserError

PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors")


@cache
def versions() -> dict[str, str]:
    """The versions that decide about the last digits of a result; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def stamp(model: str, pairs: str, seed: int) -> dict[str, Any]:
    """What to write into everything that is made from the model and the pairs with these fingerprints."""
    return {"model": model, "pairs": pairs, "seed": seed, "versions": versions()}


def check(found: dict[str, Any], now: dict[str, Any], what: str) -> str:
    """Compare the stamp in ``what`` ("this run") with what there is now; keys that either lacks are passed over.

    Raises ``UserError``, one sentence, if the model, the pairs or the seed are others. Returns a sentence about
    versions that changed, empty if none did: that only moves the last digits.
    """
    words = {
        "model": f"The model is not the one that {what} was made with: put the old one back or start a new run.",
        "pairs": f"The pairs are not the ones that {what} was made with: put the old ones back or start a new run.",
        "seed": f"The seed is not the one that {what} was made with: put the old settings back or start a new run.",
    }
    for key, sentence in words.items():
        if found.get(key) is not None and now.get(key) is not None and found[key] != now[key]:
            raise UserError(sentence)
    before, after = found.get("versions") or {}, now.get("versions") or {}
    changed = [name for name in before if name in after and before[name] != after[name]]
    if not changed:
        return ""
    listed = ", ".join(f"{name} {before[name]} -> {after[name]}" for name in changed)
    return f"Since {what} began there are other versions ({listed}): the last digits may differ."
