"""The terminal's verbs about runs: the queue, three ways to stop, names, the bin, runs beside each other."""

import json
import threading
from pathlib import Path

import pytest

from tests.fake_work import wait
from workbench.cli import main
from workbench.runs import create, list_runs, stop, submit

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def fake_work(monkeypatch):
    """``align`` counts instead of training."""
    for name, value in (("OMP_NUM_THREADS", "1"), ("PYTHONPATH", str(ROOT)), ("RAHF_FAKE_STEPS", "8")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAHF_WORK", "align=tests.fake_work:count")
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def say(capfd):
    """Runs one command in this process and returns (exit code, what --json printed, stderr)."""

    def run(*arguments):
        code = main([*map(str, arguments), "--json"])
        seen = capfd.readouterr()
        assert "Traceback" not in seen.err
        return code, json.loads(seen.out) if seen.out.strip() else None, seen.err

    return run


def made(steps=400, **config):
    return create("align", {"steps": steps, "pause": 0.05, "device": "cpu", **config})


def test_the_queue_is_shown_reordered_and_waited_for(say, capfd):
    first, second, third = made(), made(), made()
    for run in (first, second, third):
        submit(run)
    wait(lambda: first.state == "running")
    assert [row["position"] for row in say("queue")[1]["queue"]] == [0, 1, 2]
    rows = say("queue", third.id, "--sooner")[1]["queue"]
    assert [row["run"] for row in rows] == [first.id, third.id, second.id]
    assert say("queue", third.id)[0] == 2
    assert main(["queue"]) == 0 and "works" in capfd.readouterr().out
    assert main(["runs"]) == 0 and "place 1 in the queue" in capfd.readouterr().out
    assert {row["run"]: row["queue"] for row in say("runs")[1]["runs"]}[second.id]["position"] == 2
    for run in (second, third):
        assert say("stop", run.id)[1] == {"run": run.id, "state": "stopped"}
    mine = made(steps=3)  # resumed in this terminal: it waits for its turn
    ender = threading.Thread(target=lambda: (wait(lambda: (mine.path / "spawned.json").exists()), stop(first)))
    ender.start()
    code, result, _ = say("resume", mine.id)
    ender.join()
    assert code == 0 and result["counted"] == 3
    assert first.state == "stopped"


def test_stopping_in_three_ways(say, monkeypatch):
    monkeypatch.setenv("RAHF_WORK", "align=tests.fake_work:act_align")
    run = create("align", {"align_steps": 400, "device": "cpu"})
    submit(run)
    wait(lambda: run.state == "running")
    assert say("stop", run.id, "--discard")[1] == {"run": run.id, "state": "discarded"}
    assert say("restore")[1]["bin"][0]["run"] == run.id
    assert say("restore", run.id[:-2])[1] == {"run": run.id}
    assert say("stop", run.id, "--keep")[1] == {"run": run.id, "state": "stopped", "partial": None}
    assert say("stop", run.id, "--keep", "--discard")[0] == 2
    assert say("restore", "scit-nothing")[0] == 2


def test_names_notes_and_the_bin(say):
    run = made(title="no")
    assert say("rename", run.id, "My run", "--note", "why")[1] == {"run": run.id, "title": "My run", "note": "why"}
    assert say("rename", run.id, "")[1]["title"] == ""
    assert say("rename", run.id)[0] == 2 and say("rename", run.id, "x" * 81)[0] == 2
    assert say("delete", run.id)[1]["state"] == "deleted" and list_runs() == []
    assert say("restore", run.id)[0] == 0 and [item.id for item in list_runs()] == [run.id]


def test_runs_beside_each_other(say, capfd):
    one, other = made(lora_rank=8, seed=1), made(lora_rank=16, seed=1)
    found = say("differ", one.id, other.id)[1]
    assert found["settings"] == [{"name": "lora_rank", "values": [8, 16]}] and found["same"] == 4
    assert main(["differ", one.id, other.id]) == 0
    assert "lora rank" in capfd.readouterr().out
    assert say("differ", one.id)[0] == 2
