"""The model card of an export: Markdown with the Hub's front matter, and figures beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.export.facts import (
    ended_early,
    figure_rows,
    judged_on,
    limits,
    method_name,
    named,
    on_hub,
    setting_rows,
    shareable,
)
from workbench.export.figures import figures
from workbench.export.svg import draw
from workbench.export.vectors import CONTROL, blocks_path, control_reason
from workbench.rahf.results import read_result

FIGURES_FOLDER = "figures"
SHOWN = ("held-out", "looks", "layers", "leaning")  # the figures that a card shows
WHAT = {
    "adapter": "A LoRA adapter",
    "merged": "A merged model",
    "vectors": "Control vectors",
    "gguf": "A GGUF file",
}
LIBRARY = {"adapter": "peft", "merged": "transformers", "vectors": "transformers", "gguf": "gguf"}
OF_THE_ADAPTER = (
    "**These are the figures of the run's adapter.** The vectors are what it was fitted to; steering by them alone was not "
    "judged."
)
LOADED_BACK = "Ran on plain transformers in a fresh process when this kind of export was tested, with the same tokens."


def write_figures(folder: Path, to: Path) -> None:
    """Write the card's figures of a run as SVG files into the folder ``to``. Raises OSError and UserError."""
    to.mkdir(parents=True, exist_ok=True)
    for figure in figures(folder, read_result(folder)):
        if figure["id"] in SHOWN:
            (to / f"{figure['id']}.svg").write_text(draw(figure, alone=True), encoding="utf-8")


def model_card(folder: Path, kind: str = "adapter") -> str:
    """The model card that goes with a run's "adapter", "merged" model, "vectors" or "gguf", as Markdown with the Hub's
    front matter, of a run that has finished or was kept. Raises UserError."""
    result = read_result(folder)
    base, pairs = named(result["config"]["model"]), named(result["config"]["pairs"])
    rows, early, told = figure_rows(result), ended_early(result), result.get("instruction")
    drawn = [figure for figure in figures(folder, result) if figure["id"] in SHOWN]
    lines = [
        *_front(result, kind),
        f"# {_cell(folder.name)}",
        "",
        f"{WHAT[kind]} made with {method_name(result)} from preference pairs. Base: {_cell(base)}. The pairs: {_cell(pairs)}. "
        + ("" if on_hub(result["config"]["model"]) else f"The base {_cell(base)} is not on the Hub under that name. ")
        + "RAHF is representation alignment from human feedback (arXiv 2312.15997).",
        "",
        *([f"**{early}**", ""] if early else []),
        "## Held-out results",
        "",
        judged_on(result),
        "",
        *([OF_THE_ADAPTER, ""] if rows and kind == "vectors" and result["method"] != "steering" else []),
        *(["| figure | base | aligned |", "| --- | --- | --- |"] if rows else []),
        *(f"| {title} | {old} | {new} |" for title, old, new in rows),
        *([""] if rows else []),
        *(line for figure in drawn for line in (f"![{_alt(figure)}]({FIGURES_FOLDER}/{figure['id']}.svg)", "")),
        "## How to load it",
        "",
        *_loading(folder, result, kind),
        "",
        *([f"It was taught to answer so when it is told, before every prompt: {_cell(told)}", ""] if told else []),
        "## How it was made",
        "",
        "| setting | value |",
        "| --- | --- |",
        *(f"| {_cell(name)} | {_cell(value)} |" for name, value in setting_rows(result)),
        "",
        "## Limits",
        "",
        *(f"- {sentence}" for sentence in limits(result)),
        "",
    ]
    return "\n".join(lines)


def _front(result: dict[str, Any], kind: str) -> list[str]:
    """The front matter: only names that the Hub can resolve, and that the licence is not known."""
    import yaml

    config = shareable(result)["config"]
    values: dict[str, Any] = {"library_name": LIBRARY[kind], "pipeline_tag": "text-generation", "license": "unknown"}
    if on_hub(result["config"]["model"]):
        values["base_model"] = config["model"]
        if kind != "vectors":
            values["base_model_relation"] = {"adapter": "adapter", "merged": "finetune", "gguf": "quantized"}[kind]
    if on_hub(result["config"]["pairs"]):
        values["datasets"] = [config["pairs"].partition(":")[0]]
    values["tags"] = [
        "rahf",
        "alignment",
        "preference",
        str(result["method"]),
        *(["lora"] if kind == "adapter" else []),
    ]
    return ["---", yaml.safe_dump(values, sort_keys=False).rstrip(), "---", ""]


def _loading(folder: Path, result: dict[str, Any], kind: str) -> list[str]:
    base = named(result["config"]["model"])
    if kind == "gguf":
        return [
            "With llama.cpp: `llama-cli -m model.gguf`. Settings, vocabulary and every weight are those of the merged model, in "
            "its own number format; `llama-quantize` makes it smaller. Checked when this kind of export was tested: transformers "
            "reads the file in a fresh process and gives the same tokens. Not checked: llama.cpp itself.",
            "",
            *_code(GGUF),
        ]
    if kind == "vectors":
        return [
            *_code(VECTORS.format(base=base, blocks=f"{blocks_path(folder)}.")),
            "",
            LOADED_BACK,
            "",
            _control(folder, result),
        ]
    return [*_code({"adapter": ADAPTER, "merged": MERGED}[kind].format(base=base)), "", LOADED_BACK]


def _control(folder: Path, result: dict[str, Any]) -> str:
    if reason := control_reason(folder):
        return reason
    return (
        f"With llama.cpp: `llama-cli -m base.gguf --control-vector-scaled {CONTROL}:{result['alpha']:g}` (older versions take file "
        "and factor as two words). Its tensors `direction.N` hold the difference of block N, counted from 0, and llama.cpp adds "
        "them to the output of its layer N, which also counts from 0 and is never layer 0. The file was read back with the "
        "package gguf; llama.cpp itself was not run."
    )


def _code(text: str) -> list[str]:
    return ["```python", *text.strip().splitlines(), "```"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _alt(figure: dict[str, Any]) -> str:
    return _cell(figure["title"]).replace("[", "(").replace("]", ")")


ADAPTER = """
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE, FOLDER = {base!r}, "."
tokenizer = AutoTokenizer.from_pretrained(BASE)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), FOLDER)
"""
MERGED = """
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = "."
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(FOLDER)
"""
GGUF = """
from transformers import AutoModelForCausalLM

FOLDER = "."
model = AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file="model.gguf")
"""
VECTORS = """
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE, FOLDER = {base!r}, "."
tokenizer = AutoTokenizer.from_pretrained(BASE)
model = AutoModelForCausalLM.from_pretrained(BASE)


def steer(block, shift):
    def hook(module, inputs, output):
        return (output[0] + shift, *output[1:]) if isinstance(output, tuple) else output + shift

    block.register_forward_hook(hook)


with safe_open(f"{{FOLDER}}/vectors.safetensors", "pt") as file:
    alpha = float(file.metadata()["alpha"])
    for name in file.keys():
        shift = file.get_tensor(name).to(model.device, model.dtype) * alpha
        steer(model.get_submodule({blocks!r} + name), shift)
"""
