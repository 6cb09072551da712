"""What one visitor brings and chooses is not lost: not to another tab, not to a later answer, not to another name."""

import json
import threading

import pytest

from workbench.pairs import store as kept
from workbench.runs import store
from workbench.ui import (
    layers_data,
    layers_drop,
    layers_phase,
    pairs_data,
    pairs_edit,
    pairs_files,
    pairs_history,
    pairs_lengths,
    pairs_report,
    pairs_table,
    state,
    step_layers,
)

VISITOR = "v" * 32


def rows(count):
    return [{"prompt": f"question {i}", "chosen": f"a good answer {i}", "rejected": f"bad {i}"} for i in range(count)]


def bring(folder, name="a.jsonl", count=40):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows(count))))
    return pairs_data.take_upload(VISITOR, str(path))


def captured(workspace):
    run = store.create("separability", {"model": "demo", "pairs": layers_data.snapshot(workspace)}, owner=VISITOR)
    run.write_status(state="finished", ended=1.0)
    return run


def meanwhile(monkeypatch, where, name, what):
    """The next call of that function is followed by ``what`` in another thread, before its caller goes on."""
    real = getattr(where, name)

    def then(*args, **named):
        made = real(*args, **named)
        monkeypatch.setattr(where, name, real)
        other = threading.Thread(target=what)
        other.start()
        other.join(30)
        return made

    monkeypatch.setattr(where, name, then)


def test_an_edit_does_not_tidy_away_what_another_tab_brings(tmp_path, monkeypatch):
    bring(tmp_path)
    meanwhile(monkeypatch, pairs_history, "write", lambda: pairs_edit.remove_pairs(VISITOR, [2]))
    workspace = bring(tmp_path, "b.jsonl", 30)
    assert len(state.load_pairs_of(workspace)) == 30
    assert len(list(workspace.folder.glob("pairs-*.jsonl"))) == 1, "and what was replaced is gone"


def test_a_file_that_is_being_read_is_not_tidied_away(tmp_path, monkeypatch):
    bring(tmp_path)
    meanwhile(monkeypatch, pairs_data, "load", lambda: pairs_data.take_bundled(VISITOR, "demo"))
    workspace = bring(tmp_path, "b.jsonl", 30)
    assert len(state.load_pairs_of(workspace)) == 30
    assert pairs_files.raw_of(workspace).is_file()
    assert len(list(workspace.folder.glob("raw-*"))) == 1


def test_a_finished_capture_keeps_what_was_chosen_while_its_picture_was_made(tmp_path):
    seen = bring(tmp_path)
    run = captured(seen)
    state.keep_setting(VISITOR, seed=5)
    state.change(VISITOR, picked=[1])
    layers_phase.settle(seen, run, {"blocks": [{"l": 0}, {"l": 1}], "suggested": [0]})
    now = state.open_workspace(VISITOR)
    assert (now.settings["seed"], now.settings["layers_shown"], now.picked) == (5, run.id, [1])


def test_two_downloads_at_once_do_not_share_a_file(tmp_path, monkeypatch):
    bring(tmp_path)
    meanwhile(monkeypatch, pairs_files, "_parquet", lambda: pairs_files.clean_file(VISITOR, "csv"))
    path = pairs_files.clean_file(VISITOR, "parquet")
    assert path.read_bytes()[:4] == b"PAR1"
    assert path.with_suffix(".csv").read_text().startswith("prompt,chosen,rejected")


@pytest.mark.parametrize("limit", [1, 64 << 20])
def test_a_drop_in_step_2_means_the_pairs_that_were_measured(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(kept, "IN_MEMORY", limit)  # 1: as those of a large file, numbered anew only in ``numbers``
    run = captured(bring(tmp_path))
    pairs_edit.remove_pairs(VISITOR, [1, 5])
    before = {pair.chosen for pair in state.load_pairs_of(state.open_workspace(VISITOR))}
    count, workspace = layers_drop.drop(VISITOR, run, [10, 11])
    gone = before - {pair.chosen for pair in state.load_pairs_of(workspace)}
    assert (count, gone) == (2, {"a good answer 9", "a good answer 10"})


def test_what_was_added_by_hand_is_no_dropped_row_of_the_file(tmp_path):
    bring(tmp_path)
    added = pairs_edit.add_pair(VISITOR, "one more", "much longer", "no")
    pairs_edit.remove_pairs(VISITOR, [added, 3], too_long=True)
    assert pairs_files.dropped_of(state.open_workspace(VISITOR)) == {"too long": [3]}


def test_a_file_may_have_any_name(tmp_path):
    bring(tmp_path, "a.pasted", 30)  # the ending that pasted text has in the workspace
    assert state.open_workspace(VISITOR).pairs["count"] == 30
    (tmp_path / "b.pasted").write_bytes(b"\xff\xfe\x81\x00\xd8")
    with pytest.raises(pairs_data.UserError, match=r"b\.pasted"):
        pairs_data.take_upload(VISITOR, str(tmp_path / "b.pasted"))


def test_pairs_that_are_too_long_are_found_once_they_are_counted(tmp_path):
    path = tmp_path / "long.jsonl"
    long = {"prompt": "a long one", "chosen": "word " * 3000, "rejected": "no"}
    path.write_text("\n".join(map(json.dumps, [*rows(30), long])))
    workspace = pairs_data.take_upload(VISITOR, str(path))
    wanted = pairs_table.Wanted(show="long")
    assert len(pairs_table.matching(workspace, wanted)) == 0, "nothing is counted yet: a table may ask already"
    assert pairs_lengths.lengths_of(workspace)["too_long"] == [31]
    assert pairs_table.matching(workspace, wanted).tolist() == [30]


def test_near_duplicates_beyond_the_list_are_not_denied():
    near = {"pairs": 120, "groups": [[1, 2]] * 50, "by": "words"}
    said = str(pairs_report.hints({"hints": {"near_duplicates": near}}, False, None, 100, 0))
    assert "At least 100 pairs are nearly the same" in said
    near = {"pairs": 2, "groups": [[1, 2]], "by": "words"}
    said = str(pairs_report.hints({"hints": {"near_duplicates": near}}, False, None, 2, 0))
    assert "At least" not in said


def test_the_split_is_coloured_by_the_seed_that_steps_1_and_3_show(tmp_path, monkeypatch):
    run = captured(bring(tmp_path))
    state.keep_setting(VISITOR, align={"draft": {"seed": "7"}})
    asked = []
    monkeypatch.setattr(step_layers, "finished_run", lambda visitor: run)
    monkeypatch.setattr(layers_data, "colour_values", lambda run, column, seed: asked.append(seed))
    step = object.__new__(step_layers.LayersStep)
    step.colour = "colour"
    step.colour_by(VISITOR, {"column": "split"})
    assert asked == [7]


def test_undo_in_a_tab_that_has_not_seen_the_last_change_is_refused(tmp_path):
    def version():
        return state.open_workspace(VISITOR).pairs["fingerprint"]

    bring(tmp_path)
    pairs_edit.remove_pairs(VISITOR, [1])
    seen = version()
    pairs_edit.change_pair(VISITOR, 3, "written in another tab", "a long answer", "b")
    with pytest.raises(pairs_data.UserError, match="another tab"):
        pairs_edit.step(VISITOR, "undo", seen)
    latest = version()
    assert pairs_edit.step(VISITOR, "undo", latest) == "changed pair 3"
    assert pairs_edit.step(VISITOR, "undo", latest) == "removed pair 1", "two quick presses are two"
    assert pairs_edit.step(VISITOR, "redo", version()) == "removed pair 1"
