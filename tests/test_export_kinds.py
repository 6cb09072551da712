"""Every kind of export is loaded back in a fresh process, by plain transformers and peft, and gives the same tokens."""

import ast
import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
import torch
from safetensors.torch import load_file
from tiny import saved, tiny_model, tiny_tokenizer
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from workbench.errors import Stopped, UserError
from workbench.export import KINDS, export, gguf_file, model_card, repeat
from workbench.export.repeat import notebook
from workbench.export.vectors import read_vectors
from workbench.generation import Sampling, Steering, generate
from workbench.models import Reader, load_model
from workbench.pairs import load_pairs
from workbench.progress import QUIET, Progress
from workbench.rahf.adapters import load_adapter
from workbench.rahf.config import RunConfig
from workbench.rahf.pipeline import align
from workbench.tokens import Boundary, Limits

pytestmark = pytest.mark.timeout(900)  # the fixture waits for another process
PROMPTS = ["what is it, number 3?", "please tell me", "a lazy dog?"]
GREEDY = Sampling(temperature=0, max_new_tokens=12)
FRESH = r"""
import contextlib, io, json, os, sys
import peft, torch, transformers  # while the runs are made
work = json.loads(sys.stdin.read())
out = {"tokens": {}, "notebooks": {}}
for kind, code in work["snippets"].items():  # the code of the model card, as it stands there
    names = {}
    exec(code, names)
    model, told = names["model"].eval(), []
    for ids in work["prompts"]:
        ids = torch.tensor([ids])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              max_new_tokens=work["most"], pad_token_id=work["pad"])
        told.append(made[0, ids.shape[1]:].tolist())
    out["tokens"][kind] = told
for name, cells in work["notebooks"].items():
    os.chdir(work["homes"][name])
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in cells:
            exec(cell, names)
    out["notebooks"][name] = {"answers": names["answers"], "result": names.get("result")}
out["clean"] = not any(name.startswith("workbench") for name in sys.modules)
print(json.dumps(out))
"""


def made(folder: Path, **settings) -> Path:
    """A short run on a tiny model, steep enough that its answers are others."""
    short = {
        "instruct_steps": 4, "align_steps": 5, "instruct_rate": 0.03, "align_rate": 0.03, "instruct_batch": 4, "align_batch": 4,
        "evaluate_prompts": 2, "max_new_tokens": 5, "force": True, "layers": (1, 2), "alpha": 2.0, "device": "cpu", "judge": "none",
    }  # fmt: skip
    config = saved(folder, tiny_model()) | short | settings
    align(RunConfig.from_dict(config), folder / "run", QUIET)
    return folder


def cells_of(path: Path) -> list[str]:
    """The code cells of a notebook, without the one that installs packages."""
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells[0].startswith("%pip install") and not any("%pip" in cell for cell in cells[1:])
    return cells[1:]


@pytest.fixture(scope="module")
def back(tmp_path_factory):
    """Two runs (SCIT, and Dual on the instructed model), everything exported of them, and what a fresh process made of
    it."""
    pytest.importorskip("gguf")
    home = tmp_path_factory.mktemp("scit")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"MODEL": str(home / "model")}
    fresh = subprocess.Popen(
        [sys.executable, "-c", FRESH], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, cwd=home, env=env
    )
    try:
        scit, dual, work = exported(home, tmp_path_factory.mktemp("dual"))
        said, wrong = fresh.communicate(json.dumps(work), timeout=240)
    finally:
        fresh.kill()
        fresh.wait()
    assert fresh.returncode == 0, wrong[-3000:]
    return scit, dual, json.loads(said.splitlines()[-1])


def exported(scit: Path, dual: Path) -> tuple[Path, Path, dict]:
    """Both runs, made in these folders and exported, and the work of the fresh process."""
    made(scit)
    calm = {"instruct_rate": 0.01, "align_rate": 0.01}  # steep steps make much of the last bits
    other = {"method": "dual", "foundation": "instructed", "states": "completion", "response": "random"}
    made(dual, **calm, **other)
    export(scit / "run", scit / "out", kinds=KINDS)
    export(dual / "run", dual / "out" / "notebook", kinds=["notebook"])
    boundary, work = tiny_model().boundary, {"snippets": {}, "notebooks": {}, "homes": {}}
    for kind in ("adapter", "merged", "vectors", "gguf"):
        card = (scit / "out" / kind / "README.md").read_text()
        code = re.search(r"```python\n(.*?)```", card, flags=re.S)[1]
        code = code.replace("BASE, FOLDER = 'model', ", f"BASE, FOLDER = {str(scit / 'model')!r}, ")
        folder = str(scit / "out" / kind)
        work["snippets"][kind] = code.replace("'.'", repr(folder)).replace('"."', repr(folder))
    for name, home in (("scit", scit), ("dual", dual)):
        work["notebooks"][name] = cells_of(home / "out" / "notebook" / "repeat.ipynb")
        work["homes"][name] = str(home / "out" / "notebook")
    work["notebooks"]["compare"] = cells_of(scit / "out" / "notebook" / "compare.ipynb")
    work["homes"]["compare"] = str(scit / "out" / "notebook")
    work |= {
        "prompts": [boundary.prompt_ids(prompt) for prompt in PROMPTS],
        "most": GREEDY.max_new_tokens,
        "pad": boundary.pad_id,
    }
    return scit, dual, work


