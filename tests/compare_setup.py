"""What the tests of comparing share: models with adapters that do something, and runs that have finished."""

import torch

from workbench.generation import Sampling, Steering
from workbench.models import load_model
from workbench.rahf.adapters import add_adapter, save_adapter
from workbench.rahf.config import RunConfig
from workbench.runs import store

PROMPTS = ["what is it?", "please tell me how many days a week has", "no"]
SAMPLING = Sampling(max_new_tokens=8, seed=3)


def with_adapter(loaded, name="aligned", seed=1):
    """A model with an adapter of random weights."""
    add_adapter(loaded, name, RunConfig(), loaded.n_blocks, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in loaded.model.named_parameters():
            if "lora_B" in key and name in key:
                parameter.normal_(std=0.3, generator=generator)
    return loaded


def steering(block=1):
    return Steering({block: torch.randn(32, generator=torch.Generator().manual_seed(0)) * 3}, 1.0)


def finished(tmp_path, settings, seed, **more):
    """A run with an adapter of random weights, as the pipeline leaves it."""
    run = store.create("align", RunConfig(**settings).to_dict() | more)
    save_adapter(with_adapter(load_model(settings["model"]), "aligned", seed), "aligned", run.adapter)
    run.write_status(state="finished", result={})
    return run
