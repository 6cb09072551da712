"""Families of decoders tried out as tiny random models, and the table of them in the documentation.

    python -m tests.families

tries every family and writes assets/docs/families.md. Nothing of a row but the family's name is typed by hand: what a
row says of the architecture is measured on the model that was tried.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import transformers
from peft import PeftModel
from tiny import PAIRS, tiny_tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from workbench.acting import rows_stay_apart
from workbench.errors import UserError
from workbench.generation import Sampling, compare, generate
from workbench.models import LoadedModel, Trunk, load_model, wrap_model
from workbench.pairs import Pair, PreferencePairs, as_messages
from workbench.progress import QUIET
from workbench.rahf.adapters import activate, add_adapter, linear_names, save_adapter
from workbench.rahf.align import ALIGNED, fit
from workbench.rahf.config import RunConfig
from workbench.rahf.instruct import instruct, judge_step1
from workbench.rahf.patterns import Patterns, make_examples
from workbench.representations.capture import capture
from workbench.sites import site_modules
from workbench.tokens import Limits, collate

DOCUMENT = Path(__file__).parents[1] / "assets" / "docs" / "families.md"
VERSION = ".".join(transformers.__version__.split(".")[:2])
WINDOW = 16  # tokens that a sliding window shows; every prompt with its answer is longer
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 256, "head_dim": 8, "sliding_window": WINDOW,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "ffn_dim": 64, "word_embed_proj_dim": 32,
    "n_inner": 64,
}  # fmt: skip
MIXER = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
# Family: what its configuration needs beside the sizes above. "+ tied" and the like name a second model of a family.
FAMILIES: dict[str, dict] = {
    "apertus": {}, "bloom": {}, "codegen": {"rotary_dim": 4}, "cohere": {}, "cohere2": {},
    "deepseek_v2": {"num_key_value_heads": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "deepseek_v3": {"num_key_value_heads": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "ernie4_5": {}, "exaone4": {}, "falcon": {}, "gemma": {}, "gemma + untied": {"tie_word_embeddings": False},
    "gemma2": {}, "gemma3_text": {}, "glm4": {}, "gpt2": {},
    "gpt2 + untied": {"tie_word_embeddings": False}, "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1], [["global"], 1]], "window_size": WINDOW},
    "gpt_neox": {}, "gpt_oss": {}, "gptj": {"rotary_dim": 4}, "granite": {}, "granitemoe": {},
    "granitemoehybrid": MIXER | {"layer_types": ["mamba", "attention", "mamba"]},
    "jetmoe": {}, "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "llama": {}, "llama + tied": {"tie_word_embeddings": True},
    "llama4_text": {}, "minimax": {}, "mistral": {}, "mixtral": {}, "mpt": {}, "nemotron": {}, "olmo": {}, "olmo2": {},
    "olmoe": {}, "opt": {}, "phi": {}, "phi3": {}, "phimoe": {}, "qwen2": {}, "qwen2_moe": {},
    "qwen3": {}, "qwen3 + tied": {"tie_word_embeddings": True}, "qwen3_moe": {}, "smollm3": {},
    "stablelm": {}, "starcoder2": {}, "xglm": {},
}  # fmt: skip
# Families that are refused, by what is wrong with them.
REFUSED: dict[str, dict] = {
    "bart": {"encoder_layers": 1, "decoder_layers": 3, "decoder_ffn_dim": 64, "decoder_attention_heads": 4},
    "bert": {}, "deepseek_v4": {}, "longcat_flash": {"num_layers": 3}, "mamba": {}, "openai-gpt": {},
    "recurrent_gemma": {}, "rwkv": {}, "t5": {"num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64},
    "xlm": {}, "xlstm": {},
}  # fmt: skip
QUICK = {
    "instruct_steps": 2, "align_steps": 2, "instruct_batch": 4, "align_batch": 4, "checkpoint_every": 1000,
    "positive": "be kind", "negative": "be a lazy dog", "layers": (0, 1), "device": "cpu",
}  # fmt: skip
LIMITS = Limits(64, 32)
PROMPTS = ["what is it?", "please tell me how many days a week has", "no"]
SAMPLING = Sampling(max_new_tokens=6, seed=3)


def build(family: str, settings: dict) -> LoadedModel:
    """A tiny random model of a family. Raises UserError if the engine finds no blocks in it."""
    kind, tokenizer = family.split(" ")[0], tiny_tokenizer()
    default = AutoConfig.for_model(kind)
    latent = hasattr(default, "qk_rope_head_dim")  # sets its own size of heads
    sizes = {
        name: value
        for name, value in SIZES.items()
        if hasattr(default, name)
        and not isinstance(getattr(type(default), name, None), property)
        and not (name == "head_dim" and latent)
    }
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = AutoConfig.for_model(kind, **{"vocab_size": len(tokenizer), **tokens, **sizes, **settings})
    torch.manual_seed(0)
    return wrap_model(AutoModelForCausalLM.from_config(config).eval().requires_grad_(False), tokenizer, name=family)


def save(family: str, settings: dict, folder: Path) -> None:
    """The same model as files."""
    loaded = build(family, settings)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def pairs(count: int = 8) -> PreferencePairs:
    return PreferencePairs.from_pairs(
        [Pair(i, as_messages(p["prompt"]), p["chosen"], p["rejected"]) for i, p in enumerate(PAIRS[:count])]
    )


def try_out(family: str, folder: Path) -> None:
    """Everything that a run does, on a tiny model of the family: states, capture, both steps, the adapter in plain
    transformers and peft, and a mixed batch. Raises AssertionError, or what the engine raises, where it fails."""
    save(family, FAMILIES[family], folder / "model")
    loaded, rows = load_model(str(folder / "model"), "cpu"), pairs()
    _states_are_the_models_own(loaded)
    base = [answer.ids for answer in generate(loaded, PROMPTS, SAMPLING)]
    captured = capture(loaded, rows, limits=LIMITS)
    assert captured.chosen.shape == (3, 8, 32)

    config = RunConfig.from_dict(QUICK)
    instruct(loaded, rows, config, "instructed", LIMITS, folder / "step1", QUIET)
    assert judge_step1(loaded, rows, config, LIMITS, QUIET)["pairs"] == 8
    patterns = Patterns(loaded, make_examples(loaded, rows, config, LIMITS), config, (0, 1))
    assert max(patterns.collect(QUIET).values()) > 0  # a recurrent block may have forgotten the instruction
    assert max(len(example.bare.ids) for example in patterns.examples) > WINDOW
    fit(loaded, patterns, 0.5, config, folder / "step3", QUIET)
    save_adapter(loaded, ALIGNED, folder / "adapter")

    ids = torch.arange(10, 10 + 2 * WINDOW)[None]
    plain = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    before = plain(input_ids=ids, use_cache=False).logits
    adapted = PeftModel.from_pretrained(plain, folder / "adapter").eval()(input_ids=ids, use_cache=False).logits
    activate(loaded, [ALIGNED])
    torch.testing.assert_close(loaded.model(input_ids=ids, use_cache=False).logits, adapted, atol=1e-5, rtol=1e-4)
    assert float((adapted - before).abs().max()) > 1e-6

    *_, last = compare(loaded, PROMPTS, SAMPLING)
    assert [answer.ids for answer in last.base] == base
    assert [a.ids for a in last.aligned] == [a.ids for a in generate(loaded, PROMPTS, SAMPLING, ALIGNED)]


@torch.no_grad()
def _states_are_the_models_own(loaded: LoadedModel) -> None:
    """The truncated view gives what the whole model's blocks put out, on either side of padding, to the last block."""
    encode = loaded.boundary.encode
    items = [encode("what is it?", "a fox"), encode("please tell me how many", "no, never. a fox jumps over it" * 2)]
    for side in ("right", "left"):
        batch = collate(items, loaded.boundary.pad_id, side=side)
        assert batch.input_ids.shape[1] > WINDOW
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
        if "position_ids" in inspect.signature(loaded.model.forward).parameters:
            inputs["position_ids"] = batch.position_ids
        seen: list[torch.Tensor] = []

        def keep(module, args, output, seen=seen):
            seen.append(output[0] if isinstance(output, tuple) else output)

        hooks = [block.register_forward_hook(keep) for block in loaded.blocks]
        loaded.model(**inputs)
        for hook in hooks:
            hook.remove()
        real = batch.attention_mask.bool()
        for depth in (1, loaded.n_blocks):
            got = Trunk(loaded.model, depth)(batch.input_ids, batch.attention_mask, batch.position_ids)[depth - 1]
            torch.testing.assert_close(got[real], seen[depth - 1][real], rtol=1e-5, atol=1e-5)


