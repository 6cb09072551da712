"""What the pictures of the blocks are made of: packed coordinates, findings, columns to colour by, UMAP jobs."""

import base64
import json
import re
import sys
import time

import numpy as np
import pytest

from workbench.pairs import Pair, PreferencePairs, as_messages, load_pairs
from workbench.ui import layers_pictures as lp
from workbench.ui import layers_umap
from workbench.ui.html import STATIC


def unpacked(made, shape):
    whole = np.frombuffer(base64.b64decode(made["xy"]), dtype="<i2").reshape(shape)
    return whole * np.array(made["scale"])[:, None, None]


@pytest.mark.parametrize("dims", [2, 3])
def test_coordinates_survive_the_way_to_the_browser(dims):
    coords = np.random.default_rng(0).normal(size=(4, 10, dims)) * np.array([1, 50, 1e-3, 0])[:, None, None]
    made = lp.projection(coords, "pca", np.full((4, dims), 0.25))
    reach = np.abs(coords).max(axis=(1, 2), keepdims=True)
    assert np.all(np.abs(unpacked(made, coords.shape) - coords) <= reach / 32767)
    assert made["dims"] == dims and len(made["names"][0]) == dims and made["names"][0][0] == "PCA 1, 25% of variance"


@pytest.mark.parametrize(
    ("gap", "kind", "said"),
    [
        ((0, 0), "pca", "overlap"),
        ((1.2, 0), "pca", "begin to part"),
        ((4, 0), "pca", "part along the first axis"),
        ((0, 4), "pca", "part along the second axis"),
        ((0, 0, 4), "pca", "part along the third axis"),
        ((4, 0), "axis", "part along the preference axis"),
        ((3, 3), "umap", "chosen and rejected part"),
    ],
)
def test_a_pictures_finding_is_what_it_shows(gap, kind, said):
    rng = np.random.default_rng(2)
    xyz = rng.normal(size=(400, len(gap))) + np.repeat([np.array(gap, float), np.zeros(len(gap))], 200, axis=0)
    made = lp.projection(xyz[None], kind)
    assert said in made["findings"][0]
    assert (made["parted"][0] >= lp.PARTED) == ("and rejected part" in made["findings"][0])


def test_columns_are_offered_if_they_can_colour_anything():
    rows = [
        {
            "source": ["web", "books"][i % 2],
            "same": 1,
            "id": f"a long name that only row {i} has",
            "messages": [{"role": "user"}],
            "rating": str(i),
            "chosen_score": i,
            "score_of_rejected": 1,
            "rejected_score": -i,
            "flag": i % 3 == 0,
            "empty": None,
        }
        for i in range(40)
    ]
    found = {column["key"]: column["name"] for column in lp.colour_columns(rows)}
    assert list(found)[:2] == ["length", "split"]
    assert set(found) - {"length", "split"} == {
        "extra:source",
        "extra:rating",
        "extra:flag",
        "sides:chosen_score|rejected_score",
    }
    assert found["sides:chosen_score|rejected_score"] == "score of the answer"


def test_numbers_get_a_scale_that_outliers_do_not_stretch():
    values = [*range(100), 10_000, None, float("nan"), ""]
    made = lp.colour_of(values, "rating", unit="points")
    assert made["kind"] == "number" and made["missing"] == 3 and made["values"][-3:] == [None] * 3
    assert made["low"] < 5 and made["high"] < 200 and made["most"] == 10_000
    json.dumps(made, allow_nan=False)
    assert lp.colour_of(["1", "2.5", "-3"], "text numbers")["values"] == [1.0, 2.5, -3.0]


def test_texts_get_eight_colours_and_the_rest_are_others():
    values = [f"v{i}" for i in range(12) for _ in range(20 - i)] + [None, ""]
    made = lp.colour_of(values, "source")
    assert made["kind"] == "category" and made["labels"] == [f"v{i}" for i in range(8)]
    assert made["counts"] == [20 - i for i in range(8)] and made["others"] == 4
    assert made["other"] == made["codes"].count(-1) == sum(20 - i for i in range(8, 12)) and made["missing"] == 2
    assert lp.colour_of(["b", "b", "a"], "split", ordered=["a", "b"])["labels"] == ["a", "b"]
    long = lp.colour_of(["x" * 500 + str(i) for i in range(2)], "text")["labels"]
    assert all(len(label) <= lp.LABEL for label in long)


def test_two_values_are_kinds_even_if_they_are_numbers():
    assert lp.colour_of([0, 1, 1, 0], "label")["kind"] == "category"
    assert lp.colour_of([True, False, True], "flag")["labels"] == ["True", "False"]


def test_the_sources_other_columns_go_along_with_the_clean_pairs(tmp_path):
    pairs = [Pair(i, as_messages(f"p{i}"), f"good {i}", f"bad {i}") for i in (1, 2, 3)]
    extra = ['{"conversations": "not a prompt", "prompt": 4}', "{}", '{"system": "not a message"}']
    first = PreferencePairs.from_pairs(pairs, extra=extra)
    again = load_pairs(first.to_jsonl(tmp_path / "x.jsonl", extra=True))
    assert again.fingerprint == first.fingerprint
    assert again.extra_of([1, 2, 3], "conversations") == ["not a prompt", None, None]
    assert again.extra_of([1, 2, 3], "system") == [None, None, "not a message"]
    assert "extra" not in first.to_jsonl(tmp_path / "y.jsonl").read_text()


# -- colours -----------------------------------------------------------------------------------------------------------

