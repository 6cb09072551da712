"""Does the model know more than its answers' length, their words, or a model that was never trained?"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.representations.controls import Control
from workbench.representations.separability import LayerScore

# By name, the simplest first: how it begins a sentence (with its verb), how it stands within one, what follows from it.
_WORDS = {
    "length": ("Length alone tells", "length", "nothing here shows preference"),
    "words": ("The words alone, in no order, tell", "the words", "nothing here shows more than the choice of words"),
    "random": ("An untrained model tells", "an untrained model", "what is read here needed no training"),
}
_EQUAL = 0.02  # AUCs closer than this are called equally good


def explaining(scores: Sequence[LayerScore], controls: Sequence[Control]) -> list[Control]:
    """The controls that beat chance and whose 95% interval reaches that of the best block (on the same pairs), so that
    the best block cannot be told from them: what explains most first, of equals the simplest."""
    best = max(scores, key=lambda row: row.probe_auc)
    found = [
        control
        for name in _WORDS
        for control in controls
        if control.name == name
        and control.above_chance
        and control.high >= (control.rival or {"low": best.probe_auc_low})["low"]
    ]
    most = max((control.auc for control in found), default=0.0)
    return sorted(found, key=lambda control: control.auc < most - _EQUAL)  # stable: the simplest stays first


def shortcut(scores: Sequence[LayerScore], controls: Sequence[Control]) -> str:
    """One sentence: what tells the sides as well as the best block does, or what the best block is ahead of.

    Decided by intervals: a control explains the scores where it beats chance and its 95% interval overlaps that of the
    best block.
    """
    best = max(scores, key=lambda row: row.probe_auc)
    found = explaining(scores, controls)
    if not found:
        return _ahead(best, controls)
    first, more = found[0], found[1:]
    begins, _, means = _WORDS[first.name]
    if not best.above_chance:
        return f"{begins} chosen from rejected (AUC {first.auc:.2f}) while no block beats chance: {means}."
    rival = (first.rival or {"auc": best.probe_auc})["auc"]
    also = " and ".join(f"{_WORDS[control.name][1]} ({control.auc:.2f})" for control in more)
    if rival - first.auc <= _EQUAL:
        also = f", and so {'does' if len(more) == 1 and more[0].name != 'words' else 'do'} {also}" if more else ""
        return f"{begins} chosen from rejected as well as any block (AUC {first.auc:.2f} against {rival:.2f}){also}: {means}."
    also = f", nor from {also}" if more else ""
    return (
        f"On {first.pairs} pairs the best block (AUC {rival:.2f}) cannot be told from {_WORDS[first.name][1]} "
        f"({first.auc:.2f}){also}: more pairs would show whether it knows more."
    )


def _ahead(best: LayerScore, controls: Sequence[Control]) -> str:
    if not best.above_chance:
        return "No block beats chance, so there is nothing that length or words would have to explain."
    shown = [f"{_WORDS[name][1]} ({one.auc:.2f})" for name in _WORDS for one in controls if one.name == name]
    if not shown:
        return f"Block {best.layer} tells chosen from rejected (AUC {best.probe_auc:.2f}); no control was measured."
    listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
    return f"Block {best.layer} tells chosen from rejected better (AUC {best.probe_auc:.2f}) than {listed} can."
