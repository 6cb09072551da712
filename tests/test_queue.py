"""The queue: one run at a time on a device, in order, whoever leaves or dies."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.fake_work import wait
from workbench.errors import Stopped, UserError
from workbench.runs import bin, create, find_run, list_runs, queue, resume, stop, submit

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Every test has runs of its own, in which aligning only counts."""
    monkeypatch.setenv("RAHF_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RAHF_WORK", "align=tests.fake_work:count,hang=tests.fake_work:hang,count=tests.fake_work:count")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))


def made(owner="", steps=400, pause=0.05, **config):
    return create("align", {"steps": steps, "pause": pause, "device": "cpu", **config}, owner=owner)


@pytest.fixture
def started():
    """Submits runs and ends whatever is left of them."""
    runs = []

    def begin(*new):
        for run in new:
            submit(run)
            runs.append(run)
        return new

    yield begin
    for run in reversed(runs):
        if run.path.exists():
            stop(run, grace=0.5)


def test_one_works_and_the_others_wait_in_order_with_a_place(started):
    first, second, third = started(made(), made(), made())
    wait(lambda: first.state == "running")
    assert [second.state, third.state] == ["queued", "queued"] and not second.active()
    assert queue.place(first) is None
    assert queue.place(second)["position"] == 1 and queue.place(third) == {"position": 2, "of": 2, "seconds": None}
    assert stop(second) == "stopped" and queue.place(third)["position"] == 1
    (other,) = started(made(device="cuda"))  # another device waits for nobody
    wait(lambda: other.state == "running")
    assert stop(first) == "stopped"
    wait(lambda: third.state == "running")  # the worker that ended has started it


def test_the_time_to_wait_is_learnt_from_finished_runs(started):
    like = {"method": "scit", "model": "demo"}
    (quick,) = started(made(steps=3, align_steps=10, **like))
    wait(lambda: quick.state == "finished" and queue.expected(quick))
    took = quick.status()["seconds"]
    first, second = started(made(align_steps=100, **like), made(align_steps=10, **like))
    assert queue.expected(first) == pytest.approx(10 * took)
    seconds = queue.place(second)["seconds"]
    assert 0 <= seconds <= max(5.0, 10 * took)


def test_changing_places_and_only_among_one_s_own(started):
    _, a, b, c = started(made(), made("ann"), made("bob"), made("ann"))

    def order():
        return [entry.run.id for entry in queue.entries() if not entry.working]

    assert order() == [a.id, b.id, c.id]
    queue.move(c, -1, owner="ann")
    assert order() == [c.id, b.id, a.id]  # bob has neither won nor lost
    queue.move(b, -1)
    assert order() == [b.id, c.id, a.id]
    queue.move(b, -1)
    assert order() == [b.id, c.id, a.id]
    stop(a)
    with pytest.raises(UserError, match="does not wait"):
        queue.move(a, 1)


def test_the_next_run_starts_after_a_kill_when_somebody_looks(started):
    first, second = started(made(), made())
    wait(lambda: first.state == "running")
    os.kill(first.status()["pid"], signal.SIGKILL)
    wait(lambda: first.state == "interrupted")
    queue.tend()
    wait(lambda: second.state == "running")
    resume(first)
    assert first.state == "queued" and queue.place(first)["position"] == 1


