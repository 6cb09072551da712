"""The pure parts of steps 3 to 5: charts from series, a run's story from its events, votes, and the words they give."""

from __future__ import annotations

import math
import random
from itertools import combinations, pairwise

import pytest

from workbench.errors import UserError
from workbench.progress import Event
from workbench.statistics import rounded_down
from workbench.ui import align_view, answers, charts, compare_plot, compare_view, votes


def test_wilson_is_the_textbook_interval_and_stays_within_zero_and_one():
    assert charts.wilson(17, 18) == pytest.approx((0.742, 0.990), abs=2e-3)
    assert charts.wilson(0, 0) == (0.0, 1.0)
    for trials in (1, 2, 7, 200):
        for wins in (0, trials / 2, trials):
            low, high = charts.wilson(wins, trials)
            assert 0 <= low <= wins / trials <= high <= 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.2, "0 s"),
        (39, "39 s"),
        (59.6, "1 min 00 s"),
        (170, "2 min 50 s"),
        (3900, "1 h 05 min"),
    ],
)
def test_duration(seconds, text):
    assert charts.duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(None, "–"), (0, "0 B"), (12_000, "12 kB"), (6.9e6, "6.9 MB"), (3.8e8, "0.38 GB")]
)
def test_amount(size, text):
    assert charts.amount(size) == text


def test_thin_keeps_ends_and_order():
    points = list(range(1000))
    kept = charts.thin(points, 50)
    assert len(kept) == 50 and kept[0] == 0 and kept[-1] == 999 and kept == sorted(set(kept))
    assert charts.thin(points[:10], 50) == points[:10]


def test_smooth_is_a_mean_that_does_not_lag():
    line = [float(i) for i in range(20)]
    assert charts.smooth(line, 3)[5:15] == pytest.approx(line[5:15])
    assert charts.smooth([2.0], 5) == [2.0]


def test_spread_moves_labels_apart_without_changing_their_order():
    rng = random.Random(0)
    for _ in range(200):
        heights = [rng.uniform(0, 100) for _ in range(rng.randint(1, 6))]
        placed = charts.spread(heights)
        ordered = [value for _, value in sorted(zip(heights, placed, strict=True))]
        assert all(b - a >= charts.LABEL_GAP - 1e-9 for a, b in pairwise(ordered))
        assert max(placed) <= 100 + 1e-9


@pytest.mark.parametrize("total", [1, 3, 7, 24, 60, 250, 450, 2500, 10**6])
def test_x_ticks_begin_at_zero_and_end_at_the_last_step_without_crowding(total):
    ticks = charts.x_ticks(total)
    places = [tick["at"] for tick in ticks]
    assert places[0] == 0 and places[-1] == 100 and places == sorted(places)
    assert ticks[-1]["text"] == str(total) and len(ticks) <= 7
    assert all(b - a >= 9.9 for a, b in pairwise(places))


def inside(chart):
    """Every drawn coordinate lies on the plot."""
    flat = [point for one in chart.get("lines", []) for point in one["points"]]
    flat += [[x, y] for band in chart.get("bands", []) for x, *ys in band["points"] for y in ys]
    return all(0 <= x <= 100 and 0 <= y <= 100 for x, y in flat)


def falling(count, noise=0.05):
    rng = random.Random(1)
    return [(float(i), 3 * math.exp(-i / (count / 6)) + 0.3 + rng.gauss(0, noise)) for i in range(count)]


def test_the_loss_chart_says_what_the_curve_does():
    assert charts.loss_chart(falling(250), 250)["title"] == "The loss is levelling off"
    assert charts.loss_chart(falling(250)[:60], 250)["title"] == "The loss is falling"
    assert charts.loss_chart(falling(250)[:60], 250, state="failed")["title"] == "The loss was still falling"
    assert charts.loss_chart([(i, 1.0) for i in range(50)], 250)["title"] == "The loss has not moved yet"
    assert charts.loss_chart([(i, 1.0 + i / 10) for i in range(50)], 250)["title"] == "The loss is rising"


