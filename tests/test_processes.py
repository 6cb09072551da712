"""A run in several processes gives what it gives in one, stops and goes on, and says when one of them is lost."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import saved, tiny_model
from workbench import processes
from workbench.errors import UserError
from workbench.runs.store import find_run

ROOT = Path(__file__).parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--mixed_precision", "no"]
SETTINGS = {
    "layers": "1", "alpha": 0.5, "align_steps": 6, "align_batch": 5, "instruct_steps": 3, "instruct_batch": 3,
    "evaluate_every": 3, "evaluate_prompts": 2, "max_new_tokens": 6, "accumulation": 2, "force": "true",
    "align_rate": 1e-2, "lora_dropout": 0.0, "device": "cpu", "judge": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model of 3 blocks and 24 pairs, and what a run on them is told."""
    folder = tmp_path_factory.mktemp("processes")
    given = saved(folder, tiny_model()) | SETTINGS
    return folder, [word for name, value in given.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def alone(material):
    """The folder of the run in one process."""
    folder, told = material
    done = command([sys.executable], folder, "align", "--json", *told, "--out", str(folder / "alone"))
    assert done.returncode == 0, done.stderr
    return folder / "alone"


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(processes.TOLD)}
    return kept | {"RAHF_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"} | more


def command(launcher: list[str], folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*launcher, "-m", "workbench", *words], cwd=ROOT, env=environment(folder), capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip


def adapters(run: Path) -> torch.Tensor:
    """Every number of both steps' adapters."""
    found = [load_file(run / part / "adapter_model.safetensors") for part in ("instructed/instructed", "adapter")]
    return torch.cat([tensor.flatten().double() for part in found for _, tensor in sorted(part.items())])


def assert_same(run: Path, other: Path) -> None:
    ours, theirs = adapters(run), adapters(other)
    assert (ours - theirs).norm() < 1e-4 * theirs.norm()
    first, second = (json.loads((folder / "result.json").read_text()) for folder in (run, other))
    for name in ("loss_first", "loss_last", "fit", "steps"):
        assert first[name] == pytest.approx(second[name], rel=1e-4), name


@pytest.mark.parametrize("way", ["--multi_gpu", "--use_fsdp"])
def test_two_processes_give_what_one_gives(material, alone, way):
    folder, told = material
    run = folder / way.strip("-")
    launcher = [*LAUNCH, way, "--main_process_port", str(free_port())]
    done = command(launcher, folder, "align", "--json", *told, "--out", str(run))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["steps"] == 6  # one of them prints, and that once
    assert_same(run, alone)
    assert not (run / "checkpoints").exists()


def test_a_stop_reaches_both_and_both_go_on(material):
    folder, told = material
    run = folder / "stopped"
    long = ("align_steps=2000", "evaluate_every=1", "max_new_tokens=60", "evaluate_prompts=8")  # most of it are looks
    longer = [word for value in long for word in ("--set", value)]
    started = several(folder, "align", *told, *longer, "--out", str(run))
    wait_for(run, "align", 2)
    told_to_stop = command([sys.executable], folder, "stop", str(run))
    assert told_to_stop.returncode == 0, told_to_stop.stderr
    assert [process.wait(60) for process in started] == [130, 130]
    step = find_run(str(run)).status()["step"]
    assert 2 <= step < 2000 and list((run / "checkpoints" / "aligned").glob("checkpoint-*/sealed.json"))
    begun = several(folder, "resume", str(run))
    wait_for(run, "align", step + 2)  # from the checkpoint, in two processes
    command([sys.executable], folder, "stop", str(run))
    assert [process.wait(60) for process in begun] == [130, 130]


def test_a_lost_process_is_told(material):
    folder, told = material
    run = folder / "lost"
    first, second = several(folder, "align", *told, "--set", "align_steps=2000", "--out", str(run))
    wait_for(run, "align", 5)
    second.kill()
    assert first.wait(60) == 2
    assert "Another process of this run has ended" in first.stderr.read()
    assert find_run(str(run)).state == "failed"
    assert second.wait(5) == -9


def test_a_finished_run_is_read_again_and_the_other_goes_home(material, alone):
    folder, _ = material
    assert [process.wait(60) for process in several(folder, "resume", str(alone))] == [0, 0]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"RANK": "5", "WORLD_SIZE": "2"}, "no process 5 of 2"),
        ({"RANK": "0", "WORLD_SIZE": "many"}, "should be a number"),
    ],
)
def test_nonsense_of_a_launcher_is_told(monkeypatch, told, said):
    for name in [name for name in os.environ if name.startswith(processes.TOLD)]:
        monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        processes.join()


@pytest.mark.parametrize(
    "words", [["evaluate", "some-run", "--pairs", "demo"], ["baseline", "dpo", "--model", "demo", "--pairs", "demo"]]
)
def test_other_verbs_are_refused_in_several(tmp_path, words):
    told = environment(tmp_path, WORLD_SIZE="2", RANK="0", LOCAL_RANK="0")
    done = subprocess.run(
        [sys.executable, "-m", "workbench", *words], cwd=ROOT, env=told, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "Only align and resume work in several processes" in done.stderr


def test_work_is_shared_out_whole_and_evenly(monkeypatch):
    costs = [7.0, 1.0, 3.0, 3.0, 2.0, 9.0, 1.0]
    shares = []
    for place in range(3):
        monkeypatch.setattr(processes, "_here", processes.Here(place, 3))
        shares.append(processes.shared_out(costs))
    assert sorted(piece for share in shares for piece in share) == list(range(len(costs)))
    assert max(sum(costs[piece] for piece in share) for share in shares) == 9.0


def several(folder: Path, *words: str) -> list[subprocess.Popen]:
    """Two processes of one run, as a launcher starts them."""
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "workbench", *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment(folder, RANK=place, LOCAL_RANK=place, **told), text=True,
        )
        for place in "01"
    ]  # fmt: skip


def wait_for(run: Path, stage: str, step: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if (run / "status.json").exists():
            status = find_run(str(run)).status()
            if status["state"] == "running" and status["stage"] == stage and status["step"] >= step:
                return
            assert status["state"] in ("queued", "running", "stopped"), status
        time.sleep(0.1)
    raise AssertionError("it did not come so far")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
