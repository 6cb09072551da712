"""What was exported is loaded back with plain transformers and peft, and gives the same numbers."""

import ast
import base64
import hashlib
import json
import re
import shlex
from html import unescape
from xml.etree import ElementTree

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from peft import PeftModel
from tiny import PAIRS, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.errors import UserError
from workbench.export import CARDS, export, facts, figures, hub, model_card, report
from workbench.export.svg import draw
from workbench.progress import QUIET
from workbench.rahf.config import RunConfig
from workbench.rahf.pipeline import align

MODEL = 'it\'s a "model"'  # the folder's name
HOSTILE = "<script>alert(1)</script> {{7*7}} ${1+1} | a"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    loaded = tiny_model()
    loaded.model.save_pretrained(folder / MODEL)
    loaded.tokenizer.save_pretrained(folder / MODEL)
    rows = [{**pair, "prompt": pair["prompt"] + HOSTILE} for pair in PAIRS]
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    settings = {
        "model": str(folder / MODEL), "pairs": str(folder / "pairs.jsonl"), "method": "dual", "instruct_steps": 3,
        "align_steps": 3, "instruct_rate": 0.05, "align_rate": 0.05, "evaluate_prompts": 4, "max_new_tokens": 5,
        "force": True, "layers": (1,), "device": "cpu",
    }  # fmt: skip
    align(RunConfig.from_dict(settings), folder / "run", QUIET)
    return folder


def test_merged_and_adapter_give_the_same_logits(finished, tmp_path):
    ids = torch.arange(20, 60)[None]
    export(finished / "run", tmp_path / "adapter")
    export(finished / "run", tmp_path / "merged", merge=True)
    base = AutoModelForCausalLM.from_pretrained(finished / MODEL)
    before = base(ids).logits.detach().clone()
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")(ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert float((merged - before).abs().max()) > 1e-3
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template


def test_files_sizes_and_no_path_of_this_machine(finished, tmp_path):
    result = export(finished / "run", tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "report.html"} <= set(result["files"])
    assert result["bytes"] == sum(path.stat().st_size for path in files)
    for path in files:
        assert str(finished).encode() not in path.read_bytes()


def test_the_card_and_the_report_show_text_and_run_none_of_it(finished):
    assert "RAHF-Dual" in model_card(finished / "run")
    page = report(finished / "run")
    body, data = page.partition('<script type="application/json" id="data">')[::2]
    assert "alert(1)" not in body  # what prompts and models wrote is data, and no tag stands in it
    assert "<" not in data.partition("</script>")[0]
    assert HOSTILE in json.loads(data.partition("</script>")[0])["looks"][-1]["rows"][0]["prompt"]
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1 and f"script-src 'sha256-{digest}'" in page and "unsafe" not in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)


def test_names_with_quotes_leave_code_and_commands_whole(finished, tmp_path):
    export(finished / "run", tmp_path / "out", kinds=["notebook"])
    cards = {kind: model_card(finished / "run", kind) for kind in CARDS}
    code = {kind: re.search(r"```python\n(.*?)```", card, flags=re.S)[1] for kind, card in cards.items()}
    for text in (*code.values(), (tmp_path / "out" / "repeat.py").read_text()):
        compile(text, "code", "exec")
    for kind in ("adapter", "vectors"):
        line = next(line for line in code[kind].splitlines() if line.startswith("BASE, FOLDER = "))
        assert ast.literal_eval(line.partition(" = ")[2]) == (MODEL, ".")
    assert "model.get_submodule('model.layers.' + name)" in code["vectors"]
    said = unescape(report(finished / "run"))
    command = next(line for line in said.splitlines() if "--config config.yaml" in line)
    assert MODEL in shlex.split(command[command.index("python -m") :])


def test_what_cannot_be_exported_is_one_sentence(finished, tmp_path):
    with pytest.raises(UserError, match="not finished"):
        export(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    with pytest.raises(UserError, match="not an empty folder"):
        export(finished / "run", tmp_path / "full")
    assert (tmp_path / "full" / "precious").exists()
    with pytest.raises(UserError, match="no repository"):
        export(finished / "run", tmp_path / "out", push="../x")


def test_a_failed_push_does_not_tell_the_token(finished, tmp_path):
    with pytest.raises(UserError, match="Pushing to me/it failed") as caught:
        export(finished / "run", tmp_path / "out", push="me/it", token="hf_secret")
    assert "hf_secret" not in str(caught.value)


def test_training_pairs_are_not_pushed_by_the_way():
    names = ["pairs.jsonl", "notebook/pairs.jsonl", "notebook/repeat.py", "README.md", "my-pairs.jsonl"]
    kept = filter_repo_objects(names, ignore_patterns=hub.PRIVATE)
    assert list(kept) == ["notebook/repeat.py", "README.md", "my-pairs.jsonl"]


def test_figures_are_drawn_where_their_numbers_are_and_stay_one_picture_whatever_they_are_called(finished, tmp_path):
    export(finished / "run", tmp_path / "out")
    drawn = list((tmp_path / "out" / "figures").glob("*.svg"))
    assert drawn and all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in drawn)
    points = [
        figures.point(0, 0.0, -0.1, 0.1),
        figures.point(5, 1.0),
        figures.point(10, 0.5, 0.4, 0.6),
        figures.point(3, None),
    ]
    figure = {
        "id": "x", "title": HOSTILE, "sub": HOSTILE, "x": figures.axis(HOSTILE, [], 0, 10), "y": figures.axis("y", [], 0.0, 1.0),
        "series": [figures.series(HOSTILE, "ink", points)], "band": None, "mark": {"x": 5, "text": HOSTILE},
    }  # fmt: skip
    root = ElementTree.fromstring(draw(figure, width=446, height=252, alone=True))
    circles = [one for one in root.iter() if one.tag.endswith("circle")]
    places = [(float(one.get("cx")), float(one.get("cy"))) for one in circles]
    left, right, top, bottom = 46, 430, 44, 244  # the plot's box
    assert places == [(left, bottom), ((left + right) / 2, top), (right, (top + bottom) / 2)]
    assert circles[1].get("data-t").endswith("1 (no interval)") and circles[2].get("data-t").endswith("0.5 [0.4, 0.6]")
    assert not [one for one in root.iter() if one.tag.endswith("script")]


def test_ticks_are_round_and_within_the_axis():
    assert [text for _, text in figures.ticks(0, 1)] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [value for value, _ in figures.ticks(-3, 17)] == [0, 5, 10, 15]
    assert figures.ticks(2, 2) == [(2, "2")]


def test_what_has_no_interval_says_so():
    assert facts.number({"a": 0.5}, "a") == "0.50 (no interval)"
    assert facts.number({"a": 0.5, "a_low": 0.4, "a_high": 0.6}, "a") == "0.50 [0.40, 0.60]"
    assert facts.number({}, "a") is None