@pytest.mark.parametrize("count", [0, 1, 2, 5, 250, 5000])
def test_charts_of_any_length_are_complete(count):
    chart = charts.loss_chart(falling(max(count, 1))[:count], max(count, 1))
    assert inside(chart) and chart["title"] and chart["name"] and chart["x"] and chart["y"]
    assert ("table" in chart) == (count > 0)
    assert all(len(one["points"]) <= charts.KEEP for one in chart.get("lines", []))


def test_a_loss_that_is_no_number_is_left_out():
    chart = charts.loss_chart([(0, 1.0), (1, math.nan), (2, math.inf), (3, 0.5)], 10)
    assert inside(chart) and len(chart["lines"][0]["points"]) == 2


def test_where_a_run_broke_off_is_marked_and_a_finished_one_has_no_mark():
    assert charts.loss_chart(falling(250)[:118], 250, state="failed")["marks"] == [{"at": 46.8, "stop": True}]
    assert not charts.loss_chart(falling(250)[:118], 250)["marks"][0]["stop"]
    assert charts.loss_chart(falling(251), 250, state="finished")["marks"] == []


def test_fit_counts_the_blocks_near_their_targets():
    assert charts.fit_finding({5: 0.24, 7: 0.37}) == "Both blocks near their targets"
    assert charts.fit_finding({5: 0.24, 7: 0.57}) == "1 of 2 blocks near their targets"
    assert charts.fit_finding({5: 0.6, 7: 0.7}, ended=True) == "Both blocks were on their way"
    assert charts.fit_finding({3: 0.1}) == "Block 3 near its target"
    chart = charts.fit_chart({7: [(0, 1.0), (50, 1.4)], 5: [(0, 1.0), (50, 0.2)]}, 100)
    assert inside(chart) and chart["table"]["head"] == ["Step", "Block 5", "Block 7"] and chart["y"][-1]["text"] == "2"


def test_coherence_is_never_praised_when_it_is_low():
    assert charts.coherence_title(0.93, 0.94).startswith("Coherence holds")
    assert charts.coherence_title(0.80, 0.94).startswith("Coherence drops")
    assert charts.coherence_title(0.20, 0.94).startswith("Coherence has collapsed")
    assert "holds" not in charts.coherence_title(0.1, 0.1)
    assert charts.coherence_chart([(0, 0.9, 0.85, 0.95)], 10)["y"][0]["text"] == "0.5"
    assert charts.coherence_chart([(0, 0.3, 0.25, 0.35)], 10)["y"][0]["text"] == "0"


def test_labels_of_base_and_aligned_never_cover_each_other():
    for value in (0.0, 0.02, 0.1, 0.5, 0.9, 1.0):
        for base in (0.0, 0.05, 0.5, 0.95, 1.0):
            chart = charts.rate_chart(
                [(0, base, 0, 1), (10, value, 0, 1)], 10, name="x", sub="", base=base, base_text="base"
            )
            one, other = chart["labels"]
            assert abs(one["y"] - other["y"]) >= charts.LABEL_GAP or one["x"] != other["x"], (value, base)
            assert inside(chart)


# -- a run's story -----------------------------------------------------------------------------------------------------


def story(upto=162):
    events = [Event("load"), *(Event("instruct", i, 120, {"loss": 2 - i / 100}) for i in range(0, 121, 10))]
    check = {
        "separation": 0.97,
        "separation_low": 0.94,
        "separation_high": 0.98,
        "preferred_plus": 1.0,
        "preferred_minus": 0.0,
        "prompts": 64,
    }
    events.append(
        Event("check", 0, 0, check, "Step 1 worked: 97% [94%, 98%] of held-out pairs lean further to chosen.")
    )
    events.append(Event("patterns", 5, 5, {"relative_strength": {"5": 0.29, "7": 0.33}, "alpha": 0.7}))
    look = {"preferred": 0.42, "preferred_low": 0.3, "preferred_high": 0.5, "coherence": 0.94, "base_coherence": 0.94}
    events.append(Event("align", 0, 250, look))
    for i in range(1, upto + 1):
        events.append(
            Event("align", i, 250, {"loss": 3 / i, "fit": {"5": 1 / i, "7": 2 / (i + 1)}, "seconds_left": 250.0 - i})
        )
    events.append(
        Event("align", upto, 250, {"preferred": 0.9, "samples": [{"prompt": "p", "base": "b", "aligned": "<b>a</b>"}]})
    )
    made = align_view.Story()
    made.add(events)
    return made


