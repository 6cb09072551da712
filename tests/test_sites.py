"""What attention and MLP add to the residual stream, found by arithmetic: against the modules that are known by name."""

import numpy as np
import pytest
import torch
from tiny import FAMILIES, PAIRS, tiny_model, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from workbench.errors import UserError
from workbench.models import wrap_model
from workbench.pairs import Pair, PreferencePairs
from workbench.representations.capture import capture
from workbench.sites import SITES, site_modules

# Where the families of tests/tiny.py have what they add, by name; a norm after it is part of it.
KNOWN = {
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gpt2": ("attn", "mlp"),
    "gpt_neox": ("attention", "mlp"),
    "opt": ("self_attn", "fc2"),
}
MORE = {
    "falcon": {"num_kv_heads": 1},  # side by side, added up in place
    "bloom": {},  # the residual is added within attention and MLP
    "olmo2": {},  # norms after, not before
    "mpt": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
}


def pairs(count=6):
    return PreferencePairs.from_pairs(
        [
            Pair(n + 1, [{"role": "user", "content": p["prompt"]}], p["chosen"], p["rejected"])
            for n, p in enumerate(PAIRS)
        ]
    ).select(range(count))


def made(family, **settings):
    values = {"vocab_size": 384, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    values |= {"intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 256, **settings}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **values)).eval().requires_grad_(False)
    return wrap_model(model, tiny_tokenizer(), name=family)


def slowly(loaded, rows, path):
    """The mean over the completion of what the modules at ``path`` put out, one sequence at a time: [L, 2N, d]."""
    found = [[] for _ in loaded.blocks]
    for side in ("chosen", "rejected"):
        for pair in rows:
            item = loaded.boundary.encode(pair.prompt, getattr(pair, side))

            seen = []
            hooks = [
                block.get_submodule(path).register_forward_hook(
                    lambda module, args, output, seen=seen: seen.append(
                        (output[0] if isinstance(output, tuple) else output).clone()
                    )
                )
                for block in loaded.blocks
            ]
            loaded.model(torch.tensor([item.ids]))
            for number, (handle, output) in enumerate(zip(hooks, seen, strict=True)):
                handle.remove()
                found[number].append(output.reshape(len(item.ids), -1)[item.start :].mean(0))
    return torch.stack([torch.stack(states) for states in found]).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_captured_sites_equal_the_named_modules_read_one_by_one(family):
    loaded, rows = tiny_model(family), pairs()
    for site, path in zip(("attention", "mlp"), KNOWN.get(family, ("self_attn", "mlp")), strict=True):
        acts = capture(loaded, rows, site=site, batch_tokens=300)
        assert acts.site == site
        truth = slowly(loaded, rows, path)
        np.testing.assert_allclose(np.concatenate([acts.chosen, acts.rejected], axis=1), truth, atol=2e-6)


@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_a_block_adds_its_two_sites_to_what_it_is_given(family):
    loaded = tiny_model(family) if family in FAMILIES else made(family, **MORE[family])
    acts = {site: capture(loaded, pairs(), site=site) for site in SITES}
    before, after = acts["block"].chosen[:-1], acts["block"].chosen[1:]
    added = acts["attention"].chosen[1:] + acts["mlp"].chosen[1:]
    assert np.abs(added).max() > 1e-4
    np.testing.assert_allclose(before + added, after, atol=3e-6)


@pytest.mark.parametrize("family", ["falcon", "bloom", "gpt_neox", "opt"])
def test_the_attention_is_the_part_that_mixes(family):
    loaded = tiny_model(family) if family in FAMILIES else made(family, **MORE[family])
    found = site_modules(loaded.model, "attention")
    names = {module: name for name, module in loaded.model.named_modules()}
    assert all("att" in names[module] for module in found)
    assert all("att" not in names[module] for module in site_modules(loaded.model, "mlp"))


def test_mixers_count_as_attention_and_have_no_mlp():
    loaded = made("mamba", state_size=4)
    (first, *_) = site_modules(loaded.model, "attention")
    assert first is loaded.blocks[0].mixer
    with pytest.raises(UserError, match="MLP outputs of a MambaForCausalLM do not exist in every block"):
        site_modules(loaded.model, "mlp")


def test_what_cannot_be_told_is_refused_and_nothing_is_left_behind():
    post = tiny_model("opt", do_layer_norm_before=False)  # a norm after each sum: the block adds nothing plainly
    with pytest.raises(UserError, match="could not be told from its structure: choose the site block"):
        capture(post, pairs(), site="attention")
    with pytest.raises(UserError, match=r"no site 'head'.*block, attention, mlp"):
        capture(post, pairs(), site="head")
    hooks = [hook for module in post.model.modules() for hook in module._forward_hooks.values()]
    assert not [hook for hook in hooks if "sites" in getattr(hook, "__module__", "")]
    capture(post, pairs())


def test_low_precision_and_adapters_change_nothing_about_the_sites():
    from workbench.rahf.adapters import add_adapter
    from workbench.rahf.config import RunConfig

    loaded = tiny_model("qwen2")
    names = {module: name for name, module in loaded.model.named_modules()}
    plain = {site: [names[m] for m in site_modules(loaded.model, site)] for site in ("attention", "mlp")}
    half = tiny_model("qwen2")
    half.model.to(torch.bfloat16)
    add_adapter(loaded, "aligned", RunConfig(), depth=2, seed=0)
    for model in (half.model, loaded.model):
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        names = {module: name for name, module in base.named_modules()}
        assert {site: [names[m] for m in site_modules(model, site)] for site in plain} == plain
