"""Settings every test shares: no network, few threads, and run folders that are thrown away."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

import pytest


@pytest.fixture(autouse=True)
def runs_root(tmp_path, monkeypatch):
    """Every test has a runs folder of its own."""
    root = tmp_path / "runs"
    monkeypatch.setenv("RAHF_RUNS", str(root))
    return root