def ours(folder: Path, adapter: bool = True, steering: Steering | None = None) -> list[list[int]]:
    loaded = load_model(str(folder / "model"), "cpu", "float32")
    if adapter:
        load_adapter(loaded, folder / "run" / "adapter", "aligned")
    return [
        answer.ids for answer in generate(loaded, PROMPTS, GREEDY, "aligned" if adapter else None, steering=steering)
    ]


def test_every_kind_gives_the_same_tokens_in_a_fresh_process(back):
    scit, _, found = back
    assert found["clean"]
    end = tiny_model().boundary.eos_ids
    tokens = {kind: [[i for i in ids if i not in end] for ids in rows] for kind, rows in found["tokens"].items()}
    base, aligned = ours(scit, adapter=False), ours(scit)
    steered = ours(scit, adapter=False, steering=Steering(read_vectors(scit / "run"), 2.0))
    assert aligned != base and steered != base  # else equal tokens would say nothing
    assert tokens["adapter"] == aligned and tokens["merged"] == aligned and tokens["gguf"] == aligned
    assert tokens["vectors"] == steered


def test_the_repeated_run_has_the_losses_of_the_run_and_its_adapter(back):
    scit, dual, found = back
    for name, home in (("scit", scit), ("dual", dual)):
        result, own = found["notebooks"][name]["result"], json.loads((home / "run" / "result.json").read_text())
        assert result["loss_first"] == pytest.approx(own["loss_first"], rel=1e-4)
        assert result["loss_last"] == pytest.approx(own["loss_last"], rel=1e-3)
    again = load_file(scit / "out" / "notebook" / "repeated" / "aligned" / "adapter_model.safetensors")
    before = load_file(scit / "run" / "adapter" / "adapter_model.safetensors")
    assert set(again) == set(before)
    apart = {name: float((again[name] - weight).norm() / weight.norm()) for name, weight in before.items()}
    # the notebook pads a whole batch where the run took it in parts: sums in another order, and where a gradient is all but
    # 0 the optimiser makes a whole step of its last bits
    assert max(apart.values()) < 0.02, apart
    compared = found["notebooks"]["compare"]["answers"]
    assert compared == found["notebooks"]["scit"]["answers"]  # the new adapter answers as the run's own does
    assert any(row["base"] != row["aligned"] for row in compared)


def test_the_script_is_the_notebook_and_names_no_path_of_this_machine(back):
    scit, _, _ = back
    home = scit / "out" / "notebook"
    script = (home / "repeat.py").read_text()
    assert all(cell in script for cell in cells_of(home / "repeat.ipynb"))
    for path in home.iterdir():
        assert path.is_dir() or str(scit) not in path.read_text()
    made = json.loads((home / "repeat.ipynb").read_text())
    assert made["nbformat"] == 4 and len({cell["id"] for cell in made["cells"]}) == len(made["cells"])
    assert all(cell["cell_type"] != "code" or cell["outputs"] == [] for cell in made["cells"])
    assert notebook([("text", "both", "# a\n# b")], "repeat")["cells"][0]["source"] == ["a\n", "b"]
    parts = [json.loads(line)["part"] for line in (home / "pairs.jsonl").read_text().splitlines()]
    own = json.loads((scit / "run" / "result.json").read_text())["pairs"]
    assert {part: parts.count(part) for part in own} == own


NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|> {% endif %}"
)


