"""When answers have fallen apart: the rule, and the adapter of the last look before they did.

A look finds answers *fallen* when the upper end of the 95% interval of their coherence lies below half of the base's.
They have *collapsed* when two looks in a row find that, or when one does that is the last or finds the upper end below
a quarter; so one unlucky look at few prompts ends nothing. A look is *sound* when the interval reaches 80% of the
base's coherence. A loss that is no number any more is a collapse too: nothing can come after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

SOUND, FALLEN, EXTREME = 0.8, 0.5, 0.25  # shares of the base's coherence
FILE = "sound.safetensors"

Weights = dict[str, torch.Tensor]


@dataclass
class Guard:
    """Judges looks one after the other, and keeps the adapter of the last sound one.

    ``said``: the sentence of a collapse, None before; ``sound``: the step of the last sound look, 0 before the first.
    Both outlive a kill: :meth:`memory` goes into a checkpoint's notes and :meth:`save` puts the weights beside it.
    """

    said: str | None = None
    sound: int = 0
    fallen: int = 0  # looks in a row
    weights: Weights = field(default_factory=dict)

    def look(self, step: int, figures: dict[str, Any], last: bool, weights: Callable[[], Weights]) -> str | None:
        """Judge a look at ``step`` by its figures (``coherence``, ``coherence_high``, ``base_coherence``); those of the
        look's adapter come from ``weights()`` where they are to be kept. Returns the sentence if this is a collapse."""
        share, high, base = (figures.get(name) for name in ("coherence", "coherence_high", "base_coherence"))
        if share is None or high is None or not base:
            return None
        if high >= SOUND * base:
            self.sound = step
            self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights().items()}
        self.fallen = self.fallen + 1 if high < FALLEN * base else 0
        if self.fallen >= 2 or (self.fallen and (last or high < EXTREME * base)):
            self.said = (
                f"Answers fell apart by step {step}: {share:.0%} of them are coherent (at most {high:.0%} by the 95% "
                f"interval), of the base's {base:.0%}. {self.kept()}"
            )
        return self.said

    def not_finite(self, step: int) -> str:
        """The sentence for a loss that is no number."""
        self.said = f"The loss is no number any more at step {step}. {self.kept()}"
        return self.said

    def kept(self) -> str:
        """What there is left, as a sentence."""
        if not self.sound:
            return "No look before found answers sound."
        return f"The adapter of step {self.sound}, the last that was sound, is kept."

    def memory(self) -> dict[str, Any]:
        """What a checkpoint notes (plain JSON)."""
        return {"said": self.said, "sound": self.sound, "fallen": self.fallen}

    def save(self, folder: Path) -> None:
        """Put the weights kept into a checkpoint's folder, before it is sealed."""
        from safetensors.torch import save_file

        if self.weights:
            save_file(self.weights, folder / FILE)

    def recall(self, memory: dict[str, Any], folder: Path) -> None:
        """Take up what :meth:`memory` and :meth:`save` left in a whole checkpoint."""
        from safetensors.torch import load_file

        self.said, self.sound = memory.get("said"), int(memory.get("sound") or 0)
        self.fallen = int(memory.get("fallen") or 0)
        path = folder / FILE
        self.weights = load_file(path) if self.sound and path.exists() else {}
