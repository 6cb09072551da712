"""Kill a short alignment over and over, resume it, and compare what comes out with an uninterrupted one.

    python -m tests.kill_runs --kills 200

Half of the kills strike at a random moment of the run's life, half at a random one of its file operations (opening to
write, renaming, removing, making a folder), so that every half-written state a kill can leave is met. Each kill is
SIGKILL. After each the run must say that it was interrupted, and in the end its adapter must equal the uninterrupted
run's bit for bit. The work is done in forked children of one warm process, or importing would take most of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SETTINGS = {
    "method": "scit", "instruct_steps": 5, "align_steps": 6, "instruct_batch": 2, "align_batch": 4, "evaluate_every": 3,
    "checkpoint_every": 2, "evaluate_prompts": 2, "max_new_tokens": 3, "held_out": 4, "force": True, "device": "cpu",
    "layers": [0, 1], "prompt_tokens": 32, "completion_tokens": 16, "positive": "be kind", "negative": "be lazy",
    "judge": "none",
}  # fmt: skip
MOST_KILLS = 5  # of one run
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.truncate"}
PATIENCE = 120.0  # seconds after which a child that does not end is a lost run


def material(folder: Path) -> dict[str, str]:
    """A saved tiny model and a file of pairs."""
    sys.path.insert(0, str(Path(__file__).parent))
    from tiny import PAIRS, saved, tiny_model

    return saved(folder, tiny_model(layers=2, width=16), PAIRS[:16])


def warm_up() -> None:
    """Import what the work imports, once for all children, and nothing that starts threads."""
    import datasets
    import peft  # noqa: F401
    import torch
    from transformers import Trainer  # noqa: F401

    import workbench.rahf.pipeline  # noqa: F401

    torch.set_num_threads(1)
    datasets.disable_progress_bars()


def forked(run, before: Callable[[], None] | None = None) -> int:
    """Do the run's work in a child; returns the child's id. ``before`` is called in it first."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        log = os.open(run.path / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if before:
            before()
        from workbench.runs import worker

        code = worker.main([str(run.path)])
    finally:
        os._exit(code)


def ended(pid: int, seconds: float) -> bool:
    """Wait for a child; False if it still works after ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.002)
    return False


def count_operations(hook: Callable[[int], None]) -> None:
    """Call ``hook(number)`` before every file operation of this process that changes something on disk."""
    number = 0

    def audit(event: str, arguments: tuple) -> None:
        nonlocal number
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in OPERATIONS:
            number += 1
            hook(number)

    sys.addaudithook(audit)


def uninterrupted(config: dict, folder: Path) -> tuple[dict[str, str], float, int]:
    """Digests of what an uninterrupted run leaves, its seconds, and its number of file operations."""
    from workbench.runs import create

    run, counter = create("align", config), folder / "operations"
    descriptor = os.open(counter, os.O_WRONLY | os.O_CREAT)

    def count() -> None:
        count_operations(lambda number: os.pwrite(descriptor, str(number).encode(), 0))

    began = time.monotonic()
    if not ended(forked(run, count), PATIENCE) or run.state != "finished":
        raise SystemExit(f"the uninterrupted run did not finish: {run.status()['error']}")
    os.close(descriptor)
    return left(run), time.monotonic() - began, int(counter.read_text())


def left(run) -> dict[str, str]:
    """What must be the same however often a run was killed: digests of its files, by name."""
    import hashlib

    names = (
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "steering.safetensors",
        "samples.jsonl",
    )
    found = {name: hashlib.sha256((run.path / name).read_bytes()).hexdigest() for name in names}
    result = json.loads((run.path / "result.json").read_text())
    told = {name: result[name] for name in ("loss_first", "loss_last", "fit", "steps", "alpha", "held_out")}
    told["points"] = (result["calibration"] or {}).get("points")
    return found | {"result": json.dumps(told, sort_keys=True)}


def kill_over_and_over(kills: int, seed: int, config: dict, folder: Path, say: Callable[[str], None]) -> dict:
    """The experiment; see the module's text. Returns the table as a dict."""
    from workbench.runs import create

    wanted, seconds, operations = uninterrupted(config, folder)
    say(f"uninterrupted: {seconds:.2f} s, {operations} file operations")
    draw = random.Random(seed)
    table = Counter(kills=0, resumes=0, runs=0, lost=0, wrong=0, equal=0)
    where: Counter[str] = Counter()
    troubles: list[str] = []
    while table["kills"] < kills:
        run = create("align", config)
        table["runs"] += 1
        state, struck, attempts = "queued", 0, 0
        while state != "finished":
            attempts += 1
            strike = struck < MOST_KILLS and table["kills"] < kills
            by_time = draw.random() < 0.5
            target = draw.randint(1, operations)

            def die(target: int = target) -> None:
                count_operations(lambda number: number == target and os.kill(os.getpid(), signal.SIGKILL))

            pid = forked(run, die if strike and not by_time else None)
            over = ended(pid, draw.uniform(0, 1.1 * seconds) if strike and by_time else PATIENCE)
            if not over:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            status = run.status()
            state = status["state"]
            if state == "finished":
                break
            if not strike or state not in ("interrupted", "queued"):
                troubles.append(f"{run.id} is {state} after {attempts} goes: {status['error']}")
                table["lost" if state in ("interrupted", "queued", "running") else "wrong"] += 1
                break
            struck += 1
            table["kills"] += 1
            table["resumes"] += 1
            where[status["stage"] or "begin"] += 1
        if state == "finished":
            same = left(run) == wanted
            table["equal"] += same
            if not same:
                table["wrong"] += 1
                troubles.append(
                    f"{run.id} differs: {[name for name, value in left(run).items() if value != wanted[name]]}"
                )
        say(f"{table['kills']:4d} kills, {table['equal']} of {table['runs']} runs equal")
        if state == "finished" and not troubles:
            run.delete()
    return {**table, "where": dict(where), "seconds_uninterrupted": round(seconds, 2), "operations": operations,
            "troubles": troubles}  # fmt: skip


