"""Step 2 behind the page: which capture is on view, what an alignment moved, dropping and undoing, tokens on demand."""

import json
import os

import numpy as np
import pytest

from tests.test_layers_view import score
from workbench.errors import UserError
from workbench.runs import store
from workbench.ui import (
    layers_data,
    layers_drop,
    layers_moved,
    layers_phase,
    layers_runs,
    layers_tokens,
    pairs_data,
    state,
)
from workbench.ui import layers_view as lv

VISITOR = "v" * 32


@pytest.fixture
def workspace(tmp_path):
    """A visitor with forty pairs of their own."""
    rows = [{"prompt": f"question {i}", "chosen": f"a good answer {i}", "rejected": f"bad {i}"} for i in range(40)]
    pairs_data.take_text(VISITOR, "\n".join(map(json.dumps, rows)))
    return state.open_workspace(VISITOR)


def finished(kind="separability", **config):
    run = store.create(kind, {"model": "demo", **config}, owner=VISITOR)
    run.write_status(state="finished", ended=1.0)
    return run


def remember(run, pooling="mean", site="block", where="layers_runs", key=None):
    workspace = state.open_workspace(VISITOR)
    kept = workspace.settings.get(where) or {}
    entry = layers_runs.entry_of(workspace, run)
    state.keep_setting(VISITOR, **{where: kept | {key or layers_runs.key_of(pooling, site): entry}})
    return state.open_workspace(VISITOR)


# -- which capture -----------------------------------------------------------------------------------------------------


def test_captures_are_kept_per_pooling_and_site(workspace):
    mean, mlp = finished(), finished()
    remember(mean)
    workspace = remember(mlp, "last", "mlp")
    assert layers_runs.current_run(workspace).id == mean.id
    assert layers_runs.is_captured(workspace, "last", "mlp") and not layers_runs.is_captured(workspace, "last", "block")
    state.change(VISITOR, pooling="last")
    workspace = state.keep_setting(VISITOR, layers_site="mlp")
    assert layers_runs.current_run(workspace).id == mlp.id
    assert layers_runs.config_of(workspace) | {"pairs": ""} == {
        "model": "demo", "pairs": "", "pooling": "last", "site": "mlp", "local": True,
    }  # fmt: skip


def test_captures_that_nothing_leads_to_are_deleted_but_the_newest(workspace):
    folder = state.open_workspace(VISITOR).folder
    folder.mkdir(parents=True, exist_ok=True)
    copies = [folder / f"captured-{number}.jsonl" for number in range(8)]
    for copy in copies:
        copy.write_text("{}")
        os.utime(copy, (0, 0))
    young = folder / "captured-young.jsonl"
    young.write_text("{}")
    runs = [finished(pairs=str(copy)) for copy in copies]
    others = store.create("separability", {"pairs": "demo"}, owner="z" * 32)
    remember(runs[0])
    layers_runs.tidy(VISITOR)
    left = [run.path.exists() for run in runs]
    assert left == [True, False, False, False, True, True, True, True]
    assert [copy.exists() for copy in copies] == left
    assert young.exists() and others.path.exists()


def test_other_pairs_and_other_models_do_not_show_an_old_capture(workspace):
    workspace = remember(finished())
    assert layers_runs.current_run(workspace)
    assert not layers_runs.current_run(state.change(VISITOR, model={"source": "another"}))
    state.change(VISITOR, model={"source": "demo"})
    pairs_data.take_text(
        VISITOR, "\n".join(json.dumps({"prompt": f"q {i}", "chosen": "c", "rejected": "r"}) for i in range(30))
    )
    assert not layers_runs.current_run(state.open_workspace(VISITOR)), "pasted anew, under the same name"


def test_nonsense_in_what_was_kept_is_the_default(workspace):
    state.change(VISITOR, pooling="nonsense")
    workspace = state.keep_setting(VISITOR, layers_site=["mlp"])
    assert (layers_runs.pooling_of(workspace), layers_runs.site_of(workspace)) == ("mean", "block")