# -- what a row says ---------------------------------------------------------------------------------------------------


def traits(family: str) -> dict[str, str]:
    """What the table says of a family, measured on its tiny model."""
    loaded = build(family, FAMILIES[family])
    head, table = loaded.model.get_output_embeddings(), loaded.model.get_input_embeddings()
    row = {
        "Family": family.replace(" + ", ", "),
        "Embeddings": "tied" if head.weight is table.weight else "untied",
        "Blocks that see a window only": f"{_windowed(loaded) or 'none'}",
        "Experts": _experts(loaded),
        "Attention and MLP": _arrangement(loaded),
        "First projections": ", ".join(_first_projections(loaded)),
    }
    add_adapter(loaded, ALIGNED, RunConfig(), loaded.n_blocks, seed=0)
    row["Mixed batch"] = "one pass" if rows_stay_apart(loaded) else "two passes"
    return row


@torch.no_grad()
def _windowed(loaded: LoadedModel) -> int:
    """How many blocks do not let the first of 48 tokens reach the last."""
    ids = torch.arange(10, 58)[None]
    trunk = Trunk(loaded.model, loaded.n_blocks)
    count = 0
    for number, block in enumerate(loaded.blocks):
        outputs = []
        for change in (0.0, 3.0):

            def shift(module, args, named, change=change):
                name = None if args else "hidden_states"
                hidden = (args[0] if args else named[name]).clone()
                hidden[:, 0] += change * torch.linspace(-1, 1, hidden.shape[-1])
                return ((hidden, *args[1:]), named) if args else (args, {**named, name: hidden})

            hook = block.register_forward_pre_hook(shift, with_kwargs=True)
            outputs.append(trunk(ids, torch.ones_like(ids), torch.arange(48)[None], collect=[number])[number][0, -1])
            hook.remove()
        count += bool(torch.equal(*outputs))
    return count


