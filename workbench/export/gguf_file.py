"""The merged model as one GGUF file for llama.cpp, written with the package gguf alone.

Only what can be mapped exactly is written: families whose tensors and settings llama.cpp has one to one, and tokenizers
whose way of splitting text it knows. Anything else is refused, with the command of llama.cpp's own converter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.export.weights import merge
from workbench.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from workbench.models import LoadedModel

NAME = "model.gguf"
# transformers' family: (llama.cpp's name, whether the rows of q and k are stored in pairs, as the rotation reads them)
FAMILIES = {"llama": ("llama", True), "mistral": ("llama", True), "qwen2": ("qwen2", False), "qwen3": ("qwen3", False)}
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PLAIN = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BARE = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
# How text is split before its bytes are merged, by llama.cpp's name: (steps, ignore_merges, normalizer)
SPLITS = {
    "gpt-2": ([_PLAIN], False, None),
    "llama-bpe": ([_WORDS + r"|\p{N}{1,3}" + _REST, _BARE], True, None),
    "qwen2": ([_WORDS + r"|\p{N}" + _REST, _BARE], False, "NFC"),
    "smollm": ([{"type": "Digits", "individual_digits": True}, _PLAIN], False, None),
}
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def converter(reason: str) -> str:
    """The refusal of what cannot be mapped exactly: why, and what can."""
    return (
        f"{reason} Export the merged model instead and convert it with llama.cpp's own script: "
        "python convert_hf_to_gguf.py MERGED-FOLDER --outfile model.gguf."
    )


def need_gguf() -> None:
    """Raises UserError where the optional package gguf is not installed."""
    if find_spec("gguf") is None:
        raise UserError("Writing GGUF needs the package gguf: pip install gguf, or export the merged model.")


def why_not(config: Any, tokenizer: Any) -> str:
    """Why a model with this configuration and tokenizer cannot be written exactly, as a sentence; empty if it can."""
    family = config.model_type
    if family not in FAMILIES:
        return f"A {family} model cannot be written as GGUF here (only {', '.join(FAMILIES)} can)."
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        return f"This model stretches its positions ({rope['rope_type']}), which is not written here."
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "This model reads through a sliding window, which is not written here."
    if family in ("llama", "mistral", "qwen3") and (
        getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)
    ):
        return "This model has biases that its family does not have in llama.cpp."
    if config.hidden_act != "silu":
        return f"This model's activation is {config.hidden_act}, and llama.cpp's is silu."
    return (
        "" if split_name(tokenizer) else "This model's tokenizer splits text in a way that cannot be told exactly here."
    )


def split_name(tokenizer: Any) -> str | None:
    """llama.cpp's name for how a byte-level BPE tokenizer splits text; None for any other tokenizer, or one whose
    steps are not exactly those."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    model, before = made["model"], made["pre_tokenizer"] or {}
    if model["type"] != "BPE" or model.get("byte_fallback") or model.get("dropout"):
        return None
    steps = [_step(one) for one in before.get("pretokenizers", [before])]
    form = made["normalizer"]
    for name, (wanted, ignores, normalizer) in SPLITS.items():
        same = steps == wanted and bool(model.get("ignore_merges")) == ignores
        if same and (form is None or form.get("type") == normalizer):
            return name
    return None


def _step(one: dict[str, Any]) -> Any:
    """A step of a pre-tokenizer without what does not change the pieces."""
    if one.get("type") == "Split" and one.get("behavior") == "Isolated" and not one.get("invert"):
        return one.get("pattern", {}).get("Regex")
    return {key: value for key, value in one.items() if key != "trim_offsets"}


def write_gguf(folder: Path, to: Path, result: dict[str, Any], progress: Progress) -> None:
    """Merge base and adapter and write them as ``model.gguf``, the weights in the number format that they have (vectors in
    float32, as llama.cpp wants them). Raises UserError for what cannot be mapped exactly, and Stopped."""
    need_gguf()
    loaded = merge(folder, result, progress)
    if reason := why_not(loaded.model.config, loaded.tokenizer):
        raise UserError(converter(reason))
    import gguf

    config, family = loaded.model.config, FAMILIES[loaded.model.config.model_type][0]
    writer = gguf.GGUFWriter(to / NAME, family, use_temp_file=True)
    _write_settings(writer, config, folder.name, str(loaded.dtype).removeprefix("torch."))
    _write_tokenizer(writer, loaded)
    total = len(loaded.model.state_dict())
    for done, (name, values, kind) in enumerate(_tensors(loaded), 1):
        writer.add_tensor(name, values, raw_dtype=kind)
        progress("save", done, total, "Writing GGUF")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_settings(writer: Any, config: Any, name: str, dtype: str) -> None:
    import gguf

    kinds = gguf.LlamaFileType
    writer.add_name(name)
    writer.add_file_type({"float16": kinds.MOSTLY_F16, "bfloat16": kinds.MOSTLY_BF16}.get(dtype, kinds.ALL_F32))
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head = _head(config)
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _head(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _write_tokenizer(writer: Any, loaded: LoadedModel) -> None:
    tokenizer = loaded.tokenizer
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {one["id"]: one for one in made["added_tokens"]}
    words = {index: word for word, index in tokenizer.get_vocab().items()}
    tokens, kinds = [], []
    for index in range(loaded.model.config.vocab_size):
        special = added.get(index)
        tokens.append(special["content"] if special else words.get(index, f"[PAD{index}]"))
        if index not in words:
            kinds.append(UNUSED)
        elif special:
            kinds.append(CONTROL if special["special"] else USER_DEFINED)
        else:
            kinds.append(NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split_name(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in made["model"]["merges"]])
    for name in ("bos", "eos", "pad", "unk"):
        if (index := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    ids = tokenizer("x").input_ids
    writer.add_add_bos_token(bool(ids) and ids[0] == tokenizer.bos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(loaded: LoadedModel) -> Iterator[tuple[str, np.ndarray, Any]]:
    """Every weight under llama.cpp's name, with its type. Raises UserError for one that has none."""
    import gguf
    import torch

    config = loaded.model.config
    family, pairs = FAMILIES[config.model_type]
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    types = gguf.GGMLQuantizationType
    for full, tensor in loaded.model.state_dict().items():
        if full == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(full, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(converter(f"llama.cpp has no place for the weights {full} of this model."))
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(full.split(".")[-2])
        if pairs and heads:
            tensor = _paired(tensor, heads)
        whole = tensor.dim() < 2 or tensor.dtype == torch.float32
        if tensor.dtype == torch.bfloat16 and not whole:
            yield name, gguf.quants.quantize(tensor.float().numpy(), types.BF16), types.BF16
        else:
            yield name, (tensor.float() if whole else tensor).contiguous().numpy(), None


def _paired(tensor: Any, heads: int) -> Any:
    """Rows of q or k in the order in which llama.cpp rotates them: the two halves of each head interleaved."""
    rows = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, rows, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
