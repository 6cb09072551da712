"""What leaves the page keeps to its bounds: downloads are taken away again, models are made one at a time and only where
there is room, and a push tells no more than it says."""

import os
import stat
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import saved, tiny_model

from workbench.errors import UserError
from workbench.export import hub
from workbench.progress import QUIET
from workbench.runs import create
from workbench.ui import align_files, downloads, export_view, making, sharing, step_export

ANN, BOB = "a" * 32, "b" * 32
COMPARED = {
    "columns": [{"name": "A"}, {"name": "B"}],
    "rows": [{"prompt": "p", "answers": [{"text": "1"}, {"text": "2"}]}],
}


def until(condition, seconds=60):
    """Wait for what threads do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


# -- downloads


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(downloads, "_home", None)
    return folder


def aged(path: Path) -> Path:
    """The same folder, untouched for an hour and more."""
    for one in (*path.iterdir(), path):
        os.utime(one, (time.time() - downloads.KEPT - 60,) * 2)
    return path


def test_downloads_are_taken_away_an_hour_later_and_nobody_else_s_are(temporary):
    old, slow = downloads.place("old.zip"), downloads.place("slow.zip")
    old.write_bytes(b"1")
    aged(old.parent)
    aged(slow.parent)
    slow.write_bytes(b"2")  # still being written
    ended = temporary / f"{downloads.PREFIX}ended"  # of a process that is no more
    (ended / "x").mkdir(parents=True)
    (ended / "x" / "file").write_bytes(b"3")
    aged(ended / "x")
    precious = temporary / "precious"
    (precious / "x").mkdir(parents=True)
    aged(precious)
    (temporary / f"{downloads.PREFIX}link").symlink_to(precious)
    new = downloads.place("new.zip")
    new.write_bytes(b"4")
    assert not old.parent.exists() and slow.exists() and new.exists() and not (ended / "x").exists()
    assert (precious / "x").is_dir()
    aged(ended)
    downloads.sweep()
    assert not ended.exists()
    assert stat.S_IMODE(downloads.home().stat().st_mode) == 0o700


def test_every_download_lies_where_it_is_taken_away(temporary, tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text("{}")
    config = {"model": "demo", "pairs": "demo"}
    made = [
        downloads.handed(own),
        sharing.as_file(ANN, COMPARED),
        align_files.written(config, "settings.yaml", "demo"),
    ]
    assert downloads.handed(made[1]) == made[1] and own.exists()
    assert {path.parent.parent for path in made} == {downloads.home()} and all(path.is_file() for path in made)
    assert list(temporary.iterdir()) == [downloads.home()]


def test_everything_in_one_zip_leaves_one_file(temporary, tmp_path, monkeypatch):
    run = SimpleNamespace(id="r", path=tmp_path / "run", status=lambda: {"method": "scit"})
    (run.path / "exports" / "merged").mkdir(parents=True)
    (run.path / "exports" / "merged" / "model.safetensors").write_bytes(bytes(5000))

    def export(folder, to, *, kinds, scores):
        to.mkdir(exist_ok=True)
        (to / f"{kinds[0]}.txt").write_text(kinds[0])

    monkeypatch.setattr(step_export, "chosen", lambda visitor: run)
    monkeypatch.setattr(step_export, "scores_of", lambda visitor: None)
    monkeypatch.setattr(step_export, "write_pairs", lambda run, visitor, to: (to / "fit.jsonl").write_text("{}"))
    monkeypatch.setattr(export_view, "takes", lambda *_: {"adapter": {}, "vectors": {"off": "None."}, "notebook": {}})
    merged = run.path / "exports" / "merged"
    monkeypatch.setattr(export_view, "made_of", lambda run, kind: merged if kind == "merged" else None)
    monkeypatch.setattr("workbench.export.export", export)
    monkeypatch.setattr("workbench.export.report", lambda *_: "<p>")
    step = step_export.Step.__new__(step_export.Step)
    made = [step.all_of_it(ANN), step.made_file(ANN, "merged"), step.zipped_kind(ANN, "adapter"), step.report(ANN)]
    with zipfile.ZipFile(made[0]) as archive:
        assert sorted(archive.namelist()) == [
            "adapter/adapter.txt", "merged/model.safetensors", "notebook/notebook.txt", "pairs/fit.jsonl", "scit-report.html",
        ]  # fmt: skip
        assert archive.getinfo("merged/model.safetensors").compress_type == zipfile.ZIP_STORED
        assert archive.getinfo("pairs/fit.jsonl").compress_type == zipfile.ZIP_DEFLATED
    left = [path for path in temporary.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(made)
    assert {path.parent for path in temporary.rglob("*") if path.is_dir()} == {temporary, downloads.home()}


def test_a_full_disk_is_a_sentence_and_leaves_no_half_a_zip(temporary, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (temporary / "in").mkdir()
    (temporary / "in" / "file").write_text("x")
    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    with pytest.raises(UserError, match=r"No space left on device\): free some disk space"):
        step_export.zipped("x.zip", {"": temporary / "in"})
    assert list(downloads.home().iterdir()) == []


# -- making


@pytest.fixture
def busy(monkeypatch):
    """Somebody's model is being made, and takes its time; ``busy.set()`` ends it."""
    monkeypatch.setattr(making, "_makings", {})
    begun, end = threading.Event(), threading.Event()

    def work(progress):
        begun.set()
        end.wait(120)

    making.start(BOB, "other", "gguf", work)
    assert begun.wait(60)
    yield end
    end.set()
    until(lambda: all(one.done.is_set() for one in making._makings.values()))