SIGHT = {  # Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
    "all colours": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def linear(colour):
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    return np.array(LAB) @ np.cbrt(np.clip(np.array(LMS) @ np.clip(rgb, 0, 1), 0, None))


def contrast(one, other):
    a, b = (float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (one, other))
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


@pytest.mark.parametrize(("theme", "surface"), [("light", "#ffffff"), ("dark", "#15181b")])
def test_kinds_and_scales_are_safe_for_colour_blind_eyes(theme, surface):
    code = (STATIC / "layers_coords.js").read_text(encoding="utf-8")
    lists = [re.findall(r"#[0-9a-f]{6}", found) for found in re.findall(rf"{theme}: \[([^\]]+)\]", code)]
    kinds, scale = lists[0], lists[1]
    assert len(set(kinds)) == lp.MOST_LABELS and len(scale) == 3
    assert min(contrast(colour, surface) for colour in kinds) > 2.4
    for name, seen in SIGHT.items():
        places = np.array([oklab(np.array(seen) @ linear(colour)) for colour in kinds])
        apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(len(kinds))
        assert apart.min() > 0.1, f"{name}: {kinds[apart.min(1).argmin()]} is not told from another"
        lightness = [oklab(np.array(seen) @ linear(colour))[0] for colour in scale]
        steps = np.diff(lightness) * (1 if theme == "dark" else -1)
        assert steps.min() > 0.15, "more is further from the paper, for every eye"


# -- UMAP jobs ---------------------------------------------------------------------------------------------------------

SLOW = """
import json, sys, time
request = json.loads(sys.stdin.readline())
print(json.dumps({"step": 0, "total": 3}), flush=True)
print(json.dumps({"step": 1, "total": 3}), flush=True)
sys.stdin.read()
"""
QUICK = """
import json, sys
import numpy as np
request = json.loads(sys.stdin.readline())
np.save(request["folder"] + "/umap.npy", np.ones((2, 2 * len(request["rows"]), 2), np.float32))
"""
BROKEN = """
import json, sys
sys.stdin.readline()
print("no message")
print(json.dumps({"why": "the disk is full"}), flush=True)
"""


def jobs_run(monkeypatch, *programs):
    """Let the jobs run these programs, one after another, in place of UMAP."""
    waiting, start = list(programs), layers_umap.subprocess.Popen

    def instead(_, **kwargs):
        return start([sys.executable, "-c", waiting.pop(0)], **kwargs)

    monkeypatch.setattr(layers_umap.subprocess, "Popen", instead)


def until(wanted, folder, seconds=30):
    began = time.monotonic()
    while (now := layers_umap.state(folder))["state"] != wanted and time.monotonic() - began < seconds:
        time.sleep(0.02)
    return now


def test_a_job_that_is_stopped_ends_at_once_and_the_next_one_runs(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    jobs_run(monkeypatch, SLOW, QUICK, QUICK)
    rows = np.arange(5)
    layers_umap.ask(first, rows)
    layers_umap.ask(first, rows)  # asked for twice: begun once
    layers_umap.ask(second, rows)
    until("running", first)
    began = time.monotonic()
    while layers_umap.state(first)["step"] < 1 and time.monotonic() - began < 30:
        time.sleep(0.02)
    assert layers_umap.state(first) == {"state": "running", "step": 1, "total": 3, "why": ""}
    assert layers_umap.state(second)["state"] == "waiting" and layers_umap.pending(second)
    layers_umap.stop(first)
    assert layers_umap.state(first)["state"] == "stopped" and not layers_umap.pending(first)
    assert until("done", second)["state"] == "done"
    assert layers_umap.result(second, 10).shape == (2, 10, 2)
    assert layers_umap.result(second, 12) is None, "of other pairs"
    layers_umap.ask(first, rows)  # asked for again after the stop
    assert until("done", first)["state"] == "done"


def test_one_that_waits_can_be_stopped_too(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    jobs_run(monkeypatch, SLOW)
    layers_umap.ask(first, np.arange(3))
    until("running", first)
    layers_umap.ask(second, np.arange(3))
    layers_umap.stop(second)
    assert layers_umap.state(second)["state"] == "stopped"
    layers_umap.stop(first)
    layers_umap.stop(first)  # nothing to stop any more
    assert layers_umap.state(first)["state"] == "stopped"


def test_a_job_that_fails_says_why_and_can_be_tried_again(tmp_path, monkeypatch):
    jobs_run(monkeypatch, BROKEN, QUICK)
    layers_umap.ask(tmp_path, np.arange(3))
    failed = until("failed", tmp_path)
    assert failed["why"] == "UMAP could not be computed (the disk is full); this is PCA."
    layers_umap.ask(tmp_path, np.arange(3))
    assert until("done", tmp_path)["state"] == "done" and not (tmp_path / "umap.failed").exists()


def test_a_torn_result_is_none(tmp_path):
    (tmp_path / "umap.npy").write_bytes(b"torn")
    assert layers_umap.result(tmp_path) is None


def test_the_process_says_why_it_cannot(tmp_path):
    """The real program, on a folder that holds no states: quick, because UMAP is imported only when it is needed."""
    layers_umap.ask(tmp_path, np.arange(3))
    assert "UMAP could not be computed" in until("failed", tmp_path)["why"]


def test_a_whole_number_beyond_all_floats_is_no_number():
    names = [column["name"] for column in lp.colour_columns([{"id": 10**400, "score": k} for k in range(4)])]
    assert names[2:] == ["score"]
    assert lp.colour_of([10**400, 10**401, 10**400], "id")["kind"] == "category"
