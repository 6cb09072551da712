"""Hidden states of preference pairs: capturing them, scoring every block, and drawing them.

The names below are loaded when they are first used, so that importing this package stays free of torch. (The function
``capture`` has the name of its module and is imported from there.)
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "analysis": ("Analysis", "analyse"),
    "capture": ("Activations", "encode_pairs"),
    "controls": ("Control", "length_auc", "measure_controls"),
    "folds": ("Folds", "make_folds", "prompt_groups"),
    "projection": ("Projection", "densities", "pca", "preference_axis", "umap_layer"),
    "separability": (
        "Calibration",
        "LayerScore",
        "calibrate",
        "held_out_projections",
        "preference_direction",
        "project_on",
        "score",
        "score_features",
    ),
    "suggestion": ("Suggestion", "finding", "suggest"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
