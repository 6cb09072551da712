"""The figure on the empty page, measured: ``python -m workbench.ui.hero`` captures the demo model on the demo pairs and
writes ``static/hero.json``. Run it again whenever the bundled model or pairs change."""

from __future__ import annotations

import json
from typing import Any

from workbench.ui.html import STATIC


def measure(model: str = "demo", pairs: str = "demo") -> dict[str, Any]:
    """For every block the held-out probe's AUC and the densities of both sides along the preference axis, scaled so
    that the higher of the two reaches 1; and the finding in words. Takes seconds on the demo."""
    from workbench.models import load_model
    from workbench.pairs import load_pairs
    from workbench.representations import analyse

    found = analyse(load_model(model), load_pairs(pairs))
    blocks = []
    for score, curve in zip(found.scores, found.densities, strict=True):
        top = max(max(curve["chosen"]), max(curve["rejected"]))
        shares = {side: [round(height / top, 3) for height in curve[side]] for side in ("chosen", "rejected")}
        blocks.append({"layer": score.layer, "auc": round(score.probe_auc, 3), **shares})
    return {"model": found.acts.model_fingerprint, "finding": found.finding, "pairs": len(found.acts), "blocks": blocks}


if __name__ == "__main__":
    (STATIC / "hero.json").write_text(json.dumps(measure()) + "\n", encoding="utf-8")
