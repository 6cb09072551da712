"""Preference pairs: read from anywhere, checked, normalised, and split by prompt."""

from workbench.pairs.checks import REASONS
from workbench.pairs.core import Pair, PreferencePairs, Report, Split
from workbench.pairs.formats import FORMATS
from workbench.pairs.lengths import cut_rows, drop_too_long, token_lengths, token_report
from workbench.pairs.messages import Message, as_messages, prompt_key, prompt_text
from workbench.pairs.overlap import compare_sets, overlap
from workbench.pairs.sources import DemoValue, Preview, demo_values, is_hub_id, load_pairs, pairs_from_text, preview

__all__ = [
    "FORMATS",
    "REASONS",
    "DemoValue",
    "Message",
    "Pair",
    "PreferencePairs",
    "Preview",
    "Report",
    "Split",
    "as_messages",
    "compare_sets",
    "cut_rows",
    "demo_values",
    "drop_too_long",
    "is_hub_id",
    "load_pairs",
    "overlap",
    "pairs_from_text",
    "preview",
    "prompt_key",
    "prompt_text",
    "token_lengths",
    "token_report",
]
