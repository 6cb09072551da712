"""Does the model know more than its answers' length, their words, or a model that was never trained?"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.representations.controls import Control
from workbench.representations.separability import LayerScore

_NAMES = {"length": "Length alone", "words": "The words alone, in no order,", "random": "An untrained model"}
_MEANS = {
    "length": "nothing here shows preference",
    "words": "nothing here shows more than word choice",
    "random": "what is read here needed no training",
}


def explaining(scores: Sequence[LayerScore], controls: Sequence[Control]) -> list[Control]:
    """The controls that beat chance and whose interval reaches that of the best block (on the same pairs), the
    simplest first: the best block cannot be told from them."""
    best = max(scores, key=lambda row: row.probe_auc)
    ordered = [control for name in _NAMES for control in controls if control.name == name]
    return [
        control
        for control in ordered
        if control.above_chance and control.high >= (control.rival or {"low": best.probe_auc_low})["low"]
    ]


def shortcut(scores: Sequence[LayerScore], controls: Sequence[Control]) -> str:
    """One sentence: what tells the sides as well as the best block does, or by how much the best block is ahead.

    A control explains the scores where it beats chance and its 95% interval overlaps that of the best block.
    """
    best = max(scores, key=lambda row: row.probe_auc)
    found = explaining(scores, controls)
    if not best.above_chance:
        if found:
            first = found[0]
            return (
                f"{_NAMES[first.name]} tells chosen from rejected (AUC {first.auc:.2f}) while no block beats chance: "
                f"{_MEANS[first.name]}."
            ).replace("alone, in no order, tells", "alone, in no order, tell")
        return "No block beats chance, so there is nothing that length or words would have to explain."
    if found:
        first = found[0]
        verb = "tell" if first.name == "words" else "tells"
        against = (first.rival or {"auc": best.probe_auc})["auc"]
        also = _also(found[1:])
        return (
            f"{_NAMES[first.name]} {verb} chosen from rejected as well as any block (AUC {first.auc:.2f} against "
            f"{against:.2f}){also}: {_MEANS[first.name]}."
        )
    shown = [control for control in controls if control.name in _NAMES]
    if not shown:
        return f"Block {best.layer} tells chosen from rejected (AUC {best.probe_auc:.2f}); no control was measured."
    words = {"length": "length", "words": "the words", "random": "an untrained model"}
    beaten = [f"{words[control.name]} ({control.auc:.2f})" for control in shown]
    listed = beaten[0] if len(beaten) == 1 else f"{', '.join(beaten[:-1])} or {beaten[-1]}"
    return f"Block {best.layer} tells chosen from rejected better (AUC {best.probe_auc:.2f}) than {listed} can."


def _also(more: Sequence[Control]) -> str:
    words = {"words": "the words", "random": "an untrained model"}
    names = [f"{words[control.name]} ({control.auc:.2f})" for control in more]
    if not names:
        return ""
    return f", and so {'do' if len(names) > 1 or more[0].name == 'words' else 'does'} {' and '.join(names)}"