def test_the_queue_outlives_the_server(started):
    """The process that submitted is killed; the run it started works on, and at its end starts the one that waited."""
    code = (
        "import time; from workbench.runs import create, submit\n"
        "for _ in range(2):\n"
        "    run = create('align', {'steps': 15, 'pause': 0.05, 'device': 'cpu'}, owner='ann')\n"
        "    submit(run); print(run.id, flush=True)\n"
        "time.sleep(60)"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    first, second = (find_run(server.stdout.readline().strip()) for _ in range(2))
    server.kill()
    server.wait()
    wait(lambda: first.state == "finished")
    wait(lambda: second.state == "finished")
    assert first.status()["result"]["counted"] == 15


def test_a_queue_whose_folder_was_lost_is_made_again(started, tmp_path):
    first, second = started(made("ann"), made("ann"))
    wait(lambda: first.state == "running")
    for path in (tmp_path / "runs" / "queue").iterdir():
        path.unlink()
    (tmp_path / "runs" / "queue" / "rubbish").write_text("x")
    stop(first)
    assert second.state == "queued"
    queue.recover()
    wait(lambda: second.state == "running")


def test_a_terminal_waits_for_its_turn_and_leaves_when_stopped(started):
    (first,) = started(made())
    wait(lambda: first.state == "running")
    mine, places, entered = made(), [], threading.Event()

    def go():
        with queue.turn(mine, places.append, patience=0.02):
            entered.set()

    thread = threading.Thread(target=go)
    thread.start()
    wait(lambda: places)
    assert places[0]["position"] == 1 and mine.state == "queued" and not entered.is_set()
    (last,) = started(made())
    stop(first)
    wait(entered.is_set)
    thread.join()
    wait(lambda: last.state == "running")  # nothing was done within the turn, so the next one starts
    left = made()
    with pytest.raises(Stopped), queue.turn(left, lambda place: left.request_stop(), patience=0.02):
        raise AssertionError("it was not its turn")
    assert left.state == "stopped" and queue.place(left) is None


def test_what_was_asked_to_stop_is_ended_by_whoever_looks(started, monkeypatch):
    """The page that asked has gone: the queue goes on with the escalation and starts the next run."""
    (hanging,) = started(made(hangs=True))
    wait(lambda: hanging.status()["message"] == "hanging")
    monkeypatch.setattr(queue.control, "GRACE", 0.4)
    (waiting,) = started(made(steps=2))
    hanging.request_stop()

    def looked():
        queue.tend()
        return hanging.state == "stopped" and waiting.state == "finished"

    wait(looked)


def test_a_visitor_has_a_number_of_waiting_runs(started, monkeypatch):
    monkeypatch.setattr(queue, "MOST_WAITING", 2)
    started(made("ann"), made("ann"))
    with pytest.raises(UserError, match="waiting already"):
        submit(made("ann"))
    started(made("bob"))


def test_deleted_runs_can_be_taken_back_until_the_bin_is_emptied(started, monkeypatch):
    run = made("ann")
    run.describe(title=" My <b>run</b>\x00 ", note="a\nb")
    assert run.status()["title"] == "My <b>run</b>" and run.status()["note"] == "a\nb"
    bin.throw_away(run)
    assert list_runs() == [] and [item.id for item in bin.thrown_away("ann")] == [run.id]
    assert bin.thrown_away("bob") == []
    for owner, name in (("bob", run.id), ("ann", "../x"), ("ann", None)):
        with pytest.raises(UserError, match="no longer in the bin"):
            bin.restore(name, owner)
    assert bin.empty_bin() == 0
    back = bin.restore(run.id, "ann")
    assert back.status()["title"] == "My <b>run</b>" and [item.id for item in list_runs()] == [run.id]
    bin.throw_away(back)
    now = time.time()
    monkeypatch.setattr(bin.time, "time", lambda: now + 30 * 86400)  # the clock was set forward: nothing is lost
    assert bin.empty_bin() == 0
    mark = bin.bin_root() / run.id / bin.MARK
    mark.write_text(json.dumps({"at": now}))  # and before the machine was last started
    assert bin.empty_bin() == 1 and bin.thrown_away() == []


def test_a_run_in_a_folder_of_its_own_is_deleted_with_a_way_back(tmp_path):
    run = create("align", {}, folder=tmp_path / "mine")
    bin.throw_away(run)
    assert list_runs() == [] and (tmp_path / "mine" / "config.yaml").exists()
    assert bin.restore(run.id).path == tmp_path / "mine" and [item.id for item in list_runs()] == [run.id]


def test_a_working_run_cannot_be_deleted(started):
    (run,) = started(made())
    with pytest.raises(UserError, match="still working"):
        bin.throw_away(run)


def test_short_work_does_not_wait(started):
    started(made())
    run = create("count", {"steps": 2})
    submit(run)
    wait(lambda: run.state == "finished")
    with pytest.raises(UserError, match="nothing to resume"):
        resume(run)