STATUS = {
    "method": "scit",
    "layers": [5, 7],
    "started": 1.0,
    "seconds": 139.0,
    "seconds_left": 39.0,
    "updated": 2.0,
    "error": None,
}


def test_a_live_run_is_told_stage_by_stage():
    view = align_view.live(STATUS | {"state": "running"}, story())
    assert view["progress"]["heading"] == "About 39 s left"
    assert [bar["share"] for bar in view["progress"]["stages"]] == [100.0, 100.0, 64.8]
    assert "100% on the preferred side" in "".join(map(str, view["progress"]["note"]["text"]))
    loss, fit, rate, coherent = view["charts"]
    assert fit["title"] == "Both blocks near their targets" and rate["title"] == "Preferred answers 0.90"
    assert rate["refs"][0]["at"] == 42.0  # the look before the first step is the base's
    assert loss["lines"] and coherent["refs"]
    assert view["samples"]["rows"][0]["aligned"] == "<b>a</b>"


@pytest.mark.parametrize("state", ["queued", "running", "stopped", "interrupted", "failed", "finished"])
@pytest.mark.parametrize("upto", [-1, 0, 1, 162])
def test_every_state_of_every_run_has_words(state, upto):
    told = story(upto) if upto >= 0 else align_view.Story()
    status = STATUS | {"state": state, "error": "The disk is full." if state == "failed" else None}
    head, view = align_view.head(status, told), align_view.live(status, told)
    assert head["title"] and view["progress"]["heading"] and len(view["charts"]) == 4
    assert ("error" in head) == (state in ("failed", "interrupted"))
    if state == "failed":
        assert head["error"]["text"] == "The disk is full."


def test_a_resumed_stage_overwrites_what_lay_ahead_of_its_checkpoint():
    told = story(118)
    told.add([Event("align", 101, 250, {"loss": 9.0, "fit": {"5": 0.5}})])
    assert told.loss[-1] == (101.0, 9.0) and len(told.loss) == 101
    assert told.fit[5][-1] == (101.0, 0.5)


def test_odd_events_are_passed_over():
    told = align_view.Story()
    told.add(
        [
            Event("align", 1, 2, {"loss": None, "fit": "x", "samples": "y", "preferred": True}),
            Event("something new", 1, 0),
        ]
    )
    assert align_view.live(STATUS | {"state": "running"}, told)


def test_titles_claim_only_what_the_interval_shows():
    base = {"preferred": 0.5, "coherence": 0.95}
    better = {"preferred": 0.98, "preferred_low": 0.95, "preferred_high": 0.99, "coherence": 0.94}
    assert (
        align_view.achieved([base, better])[0]
        == "Aligned gives preferred answers to 98% of held-out prompts, and stays coherent"
    )
    nearly = better | {"preferred": 0.995}
    assert "answers to 99% of" in align_view.achieved([base, nearly])[0]
    unsure = better | {"preferred": 0.55, "preferred_low": 0.45}
    assert align_view.achieved([base, unsure])[0].startswith("Aligned is not clearly better than base")
    assert align_view.achieved([base, better | {"coherence": 0.3}])[0].endswith("its answers are not coherent")
    assert align_view.achieved([base]) is None and align_view.achieved([]) is None


def looks(steps=(0, 40, 80), **more):
    """Events of looks at these steps."""
    return [
        Event("align", step, 200, {
            "preference_accuracy": 0.5 + step / 200, "preference_accuracy_low": 0.3, "preference_accuracy_high": 1.0,
            "kl_from_base": step / 80, "kl_from_base_low": step / 100, "kl_from_base_high": step / 60,
            "mean_tokens": 12.0 + step / 40, "base_mean_tokens": 12.0,
            "samples": [{"prompt": "p", "base": "b", "aligned": f"at {step}"}],
        } | more)
        for step in steps
    ]  # fmt: skip


