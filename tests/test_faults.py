"""What can go wrong with a run, done to it: afterwards its state is right, what it had is kept, and it can go on to the
same result. Every row of assets/docs/faults.md names a test; most are here."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.fake_work import wait
from tests.kill_runs import SETTINGS, left, material
from workbench import jsonfile
from workbench.errors import UserError
from workbench.export import export
from workbench.progress import Progress, steady
from workbench.rahf import pipeline
from workbench.rahf.adapters import read_weights
from workbench.rahf.collapse import Guard
from workbench.rahf.patterns import Patterns
from workbench.rahf.training import StageTrainer
from workbench.runs import control, create, execute, files, list_runs, resume, spawn, stop, store, work, worker
from workbench.runs.loading import load_run, split_of, steering_of
from workbench.runs.store import GONE, runs_root
from workbench.stamp import check, stamp

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "assets" / "docs" / "faults.md"
KINDS = "count=tests.fake_work:count,hang=tests.fake_work:hang"


@pytest.fixture(autouse=True)
def place(monkeypatch):
    """Kinds of work that cost nothing, for faults of the process alone."""
    monkeypatch.setenv("RAHF_WORK", KINDS)
    monkeypatch.setattr(worker, "LISTEN", 0.001)  # runs in this process notice a stop at their next step
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))


def begun(kind, **config):
    run = create(kind, config)
    spawn(run)
    wait(lambda: run.state == "running" and run.events()[0])
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Settings of a real run of seconds, and what it leaves when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("whole")
    config = SETTINGS | material(folder)
    os.environ["RAHF_RUNS"] = str(folder / "runs")
    run = create("align", config)
    assert execute(run)["state"] == "finished", run.status()["error"]
    return config, left(run), run


def pause(run):
    run.request_stop("pause")


def at_step(run, stage, step, what):
    """A watcher that does something when the run comes to a step."""

    def watch(event):
        if event.stage == stage and event.step == step and "loss" in event.metrics:
            what(run)

    return watch


# --- killed


@pytest.fixture(scope="module")
def experiment():
    """Six kills, and a disk that fills up, in one process that has imported everything."""
    command = [sys.executable, "-m", "tests.kill_runs", "--kills", "6", "--seed", "1", "--disks", "550000"]
    environment = {name: value for name, value in os.environ.items() if name != "RAHF_WORK"}
    done = subprocess.run([*command, "--json"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip(), done.stderr[-2000:]
    return json.loads(done.stdout)


def test_random_kills_lose_nothing(experiment):
    assert experiment["kills"] == experiment["resumes"] == 6
    assert experiment["lost"] == experiment["wrong"] == 0, experiment["troubles"]
    assert experiment["equal"] == experiment["runs"]


def test_a_disk_that_fills_up_while_writing_and_grows_again(experiment):
    if experiment["disks"] is None:
        pytest.skip("this system lets nobody mount a small disk")
    for row in experiment["disks"]:
        assert row.get("state") == "failed" and "The disk is full" in row["said"], row
        assert row["torn"] == [] and row["then"] == "finished" and row["equal"], row


def test_a_full_disk_in_the_middle_of_a_checkpoint(whole, monkeypatch):
    """The same without a disk of its own: the write of the second checkpoint of step 3 fails."""
    config, wanted, _ = whole
    run, save = create("align", config), torch.save

    def full(value, path, *rest, **more):
        if "aligned/checkpoint-4" in str(path):
            raise OSError(28, "No space left on device")
        save(value, path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        status = execute(run)
    assert status["state"] == "failed" and status["error"].startswith("The disk is full: free some space")
    kept = [path.name for path in (run.path / "checkpoints" / "aligned").iterdir()]
    assert kept == ["checkpoint-2"]  # no torn one takes up space
    assert execute(run)["state"] == "finished" and left(run) == wanted


def test_out_of_memory_is_told_and_resumed(whole, monkeypatch):
    config, wanted, _ = whole
    run, step = create("align", config), StageTrainer.training_step
    errors = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")]

    def heavy(trainer, *rest):
        if errors and trainer.stage == "align" and trainer.state.global_step == 3:
            raise errors.pop()
        return step(trainer, *rest)

    monkeypatch.setattr(StageTrainer, "training_step", heavy)
    for _ in range(2):
        status = execute(run)
        assert status["state"] == "failed" and "not enough memory" in status["error"]
    assert execute(run)["state"] == "finished" and left(run) == wanted


def test_no_disk_for_the_first_word(monkeypatch):
    run = create("count", {})

    def full(path, text, sync=True):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jsonfile, "write_whole", full)
    with pytest.raises(UserError, match="disk is full"):
        execute(run)
    assert run.state == "queued"


def test_an_unknown_end_on_a_full_disk_names_the_disk(monkeypatch):
    run = begun("count", steps=500, pause=0.02)
    os.kill(run.status()["pid"], signal.SIGKILL)
    wait(lambda: run.state == "interrupted")
    assert run.status()["error"] == GONE
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    assert "The disk is full" in run.status()["error"]


# --- damaged


def test_broken_checkpoints_are_passed_over_and_the_result_is_the_same(whole):
    config, wanted, _ = whole
    run = create("align", config)
    assert execute(run, at_step(run, "align", 5, pause))["state"] == "stopped"
    folder = run.path / "checkpoints" / "aligned"
    newest = max(folder.iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    data = bytearray((newest / "optimizer.pt").read_bytes())
    data[len(data) // 2] ^= 255
    (newest / "optimizer.pt").write_bytes(data)
    instructed = run.path / "instructed" / "instructed" / "adapter_model.safetensors"
    data = bytearray(instructed.read_bytes())
    data[-3] ^= 255
    instructed.write_bytes(data)
    (run.path / "progress.json").write_text("{")
    assert execute(run)["state"] == "finished" and left(run) == wanted


def test_states_that_were_computed_together_are_so_again_after_a_resume(whole, monkeypatch):
    """The last bits of a state depend on its batch, and in which batch it is read on when it is first needed."""
    config = whole[0] | {"align_steps": 12, "response": "both", "schedule": "constant"}
    monkeypatch.setattr(Patterns.collect, "__defaults__", (4,))
    compute, batches = Patterns._compute, set()

    def spy(patterns, indices):
        batches.add(tuple(indices))
        return compute(patterns, indices)

    monkeypatch.setattr(Patterns, "_compute", spy)
    one, other = create("align", config), create("align", config)
    assert execute(one)["state"] == "finished"
    undisturbed = set(batches)
    measure = pipeline.measure

    def slow(*given):
        if other.stop_asked():  # long enough for the stop to break the look at step 6 off, however busy the machine is
            time.sleep(30)
        return measure(*given)

    monkeypatch.setattr(pipeline, "measure", slow)
    assert execute(other, at_step(other, "align", 5, pause))["state"] == "stopped"
    kept = max((other.path / "checkpoints" / "aligned").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    memory = json.loads((kept / "sealed.json").read_text())["about"]["memory"]
    assert memory["groups"] and not memory["looked"]  # a resume takes that look first
    status = execute(other)
    assert status["state"] == "finished" and left(other) == left(one), status["error"]
    assert batches == undisturbed and len(batches) > 2


def test_a_damaged_adapter_is_refused_with_a_sentence(whole, tmp_path):
    shutil.copytree(whole[2].path / "adapter", tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    made_of = read_weights(tmp_path / "adapter")[1]
    assert made_of["seed"] == 0 and made_of["pairs"] and made_of["model"] and made_of["versions"]["torch"]
    data = bytearray(weights.read_bytes())
    for change in (data[:-7], bytes(100), data[:-3] + b"xyz"):
        weights.write_bytes(change)
        with pytest.raises(UserError, match=r"could not be read|is damaged") as caught:
            read_weights(tmp_path / "adapter")
        assert "\n" not in str(caught.value)


def test_other_pairs_or_another_model_are_refused_when_a_run_goes_on(whole, tmp_path):
    config, _, _ = whole
    mine = config | material(tmp_path)
    run = create("align", mine)
    assert execute(run, at_step(run, "instruct", 2, pause))["state"] == "stopped"
    pairs = (tmp_path / "pairs.jsonl").read_text()
    (tmp_path / "pairs.jsonl").write_text(pairs.replace("number 3", "number 333"))
    status = execute(run)
    assert status["state"] == "failed" and "The pairs are not the ones that this run was made with" in status["error"]
    (tmp_path / "pairs.jsonl").write_text(pairs)
    assert execute(run, at_step(run, "align", 1, pause))["state"] == "stopped"


def test_other_pairs_or_another_model_are_refused_when_a_run_is_judged(whole, tmp_path, monkeypatch):
    config, _, first = whole
    run = create("align", config)
    for name in ("made_of.json", "adapter"):
        copy = shutil.copytree if name == "adapter" else shutil.copyfile
        copy(first.path / name, run.path / name)
    made_of = json.loads((run.path / "made_of.json").read_text())
    files.write_json(run.path / "made_of.json", made_of | {"pairs": "others"})
    with pytest.raises(UserError, match="The pairs are not the ones that run"):
        work.evaluate({"runs": [str(run.path)], "pairs": config["pairs"]}, tmp_path, Progress())
    files.write_json(run.path / "made_of.json", made_of | {"model": "another"})
    with pytest.raises(UserError, match="The model is not the one that run"):
        load_run(run, adapter=False)


def test_stamps_name_what_differs():
    now = stamp("m", "p", 1)
    assert check(now, now, "this run") == ""
    for key, word in (("model", "The model"), ("pairs", "The pairs"), ("seed", "The seed")):
        with pytest.raises(UserError, match=word):
            check(now | {key: "other"}, now, "this run")
    older = now | {"versions": now["versions"] | {"torch": "1.0"}}
    assert "torch 1.0 -> " in check(older, now, "this run")
    assert check({}, now, "this run") == ""


def test_damaged_run_files_leave_every_key(tmp_path):
    run = create("align", {"method": "dual"})
    keys = set(run.status())
    for text in ("", "{", "[]", '{"state": "sleeping"}', "\0" * 50):
        (run.path / "status.json").write_text(text)
        (run.path / "about.json").write_text(text)
        assert set(run.status()) == keys and run.status()["state"] == "interrupted" and run.status()["title"] == ""
    (runs_root() / "serial.json").write_text("{")
    later = create("align", {"method": "dual"})
    assert [item.id for item in list_runs()] == [later.id, run.id]


# --- the clock


def test_a_clock_that_is_set_moves_neither_state_nor_order_nor_durations(monkeypatch):
    earlier = create("count", {})
    run = begun("count", steps=2000, pause=0.02)
    seconds, now, born = run.status()["seconds"], time.time(), psutil.Process.create_time
    for shift in (-7200.0, 86400.0):
        monkeypatch.setattr(time, "time", lambda shift=shift: now + shift)
        monkeypatch.setattr(psutil.Process, "create_time", lambda process, shift=shift: born(process) + shift)
        status = run.status()
        assert status["state"] == "running" and seconds <= status["seconds"] < seconds + 30
        assert status["silent"] < 30
        assert [item.id for item in list_runs(all=True)][:1] == [run.id]
        newest = create("count", {})
        assert list_runs(all=True)[0].id == newest.id
        newest.delete()
    before = steady()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert steady() >= before
    assert stop(run) == "stopped" and earlier.state == "queued"


def test_a_restarted_machine_has_none_of_the_old_processes():
    run = begun("count", steps=2000, pause=0.02)
    pid = run.status()["pid"]
    kept = json.loads((run.path / "status.json").read_text())
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not files.alive(pid, None))
    mine = files.process_start(os.getpid())  # the number is given to another process, at the same tick of another boot
    start = mine if isinstance(mine, float) else "another-boot:" + mine.rpartition(":")[2]
    beat = {"tick": 1.0, "boot": "another-boot"}
    files.write_json(run.path / "status.json", kept | {"pid": os.getpid(), "pid_start": start, "beat": beat})
    if not isinstance(mine, float):
        assert run.state == "interrupted"
        assert files.seconds_since(beat) == float("inf")


# --- stopped


@pytest.mark.parametrize("how", ["endless loop", "SIGSTOP"])
def test_a_worker_that_hangs_is_ended_within_five_seconds(how):
    run = begun("hang") if how == "endless loop" else begun("count", steps=5000, pause=0.01)
    pid = run.status()["pid"]
    if how == "SIGSTOP":
        os.kill(pid, signal.SIGSTOP)
    began, grace = time.monotonic(), control.GRACE if how == "SIGSTOP" else 1.0
    assert stop(run, grace=grace) == "stopped"
    assert grace - 0.5 < time.monotonic() - began < grace + 15 and "by force" in run.status()["message"]
    assert control.GRACE < 5
    wait(lambda: not files.alive(pid, None))
    assert psutil.pid_exists(pid) is False or psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_stop_breaks_off_a_long_call():
    """Work that looks at nothing for a minute, outside of a training step, is broken off at once."""
    run = begun("count", steps=1, pause=0.0, sleeps=60)
    began = time.monotonic()
    assert stop(run) == "stopped" and time.monotonic() - began < 15
    assert "force" not in run.status()["message"]


def test_an_interruption_that_a_library_swallows_comes_again(monkeypatch):
    run = create("count", {})
    monkeypatch.setattr(worker, "INSIST", 0.2)
    met = []

    def stubborn(config, folder, progress: Progress):
        threading.Timer(0.5, run.request_stop).start()  # by then the first call below is under way
        while len(met) < 3:
            try:
                time.sleep(30)
            except Exception as error:
                met.append(error)
        raise RuntimeError("wrapped") from met[-1]

    monkeypatch.setattr(worker, "_work", lambda kind: stubborn)
    began = time.monotonic()
    assert execute(run)["state"] == "stopped" and len(met) == 3 and time.monotonic() - began < 25


def test_a_stop_waits_for_an_import_to_end(monkeypatch, tmp_path):
    """torch imports numpy from C, drops whatever is raised in that, and imports it again: numpy refuses."""
    (tmp_path / "slow_to_import.py").write_text("import time\nfor _ in range(20):\n    time.sleep(0.1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    run, met = create("count", {}), []

    def importing(config, folder, progress: Progress):
        threading.Timer(0.5, run.request_stop).start()
        try:
            import slow_to_import  # noqa: F401
        except BaseException as error:
            met.append(error)
        time.sleep(30)

    monkeypatch.setattr(worker, "_work", lambda kind: importing)
    began = time.monotonic()
    assert execute(run)["state"] == "stopped" and not met and time.monotonic() - began < 15


@pytest.mark.parametrize("foundation", ["base", "instructed"])
def test_stop_and_keep_leaves_a_usable_adapter_and_can_go_on(whole, foundation):
    config, wanted, _ = whole
    run = create("align", config | {"foundation": foundation})
    status = execute(run, at_step(run, "align", 3, lambda run: run.request_stop("keep")))
    assert (status["state"], status["how"]) == ("stopped", "keep")
    assert status["partial"]["of"] == 6 and 3 <= status["partial"]["steps"] < 6
    assert f"step {status['partial']['steps']} of 6; the adapter of these steps is kept" in status["message"]
    assert read_weights(run.adapter)[1]["partial"] == status["partial"]
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(config["model"]), run.adapter)
    ids = torch.arange(10, 20)[None]
    with plain.disable_adapter():
        base = plain(ids).logits
    assert float((plain(ids).logits - base).abs().max()) > 0
    if foundation == "base":
        status = execute(run)
        assert status["state"] == "finished" and status["partial"] is None and left(run) == wanted
        assert "partial" not in read_weights(run.adapter)[1]


def test_a_kept_adapter_can_be_judged_and_taken_away_and_says_that_it_is_partial(whole, tmp_path):
    config, _, _ = whole
    run = create("align", config)
    execute(run, at_step(run, "align", 3, lambda run: run.request_stop("keep")))
    partial = run.status()["partial"]
    judged = work.evaluate({"runs": [str(run.path)], "pairs": config["pairs"], "judge": "none"}, tmp_path, Progress())
    assert [row.get("run") for row in judged["models"]] == [None, run.id]
    assert judged["pairs"] == config["held_out"] and judged["made_of"]["model"] and judged["made_of"]["seed"] == 0
    for merge in (False, True):
        to = tmp_path / f"out-{merge}"
        assert {"README.md", "report.html"} <= set(export(run.path, to, merge=merge)["files"])
        for name in ("README.md", "report.html"):
            said = (to / name).read_text()
            assert f"adapter of {partial['steps']} of 6 steps" in said and "stopped before it was judged" in said
    execute(run)
    export(run.path, tmp_path / "whole")
    assert "Partial" not in (tmp_path / "whole" / "README.md").read_text()


def test_what_was_made_for_other_weights_or_pairs_is_refused_everywhere(whole, tmp_path):
    """Directions, pairs and adapters of a run are checked against what the run was made of, wherever they are used."""
    config, _, first = whole
    run = create("align", config)
    for name in ("made_of.json", "result.json", "steering.safetensors"):
        shutil.copyfile(first.path / name, run.path / name)
    shutil.copytree(first.path / "adapter", run.path / "adapter")
    assert steering_of(run, 1.0).vectors and len(split_of(run).held_out) == config["held_out"]
    made_of = json.loads((run.path / "made_of.json").read_text())
    files.write_json(run.path / "made_of.json", made_of | {"pairs": "others", "model": "another"})
    with pytest.raises(UserError, match="The model is not the one that the directions of run"):
        steering_of(run, 1.0)
    with pytest.raises(UserError, match="The pairs are not the ones that run"):
        split_of(run)
    copy = tmp_path / "copy.jsonl"  # the same pairs under another name are still those it was trained on
    shutil.copyfile(config["pairs"], copy)
    files.write_json(run.path / "made_of.json", made_of)
    judged = work.evaluate({"runs": [str(run.path)], "pairs": str(copy), "judge": "none"}, tmp_path, Progress())
    assert judged["pairs"] == config["held_out"]
    split = split_of(run)
    trained = next(iter(split.fit)).prompt[-1]["content"]
    lines = [line for line in copy.read_text().splitlines() if json.loads(line)["prompt"] != trained]
    new = {"prompt": "nobody has asked this yet", "chosen": "good", "rejected": "bad"}
    copy.write_text("\n".join([*lines, json.dumps(new)]))  # as is the same file after an edit
    judged = work.evaluate({"runs": [str(run.path)], "pairs": str(copy), "judge": "none"}, tmp_path, Progress())
    assert judged["pairs"] == config["held_out"] + 1
    weights = run.path / "adapter" / "adapter_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-3] + b"xyz")
    with pytest.raises(UserError, match="is damaged"):
        export(run.path, tmp_path / "damaged")
    weights.write_bytes(data)
    result = json.loads((run.path / "result.json").read_text())
    files.write_json(run.path / "result.json", result | {"model_fingerprint": "another"})
    with pytest.raises(UserError, match="The model is not the one that the adapter of run"):
        export(run.path, tmp_path / "others")
    assert not (tmp_path / "damaged").exists() and not (tmp_path / "others").exists()


def test_what_is_kept_of_a_run_whose_answers_fell_apart_is_the_last_sound_adapter(whole, monkeypatch):
    """Stopped while the last sound adapter is being judged; the last checkpoint is that of the fallen one."""
    config, _, _ = whole
    judge, sound = Guard.look, []

    def falling(guard, step, figures, last, weights):
        share = 0.95 if step < 6 else 0.05
        figures = {"coherence": share, "coherence_low": share, "coherence_high": share, "base_coherence": 0.95}
        said = judge(guard, step, figures, last, weights)
        if step == 3:
            sound.append(weights())
        return said

    monkeypatch.setattr(Guard, "look", falling)
    run = create("align", config)

    def watch(event):
        if event.stage == "evaluate":
            run.request_stop("keep")

    status = execute(run, watch)
    assert (status["state"], status["partial"]) == ("stopped", {"steps": 3, "of": 6})
    kept = read_weights(run.adapter)[0]
    assert all(torch.equal(kept[name], tensor) for name, tensor in sound[0].items())


def test_calibration_that_is_broken_off_chooses_the_same_alpha(whole, monkeypatch):
    config, wanted, first = whole
    points = json.loads((first.path / "calibration.json").read_text())["points"]
    run = create("align", config)

    def watch(event):
        if event.stage == "calibrate":
            run.request_stop("pause")

    assert execute(run, watch)["state"] == "stopped" and not (run.path / "calibration.json").exists()
    (run.path / "calibration.json").write_text('{"points": [')  # of a disk that lost the rest
    assert execute(run, at_step(run, "align", 1, pause))["state"] == "stopped"
    assert json.loads((run.path / "calibration.json").read_text())["points"] == points

    def again(*given, **more):
        raise AssertionError("what is whole is not computed again")

    monkeypatch.setattr(pipeline, "calibrate", again)
    assert execute(run)["state"] == "finished" and left(run) == wanted


def test_keep_after_a_kill_takes_the_last_checkpoint(whole):
    config, _, _ = whole
    run = create("align", config)
    execute(run, at_step(run, "instruct", 3, pause))
    assert stop(run, "keep") == "stopped" and "before it had an adapter" in run.status()["message"]
    assert run.status()["partial"] is None and not (run.path / "adapter").exists()
    execute(run, at_step(run, "align", 5, pause))
    assert not (run.path / "adapter").exists()
    assert stop(run, "keep") == "stopped" and run.status()["partial"]["steps"] >= 4
    assert read_weights(run.adapter)[0]


def test_a_cancelled_run_goes_to_the_bin():
    run = begun("count", steps=5000, pause=0.01)
    began = time.monotonic()
    assert stop(run, "discard") == "discarded" and time.monotonic() - began < 15
    assert list_runs(all=True) == []
    from workbench.runs import bin

    back = bin.restore(run.id)
    assert back.state == "stopped" and not back.stop_asked()
    resume(back)
    assert stop(back) == "stopped"


def test_a_closed_terminal_stops_the_run_cleanly():
    run = begun("count", steps=5000, pause=0.01)
    os.kill(run.status()["pid"], signal.SIGHUP)
    wait(lambda: run.state == "stopped")


# --- the table


def test_every_row_of_the_fault_table_names_a_test_that_exists():
    text = TABLE.read_text(encoding="utf-8").partition("| Fault |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:-1] for line in text.splitlines()[2:]]
    defined = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
    }
    assert len(rows) >= 30
    for row in rows:
        assert len(row) == 4 and all(cell.strip() for cell in row), row
        named = re.findall(r"`(test_\w+)`", row[3])
        assert named and not set(named) - defined, row
