"""What one visitor may take of the machine: disk up to a quota, and no memory that a run needs."""

import gzip
import json

import pytest
from tiny import PAIRS, tiny_model

from workbench.errors import UserError
from workbench.runs import bin, create, list_runs
from workbench.ui import align_check, answers, layers_runs, page, pairs_data, quota, state, step_align


@pytest.fixture
def visitor(tmp_path, monkeypatch):
    monkeypatch.setenv("RAHF_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RAHF_QUOTA", "200000")
    monkeypatch.setattr(align_check.wait, "__defaults__", (300.0,))  # what a run will cost is told, however busy it is
    return state.new_visitor()


def fill(run, size):
    (run.path / "big").write_bytes(bytes(size))
    return run


def packed(path, lines):
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return str(path)


def test_the_limit_is_for_visitors_not_for_owners(monkeypatch):
    for variable in ("RAHF_QUOTA", "RAHF_OWNER", "RAHF_PUBLIC", "SPACE_ID"):
        monkeypatch.delenv(variable, raising=False)
    assert quota.most() is None  # at home
    monkeypatch.setenv("RAHF_PUBLIC", "1")
    assert quota.most() == quota.PUBLIC
    for given, wanted in (("5e6", 5_000_000), ("nonsense", quota.PUBLIC), ("-3", quota.PUBLIC), ("inf", quota.PUBLIC)):
        monkeypatch.setenv("RAHF_QUOTA", given)
        assert quota.most() == wanted
    monkeypatch.setenv("RAHF_OWNER", "1")
    assert quota.most() is None and quota.room(state.new_visitor()) is None


def test_a_full_quota_is_told_before_anything_is_written(visitor, tmp_path):
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    pairs_data.take_upload(visitor, str(tmp_path / "pairs.jsonl"))
    workspace = state.open_workspace(visitor)
    run = fill(create("align", {"pairs": "demo"}, owner=visitor), 250_000)
    before = sorted(workspace.folder.iterdir())
    begun = (
        lambda: pairs_data.take_upload(visitor, str(tmp_path / "pairs.jsonl")),
        lambda: pairs_data.take_text(visitor, '{"prompt": "a", "chosen": "b", "rejected": "c"}'),
        lambda: pairs_data.take_hub(visitor, "some/pairs"),
        lambda: layers_runs.start_capture(visitor),
    )
    for act in begun:
        with pytest.raises(
            UserError, match=r"^Your pairs and runs take 0.\d\d? MB of the 0.\d\d? MB that each visitor"
        ):
            act()
    assert sorted(workspace.folder.iterdir()) == before and [one.id for one in list_runs(all=True)] == [run.id]
    other = state.new_visitor()
    pairs_data.take_text(other, '{"prompt": "a", "chosen": "b", "rejected": "c"}')  # others have room of their own


def test_a_run_that_would_write_more_than_is_left_does_not_start(visitor, monkeypatch):
    state.change(visitor, pairs={"kind": "bundled", "source": "demo", "name": "polite-demo", "count": 601})
    with pytest.raises(UserError, match="this would add"):  # the demo's adapters and checkpoints are larger than 0.2 MB
        step_align.start(visitor)
    assert not list_runs(all=True)
    started = []
    monkeypatch.setattr("workbench.runs.worker.submit", started.append)
    monkeypatch.setenv("RAHF_QUOTA", "4e9")
    step_align.start(visitor)
    assert [run.id for run in started] == [run.id for run in list_runs()]


def test_runs_that_wait_count_with_what_they_will_take(visitor, monkeypatch):
    """Small as long as they wait, many of them would together fill more than the visitor may."""
    monkeypatch.setattr("workbench.runs.worker.submit", lambda run: None)
    state.change(visitor, pairs={"kind": "bundled", "source": "demo", "name": "polite-demo", "count": 601})
    monkeypatch.setenv("RAHF_QUOTA", "1e12")
    step_align.start(visitor)
    (run,) = list_runs(all=True)
    coming = run.status()["expected_bytes"]
    assert coming > 100_000 and coming <= quota.used(visitor) < coming + quota.size_of(run.path) + 5_000_000
    monkeypatch.setenv("RAHF_QUOTA", str(quota.used(visitor) + coming // 2))
    with pytest.raises(UserError, match="and this would add"):
        step_align.start(visitor)
    assert len(list_runs(all=True)) == 1
    run.write_status(state="stopped")  # then what is there counts
    assert quota.used(visitor) < coming + quota.size_of(state.open_workspace(visitor).folder)


def test_a_start_that_the_queue_refuses_leaves_no_run(visitor, monkeypatch):
    def refuse(run):
        raise UserError("20 of your runs are waiting already.")

    state.change(visitor, pairs={"kind": "bundled", "source": "demo", "name": "polite-demo", "count": 601})
    monkeypatch.setenv("RAHF_QUOTA", "1e12")
    monkeypatch.setattr("workbench.runs.worker.submit", refuse)
    with pytest.raises(UserError, match="waiting already"):
        step_align.start(visitor)
    assert not list_runs(all=True) and state.open_workspace(visitor).run is None


def test_deleted_runs_make_room_the_oldest_first(visitor):
    runs = [fill(create("align", {}, owner=visitor), 60_000) for _ in range(3)]
    others = fill(create("align", {}, owner=state.new_visitor()), 60_000)
    for run in (*runs, others):
        bin.throw_away(run)
    quota.need(visitor, 1000)
    assert len(bin.thrown_away(visitor)) == 3  # all fit
    quota.need(visitor, 60_000)
    assert [run.id for run in bin.thrown_away(visitor)] == [run.id for run in reversed(runs[1:])]
    assert len(bin.thrown_away()) == 3


def test_a_small_packed_file_cannot_fill_the_disk(visitor, tmp_path):
    long = [{"prompt": f"question {n}", "chosen": "a" * 3000, "rejected": "b" * 3000} for n in range(200)]
    path = packed(tmp_path / "bomb.jsonl.gz", long)
    with pytest.raises(UserError, match=r"The pairs are more than the 0\.\d MB that there is room for"):
        pairs_data.take_upload(visitor, path)
    assert state.open_workspace(visitor).pairs is None and quota.used(visitor) < 20_000
    pairs_data.take_upload(visitor, packed(tmp_path / "fine.jsonl.gz", PAIRS))
    assert state.open_workspace(visitor).pairs["count"] == len(PAIRS)


def test_kept_models_go_when_a_run_needs_the_memory():
    loaded = [tiny_model() for _ in range(2)]
    for cache, item in zip((state._models, answers._bases), loaded, strict=True):
        cache.get("a key", lambda item=item: item)
    state.forget_models()
    assert state._models.peek("a key") is None and answers._bases.peek("a key") is None


def test_an_answer_that_finds_no_memory_says_so_and_frees_some():
    import torch

    answers._bases.get("a key", tiny_model)
    assert page.told(RuntimeError("something else")) == page.TROUBLE and answers._bases.peek("a key")
    said = page.told(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert said.startswith("There is not enough memory") and answers._bases.peek("a key") is None