def told(events, state="running", **status):
    made = align_view.Story()
    made.add(events)
    return align_view.live(STATUS | {"state": state} | status, made, 200, True), made


def test_what_is_folded_says_what_it_shows_and_has_its_numbers():
    steps = [
        Event("align", i, 200, {"loss": 1.0, "grad_norm": 4.0 / i, "learning_rate": 0.002, "reached": {"4": i / 400}})
        for i in range(1, 81)
    ]
    view, _ = told(
        [Event("patterns", 0, 0, {"relative_strength": {"4": 0.26}}), *looks((0, 40)), *steps, *looks((80,))]
    )
    accuracy, kl, tokens, reached, gradient, rate = view["more"]["charts"]
    assert accuracy["title"] == "Chosen is likelier in 90% of pairs" and accuracy["refs"][0]["at"] == 50
    assert kl["title"] == "1.00 nats from base" and kl["y"][-1]["text"] == "2" and kl["interval"] == "[0.80, 1.33]"
    assert tokens["title"] == "Answers of 14.0 tokens, base 12.0" and tokens["refs"]
    assert reached["title"] == "States have moved by 0.20 of their length" and "aim 0.26" in reached["sub"]
    assert gradient["title"] == "The gradient shrinks" and rate["title"] == "Learning rate 2e-3"
    assert all(inside(chart) and chart["table"]["rows"] for chart in view["more"]["charts"])


def test_one_steps_through_the_looks_and_a_resumed_run_does_not_repeat_the_first():
    view, made = told([*looks(), *looks((0,)), *looks((40,), mean_tokens=99.0)])
    shown = view["samples"]
    assert [look["step"] for look in shown["looks"]] == [0, 40] and shown["looks"][1]["aligned"] == ["at 40"]
    assert shown["rows"] == [{"prompt": "p", "base": "b", "aligned": "at 40"}]
    assert [point[:2] for point in made.looks["mean_tokens"]] == [(0.0, 12.0), (40.0, 99.0)]
    many, _ = told(looks(range(0, 200, 2)))
    assert len(many["samples"]["looks"]) == 12 and many["samples"]["looks"][-1]["step"] == 198
    none, _ = told([Event("instruct", 3, 10, {"loss": 1.0})], "failed")
    assert none["samples"]["ended"] and none["samples"]["empty"].startswith("There are none: the run ended before")


def test_a_paused_run_says_not_yet_and_its_clock_stands_still():
    first = [Event("load", time=0.0), *(Event("instruct", i, 9, {"loss": 1.0}, time=10.0 + i) for i in range(5))]
    second = [Event("load", time=5000.0), *(Event("instruct", i, 9, {"loss": 1.0}, time=5010.0 + i) for i in (5, 6))]
    paused, _ = told(first, "stopped")
    assert (
        paused["samples"]["empty"].startswith("There are none yet") and paused["before"]["empty"] == "Not checked yet."
    )
    assert paused["progress"]["note"]["kind"] == "wait"  # its place stays
    view, _ = told([*first, *second])
    assert view["progress"]["stages"][0]["text"] == "6 of 9, 0:05"


def test_a_resumed_run_starts_until_it_tells_something():
    before = [Event("align", 19, 60, {"loss": 1.0}, time=100.0)]
    view, made = told(before, since=160.0, seconds_left=8.0)
    assert view["progress"]["heading"].startswith("Starting") and view["progress"]["stages"][2]["share"] > 30
    assert view["progress"]["right"] == "starting" and "age" not in view["progress"]  # not: updated an hour ago
    assert align_view.head(STATUS | {"state": "running", "since": 160.0}, made)["title"] == "Starting"
    made.add([Event("align", 20, 60, {"loss": 1.0}, time=170.0)])
    assert align_view.head(STATUS | {"state": "running", "since": 160.0}, made)["title"].endswith("step 20 of 60")