def fill_disks(config: dict, sizes: list[int]) -> list[dict] | None:
    """Runs on disks of these sizes (bytes), each of which fills up, grows, and is used to resume. None where this
    system does not let a user mount such disks. Each row: how it ended, what it said, and whether the result is equal.
    """
    wanted = uninterrupted(config, Path(os.environ["RAHF_RUNS"]).parent)[0]
    rows = []
    for size in sizes:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                row = _fill_disk(config, size, wanted)
                os.write(write, json.dumps(row).encode())
            except BaseException as error:
                os.write(write, json.dumps({"trouble": f"{type(error).__name__}: {error}"}).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        os.waitpid(pid, 0)
        row = json.loads(text or "null")
        if row is None:
            return None
        rows.append(row)
    return rows


def _fill_disk(config: dict, size: int, wanted: dict[str, str]) -> dict | None:
    from workbench.runs import create, execute, files

    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    if not mount(folder, size):
        return None
    files.SPACE_NEEDED = 0
    files.need_space.__defaults__ = (0,)
    os.environ["RAHF_RUNS"] = str(folder)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    run = create("align", config)
    first = execute(run)
    torn = [str(path.relative_to(run.path)) for path in run.path.rglob("*.partial")]
    kept = sorted(int(path.parent.name.rpartition("-")[2]) for path in run.path.glob("checkpoints/*/*/sealed.json"))
    mount(folder, 50 * 2**20, again=True)
    last = execute(run) if first["state"] != "finished" else first
    return {
        "size": size, "state": first["state"], "said": first["error"], "stage": first["stage"], "kept": kept, "torn": torn,
        "then": last["state"], "error": last["error"], "equal": last["state"] == "finished" and left(run) == wanted,
    }  # fmt: skip


def mount(folder: Path, size: int, again: bool = False) -> bool:
    """Put a disk in memory of ``size`` bytes at ``folder``, seen by this process only; False if that is not allowed."""
    import ctypes

    system = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if not again:
        if system.unshare(0x10000000 | 0x00020000) != 0:  # a user and a mount name space of its own
            return False
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    flags = 32 if again else 0  # MS_REMOUNT
    return system.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, f"size={size}".encode()) == 0


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 1 if a run was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_runs", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="scit", choices=["scit", "dual"])
    parser.add_argument("--foundation", default="base", choices=["base", "instructed"])
    parser.add_argument("--disks", type=int, nargs="*", default=[], help="also fill disks of so many bytes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-runs-") as name:
        os.environ |= {"RAHF_RUNS": str(Path(name) / "runs"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
                       "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}  # fmt: skip
        warm_up()
        config = SETTINGS | {"method": options.method, "foundation": options.foundation} | material(Path(name))
        table = kill_over_and_over(
            options.kills, options.seed, config, Path(name), lambda text: print(text, file=sys.stderr, flush=True)
        )
        if options.disks:
            table["disks"] = fill_disks(config, options.disks)
    table["seconds"] = round(time.monotonic() - began, 1)
    if options.json:
        print(json.dumps(table))
    else:
        print("\n".join(f"{name:<22} {value}" for name, value in table.items()))
    return 1 if table["lost"] or table["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
