"""Kinds of work that cost nothing, for tests: ``RAHF_WORK="count=tests.fake_work:count"`` makes one known."""

import os
import sys
import time
from pathlib import Path

from workbench.errors import UserError


def wait(condition, seconds=30.0):
    """Return once the condition holds; fail when it has not held for so many seconds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def count(config, folder: Path, progress):
    """Counts to ``steps``, remembering in a file how far it came, as training does in its checkpoints."""
    if config.get("hangs"):
        hang(config, folder, progress)
    checkpoint = folder / "checkpoint"
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for step in range(done + 1, config.get("steps", 10) + 1):
        if config.get("sleeps"):
            progress("load", message="sleeping")
            time.sleep(config["sleeps"])
        time.sleep(config.get("pause", 0.0))
        with progress.whole():
            checkpoint.write_text(str(step))
        progress("align", step, config.get("steps", 10), loss=1.0 / step)
    print("a library prints this")
    return {"counted": step, "began": done, "layers": [3, 4], "alpha": 0.5}


def hang(config, folder, progress):
    """Never looks whether it should stop."""
    progress("align", 0, 1, message="hanging")
    with progress.whole():
        while True:
            time.sleep(0.1)


def fail(config, folder, progress):
    """Raises what the settings name."""
    errors = {
        "user": UserError("The pairs are empty; give at least one."),
        "memory": MemoryError(),
        "cuda": RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        "disk": OSError(28, "No space left on device"),
        "odd": ZeroDivisionError("division by zero"),
        "exit": SystemExit(3),
    }
    progress("load")
    raise errors[config["error"]]


def count_align(config, folder, progress):
    """Counts in the place of an alignment, with settings from the environment."""
    os.system("echo and one in C")
    steps, pause = int(os.environ.get("RAHF_FAKE_STEPS", "8")), float(os.environ.get("RAHF_FAKE_PAUSE", "0"))
    return count({"steps": steps, "pause": pause}, folder, progress)


def act_align(config, folder, progress):
    """Counts as an alignment would with these settings, ten steps a second."""
    return count({"steps": config["align_steps"], "pause": 0.1}, folder, progress)


def fail_user(config, folder, progress):
    """Fails on what the user gave."""
    fail({"error": "user"}, folder, progress)


def cli():
    """The command line with ``align`` replaced, for processes of their own."""
    from workbench.cli import main, method
    from workbench.runs import worker

    method.look_first = lambda *_: None  # that needs a model and pairs
    worker.WORK["align"] = "tests.fake_work:count_align"
    sys.exit(main())
