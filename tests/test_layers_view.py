"""From an analysis to what the page draws: heights, findings, controls, progress."""

import numpy as np
import pytest

from workbench.errors import UserError
from workbench.ui import layers_data
from workbench.ui import layers_view as lv


def score(layer, auc, low=None, high=None, null=(0.44, 0.56), **more):
    low, high = auc - 0.04 if low is None else low, min(1.0, auc + 0.03) if high is None else high
    return {
        "layer": layer,
        "probe_auc": auc,
        "probe_auc_low": low,
        "probe_auc_high": high,
        "null_auc_p025": null[0],
        "null_auc_p975": null[1],
        "null_auc_p05": null[0] + 0.01,
        "null_auc_p95": null[1] - 0.01,
        "null_best_p95": null[1],
        "paired_accuracy": auc,
        "fisher": 1.0,
        "silhouette": 0.1,
    } | more


def test_strip_places_everything_on_one_scale():
    made = lv.strip([score(0, 0.58), score(1, 0.97)], [1], None)
    low, high = made["blocks"]
    assert [b["l"] for b in made["blocks"]] == [0, 1]
    assert low["lo"] < low["v"] < low["hi"] and low["v"] < high["v"]
    assert made["axis"]["ticks"][0] == {"at": lv.TOP, "text": "1.0"}
    assert made["axis"]["chance"] == next(t["at"] for t in made["axis"]["ticks"] if t["text"] == "0.5")
    assert low["nlo"] < made["axis"]["chance"] < low["nhi"]
    assert (low["suggested"], high["suggested"]) == (False, True)
    assert low["up"] and not high["up"], "a number must not lie on the band of chance"


def test_strip_reaches_down_to_scores_below_the_usual_range():
    made = lv.strip([score(0, 0.2, 0.1, 0.3)], [], None)
    assert made["blocks"][0]["lo"] > 0 and made["axis"]["ticks"][-1]["text"] == "0.1"


def test_curves_of_a_block_share_one_scale():
    (block,) = lv.strip([score(0, 0.9)], [], [([0, 2, 0], [0, 1, 0])])["blocks"]
    assert max(block["chosen"]) == 1.0 and max(block["rejected"]) == 0.5


def test_auc_equals_counting_couples():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 30).astype(float)
    slow = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert lv.auc(a, b) == pytest.approx(slow)


def test_few_pairs_are_all_drawn_and_many_evenly():
    assert len(lv.drawn(50)) == 50
    rows = lv.drawn(10_000)
    assert len(rows) == lv.DRAWN_PAIRS and rows[0] == 0 and rows[-1] == 9_999
    coords = np.arange(2 * 6 * 2).reshape(2, 6, 2)
    assert lv.take_pairs(coords, np.array([0, 2])).tolist() == coords[:, [0, 2, 3, 5]].tolist()
    assert "of" in lv.picture_caption(600, 5000) and "of" not in lv.picture_caption(600, 600)


def test_progress_never_claims_more_than_is_done():
    status = {"state": "running", "stage": "capture", "step": 3, "total": 12, "seconds": 4, "seconds_left": 9.0}
    made = lv.progress(status, 8)
    assert [stage["done"] for stage in made["stages"]] == [1.0, 0.25, 0.0, 0.0]
    assert made["live"] and "9 s left" in made["heading"]
    controls = lv.progress(status | {"stage": "score", "step": 0, "total": 3}, 8)
    assert controls["stages"][2]["done"] == 0.9, "the blocks are scored when the shortcuts are"
    failed = lv.progress(status | {"state": "failed"}, 8)
    assert failed["stages"][1]["err"] and not failed["live"] and failed["heading"] == "Failed during capture"
    assert lv.progress(status | {"stage": "save", "step": 0, "total": 0}, 8)["stages"][2]["done"] == 1.0


def test_the_work_is_estimated_only_from_what_was_measured():
    assert "about" not in lv.work_estimate(600, 8, None)
    assert "about 1 min 00 s" in lv.work_estimate(600, 8, 0.1)


@pytest.mark.parametrize("ids", [None, "5", [], [99], ["5"], [True], [[5]], [5.0], {"5": 5}])
def test_ids_from_a_page_are_checked(ids):
    with pytest.raises(UserError):
        layers_data.valid_ids(ids, {0, 5, 7})


def test_known_ids_come_once_and_in_order():
    assert layers_data.valid_ids([7, 5, 7, 99], {5: 0, 7: 1}) == [5, 7]