def _experts(loaded: LoadedModel) -> str:
    """How many experts the blocks have: the first axis of their stacked weights."""
    sizes = [
        parameter.shape[0]
        for block in loaded.blocks
        for module in block.modules()
        if not isinstance(module, nn.Conv1d)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 3
    ]
    return str(sizes[0]) if sizes else "none"


@torch.no_grad()
def _arrangement(loaded: LoadedModel) -> str:
    """Whether the MLP of the first block reads what its attention wrote."""
    try:
        attention, mlp = (site_modules(loaded.model, site)[0] for site in ("attention", "mlp"))
    except UserError:
        return "not told apart"
    ids = torch.arange(10, 22)[None]
    outputs: list[torch.Tensor] = []

    def keep(module, args, output):
        outputs.append((output[0] if isinstance(output, tuple) else output).clone())

    def louder(module, args, output):
        return (output[0] * 3, *output[1:]) if isinstance(output, tuple) else output * 3

    hook = mlp.register_forward_hook(keep)
    loaded.model(input_ids=ids, use_cache=False)
    loud = attention.register_forward_hook(louder)
    loaded.model(input_ids=ids, use_cache=False)
    hook.remove()
    loud.remove()
    return "side by side" if torch.equal(*outputs[:2]) else "in turn"


@torch.no_grad()
def _first_projections(loaded: LoadedModel) -> list[str]:
    """The linear layers with an adapter that take the first input in the first block with attention: queries, keys and
    values, in one layer or in several."""
    named = dict(loaded.model.named_modules())
    calls: list[tuple[str, int]] = []
    wanted = linear_names(loaded.model, loaded.n_blocks)
    hooks = [
        named[name].register_forward_hook(lambda m, args, out, name=name: calls.append((name, args[0].data_ptr())))
        for name in wanted
    ]
    loaded.model(input_ids=torch.arange(10, 22)[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    first, place = calls[0]
    parent = first.rpartition(".")[0]
    group = [name for name, where in calls if where == place and name.rpartition(".")[0] == parent]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in group))


