"""The command line's contract: one JSON object or a short text on stdout, sentences on stderr, exit codes 0, 2, 130."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.cli.terminal import ProgressLine, duration, table
from workbench.progress import Event
from workbench.runs import create, files, list_runs, spawn, worker

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def fake_work(monkeypatch):
    """``align`` counts instead of training; all the rest is the real thing."""
    monkeypatch.setitem(worker.WORK, "align", "tests.fake_work:count_align")
    monkeypatch.setattr("workbench.cli.method.look_first", lambda *_: None)  # that needs a model and pairs
    monkeypatch.syspath_prepend(str(ROOT))
    for name, value in (("OMP_NUM_THREADS", "1"), ("PYTHONPATH", str(ROOT)), ("RAHF_FAKE_STEPS", "8")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAHF_WORK", "count=tests.fake_work:count,hang=tests.fake_work:hang")


@pytest.fixture
def say(capfd):
    """Runs one command in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        seen = capfd.readouterr()
        assert "Traceback" not in seen.out + seen.err
        return code, seen.out, seen.err

    return run


def refused(answer, *words):
    code, out, err = answer
    assert code == 2 and out == "", (code, out, err)
    last = err.strip().splitlines()[-1]
    assert all(word in last for word in words), last
    return last


# --- errors


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "VERB"),
        ("dance", "invalid choice"),
        ("align --alpha nan", "alpha"),
        ("align --alpha inf", "alpha"),
        ("align --alpha -1", "alpha"),
        ("align --layers three", "layers"),
        ("align --layers=-1", "layers"),
        ("align --method ppo", "method"),
        ("align --foundation sand", "foundation"),
        ("align --seed x", "seed"),
        ("align --steps 0", "align_steps"),
        ("align --set nothing", "name=value"),
        ("align --set colour=red", "colour"),
        ("align --config /no/such.yaml", "/no/such.yaml"),
        ("align --unheard-of", "unknown"),
        ("separability --limit -3", "-3"),
        ("separability --limit 0", "0"),
        ("separability --layers x", "blocks"),
        ("separability --pool max", "max"),
        ("check", "PAIRS"),
        ("generate", "RUN"),
        ("generate nothing --prompt hi", "nothing"),
        ("generate x --steer nan --prompt hi", "nan"),
        ("evaluate ../../etc", "not a run"),
        ("export scit-1 --to /tmp/x", "scit-1"),
        ("resume /etc", "not a run"),
        ("stop zzz", "zzz"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_the_user_can_mend_is_one_sentence(say, command, words, form):
    verb, *rest = command.split() or [None]
    refused(say(*([verb, *form, *rest] if verb else form)), words)
    assert list_runs(all=True) == []


def test_a_fault_of_the_program_is_a_sentence_too(say, monkeypatch):
    monkeypatch.setattr("workbench.runs.store.list_runs", lambda **_: 1 / 0)
    refused(say("runs"), "ZeroDivisionError", "RAHF_DEBUG")


def test_a_run_that_failed_at_the_start_leaves_nothing_behind(say, tmp_path, monkeypatch):
    monkeypatch.setitem(worker.WORK, "align", "tests.fake_work:fail_user")
    refused(say("align", "--out", tmp_path / "mine"), "The pairs are empty")
    assert not (tmp_path / "mine").exists() and list_runs() == []


def test_a_full_disk_is_told(say, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**20}))
    refused(say("align"), "1 MB free")


# --- one JSON object and nothing else


def test_align_prints_its_figures(say):
    code, out, err = say("align", "--json", "--method", "dual", "--steps", "5", "--set", "lora_rank=4")
    assert code == 0 and out.count("\n") == 1
    result = json.loads(out)
    (run,) = list_runs()
    assert result["run"] == run.id and result["layers"] == [3, 4]
    assert run.config()["align_steps"] == 5 and run.config()["lora_rank"] == 4 and run.config()["method"] == "dual"
    assert "a library prints this" in err and "and one in C" in err and "align" in err


def test_the_command_overrides_the_file(say, tmp_path):
    (tmp_path / "f.yaml").write_text("method: dual\nalpha: 0.5\nalign_steps: 7\n")
    assert say("align", "--config", tmp_path / "f.yaml", "--alpha", "auto", "--steps", "9")[0] == 0
    config = list_runs()[0].config()
    assert (config["method"], config["alpha"], config["align_steps"]) == ("dual", None, 9)
    assert say("align", "--config", list_runs()[0].path / "config.yaml")[0] == 0  # a run repeats itself
    assert list_runs()[0].config() == config


