"""Hidden states of preference pairs: capturing them, scoring every block, and drawing them.

The names below are loaded when they are first used, so that importing this package stays free of torch. (The functions
``capture`` and ``shortcut`` have the names of their modules and are imported from there.)
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "analysis": ("Analysis", "analyse"),
    "capture": ("POOLINGS", "SITES", "Activations", "encode_pairs"),
    "controls": ("Control", "length_auc", "measure_controls"),
    "folds": ("Folds", "make_folds", "prompt_groups"),
    "movement": ("LayerMove", "Movement", "measure_movement"),
    "projection": ("Frame", "Pictures", "Projection", "densities", "frames", "pca", "pictures"),
    "separability": (
        "Calibration",
        "LayerScore",
        "Measured",
        "calibrate",
        "held_out_auc",
        "held_out_projections",
        "preference_direction",
        "project_on",
        "score",
        "measure",
    ),
    "shortcut": ("explaining",),
    "suggestion": ("Suggestion", "finding", "suggest"),
    "tokens_along": ("token_projections",),
    "umaps": ("umap_aligned", "umap_layer"),
    "untrained": ("measure_untrained", "untrained_model"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