def test_of_duals_two_models_the_one_at_work_is_told_of():
    loss = [*(1 - i / 40 for i in range(30)), *(2 - i / 40 for i in range(30))]
    steps = [Event("instruct", i + 1, 60, {"loss": one}) for i, one in enumerate(loss)]
    for count, title in ((30, "The chosen side’s loss is falling"), (60, "The rejected side’s loss is falling")):
        view, _ = told(steps[:count], method="dual")
        assert view["charts"][0]["title"] == title and "rejected" in view["charts"][0]["sub"]


def ladder(chosen=0.7, leaning=(0.6, 0.9, 0.8, 0.3), drifts=(0.02, 0.04, 0.3, 1.0)):
    points = [
        {"alpha": alpha, "relative_strength": alpha * 0.36, "leaning": lean, "leaning_low": lean - 0.1,
         "leaning_high": min(1.0, lean + 0.1), "drift": drift, "drift_low": drift / 2,
         "drift_high": min(1.0, drift * 2), "mean_tokens": 14.0, "fluent": 1 - drift, "repeating": 0.0, "within": drift <= 0.12}
        for alpha, lean, drift in zip((0.35, 0.7, 1.2, 2.0), leaning, drifts, strict=True)
    ]  # fmt: skip
    return {
        "points": points,
        "chosen": chosen,
        "base": {"leaning": 0.5, "drift": 0.02, "mean_tokens": 14.0},
        "drift_limit": 0.12,
        "prompts": 48,
        "leaning_is": "leaning",
        "drift_is": "drift",
        "reason": "Alpha 0.7 moves most.",
        "seconds": 3.0,
    }


def test_the_ladder_of_strengths_marks_the_chosen_one_and_the_limit():
    chart = charts.calibration_chart(ladder())
    assert chart["title"] == "At alpha 0.70, 90% of answers lean to chosen, 4% drift"
    assert chart["dots"] == [{"x": 37.5, "y": 90.0, "color": "aligned"}]
    assert chart["refs"][0]["at"] == 12 and [tick["more"] for tick in chart["x"]] == ["0.13", "0.25", "0.43", "0.72"]
    assert [row[-1] for row in chart["table"]["rows"]] == ["", "chosen", "drifts too far", "drifts too far"]
    assert chart["table"]["rows"][1][2:4] == ["0.900", "[0.800, 1.000]"] and inside(chart)
    other = charts.calibration_chart(ladder(chosen=0.95))
    assert other["dots"] == [] and 37.5 < other["marks"][0]["at"] < 62.5 and "chosen" not in str(other["table"]["rows"])
    assert inside(charts.calibration_chart(ladder(leaning=(0.0, 0.0, 0.0, 0.0))))
    one = ladder()
    assert charts.calibration_chart(one | {"points": one["points"][1:2]})["dots"]


def test_what_came_before_the_fit_has_its_place_from_the_start():
    sides = [{"prompt": "q", "plus": "kind", "minus": "rude"}]
    waiting, _ = told([])
    assert waiting["before"]["chart"]["empty"] == "drawn in stage 2" and waiting["progress"]["note"]["kind"] == "wait"
    view, _ = told([Event("check", 0, 0, {"separation": 0.9, "separation_low": 0.8, "sides": sides}, "Step 1 worked: 90%."),
                    Event("calibrate", 4, 4, {"calibration": ladder()})])  # fmt: skip
    assert view["before"]["sides"] == sides and view["before"]["reason"] == "Alpha 0.7 moves most."
    assert view["before"]["meanings"] == [["Lean to chosen", "leaning"], ["Drift", "drift"]]
    assert view["before"]["heads"] == ["under p+", "under p−"] and view["before"]["chart"]["dots"]
    assert [bar["label"] for bar in view["progress"]["stages"]] == ["1 Instruct", "2 Patterns", "3 Fit"]
    assert view["progress"]["stages"][1]["share"] == 100


def labels(actions):
    return [action["label"] for action in actions]