def test_pressing_make_and_cancel_again_and_again_leaves_no_threads(busy):
    before, told, worked = threading.active_count(), set(), []
    for _ in range(100):
        try:
            making.start(ANN, "run", "gguf", worked.append)
        except UserError as error:
            told.add(str(error))
        making.cancel("run", "gguf")
    assert threading.active_count() <= before + 1 and told == {making.ENDING}
    until(lambda: threading.active_count() <= before)  # though the other one goes on
    assert not busy.is_set() and not worked


def test_a_visitor_has_one_thing_made_at_a_time_and_others_wait_their_turn(busy):
    made = threading.Event()
    making.start(ANN, "run", "merged", lambda progress: made.set())
    with pytest.raises(UserError, match="One thing at a time"):
        making.start(ANN, "run", "gguf", lambda progress: None)
    making.start(ANN, "run", "merged", lambda progress: None)  # is under way
    assert making.working("run") and not made.is_set()
    busy.set()
    assert made.wait(60)


def test_what_is_done_is_forgotten_and_a_failure_is_told(busy):
    def fails(progress):
        raise UserError("No room: free some.")

    busy.set()
    for at in range(5):
        making.start(ANN, f"run-{at}", "gguf", fails if at == 3 else lambda progress: None)
        assert making.look(f"run-{at}", "gguf").done.wait(60)
    until(lambda: making.look("other", "gguf") is None or making.look("other", "gguf").done.is_set())
    making.start(ANN, "last", "gguf", lambda progress: None)
    assert set(making._makings) == {("run-3", "gguf"), ("last", "gguf")}
    assert making.look("run-3", "gguf").error == "No room: free some."


@pytest.fixture
def pressed(tmp_path, monkeypatch):
    """The press on Merge for a run on a tiny model: a function, and the kinds that were written."""
    monkeypatch.setattr(making, "_makings", {})
    run = create("align", saved(tmp_path, tiny_model()) | {"device": "cpu", "dtype": "float32"}, owner=ANN)
    written = []
    step = step_export.Step.__new__(step_export.Step)
    monkeypatch.setattr(step, "taken", lambda visitor, run: {}, raising=False)
    monkeypatch.setattr(step_export, "chosen", lambda visitor: run)
    monkeypatch.setattr(export_view, "takes", lambda *_: {"merged": {}})
    monkeypatch.setattr(step_export, "write", lambda run, kind, scores, progress: written.append(kind))

    def press():
        step.make(ANN, "merged")
        return making.look(run.id, "merged")

    return SimpleNamespace(run=run, press=press, written=written)


