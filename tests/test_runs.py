"""Runs: what is on disk is whole and true whatever happens to the processes."""

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.fake_work import wait
from workbench import jsonfile
from workbench.errors import UserError
from workbench.progress import Event
from workbench.runs import create, execute, files, find_run, list_runs, open_run, resume, spawn, stop, worker
from workbench.runs.events import EventLog, Pace
from workbench.runs.store import GONE

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Every test has runs of its own, and kinds of work that cost nothing."""
    monkeypatch.setenv("RAHF_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RAHF_WORK", ",".join(f"{name}=tests.fake_work:{name}" for name in ("count", "hang", "fail")))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))


def begun(run, state="running"):
    spawn(run)
    wait(lambda: run.state == state and run.events()[0])
    return run


# --- events


def test_events_are_read_once_and_a_torn_line_never(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    assert log.read() == ([], 0)
    log.append(Event("align", 1, 9, {"loss": float("nan"), "text": "zwei\nZeilen \u2028"}))
    events, position = log.read()
    assert [event.step for event in events] == [1] and events[0].metrics["loss"] is None
    assert events[0].metrics["text"] == "zwei\nZeilen \u2028"
    assert log.read(position) == ([], position)
    with open(log.path, "a") as file:
        file.write('{"stage": "align", "st')  # the worker was killed here
    assert log.read(position) == ([], position)
    EventLog(log.path).append(Event("align", 2, 9))  # the next worker
    events, position = log.read(position)
    assert [event.step for event in events] == [2]
    assert position == log.path.stat().st_size


@pytest.mark.parametrize("since", [-5, 10**9])
def test_a_position_outside_the_file_reads_from_the_beginning(tmp_path, since):
    log = EventLog(tmp_path / "events.jsonl")
    log.append(Event("load"))
    assert len(log.read(since)[0]) == 1


def test_bare_steps_are_thinned_and_metrics_are_not():
    pace = Pace()
    bare = [pace.keep(Event("capture", step, 1000, time=step / 1000)) for step in range(1, 1001)]
    assert sum(bare) < 10 and bare[0] and bare[-1]
    pace = Pace(plenty=100)
    events = [Event("align", step, 1000, {"loss": 1.0, "seconds_left": 3}, time=step / 1000) for step in range(1, 1000)]
    assert 100 <= sum(map(pace.keep, events)) < 120
    assert pace.keep(Event("align", 500, 1000, {"win_rate": 0.5}, time=1.0))


def test_time_left_comes_from_the_speed_of_this_go():
    pace = Pace()
    for step in (100, 110):  # resumed at step 100
        event = Event("align", step, 200, time=1000.0 + step / 10)
        pace.keep(event)
    assert pace.seconds_left(event) == pytest.approx(9.0)
    assert pace.seconds_left(Event("save", 0, 0)) is None


# --- store


def test_a_file_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "status.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert files.read_json(path) == {"a": 1} and os.listdir(tmp_path) == ["status.json"]
    bad, over = [], threading.Event()

    def look():
        while not over.is_set():
            if files.read_json(path) is None:
                bad.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(200):
        files.write_json(path, {"a": "x" * number * 50}, sync=False)
    over.set()
    thread.join()
    assert not bad


def test_a_run_is_made_found_listed_and_deleted():
    run = create("align", {"method": "scit", "model": "demo", "alpha": None, "title": "ü"}, owner="ann")
    assert run.id.startswith("scit-") and run.config()["title"] == "ü"
    assert run.status()["state"] == "queued" and run.status()["model"] == "demo" and not run.active()
    other = create("separability", {"model": "demo"})
    assert other.id.startswith("separability-")
    assert [item.id for item in list_runs()] == [run.id]
    assert [item.id for item in list_runs(all=True)] == [other.id, run.id]
    assert [item.id for item in list_runs(owner="ann", all=True)] == [run.id]
    assert open_run(run.id, "ann") == open_run(run.id) == run
    with pytest.raises(UserError):
        open_run(run.id, "bob")
    assert find_run(run.id[:-4]) == find_run(run.path) == run
    run.delete()
    assert not run.path.exists() and [item.id for item in list_runs(all=True)] == [other.id]


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc",
        "",
        ".",
        "scit-20260101-101010-aaaaaaaaaaa/",
        "scit-20260101-101010-aaaaaaaaaaaa\n",
        "scit-20260101-101010-AAAAAAAAAAAA",
        "scit-20260101-101010-aaaaaaaaaaaa",
        "\0",
        "%2e%2e",
        "a" * 9999,
        None,
        3,
    ],
)
def test_hostile_ids_open_nothing(name):
    create("align", {})
    with pytest.raises(UserError, match="no such run"):
        open_run(name)


def test_a_path_opens_a_run_at_the_terminal_only(tmp_path):
    run = create("align", {"method": "dual"}, folder=tmp_path / "mine")
    assert run.path == tmp_path / "mine" and find_run(str(tmp_path / "mine")) == run
    assert [item.id for item in list_runs()] == [run.id] and open_run(run.id).path == run.path
    with pytest.raises(UserError):
        open_run(str(tmp_path / "mine"))
    with pytest.raises(UserError, match="already holds a run"):
        create("align", {}, folder=tmp_path / "mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="not empty"):
        create("align", {}, folder=tmp_path / "full")
    with pytest.raises(UserError, match="is a file"):
        create("align", {}, folder=tmp_path / "full" / "thesis.txt")
    for name in ("", "nothing-like-it", str(tmp_path), str(tmp_path / "no")):
        with pytest.raises(UserError):
            find_run(name)
    create("align", {"method": "dual"})
    with pytest.raises(UserError, match="2 runs begin"):
        find_run("dual-")
    run.delete()
    assert not (tmp_path / "mine").exists() and len(list_runs()) == 1


def test_damaged_folders_are_passed_over(tmp_path):
    run = create("align", {})
    (run.path / "status.json").write_text("{")
    assert run.state == "interrupted"
    (run.path / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        run.config()
    (run.path / "run.json").write_text("null")
    (tmp_path / "runs" / "scit-20260101-101010-aaaaaaaaaaaa").mkdir()
    assert list_runs(all=True) == []


def test_a_full_disk_is_told_before_the_start(monkeypatch):
    run = create("count", {})
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3 * 2**20}))
    for start in (lambda: create("count", {}), lambda: spawn(run), lambda: execute(run)):
        with pytest.raises(UserError, match="3 MB free and a run needs 256 MB"):
            start()
    assert run.state == "queued"


def test_a_number_of_a_process_used_again_is_not_the_process():
    start = files.process_start(os.getpid())
    assert files.alive(os.getpid(), start)
    assert not files.alive(os.getpid(), start - 60 if isinstance(start, float) else f"{start}0")
    assert not files.alive(2**22 + 5, start) and not files.alive(None, None) and not files.alive(-1, start)


# --- worker in this process


def test_work_in_this_process():
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in a shell's background
    run, seen = create("count", {"steps": 500}), []
    status = execute(run, seen.append)
    assert status["state"] == "finished" and status["result"]["counted"] == 500
    assert status["layers"] == [3, 4] and status["alpha"] == 0.5 and status["ended"] >= status["started"]
    assert [event.step for event in seen] == list(range(1, 501))
    assert len(run.events()[0]) == 500 and run.events()[0][100].metrics["seconds_left"] >= 0
    assert signal.getsignal(signal.SIGINT) is before
    json.dumps(status)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("user", "The pairs are empty; give at least one."),
        ("memory", "not enough memory"),
        ("cuda", "not enough memory"),
        ("disk", "disk is full"),
        ("odd", "unexpected.*ZeroDivisionError: division by zero"),
        ("exit", "SystemExit"),
    ],
)
def test_failures_end_in_a_sentence(error, words):
    run = create("fail", {"error": error})
    status = execute(run)
    assert status["state"] == "failed"
    assert re.search(words, status["error"])
    assert "Traceback" not in status["error"] and "Traceback" in (run.path / "worker.log").read_text()


def test_the_last_word_is_written_on_a_full_disk(monkeypatch):
    """Nothing can be written while the space set aside is still taken."""
    run = create("fail", {"error": "disk"})
    whole = jsonfile.write_whole

    def write(path, text, sync=True):
        if (run.path / "reserve").exists() and "running" not in text:
            raise OSError(28, "No space left on device")
        whole(path, text, sync)

    monkeypatch.setattr(jsonfile, "write_whole", write)
    assert execute(run)["state"] == "failed" and "disk is full" in run.status()["error"]


def test_two_workers_on_one_run():
    run = create("count", {})
    with run.lock() as mine:
        assert mine
        with pytest.raises(UserError, match="Another process"):
            execute(run)
    assert execute(run)["state"] == "finished"


def test_one_interrupt_stops_and_two_interrupt():
    run = create("count", {"steps": 100, "pause": 0.01})
    assert execute(run, lambda event: event.step == 5 and signal.raise_signal(signal.SIGINT))["state"] == "stopped"
    assert run.events()[0][-1].step == 5
    run = create("hang", {})

    def twice():
        for pause in (0.3, 0.3):
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=twice).start()
    with pytest.raises(KeyboardInterrupt):
        execute(run)
    assert run.state == "stopped"


# --- workers in processes of their own


def test_killed_then_interrupted_then_resumed():
    run = begun(create("count", {"steps": 60, "pause": 0.05}))
    with pytest.raises(UserError, match="working already"):
        spawn(run)
    with pytest.raises(UserError, match="still working"):
        run.delete()
    first = run.status()["started"]
    os.kill(run.status()["pid"], signal.SIGKILL)
    wait(lambda: run.state == "interrupted", 3)
    status = run.status()
    assert status["error"] == GONE and status["seconds"] >= 0 and not run.active()
    with open(run.path / "events.jsonl", "a") as file:
        file.write('{"torn')
    resume(run)
    wait(lambda: run.state == "finished")
    status = run.status()
    assert status["started"] == first < status["since"]
    assert status["result"]["counted"] == 60 and status["result"]["began"] > 0 and status["error"] is None
    steps = [event.step for event in run.events()[0]]
    assert steps == sorted(steps) and steps[-1] == 60
    assert "a library prints this" in (run.path / "worker.log").read_text()
    with pytest.raises(UserError, match="nothing to resume"):
        resume(run)


def test_stop_and_resume_within_seconds():
    run = begun(create("count", {"steps": 40, "pause": 0.05}))
    pid, at = run.status()["pid"], time.time()
    assert stop(run) == "stopped" and time.time() - at < 2
    assert "resume" in run.status()["message"] and run.status()["error"] is None
    wait(lambda: not files.alive(pid, None), 3)  # no zombie either
    resume(run)
    wait(lambda: run.state == "finished")
    assert stop(run) == "finished"


def test_a_worker_that_does_not_answer_is_ended():
    run = begun(create("hang", {}))
    pid = run.status()["pid"]
    at = time.time()
    assert stop(run, grace=0.5, saving=1.0) == "stopped" and time.time() - at < 4
    assert "by force" in run.status()["message"] and not files.alive(pid, None)
    run.delete()


def test_a_worker_that_dies_before_it_begins(monkeypatch):
    run = create("count", {})
    monkeypatch.setattr(worker.sys, "executable", "/bin/false")
    spawn(run)
    wait(lambda: run.state == "interrupted", 3)


def test_stop_of_a_run_that_never_started_and_of_an_unknown_kind():
    run = create("count", {})
    assert stop(run) == "stopped"
    assert "does not know" in execute(create("unheard", {}))["error"]
