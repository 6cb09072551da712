"""The control that needs a model: the same architecture with random weights. What it can tell, no training taught."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.errors import UserError
from workbench.progress import QUIET, Progress
from workbench.representations.capture import Activations, capture
from workbench.representations.controls import Control
from workbench.representations.separability import best_score, measure
from workbench.tokens import Encoded

if TYPE_CHECKING:
    from workbench.models import LoadedModel
    from workbench.pairs import PreferencePairs

BLOCKS = 8  # random blocks add nothing with depth but time
PAIRS = 300
_SHARE = 0.7  # of the free memory that the random weights may take


def measure_untrained(
    loaded: LoadedModel,
    pairs: PreferencePairs,
    acts: Activations,
    best: int,
    *,
    encoded: Sequence[Encoded],
    groups: np.ndarray,
    permutations: int = 200,
    seed: int = 0,
    batch_tokens: int = 8192,
    progress: Progress = QUIET,
) -> tuple[Control | None, list[str]]:
    """The best block of an untrained model as the control "random", and sentences about what was not done.

    At most the first 8 blocks and 300 pairs, drawn at random, are used; ``best`` is the block of ``acts`` that is
    scored on the same pairs for a fair comparison. The control is None, and a sentence says why, where the random
    weights would not fit into memory or the family cannot be built from its configuration.
    """
    notes = []
    rows = np.arange(len(acts))
    if len(rows) > PAIRS:
        rows = np.sort(np.random.default_rng(seed).permutation(len(acts))[:PAIRS])
    if len(np.unique(groups[rows])) < 4:
        return None, ["The untrained model was left out: its pairs have fewer than 4 different prompts."]
    progress("score", message="control: an untrained model")
    try:
        other = untrained_model(loaded, seed)
        few = [encoded[k] for k in (*rows, *(rows + len(acts)))]
        states = capture(
            other,
            pairs.select(rows.tolist()),
            pooling=acts.pooling,
            site=acts.site,
            encoded=few,
            batch_tokens=batch_tokens,
            progress=Progress(stopping=progress.stopping),
        )
    except UserError as error:
        return None, [f"The untrained model was left out: {error}"]
    settings = {"groups": groups[rows], "permutations": permutations, "seed": seed}
    row = best_score(states.chosen, states.rejected, **settings)
    control = Control("random", *row, pairs=len(rows))
    if len(rows) < len(acts):
        (fair,) = measure(acts.chosen[[best]][:, rows], acts.rejected[[best]][:, rows], **settings).scores
        rival = {"auc": fair.probe_auc, "low": fair.probe_auc_low, "high": fair.probe_auc_high}
        control = replace(control, rival=rival)
        notes.append(
            f"The untrained model was measured on {len(rows)} of the {len(acts):,} pairs; on those, block {best} "
            f"has an AUC of {fair.probe_auc:.2f}."
        )
    return control, notes


def untrained_model(loaded: LoadedModel, seed: int = 0) -> LoadedModel:
    """The same architecture, at most 8 blocks of it, with the random weights its family starts training from.

    Raises UserError where it would not fit into the free memory, or cannot be built.
    """
    from workbench.models import wrap_model

    model = loaded.model.get_base_model() if hasattr(loaded.model, "get_base_model") else loaded.model
    config = _shallow(model.config, min(BLOCKS, loaded.n_blocks), loaded.n_blocks)
    try:
        with torch.device("meta"):
            size = sum(weight.numel() for weight in type(model)(config).parameters())
        needed = size * torch.finfo(loaded.dtype).bits // 8
        free = free_memory(loaded.device)
        if needed > _SHARE * free:
            raise UserError(
                f"its random weights would take {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free."
            )
        with torch.random.fork_rng(devices=_devices(loaded.device)), torch.device(loaded.device):
            torch.manual_seed(seed)
            built = type(model)._from_config(config, dtype=loaded.dtype).eval().requires_grad_(False)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError, RuntimeError) as error:
        what = " ".join(str(error).split())[:120]
        raise UserError(f"a {type(model).__name__} could not be built from its configuration ({what}).") from error
    other = wrap_model(built.to(loaded.device), loaded.tokenizer, name=f"untrained {loaded.name}")
    return replace(other, boundary=loaded.boundary, context=loaded.context)


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _shallow(config: Any, depth: int, whole: int) -> Any:
    """A copy of the configuration with fewer blocks; lists with one entry per block are cut."""
    config = copy.deepcopy(config)
    text = config.get_text_config(decoder=True)
    for name, value in list(vars(text).items()):
        if isinstance(value, (list, tuple)) and len(value) == whole:
            setattr(text, name, value[:depth])
    text.num_hidden_layers = depth
    return config


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device (of the machine, where the device shares its memory)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return min(int(line.split()[1]) * 1024, _cgroup_room())
    except OSError:
        pass
    import psutil

    return int(psutil.virtual_memory().available)


def _cgroup_room() -> int:
    """What a container may still take, where it has a limit."""
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            most = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            return int(most) - int(file.read())
    except (OSError, ValueError):
        return 2**62