def test_a_finished_run_tells_its_figures_with_intervals_and_leaves_the_first_action_to_a_new_one():
    share = {"preferred": 0.46, "preferred_low": 0.39, "preferred_high": 0.52}
    sound = {"coherence": 1.0, "coherence_low": 0.98, "coherence_high": 1.0, "pairs": 200}
    aligned = {"preferred": 0.99, "preferred_low": 0.97, "preferred_high": 1.0} | sound
    status = STATUS | {"state": "finished", "result": {"held_out": {"base": share | sound, "aligned": aligned}}}
    _, made = told([])
    head = align_view.head(status, made)
    assert head["sub"][-1] == (
        "Preferred 0.99 [0.97, 1.00] against 0.46 [0.39, 0.52] for base; coherence 1.00 [0.98, 1.00] against "
        "1.00 [0.98, 1.00] for base; 200 held-out prompts."
    )
    assert head["actions"][0]["primary"] and not align_view.head(status, made, beside=True)["actions"][0]["primary"]


def test_a_number_is_rounded_to_the_safe_side():
    assert [rounded_down(value) for value in (1.39, 0.0278, 0.5, 13.9, 2.0)] == [1.3, 0.027, 0.5, 13.0, 2.0]


def test_a_run_that_was_not_worth_going_on_says_what_to_change():
    check = {"separation": 0.52, "separation_low": 0.44, "separation_high": 0.6, "margin_gap": 0.01}
    made = align_view.Story()
    made.add(
        [Event("instruct", 9, 9, {"loss": 1.0}), Event("check", 0, 0, check, "Step 1 did not work: 52% of pairs.")]
    )
    failed = STATUS | {"state": "failed", "error": "Step 1 taught the model no preference: ..."}
    head = align_view.head(failed, made)
    assert "there is nothing to fit" in head["title"] and "more steps" in "".join(head["error"]["text"])
    assert labels(head["error"]["actions"]) == ["Change settings", "Discard"]
    assert align_view.live(failed, made)["progress"]["note"]["kind"] == "warn"

    made.add([Event("align", 80, 200, {"loss": 1.0, "collapsed": "Answers fell apart by step 80."})])
    head = align_view.head(failed, made)
    assert head["title"].endswith("answers fell apart") and labels(head["error"]["actions"])[0] == "Change settings"

    # the last sound adapter was kept, and then judging it failed of something else: that is told, and one goes on
    made.add([Event("save"), Event("evaluate", 0, 2)])
    full = failed | {"error": "There is not enough memory for this.", "mendable": False}
    head = align_view.head(full, made)
    assert head["error"]["text"] == full["error"] and "Resume" in labels(head["error"]["actions"])[0]

    result = {"ended": "collapse", "collapse": "Answers fell apart by step 80.", "steps": 40, "alpha": 1.4}
    head = align_view.head(STATUS | {"state": "finished", "result": result}, made)
    assert head["title"] == "Ended early: answers fell apart; the adapter of step 40 is kept"
    assert "half of 1.4" in head["warn"]["text"] and labels(head["warn"]["actions"]) == ["Change settings"]
    assert labels(head["actions"]) == ["Compare answers"]


def test_a_forced_run_that_fails_of_something_else_says_so_and_can_be_resumed():
    check = {"separation": 0.52, "separation_low": 0.44, "separation_high": 0.6, "margin_gap": 0.01}
    made = align_view.Story()
    made.add([Event("check", 0, 0, check, "Step 1 did not work: 52% of pairs."), Event("calibrate", 3, 48)])
    full = STATUS | {"state": "failed", "error": "The disk is full: free some space and resume.", "mendable": False}
    head = align_view.head(full, made)
    assert head["error"]["text"] == full["error"] and "Resume" in labels(head["error"]["actions"])[0]


def test_stop_and_keep_is_off_while_there_is_nothing_to_keep():
    early, late = align_view.Story(), story()
    early.add([Event("instruct", 3, 9, {"loss": 1.0})])
    for made, off in ((early, True), (late, False)):
        keep = align_view.head(STATUS | {"state": "running"}, made)["actions"][1]
        assert keep["label"] == "Stop and keep" and bool(keep.get("off")) == off
        assert ("nothing to keep yet" in keep["title"]) == off