def test_a_run_where_the_user_says(say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("{}\n")
    result = json.loads(say("align", "--json", "--pairs", "pairs.jsonl", "--out", "mine")[1])
    assert (tmp_path / "mine" / "status.json").exists() and list_runs()[0].path == tmp_path / "mine"
    assert list_runs()[0].config()["pairs"] == str(tmp_path / "pairs.jsonl")
    assert json.loads(say("resume", "--json", result["run"])[1]) == result  # nothing left to do
    refused(say("align", "--out", "mine"), "already holds a run")


def test_runs_lists_alignments_and_with_all_everything(say):
    assert json.loads(say("runs", "--json")[1]) == {"runs": []}
    assert "no runs yet" in say("runs")[1]
    say("align")
    create("separability", {"model": "demo"})
    (row,) = json.loads(say("runs", "--json")[1])["runs"]
    assert row["state"] == "finished" and row["method"] == "scit" and row["model"] == "demo"
    assert row["seconds"] >= 0 and row["started"] > 0
    assert {item["kind"] for item in json.loads(say("runs", "--all", "--json")[1])["runs"]} == {"align", "separability"}
    assert "finished" in say("runs")[1]


def test_stop_and_resume_of_a_run_elsewhere(say):
    run = create("count", {"steps": 30, "pause": 0.05})
    spawn(run)
    until = time.time() + 10
    while not run.events()[0] and time.time() < until:
        time.sleep(0.02)
    refused(say("resume", run.id), "is working")
    assert json.loads(say("stop", "--json", run.id[:-3])[1]) == {"run": run.id, "state": "stopped"}
    result = json.loads(say("resume", "--json", run.path)[1])
    assert result["counted"] == 30 and result["began"] > 0
    assert say("stop", run.id)[1].strip() == f"{run.id} finished"


def test_help_is_an_answer(say):
    for command in ([], *[[verb] for verb in ("check", "align", "runs", "evaluate", "generate", "export")]):
        code, out, _ = say(*command, "--help")
        assert code == 0 and "usage: python -m workbench" in out


# --- as a process


def command(*arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-c", "import tests.fake_work as f; f.cli()", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **more,
    )  # fmt: skip


def test_interrupted_then_resumed(monkeypatch):
    monkeypatch.setenv("RAHF_FAKE_PAUSE", "0.1")
    monkeypatch.setenv("RAHF_FAKE_STEPS", "30")
    process = command("align", "--json")
    until = time.time() + 15
    while not (list_runs() and list_runs()[0].events()[0]) and time.time() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    (run,) = list_runs()
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert err.strip().splitlines()[-1].endswith(f"python -m workbench resume {run.id}")
    assert run.state == "stopped"
    monkeypatch.setenv("RAHF_FAKE_PAUSE", "0")
    process = command("resume", "--json", run.id)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and json.loads(out)["counted"] == 30 and json.loads(out)["began"] > 0


def test_a_reader_that_leaves_and_nothing_heavy_at_the_door():
    code = "import sys, workbench.cli; print({'torch', 'transformers', 'numpy', 'gradio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "set()\n"
    piped = f"{sys.executable} -m workbench align --help | head -c 1"
    done = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert done.stdout == "u" and done.stderr == ""
    started = time.time()
    subprocess.run([sys.executable, "-m", "workbench", "--help"], cwd=ROOT, capture_output=True, check=True)
    assert time.time() - started < 2.0  # about 0.1 s on a quiet machine


# --- for readers


def test_tables_and_lines(capsys):
    text = table([{"layer": 0, "auc": 0.51234}, {"layer": 11, "auc": None}], ("layer", "auc"))
    assert text == "layer    auc\n    0  0.512\n   11      -"
    assert [duration(seconds) for seconds in (None, 5, 75, 3675)] == ["-", "0:05", "1:15", "1:01:15"]
    line = ProgressLine()
    line(Event("align", 120, 250, {"loss": 0.4123, "seconds_left": 45}))
    line(Event("align", 121, 250, {"loss": 0.4}))  # too soon after the last
    line.close()
    assert capsys.readouterr().err == "align 120/250 · loss 0.412 · 0:45 left\n"