@pytest.mark.parametrize("form", ["system", "no system", "no template"])
def test_the_script_writes_dialogues_as_the_engine_does(back, form):
    scit, _, _ = back
    result = json.loads((scit / "run" / "result.json").read_text())
    config, tokenizer = RunConfig.from_dict(result["config"]), tiny_tokenizer(chat=form != "no template", bos=True)
    if form == "no system":
        tokenizer.chat_template = NO_SYSTEM
    if form == "no template":  # and it begins every text with its own token
        begins = TemplateProcessing("<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = begins
    boundary, limits = Boundary(tokenizer), Limits(60, 12)
    cells = repeat._cells(
        scit / "run", result, config, config.split(load_pairs(config.pairs)), Reader(boundary, 256), limits
    )
    code = [body for kind, where, body in cells if kind == "code" and where == "both"]
    settings = ast.literal_eval(code[0].partition("\nS = ")[2].partition("\nPAIRS = ")[0])
    names = {"S": settings, "tokenizer": tokenizer, "torch": torch}
    exec(code[1], names)
    assert settings["bos"] == ([tokenizer.bos_token_id] if form == "no template" else [])
    talk = [
        {"role": "user", "content": "what is it?"},
        {"role": "assistant", "content": "no."},
        {"role": "user", "content": "jumps"},
    ]
    told = [{"role": "system", "content": "be a fox"}, *talk]
    for messages in (talk[:1], talk, told):
        for instruction in (None, "please be good"):
            for answer in ("it is good", "a" * 40, " lazy"):
                wanted = boundary.encode(messages, answer, instruction, limits)
                assert names["encode"](messages, answer, instruction) == (wanted.ids, wanted.start)


def test_control_vectors_say_what_they_are_and_llama_cpp_s_layer_is_our_block(back):
    from gguf import GGUFReader
    from safetensors import safe_open

    scit, _, _ = back
    vectors = read_vectors(scit / "run")
    with safe_open(scit / "out" / "vectors" / "vectors.safetensors", "pt") as file:
        about = file.metadata()
        assert {int(name): True for name in file.keys()} == dict.fromkeys(vectors, True)  # noqa: SIM118
    assert float(about["alpha"]) == 2.0 and about["blocks"] == "1,2" and len(about["model_fingerprint"]) == 16
    read = GGUFReader(scit / "out" / "vectors" / "control-vector.gguf")
    assert read.fields["general.architecture"].contents() == "controlvector"
    assert read.fields["controlvector.model_hint"].contents() == "llama"
    assert read.fields["controlvector.layer_count"].contents() == 2
    for tensor in read.tensors:
        block = int(tensor.name.removeprefix("direction."))
        torch.testing.assert_close(torch.from_numpy(tensor.data.copy()), vectors[block])
    card = model_card(scit / "run", "vectors")
    assert "llama.cpp itself was not run" in card and "the figures of the run's adapter" in card


def test_gguf_keeps_vocabulary_settings_and_the_split_of_text(back):
    from gguf import GGUFReader

    scit, _, _ = back
    read, tokenizer = GGUFReader(scit / "out" / "gguf" / "model.gguf"), tiny_model().tokenizer
    told = {name: field.contents() for name, field in read.fields.items()}
    assert told["tokenizer.ggml.tokens"] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert told["tokenizer.ggml.pre"] == "gpt-2" and told["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert told["llama.block_count"] == 3 and told["llama.attention.head_count_kv"] == 2
    assert told["tokenizer.chat_template"] == tokenizer.chat_template
    kinds = told["tokenizer.ggml.token_type"]
    assert kinds[tokenizer.eos_token_id] == gguf_file.CONTROL and kinds[100] == gguf_file.NORMAL


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 128}),
        ("llama", {"tie_word_embeddings": True, "dtype": "bfloat16"}),
    ],
)
def test_gguf_of_every_family_gives_the_same_logits(family, settings, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    dtype = getattr(torch, settings.pop("dtype", "float32"))
    loaded = tiny_model(family, **settings)
    with torch.no_grad():
        for weight in loaded.model.parameters():  # norms and biases are not trained here: nothing may be left at 0 or 1
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
            weight.copy_(weight.to(dtype))
    whole = copy.deepcopy(loaded.model)
    loaded.model, loaded.dtype = loaded.model.to(dtype), dtype
    monkeypatch.setattr(gguf_file, "merge", lambda *_: loaded)
    gguf_file.write_gguf(tmp_path, tmp_path, {}, QUIET)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    ids = torch.arange(20, 50)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, whole(ids).logits, atol=2e-4, rtol=2e-4)


def test_what_gguf_cannot_hold_exactly_is_refused_with_another_way(monkeypatch, tmp_path):
    def reason(family="llama", **settings):
        loaded = tiny_model(family, **settings)
        return gguf_file.why_not(loaded.model.config, loaded.tokenizer)

    assert reason() == ""
    assert "gpt2 model" in reason("gpt2")
    assert "sliding window" in reason("mistral", sliding_window=16)
    assert "biases" in reason("llama", attention_bias=True)
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    assert "stretches its positions" in reason("llama", rope_parameters=scaled)
    loaded = tiny_model()
    odd = copy.deepcopy(loaded.tokenizer)
    odd.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert "splits text" in gguf_file.why_not(loaded.model.config, odd)
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install gguf"):
        gguf_file.write_gguf(tmp_path, tmp_path, {}, QUIET)