def test_only_what_may_be_kept_of_a_look_is_kept():
    sent = {
        "action": "look",
        "layer": 3,
        "projection": "axis",
        "dims": 5,
        "colour": 7,
        "grid": 1,
        "plain": True,
        "x": 2,
    }
    assert layers_phase.seen_from(sent) == {"layer": 3, "projection": "axis", "plain": True}
    assert layers_phase.seen_from({"layer": True, "projection": ["pca"]}) == {}


# -- what an alignment moved -------------------------------------------------------------------------------------------


@pytest.fixture
def aligned(workspace):
    """A finished alignment of the visitor's model."""
    run = finished("align", method="scit", layers=[1])
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"")
    remember(finished())
    return run


def compared(aligned, shifts=(0.2, -0.5)):
    """A finished capture of the aligned model with hand-made numbers."""
    from safetensors.numpy import save_file

    run = finished(run=aligned.id)
    found = {"layers": [score(layer, 0.8) for layer in range(2)], "suggested_layers": [1], "finding": "f", "pairs": 6}
    (run.path / "layers.json").write_text(json.dumps(found))
    rows = [
        {"layer": k, "shift": s, "shift_chosen": s, "shift_rejected": 2 * s, "relative": 0.25, "cosine": 0.5,
         "probe_auc_after": 0.9, "low": 0.85, "high": 0.95}
        for k, s in enumerate(shifts)
    ]  # fmt: skip
    moved = {"run": "x", "layers": rows, "finding": "It moved", "target_layers": [1]}
    (run.path / "movement.json").write_text(json.dumps(moved))
    coords = np.arange(2 * 12 * 2, dtype=np.float32).reshape(2, 12, 2)
    save_file(
        {"pca": coords, "axis": coords, "pca_explained": np.ones((2, 2), np.float32)}, run.path / "coords.safetensors"
    )
    save_file({"pca": coords + 1, "axis": coords + 2}, run.path / "moved.safetensors")
    save_file({"pair_ids": np.arange(6)}, run.path / "activations.safetensors")
    remember(run, where="layers_moves", key=f"{aligned.id}/mean")
    return run


def test_without_an_alignment_the_panel_says_what_is_missing(workspace):
    shown = layers_moved.view(workspace)
    assert shown["phase"] == "none" and "step 3" in shown["lead"]
    with pytest.raises(UserError, match="align it in step 3"):
        layers_runs.start_moved(VISITOR)


def test_an_alignment_can_be_compared(aligned):
    shown = layers_moved.view(state.open_workspace(VISITOR))
    assert shown["phase"] == "before" and shown["title"] == "What did scit-1 move, and where?"
    assert shown["ask"]["action"] == "move" and shown["align"] == aligned.id


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ({"state": "running", "stage": "capture", "step": 1, "total": 4}, "running"),
        ({"state": "failed", "error": "The disk is full."}, "failed"),
        ({"state": "interrupted", "error": "gone"}, "failed"),
        ({"state": "stopped"}, "stopped"),
    ],
)
def test_every_state_of_the_comparison_is_shown(aligned, monkeypatch, status, phase):
    run = compared(aligned)
    whole = run.status() | status
    monkeypatch.setattr(store.Run, "status", lambda self: whole if self.id == run.id else {"state": "finished"})
    shown = layers_moved.view(state.open_workspace(VISITOR))
    assert shown["phase"] == phase
    assert shown["ask"]["action"] == ("move_stop" if phase == "running" else "move")
    assert shown.get("error", "") == (status.get("error", "") if phase == "failed" else "")


def test_progress_through_two_captures_never_goes_back(aligned):
    from workbench.progress import Event
    from workbench.runs.events import EventLog

    run = finished(run=aligned.id)
    log = EventLog(run.path / "events.jsonl")
    shares = []
    begun, done = ("capture", 0, 2), ("capture", 2, 2)
    steps = [begun, done, begun, done, ("score", 1, 2), ("project", 1, 2), ("score", 0, 2)]
    for stage, step, total in steps:
        log.append(Event(stage, step, total, {}))
        status = layers_moved._one_way(run, {"state": "running", "stage": stage, "step": step, "total": total})
        shares.append(lv.progress(status, 2)["whole"])
    assert shares[:-1] == sorted(shares[:-1]) and shares[-1] >= shares[-3]


