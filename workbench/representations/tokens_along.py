"""Every token of one pair's answers on the preference direction of every block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.errors import UserError
from workbench.representations.capture import Activations
from workbench.representations.separability import calibrate, preference_direction
from workbench.sites import check_site
from workbench.tokens import Limits, collate

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs import Pair

NOTE = "On the direction of all captured pairs, this one included"


@torch.inference_mode()
def token_projections(
    loaded: LoadedModel,
    pair: Pair | Any,
    acts: Activations,
    site: str | None = None,
    *,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Both answers' tokens along every block's preference direction: -1 the rejected mean, +1 the chosen mean.

    ``pair`` has prompt, chosen and rejected; ``acts`` are captured states of the same model, and ``site`` is theirs.
    Returns {"chosen": {"tokens": [str], "values": [L][T]}, "rejected": likewise, "note": what the direction is}. The
    tokens' texts join to the answer's text (with its end-of-text mark); where a character is spread over several tokens,
    the last of them has it and the others are empty. A token's value is read from the state at the token, or, where
    ``acts`` pooled the predicting states, from the state that produced it.

    Raises UserError for another model's states, another site, or an answer without tokens.
    """
    site = site or acts.site
    check_site(site)
    if site != acts.site:
        raise UserError(f"The captured states are of the site {acts.site}, not {site}: capture that site first.")
    if acts.model_fingerprint and acts.model_fingerprint != loaded.fingerprint:
        raise UserError("The captured states are another model's: capture with this model first.")
    if acts.n_layers != loaded.n_blocks or acts.chosen.shape[2] != loaded.width:
        raise UserError("The captured states do not fit this model's blocks: capture with this model first.")
    from workbench.models import Trunk

    limits = (limits or Limits()).within(loaded.context)
    items = [loaded.boundary.encode(pair.prompt, text, limits=limits) for text in (pair.chosen, pair.rejected)]
    if any(len(item.ids) == item.start for item in items):
        raise UserError("One of the answers has no token: nothing can be projected.")
    batch = collate(items, loaded.boundary.pad_id, loaded.device)
    directions = np.stack([preference_direction(acts, layer) for layer in range(acts.n_layers)])
    ways = [calibrate(acts, layer, directions[layer]) for layer in range(acts.n_layers)]
    axes = torch.from_numpy(directions).to(loaded.device)
    trunk = Trunk(loaded.model, loaded.n_blocks, site)
    kept = trunk(
        batch.input_ids,
        batch.attention_mask,
        batch.position_ids,
        collect=range(loaded.n_blocks),
        reduce=lambda block, hidden: hidden.float() @ axes[block].to(hidden.device),
    )
    along = np.stack([kept[block].cpu().numpy() for block in range(loaded.n_blocks)])  # [L, 2, T]
    middle = np.array([(way.chosen + way.rejected) / 2 for way in ways])[:, None, None]
    half = np.array([(way.chosen - way.rejected) / 2 for way in ways])[:, None, None]
    values = np.where(half > 0, (along - middle) / np.where(half > 0, half, 1), 0.0)
    back = 1 if acts.pooling == "predicting" else 0
    found: dict[str, Any] = {"note": NOTE}
    for row, (side, item) in enumerate(zip(("chosen", "rejected"), items, strict=True)):
        part = values[:, row, item.start - back : len(item.ids) - back]
        found[side] = {
            "tokens": pieces(loaded, item.ids[item.start :]),
            "values": [[float(f"{value:.4g}") for value in line] for line in part],
        }
    return found


def pieces(loaded: LoadedModel, ids: list[int]) -> list[str]:
    """The text of each token, such that they join to the text of all. Bytes of one character that are spread over
    tokens: the last of them has the character, the others nothing; what is never finished shows as \\N{REPLACEMENT CHARACTER}."""
    tokenizer = loaded.tokenizer

    def text(part: list[int]) -> str:
        return tokenizer.decode(part, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    whole, done, found = text(ids), "", []
    for end in range(1, len(ids) + 1):
        now = text(ids[:end]) if end < len(ids) else whole
        if end < len(ids):
            now = now.rstrip("\N{REPLACEMENT CHARACTER}")
            if not whole.startswith(now):  # what comes later changes how this reads: wait for it
                now = done
        now = now if len(now) >= len(done) else done
        found.append(now[len(done) :])
        done = now
    return found
