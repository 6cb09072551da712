"""Step 2's open pair, token by token: where each token of both answers lies on every block's preference direction.

The model is read in the page's own process, on demand; results are kept. Whoever asks for another pair meanwhile is
not made to wait for this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.ui import layers_data, state
from workbench.ui.state import Cache, Workspace

if TYPE_CHECKING:
    from workbench.runs.store import Run

MOST = 4000  # tokens of an answer that are sent; more would be megabytes for a deep model
_values = Cache(48)
_acts = Cache(1)  # the states of one capture: they can be large


def unasked(workspace: Workspace) -> bool:
    """Whether pairs are read as they are opened. A large model is loaded only when somebody asks for it."""
    return workspace.model_source == "demo" or state.model_is_loaded(workspace)


def known(run: Run, id_: Any) -> dict[str, Any] | None:
    """The tokens of a pair if they were read before."""
    return _values.peek((run.id, id_))


def read(workspace: Workspace, run: Run, id_: Any, wanted: Callable[[], bool] = lambda: True) -> dict[str, Any] | None:
    """The value of the view ``layers-tokens``: {run, id, chosen, rejected}, each side {tokens: [T], values: [L][T]}.

    Seconds the first time (the model is loaded). None if the pair is no longer ``wanted`` when its turn comes. Raises
    UserError for a pair that is not in the capture, and for a model that cannot be read.
    """
    pairs, where = layers_data.pairs_of(run)
    if type(id_) is not int or id_ not in where:
        raise UserError("There is no such pair in this capture.")
    kept = known(run, id_)
    if kept is not None:
        return kept
    state.import_engine()
    loaded = state.model_of(workspace)
    with state.model_in_use:
        if not wanted():
            return None
        return _values.get((run.id, id_), lambda: _read(loaded, run, pairs[where[id_]]))


def _read(loaded: Any, run: Run, pair: Any) -> dict[str, Any]:
    from workbench.representations import token_projections
    from workbench.representations.analysis import ACTIVATIONS
    from workbench.representations.capture import Activations

    acts = _acts.get(run.id, lambda: Activations.load(run.path / ACTIVATIONS))
    found = token_projections(loaded, pair, acts, str(run.config().get("site", "block")))
    return {"run": run.id, "id": pair.id, **{side: _side(found[side]) for side in ("chosen", "rejected")}}


def _side(side: dict[str, Any]) -> dict[str, Any]:
    return {
        "tokens": [str(token) for token in side["tokens"]][:MOST],
        "values": [[round(float(value), 2) for value in layer[:MOST]] for layer in side["values"]],
    }