def refusal(family: str, folder: Path) -> str:
    """The sentence with which a family is refused. Raises AssertionError if it is not."""
    kind, settings = family, REFUSED[family]
    default = AutoConfig.for_model(kind)
    if kind == "t5":
        config = AutoConfig.for_model(kind, d_model=32, vocab_size=len(tiny_tokenizer()), **settings)
        transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    else:
        sizes = {
            name: value
            for name, value in SIZES.items()
            if hasattr(default, name)
            and name != "head_dim"
            and not isinstance(getattr(type(default), name, None), property)
        }
        config = AutoConfig.for_model(kind, **{"vocab_size": len(tiny_tokenizer()), **sizes, **settings})
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    try:
        load_model(str(folder), "cpu")
    except UserError as error:
        return str(error).replace(str(folder), kind).replace(f"{folder.name} (", "It (")
    raise AssertionError(f"{family} is not refused")


# -- the document ------------------------------------------------------------------------------------------------------

HEAD = """# Families of models

Which decoder of transformers is which is never looked up by name: blocks, what runs after them, and where attention and
MLP write are found by structure and by trying (`workbench/models.py`, `workbench/sites.py`), so a family that is not in
this table is likely to work too. Every row is a tiny random model (3 blocks, width 32) that was taken through everything
a run does: loaded, states of the truncated view equal to the whole model's at every block and on either side of padding,
all blocks captured, step 1 (SCIT) and its check, patterns, step 3, the adapter saved and loaded in plain transformers and
peft with the same logits, and answers of base and aligned model in one mixed batch equal to those of each alone.

This file is written by `python -m tests.families`; `tests/test_families.py` takes every family through the same and fails
if the table says anything else than what it finds.

- **Embeddings**: whether the output layer shares its weights with the input embeddings.
- **Blocks that see a window only**: of three; in these a change of the first of 48 tokens does not reach the last (a
  sliding window of 16 tokens, a short convolution, or a recurrent state that has forgotten it).
- **Experts**: how many a block has. They are stacked in one parameter and get no adapter; attention and shared experts do.
- **Attention and MLP**: side by side (the MLP does not read what the attention wrote) or in turn.
- **First projections**: the layers with an adapter that read the block's first input; one name where queries, keys and
  values are fused.
- **Mixed batch**: whether rows with and without adapter go through the model together, or one after the other in
  families where peft cannot tell whose row a state belongs to.
"""
REFUSALS = """
## Refused

A model is tried on six tokens when it is loaded (`workbench/suitability.py`). These are refused, each with its sentence:

| Family | What is said |
| --- | --- |
"""


def table() -> str:
    """The rows of all families, as Markdown."""
    rows = [traits(family) for family in FAMILIES]
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)]) + "\n"


def document() -> str:
    """The whole document."""
    kinds = {family.split(" ")[0] for family in FAMILIES}
    intro = f"\n{len(kinds)} families, {len(FAMILIES)} models, with transformers {VERSION}:\n\n"
    with tempfile.TemporaryDirectory() as folder:
        said = "".join(f"| {family} | {refusal(family, Path(folder) / family)} |\n" for family in REFUSED)
    return HEAD + intro + table() + REFUSALS + said


def main() -> None:
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            try_out(family, Path(folder))
        print(f"{family}: works", file=sys.stderr)
    DOCUMENT.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