def test_the_split_is_told_by_its_steps():
    tokenizer = tiny_model().tokenizer

    def told(before, normalizer=None, ignores=False):
        made = copy.deepcopy(tokenizer)
        made.backend_tokenizer.pre_tokenizer = before
        if normalizer:
            made.backend_tokenizer.normalizer = normalizer
        made.backend_tokenizer.model.ignore_merges = ignores
        return gguf_file.split_name(made)

    bare = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def split(name):
        return pre_tokenizers.Split(Regex(gguf_file.SPLITS[name][0][0]), "isolated")

    digits = pre_tokenizers.Digits(individual_digits=True)
    assert told(pre_tokenizers.ByteLevel(add_prefix_space=False)) == "gpt-2"
    assert told(pre_tokenizers.ByteLevel(add_prefix_space=True)) is None
    assert told(pre_tokenizers.Sequence([split("llama-bpe"), bare]), ignores=True) == "llama-bpe"
    assert told(pre_tokenizers.Sequence([split("llama-bpe"), bare])) is None
    assert told(pre_tokenizers.Sequence([split("qwen2"), bare]), normalizers.NFC()) == "qwen2"
    assert told(pre_tokenizers.Sequence([split("qwen2"), bare]), normalizers.Lowercase()) is None
    assert told(pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])) == "smollm"


def test_kinds_that_are_not_there_say_so_and_leave_nothing(back, tmp_path):
    scit, _, _ = back
    with pytest.raises(UserError, match="no export 'exe'"):
        export(scit / "run", tmp_path / "out", kinds=["exe"])
    bare = tmp_path / "bare"
    (bare / "adapter").mkdir(parents=True)
    for name in ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "result.json"):
        (bare / name).write_bytes((scit / "run" / name).read_bytes())
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="no difference vectors"):
        export(bare, tmp_path / "mine", kinds=["adapter", "vectors"])
    assert list((tmp_path / "mine").iterdir()) == []
    with pytest.raises(Stopped):
        export(scit / "run", tmp_path / "mine", kinds=["gguf"], progress=Progress(stopping=lambda: True))
    assert list((tmp_path / "mine").iterdir()) == []
    result = json.loads((bare / "result.json").read_text())
    result["config"]["instruct_tuning"] = "full"
    (bare / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match="does not train all weights"):
        export(bare, tmp_path / "mine", kinds=["notebook"])


def test_a_run_that_only_steers_leaves_vectors_and_no_adapter(back, tmp_path):
    scit, _, _ = back
    run = tmp_path / "steered"
    run.mkdir()
    (run / "steering.safetensors").write_bytes((scit / "run" / "steering.safetensors").read_bytes())
    found = json.loads((scit / "run" / "result.json").read_text()) | {"method": "steering", "budget": None}
    (run / "result.json").write_text(json.dumps(found))
    card = Path(export(run, tmp_path / "out")["path"]) / "README.md"
    before = (scit / "out" / "vectors" / "README.md").read_text()
    code = [re.search(r"```python\n(.*?)```", text, flags=re.S)[1] for text in (card.read_text(), before)]
    assert code[0] == code[1]  # the blocks' place, which the other card read off its adapter
    assert "the figures of the run's adapter" not in card.read_text()  # but of the steering itself
    with pytest.raises(UserError, match="export its vectors"):
        export(run, tmp_path / "adapter", kinds=["adapter"])
    (run / "result.json").write_text(json.dumps(found | {"model_fingerprint": "other"}))
    with pytest.raises(UserError, match="The model is not the one"):
        export(run, tmp_path / "other")


def test_the_hub_is_told_only_what_it_can_resolve(back, monkeypatch):
    scit, _, _ = back
    front = model_card(scit / "run").split("---")[1]
    assert "base_model" not in front and "datasets" not in front and "license: unknown" in front
    found = json.loads((scit / "run" / "result.json").read_text())
    found["config"] |= {"model": "org/some-model", "pairs": "org/some-pairs:train"}
    monkeypatch.setattr("workbench.export.card.read_result", lambda folder: found)
    front = model_card(scit / "run").split("---")[1]
    assert "base_model: org/some-model" in front and "- org/some-pairs\n" in front