def test_what_moved_is_bars_numbers_and_pictures(aligned):
    run = compared(aligned)
    workspace = state.open_workspace(VISITOR)
    shown = layers_moved.view(workspace)
    assert (shown["phase"], shown["title"], shown["top"]) == ("ready", "It moved", 1.0)
    assert [block["target"] for block in shown["blocks"]] == [False, True]
    assert shown["blocks"][0]["before"] == [0.8, 0.76, 0.83] and shown["blocks"][0]["after"] == [0.9, 0.85, 0.95]
    cells = dict(zip([title for title, _ in shown["head"]], shown["cells"][1], strict=True))
    assert cells["Block"][0] == "1 (aligned)" and cells["Chosen moved"][0] == "\N{MINUS SIGN}0.50"
    assert cells["AUC after"] == ["0.90", "[0.85, 0.95]"]
    data = json.loads(layers_moved.picture(workspace))
    assert data["run"] == run.id and data["ids"] == list(range(6))
    assert (
        set(data["sets"]) == {"axis", "pca"}
        and data["sets"]["axis"]["before"]["xy"] != data["sets"]["axis"]["after"]["xy"]
    )


def test_a_damaged_comparison_is_a_sentence(aligned):
    run = compared(aligned)
    (run.path / "movement.json").write_text("{")
    shown = layers_moved.view(state.open_workspace(VISITOR))
    assert shown["phase"] == "failed" and "capture the aligned model again" in shown["error"]


@pytest.mark.parametrize("wanted", [None, 5, "", "../x", ["a"], {"a": 1}])
def test_only_an_alignment_of_the_list_can_be_chosen(aligned, wanted):
    with pytest.raises(UserError, match="no such finished run"):
        layers_moved.choose(VISITOR, wanted)


# -- dropping, undoing, tokens -----------------------------------------------------------------------------------------


@pytest.fixture
def captured(workspace):
    """A capture of the visitor's pairs, as far as dropping needs one."""
    return finished(pairs=layers_data.snapshot(workspace))


def test_dropped_pairs_can_be_brought_back(workspace, captured):
    ids = state.load_pairs_of(workspace).ids
    state.change(VISITOR, picked=[3])
    count, after = layers_drop.drop(VISITOR, captured, ids[:10])
    assert count == 10 and after.pairs["count"] == 30 and after.picked == [3], "picks stay"
    assert layers_drop.can_undo(after)
    with pytest.raises(UserError, match="dropped already"):
        layers_drop.drop(VISITOR, captured, ids[:10])
    with pytest.raises(UserError, match="no longer among your pairs"):
        layers_drop.now_of(VISITOR, captured, ids[0])
    back = layers_drop.undo(VISITOR)
    assert back.pairs["count"] == 40 and back.pairs["fingerprint"] == workspace.pairs["fingerprint"]
    assert state.load_pairs_of(back)[0].chosen == "a good answer 0"
    with pytest.raises(UserError, match="not a drop"):
        layers_drop.undo(VISITOR)
    assert isinstance(layers_drop.now_of(VISITOR, captured, ids[0]), int)


def test_tokens_are_read_once_and_not_for_a_pair_that_was_left(workspace, captured, monkeypatch):
    ids, asked = state.load_pairs_of(workspace).ids, []
    monkeypatch.setattr(state, "model_of", lambda workspace: "model")
    monkeypatch.setattr(layers_tokens, "_read", lambda loaded, run, pair: asked.append(pair.id) or {"id": pair.id})
    assert layers_tokens.read(workspace, captured, ids[0], lambda: False) is None and asked == []
    assert layers_tokens.read(workspace, captured, ids[0]) == {"id": ids[0]}
    assert layers_tokens.read(workspace, captured, ids[0], lambda: False) == {"id": ids[0]}, "kept"
    assert asked == [ids[0]] and layers_tokens.known(captured, ids[1]) is None
    for wrong in (None, "0", True, 10**9, [ids[0]]):
        with pytest.raises(UserError, match="no such pair"):
            layers_tokens.read(workspace, captured, wrong)