# -- compare -----------------------------------------------------------------------------------------------------------


def test_pieces_join_to_the_whole_even_across_characters():
    text = "é x€"
    data = text.encode()

    def decode(ids):
        return bytes(ids).decode("utf-8", "replace")

    pieces = answers.pieces(decode, list(data))
    assert len(pieces) == len(data) and "".join(pieces) == text


def test_blind_votes_hide_the_sides_count_once_and_survive_damage(tmp_path):
    visitor, other = "a" * 32, "b" * 32
    kept = votes.add_answers(tmp_path, ["p1", "p2", "p3"], ["rude", "same", "bad"], ["kind", "same", "good"])
    assert kept == 2
    outcomes = []
    while ballot := votes.next_ballot(tmp_path, visitor):
        assert set(ballot) == {"id", "prompt", "a", "b"}
        choice = "a" if ballot["a"] in ("kind", "good") else "b"
        outcomes.append(votes.cast(tmp_path, visitor, ballot["id"], choice))
        with pytest.raises(UserError):
            votes.cast(tmp_path, visitor, ballot["id"], choice)
    assert outcomes == ["aligned", "aligned"]
    with open(tmp_path / "votes.jsonl", "a") as file:
        file.write('{"torn": ')
    assert [vote["vote"] for vote in votes.votes_of(tmp_path, visitor)] == ["aligned", "aligned"]
    assert votes.votes_of(tmp_path, other) == [] and votes.next_ballot(tmp_path, other) is not None
    assert visitor not in (tmp_path / "votes.jsonl").read_text()


def test_the_sides_are_dealt_evenly():
    first = sum(votes.aligned_first("c" * 32, str(i)) for i in range(2000))
    assert 880 < first < 1120


def test_the_running_win_rate_counts_ties_as_halves():
    view = compare_view.blind(None, [{"vote": "aligned"}, {"vote": "tie"}, {"vote": "base"}, {"vote": "aligned"}])
    assert view["tally"]["title"] == "2 of 4 votes for aligned, 1 tie" and view["tally"]["text"].startswith("0.62 [")
    assert inside(view["chart"])


def test_the_list_says_what_it_shows():
    assert compare_view.many_title([{"a": 0.5, "b": 0.1}, {"a": 0.9, "b": -0.4}]) == "All 2 lean further to chosen"
    assert compare_view.many_title([{"a": 0.5, "b": 0.6}, {"a": 0.9, "b": -0.4}]) == "1 of 2 lean further to chosen"


@pytest.mark.parametrize(
    "bad",
    [
        ("x", 1, 1, 64),
        (7, None, 1, 64),
        (7, math.nan, 1, 64),
        (7, 1, 0, 64),
        (7, 1, 1, 0),
        (7, 1, 1, 10**6),
        (-1, 1, 1, 8),
    ],
)
def test_sampling_that_means_nothing_is_refused_with_a_sentence(bad):
    with pytest.raises(UserError):
        answers.sampling_from(*bad)


def test_names_of_many_methods_cover_each_other_nowhere():
    """Seven methods that stand where a study of the bundled pairs put them."""
    places = [("Base", 0.0, 0.5), ("Prompt p+", 0.84, 0.7725), ("Steering", 0.33, 0.6025), ("SFT", 3.07, 0.7375),
              ("HIR", 1.39, 0.7675), ("DPO", 2.02, 0.74), ("RAHF-SCIT", 1.14, 0.765), ("RAHF-Dual", 1.37, 0.7675)]  # fmt: skip
    points = [
        {"name": name, "color": "base" if name == "Base" else "ink", "win_rate": rate, "kl_from_base": kl}
        for name, kl, rate in places
    ]
    found = compare_plot.frontier(points)["labels"]
    boxes = [
        (*compare_plot._ends((one["side"], one["x"], one["y"]), 2.6 * len(one["strong"])), one["y"]) for one in found
    ]
    for one, other in combinations(boxes, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or abs(one[2] - other[2]) >= 8