def test_a_model_is_not_merged_where_there_is_no_memory_or_no_room(pressed, monkeypatch):
    now = pressed.press()
    assert now.done.wait(60) and now.error == "" and pressed.written == ["merged"]
    monkeypatch.setattr("workbench.representations.untrained.free_memory", lambda where: 1000)
    with pytest.raises(UserError, match="GiB are free on cpu"):
        pressed.press()
    monkeypatch.setattr("workbench.representations.untrained.free_memory", lambda where: 2**40)
    size = sum(path.stat().st_size for path in Path(pressed.run.config()["model"]).glob("*.safetensors"))
    monkeypatch.setenv("RAHF_QUOTA", str(step_export.quota.used(ANN) + size // 2))
    with pytest.raises(UserError, match=r"and this would add 0\.\d+ MB"):
        pressed.press()
    assert pressed.written == ["merged"]
    monkeypatch.setenv("RAHF_QUOTA", str(step_export.quota.used(ANN) + 2 * size))
    assert pressed.press().done.wait(60) and pressed.written == ["merged"] * 2


def test_what_was_free_at_the_press_is_looked_at_again_in_the_turn(pressed, busy, monkeypatch):
    now = pressed.press()
    monkeypatch.setattr("workbench.representations.untrained.free_memory", lambda where: 1000)
    busy.set()
    assert now.done.wait(60)
    assert "GiB are free on cpu" in now.error and not pressed.written


# -- pushing


@pytest.fixture
def api(monkeypatch):
    """A Hub on which ``public/known`` exists already; what was told it."""
    told = SimpleNamespace(private={"public/known": False}, uploads=[])

    class HfApi:
        def __init__(self, token=None):
            pass

        def create_repo(self, repository, private, exist_ok):
            assert exist_ok
            told.private.setdefault(repository, private)

        def repo_info(self, repository):
            return SimpleNamespace(private=told.private[repository])

        def upload_folder(self, repo_id, folder_path, ignore_patterns):
            told.uploads.append((repo_id, set(ignore_patterns)))

    monkeypatch.setattr("huggingface_hub.HfApi", HfApi)
    return told


def test_what_is_to_be_private_is_not_uploaded_to_what_is_public(api, tmp_path):
    with pytest.raises(UserError, match="public/known exists already and is public: make it private there"):
        hub.push(tmp_path, "public/known", "hf_x", True, QUIET)
    assert api.uploads == []
    hub.push(tmp_path, "public/known", "hf_x", False, QUIET)
    hub.push(tmp_path, "me/new", "hf_x", True, QUIET)
    assert [name for name, _ in api.uploads] == ["public/known", "me/new"] and api.private["me/new"] is True


def test_the_report_is_pushed_only_when_it_is_asked_for(api, tmp_path, monkeypatch):
    import workbench.export as engine

    monkeypatch.setattr(engine, "read_result", lambda folder: {"method": "steering"})
    monkeypatch.setattr(engine, "_write", lambda kind, folder, to, *_: (to / "report.html").write_text("answers"))
    engine.export(tmp_path, tmp_path / "one", kinds=["vectors"], push="me/one", token="hf_x")
    engine.export(tmp_path, tmp_path / "two", kinds=["vectors", "report"], push="me/two", token="hf_x")
    (_, one), (_, two) = api.uploads
    assert {"report.html", "*/report.html", "pairs.jsonl"} <= one
    assert "pairs.jsonl" in two and not any("report" in pattern for pattern in two)


@pytest.mark.parametrize("error", [UserError("No."), RuntimeError("odd"), None])
def test_the_token_field_is_emptied_whatever_happens(error, monkeypatch):
    def push(*_):
        if error is not None:
            raise error

    monkeypatch.setattr(step_export, "chosen", lambda visitor: None)
    monkeypatch.setattr(step_export, "_push", push)
    step = SimpleNamespace(token="token", push="push", pushed="pushed")
    found, caught = [], None
    try:
        for update in step_export.Step.push_it(step, ANN, "me/mine", "Private", "hf_secret"):
            found.append(update)
    except Exception as raised:
        caught = raised
    assert caught is error and found[-1]["token"] == "" and "hf_secret" not in str(found)


def test_the_command_pushes_privately_unless_it_is_told(monkeypatch, capsys):
    from workbench import cli

    asked = []
    run = SimpleNamespace(state="finished", path=None)
    monkeypatch.setattr("workbench.cli.export.store.find_run", lambda name: run)
    monkeypatch.setattr(
        "workbench.export.export",
        lambda *_, **options: asked.append(options["private"]) or {"path": "", "files": [], "bytes": 0},
    )
    for more in ([], ["--public"]):
        assert cli.main(["export", "x", "--to", "y", "--push", "me/mine", *more]) == 0
    assert asked == [True, False]
