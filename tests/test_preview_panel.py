"""Trying strengths on the page: when it can be, what it shows, stopping, and that nobody sees another's answers."""

import json

import pytest
from tiny import PAIRS, tiny_model

from workbench.errors import UserError
from workbench.runs import store, worker
from workbench.ui import align_preview, state

QUICK = {
    "instruct_steps": 2, "align_steps": 2, "instruct_batch": 4, "align_batch": 4, "evaluate_every": 2,
    "evaluate_prompts": 2, "max_new_tokens": 12, "force": True, "device": "cpu", "calibration_prompts": 4,
    "positive": "be kind", "negative": "be a lazy dog", "layers": [0, 1], "prompt_tokens": 64, "completion_tokens": 32,
    "stop_on_collapse": False,
}  # fmt: skip


@pytest.fixture
def visitor(tmp_path):
    """A visitor with a run of a tiny model that has not begun."""
    loaded = tiny_model()
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    name = state.new_visitor()
    config = QUICK | {"model": str(tmp_path / "model"), "pairs": str(tmp_path / "pairs.jsonl")}
    state.change(name, run=store.create("align", config, owner=name).id)
    return name


def run_of(visitor):
    return state.run_of(state.open_workspace(visitor))


def test_who_is_moved_is_said(visitor, monkeypatch):
    config = run_of(visitor).config() | {"foundation": "instructed"}
    state.change(visitor, run=store.create("align", config, owner=visitor).id)
    monkeypatch.setattr("workbench.runs.loading.can_preview", lambda run: True)
    assert align_preview.drawn(visitor)["who"] == "Instructed model"


def test_a_run_of_another_version_leaves_the_step_usable():
    name = state.new_visitor()
    state.change(name, run=store.create("align", QUICK | {"a_setting_of_old": 3}, owner=name).id)
    assert align_preview.drawn(name) == {"shown": True, "ready": False}
    (run_of(name).path / "config.yaml").write_text("a: [")
    assert align_preview.drawn(name) == {"shown": True, "ready": False}


def test_strengths_are_tried_once_step_1_is_done(visitor):
    assert align_preview.drawn(state.new_visitor()) == {"shown": False}
    assert align_preview.drawn(visitor) == {"shown": True, "ready": False}
    with pytest.raises(UserError, match="not come past step 1"):
        list(align_preview.ask(visitor, "what is it?"))
    assert worker.execute(run_of(visitor))["state"] == "finished"

    views = list(align_preview.ask(visitor, " what is it? "))
    assert views[0]["live"] and not views[-1]["live"] and views[-1]["prompt"] == "what is it?"
    last = views[-1]
    assert len(last["texts"]) == len(last["rungs"]) and last["rungs"][0]["alpha"] == 0
    result = run_of(visitor).status()["result"]
    assert last["rungs"][last["chosen"]]["alpha"] == pytest.approx(result["alpha"], rel=0.02)  # measured there or not
    drifts = {rung["alpha"]: rung["drift"] for rung in last["rungs"][1:]}
    assert all(drifts[point["alpha"]] == point["drift"] for point in result["calibration"]["points"])
    assert list(drifts) == sorted(drifts) and last["who"] == "Base"
    assert align_preview.drawn(visitor) == last  # a reload finds it again

    from workbench.generation import Sampling, generate
    from workbench.models import load_model

    base = generate(load_model(run_of(visitor).config()["model"]), ["what is it?"], Sampling(max_new_tokens=12))
    assert last["texts"][0] == base[0].text

    other = state.new_visitor()
    state.change(other, run=run_of(visitor).id)
    assert align_preview.drawn(other) == {"shown": False}
    with pytest.raises(UserError):
        list(align_preview.ask(other, "what is it?"))

    for bad in ("", "   ", None, "x" * 3000):
        with pytest.raises(UserError, match="prompt"):
            list(align_preview.ask(visitor, bad))

    asking = align_preview.ask(visitor, "no, never")
    next(asking)
    align_preview.stop(visitor)
    *_, stopped = asking
    assert not stopped["live"] and stopped["prompt"] == "no, never"

    asking = align_preview.ask(visitor, "an earlier question")
    next(asking)
    later = list(align_preview.ask(visitor, "a later question"))[-1]
    list(asking)
    assert align_preview.drawn(visitor) == later
