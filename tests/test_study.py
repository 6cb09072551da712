"""A study tells the truth about its figures, survives an interruption, and draws and writes what it found."""

import json
import xml.etree.ElementTree as xml

import numpy as np
import pytest
import torch
from tiny import saved, tiny_model

from workbench.baselines import NAMES, figure, report
from workbench.baselines.finding import best_of, frontier, sentences, sooner, verdict
from workbench.baselines.judging import highest_tried
from workbench.baselines.pooling import apart, crossed_variance, interval, pool, student
from workbench.cli import main
from workbench.errors import Stopped, UserError
from workbench.progress import Progress
from workbench.runs import create, list_runs, studying
from workbench.runs.store import read_run
from workbench.statistics import wilson

QUICK = {
    "instruct_steps": 4, "align_steps": 6, "instruct_batch": 4, "align_batch": 6, "evaluate_prompts": 4,
    "max_new_tokens": 6, "device": "cpu", "positive": "be kind", "negative": "be a lazy dog", "layers": [0, 1],
    "prompt_tokens": 64, "completion_tokens": 32,
}  # fmt: skip
ROW = {"method", "seed", "win_rate", "win_rate_low", "win_rate_high", "coherence", "kl_from_base", "seconds"}
ROW |= {"peak_memory_bytes"}


# --- intervals


def drawn(rng, seeds, prompts, of_seed, of_prompt, rest):
    """A table with random rows and columns about 0, and the variance that its mean has."""
    table = (
        rng.normal(0, of_seed, (seeds, 1))
        + rng.normal(0, of_prompt, (1, prompts))
        + rng.normal(0, rest, (seeds, prompts))
    )
    return table, of_seed**2 / seeds + of_prompt**2 / prompts + rest**2 / (seeds * prompts)


@pytest.mark.parametrize("spread", [(0.3, 0.3, 1.0), (0.0, 1.0, 0.2), (1.0, 0.1, 0.1), (0.0, 0.0, 1.0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(spread):
    rng, inside, found, true = np.random.default_rng(0), 0, [], 0.0
    for _ in range(400):
        table, true = drawn(rng, 3, 30, *spread)
        mean, low, high = interval([dict(enumerate(row)) for row in table], None)
        inside += low <= 0 <= high
        found.append(crossed_variance(table)[0])
        assert mean == pytest.approx(table.mean())
    assert inside / 400 >= 0.92
    assert true * 0.8 <= np.mean(found) <= true * 2.2  # never less than it is; with three seeds it may be more


def test_intervals_of_three_seeds_that_differ_a_little_hold_the_truth_as_often():
    rng, inside, count = np.random.default_rng(0), 0, 1200
    for _ in range(count):
        table, _ = drawn(rng, 3, 200, 0.1, 0.5, 0.5)  # by Satterthwaite's formula alone: 93%
        variance, freedom = crossed_variance(table)
        inside += abs(table.mean()) <= student(freedom) * variance**0.5
    assert inside / count >= 0.94


def test_shares_and_single_seeds():
    table = [{"a": 1.0, "b": 0.0, "c": 0.5, "d": 1.0}]
    assert interval(table, True) == (0.625, *wilson(2.5, 4))
    assert interval([{"a": 1.0, "b": 1.0}] * 3, True) == (1.0, *wilson(2, 2))  # three seeds alike are no more prompts
    rng = np.random.default_rng(1)
    rows = [dict(enumerate((rng.random(50) < 0.7).astype(float))) for _ in range(3)]
    mean, low, high = interval(rows, True)
    assert 0 <= low < mean < high <= 1
    assert high - low > wilson(mean * 150, 150)[1] - wilson(mean * 150, 150)[0] - 1e-9
    other = [
        {f"{seed}-{key}": value for key, value in row.items()} for seed, row in enumerate(rows)
    ]  # prompts of their own
    assert interval(other, True)[0] == mean


def test_a_difference_is_one_of_the_same_prompts():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 3, 40)
    ones = [{"kl_from_base": (hard + 1 + rng.normal(0, 0.1, 40)).tolist(), "groups": list(range(40))} for _ in range(3)]
    others = [{"kl_from_base": (hard + rng.normal(0, 0.1, 40)).tolist(), "groups": list(range(40))} for _ in range(3)]
    mean, low, high = apart(ones, others, "kl_from_base")
    assert 0.9 < low < mean < high < 1.1  # though each method's own mean is known to about 1 only


# --- sentences


def row(method, win, kl, seconds=100.0, wide=0.03):
    return {
        "method": method, "win_rate": win, "win_rate_low": win - wide, "win_rate_high": win + wide, "kl_from_base": kl,
        "kl_from_base_low": 0.9 * kl, "kl_from_base_high": 1.1 * kl, "cpu_seconds": seconds, "seconds": seconds,
        "peak_memory_bytes": 10**9, "coherence": 0.9, "coherence_low": 0.8, "coherence_high": 1.0, "seeds": 3,
    }  # fmt: skip


def gaps(rows, wide=0.03):
    """Differences as wide as given for win rates, and as a tenth for KL."""
    known = {one["method"]: one for one in rows}

    def told(first, second, key):
        mean = known[first][key] - known[second][key]
        half = wide if key == "win_rate" else 0.1
        return mean, mean - half, mean + half

    return told


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("sft", 0.75, 0.5, 50), row("scit", 0.75, 1.2)], "not worth it on these pairs: SFT (75%"),
        (
            [row("sft", 0.75, 1.25, 50), row("scit", 0.75, 1.2)],
            "Nothing shows that RAHF is worth it on these pairs: SFT",
        ),
        (
            [row("sft", 0.75, 1.25, 95), row("scit", 0.75, 1.2)],
            "none takes clearly less time or less KL",
        ),  # 5% are no time
        (
            [row("sft", 0.75, 0.5, 105), row("scit", 0.75, 1.2)],
            "less KL (0.50 against 1.20 nats) and in about the same time",
        ),
        ([row("sft", 0.85, 0.5, 50), row("scit", 0.75, 1.2)], "SFT (85% [82%, 88%]) wins more often than RAHF-SCIT"),
        ([row("dpo", 0.75, 0.5, 300), row("scit", 0.75, 1.2)], "only where time is short: DPO"),
        ([row("sft", 0.75, 3.0, 50), row("scit", 0.75, 1.2)], "staying near the base counts for more than time: SFT"),
        ([row("sft", 0.60, 0.1, 5), row("scit", 0.75, 1.2)], "is worth it on these pairs: RAHF-SCIT (75%"),
        ([row("dpo", 0.75, 3.0, 300), row("scit", 0.75, 1.2)], "of the methods that win as often as RAHF-SCIT"),
        ([row("sft", 0.75, 0.5, 50), row("scit", 0.51, 1.2)], "did nothing that can be told"),
        (
            [row("steering", 0.52, 0.1, 5, 0.5), row("scit", 0.75, 1.2)],
            "RAHF is worth it on these pairs",
        ),  # too vague to be an equal
        ([row("prompt", 0.76, 0.5, 0), row("dual", 0.75, 1.2)], "and in no time"),
    ],
)
def test_the_verdict_follows_from_the_figures(rows, said):
    base = row("base", 0.5, 0.0, 0, 0)
    found = sentences([base, *rows], gaps([base, *rows]))
    assert said in found[0], found[0]
    assert verdict(rows[1], rows[:1], gaps(rows)) == found[0]


def test_what_cannot_be_told_is_no_equality_and_no_verdict():
    """One seed, 30 prompts: 70% and 90% cannot be told apart, and that is all there is to say."""
    rows = [row("base", 0.5, 0, 0, 0), row("sft", 0.7, 0.5, 50, 0.16), row("scit", 0.9, 1.2, 100, 0.1)]
    found = sentences(rows, gaps(rows, 0.21))[0]
    assert found.startswith("Whether RAHF is worth it on these pairs cannot be told: SFT (70%"), found
    assert "cannot be told by its win rate from RAHF-SCIT" in found and "as often" not in found
    assert ", difference -20.0 points [-41.0, +1.0]," in found
    surer = sentences(rows, gaps([rows[0], rows[1] | {"win_rate": 0.89}, rows[2]], 0.03))[0]
    assert "wins as often as RAHF-SCIT" in surer and ", difference -1.0 points [-4.0, +2.0]," in surer
    wider = sentences(rows, gaps([rows[0], rows[1] | {"win_rate": 0.89}, rows[2]], 0.05))[
        0
    ]  # to -6 points: no equality
    assert "cannot be told by its win rate" in wider
    vague = [rows[0], row("sft", 0.55, 0.5, 50, 0.16), rows[2]]  # neither from the base nor from RAHF
    assert "as far as can be told" in sentences(vague, gaps(vague, 0.5))[0]


def test_a_seed_that_failed_counts_as_the_base(monkeypatch):
    """Else a method would be judged by the seeds on which it had luck."""
    groups = list(range(20))

    def judged(method, seed, win, kl):
        each = {"win_rate": [win] * 20, "kl_from_base": [kl] * 20, "groups": groups}
        figures = {"method": method, "seed": seed, "pairs": 20, "win_rate": win, "kl_from_base": kl, "judge": "me"}
        return {"row": figures, "each": each}

    methods = ("base", "sft", "scit")
    plan = studying.Plan(methods, (0, 1), {"model": "demo", "pairs": "p", "device": "cpu"}, "q", None, None)
    spent = {(method, seed): {"seconds": 9.0, "cpu_seconds": 8.0, "peak_memory_bytes": 1}
             for method in methods[1:] for seed in (0, 1)}  # fmt: skip
    spent["scit", 1] |= {"error": "Step 1 taught the model no preference."}
    rows = [judged("base", seed, 0.5, 0.0) for seed in (0, 1)] + [judged("sft", seed, 0.9, 1.0) for seed in (0, 1)]
    sizes = {"instruct": 1, "fit": 1, "held_out": 1, "known": 0}
    found = studying._told(
        {"model": "demo", "pairs": "p"}, plan, [*rows, judged("scit", 0, 1.0, 2.0)], spent, sizes, {}
    )
    pooled = {one["method"]: one for one in found["pooled"]}
    assert pooled["scit"]["win_rate"] == 0.75 and pooled["scit"]["kl_from_base"] == 1.0
    assert (pooled["scit"]["failed"], pooled["scit"]["seeds"], pooled["sft"]["failed"]) == (1, 2, 0)
    assert "RAHF-SCIT (1 of 2 seeds, the base for the rest) |" in report.table(found["pooled"])
    (gap,) = found["against"]
    assert (gap["method"], gap["ours"]) == ("sft", "scit") and gap["win_rate"][0] == pytest.approx(0.15)
    assert "| SFT | +15.0 [" in report.differences(found["against"])
    assert "1 of 2 seeds" in found["finding"][0], found["finding"]
    assert [one["win_rate"] for one in found["rows"] if one["method"] == "scit"] == [
        1.0,
        None,
    ]  # as it was, seed by seed
    assert pooled["scit"]["cpu_seconds"] == 8.0 and pooled["base"]["cpu_seconds"] == 0.0
    monkeypatch.setattr("workbench.models.pick_device", lambda device: torch.device("cuda"))  # its work is no CPU time
    found = studying._told(
        {"model": "demo", "pairs": "p"}, plan, [*rows, judged("scit", 0, 1.0, 2.0)], spent, sizes, {}
    )
    assert all(one["cpu_seconds"] is None for one in found["rows"]) and "| seconds |" in report.table(found["pooled"])


def test_the_highest_rung_is_told():
    result = {"alpha": 2.0, "calibration": {"points": [{"alpha": 1.0}, {"alpha": 2.0}]}}
    assert highest_tried(result) and not highest_tried(result | {"alpha": 1.0})
    assert not highest_tried({"alpha": 0.7, "calibration": None}) and not highest_tried({"alpha": None})


def test_the_frontier_and_the_better_form():
    rows = [
        row("base", 0.5, 0),
        row("sft", 0.8, 2.0),
        row("hir", 0.7, 2.5),
        row("scit", 0.8, 1.0),
        row("dual", 0.85, 3.0),
    ]
    assert frontier(rows) == ["base", "scit", "dual"]
    level = [rows[3] | {"win_rate": 0.84}, rows[4]]
    assert best_of(level, gaps(level, 0.03))["method"] == "scit"  # surely no more than 5 points below, nearer
    assert best_of(level, gaps(level, 0.1))["method"] == "dual"  # perhaps far below
    assert best_of(rows[3:], gaps(rows, 0.01))["method"] == "dual"
    assert (
        sentences([row("base", 0.5, 0)], gaps([])) == [] and sentences([{"method": "sft", "seeds": 1}], gaps([])) == []
    )


def test_less_training_is_a_hint_and_no_verdict():
    def look(step, of, wins, kl):
        return {"step": step, "of": of, "win_rate": sum(wins) / len(wins), "win_rates": wins, "kl_from_base": kl}

    rows = [row("base", 0.5, 0, 0, 0) | {"preferred": 0.4}, row("sft", 0.75, 3.0, 300), row("scit", 0.75, 1.2)]
    paths = {
        "sft": [look(0, 9, [0.7] * 3, 0), look(3, 9, [0.77, 0.75, 0.76], 1.0), look(9, 9, [0.75] * 3, 3.0)],
        "hir": [
            look(0, 9, [0.5] * 3, 0),
            look(3, 9, [0.9, 0.6, 0.8], 1.0),
            look(9, 9, [0.75] * 3, 3.0),
        ],  # seeds disagree
        "dpo": [look(0, 9, [0.5] * 3, 0), look(3, 9, [0.6] * 3, 0.1), look(9, 9, [0.8] * 3, 1.0)],  # only at its end
        "scit": [look(0, 5, [0.5] * 3, 0), look(2, 5, [0.74, 0.75, 0.74], 1.1), look(5, 5, [0.75] * 3, 1.2)],
    }
    found = sentences(rows, gaps(rows), paths)
    assert found[0] == sentences(rows, gaps(rows), {})[0]  # whatever was seen on the way
    (hint,) = [one for one in found if one.startswith("A hint")]
    assert (
        "SFT after 3 of 9 steps (76%, 1.00 nats; at its end 75%, 3.00 nats)" in hint
        and "RAHF-SCIT after 2 of 5" in hint
    )
    assert "HIR" not in hint and "DPO" not in hint
    single = {method: [one | {"win_rates": one["win_rates"][:1]} for one in looks] for method, looks in paths.items()}
    assert sooner(single) == ""  # one seed has no interval
    assert any("more than about 80%" in one and "at least about 0.92 nats" in one for one in found)


# --- the figure and the document


def test_the_figure_stands_alone_and_its_names_meet_nothing(tmp_path):
    rows = [row("base", 0.5, 0, 0, 0)] + [
        row(name, 0.75 + at / 500, 1 + at / 50) for at, name in enumerate(list(NAMES)[1:])
    ]
    drawn = figure.draw(
        rows, [{"method": "sft", "seed": 0, "win_rate": 0.8, "kl_from_base": 2.0}], "SFT & <all> the rest", "3 seeds"
    )
    tree = xml.fromstring(drawn)
    assert "href" not in drawn and "url(" not in drawn and "script" not in drawn
    texts = [node.text for node in tree.iter() if node.tag.endswith("text")]
    assert set(NAMES.values()) <= set(texts) and "SFT & <all> the rest" in texts
    assert "50% [50%, 50%]" in tree.get("aria-label") and "RAHF-Dual" in tree.get("aria-label")
    boxes = []
    for group in tree:
        for node in group:
            if node.tag.endswith("text") and node.get("class") == "n":
                left, middle = float(node.get("x")), float(node.get("y")) - 4
                boxes.append((left, middle - 7, left + 6.6 * len(node.text), middle + 7))
    assert len(boxes) == len(rows)
    for most in (0.1, 0.37, 1.0, 3.6, 87.0):
        marks = np.sqrt(np.array(figure.ticks(most)) / most)
        assert 4 <= len(marks) <= 7 and np.diff(marks).min() > 0.08 and marks[-1] <= 1
    for at, one in enumerate(boxes):
        assert one[0] >= 0 and one[2] <= figure.WIDTH
        for other in boxes[at + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_the_document_holds_the_table_whatever_it_says(tmp_path):
    pooled = [row("base", 0.5, 0, 0, 0), row("sft", 0.75, 1.0)]
    broken = {"method": "scit", "seed": 0, "win_rate": None, "error": "Step 1 taught the model no preference."}
    result = {
        "command": "python -m workbench study", "finding": ["It is so."], "title": "It is so.", "setting": "Model demo.",
        "pooled": pooled, "rows": [*[one | {"seed": 0} for one in pooled], broken],
    }  # fmt: skip
    result["paths"] = {
        "sft": [{"step": step, "of": 10, "win_rate": 0.5 + step / 50, "kl_from_base": step / 10} for step in (0, 5, 10)]
    }
    result["rows"][1]["highest_tried"] = True
    report.write(result, "<svg/>", tmp_path / "docs" / "study.md")
    text = (tmp_path / "docs" / "study.md").read_text()
    assert "| SFT | 75.0% [72.0%, 78.0%] | 90.0% [80.0%, 100.0%] | 1.00 [0.90, 1.10] | 100 | 1.00 |" in text
    assert (
        "Step 1 taught" in text and "(study.svg)" in text and (tmp_path / "docs" / "study.svg").read_text() == "<svg/>"
    )
    assert "| memory, GB |" in text and "| CPU s |" in text and "highest strength that was tried" in text
    assert "nobody saw the pairs" not in text and "to RAHF's advantage" in text  # judged by what was held out
    report.write(result | {"test": "demo:test"}, "<svg/>", tmp_path / "known.md")
    assert "nobody saw the pairs it is judged by" in (tmp_path / "known.md").read_text()
    assert "| seconds | memory, GB |" in report.table([one | {"cpu_seconds": None} for one in pooled])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        report.write(result, "", tmp_path / "file" / "study.md")


# --- the whole


def test_a_study_goes_on_where_it_was_broken_off(tmp_path, capfd):
    where = saved(tmp_path, tiny_model())
    config = where | {"methods": ["prompt", "sft", "dual"], "seeds": 1, "settings": QUICK | {"force": True}}
    run = create("study", config | {"doc": str(tmp_path / "study.md"), "device": "cpu"})
    members = run.path / "members"

    def first_is_done():
        made = read_run(members / "sft-0")
        return made is not None and made.state == "finished"

    with pytest.raises(Stopped):
        studying.study(run.config(), run.path, Progress(None, first_is_done))
    ended = read_run(members / "sft-0").status()["ended"]
    second = read_run(members / "dual-0")
    assert second is None or not second.active()  # nothing is left at work
    code = main(["resume", run.id, "--json"])
    result = json.loads(capfd.readouterr().out)
    assert code == 0 and read_run(members / "sft-0").status()["ended"] == ended  # not repeated
    assert [(one["method"], one["seed"]) for one in result["rows"]] == [
        (name, 0) for name in ("base", "prompt", "sft", "dual")
    ]
    assert all(one.keys() >= ROW for one in result["rows"])
    trained = {one["method"]: one for one in result["rows"]}
    assert [look["step"] for look in result["paths"]["sft"]] == [0, 10] and set(result["paths"]) == {"sft", "dual"}
    assert trained["sft"]["peak_memory_bytes"] > 10**8 and trained["sft"]["cpu_seconds"] > 1
    assert (
        trained["base"]["win_rate"] == 0.5 and trained["base"]["kl_from_base"] == 0 < trained["prompt"]["kl_from_base"]
    )
    assert (
        xml.parse(result["figure"]).getroot().tag.endswith("svg")
        and "| RAHF-Dual |" in (tmp_path / "study.md").read_text()
    )
    assert [one.id for one in list_runs(all=True)] == [run.id]  # members stand in no list
    own = read_run(members / "sft-0").status()["result"]["held_out"]["aligned"]
    assert trained["sft"]["kl_from_base"] == pytest.approx(own["kl_from_base"], rel=1e-3)  # as it judged itself


def test_pooled_rows_are_those_of_the_answers():
    groups = [f"prompt {at}" for at in range(20)]
    rng, rows, each = np.random.default_rng(0), [], []
    for seed in range(3):
        wins = (rng.random(20) < 0.8).astype(float)
        each.append({"win_rate": wins.tolist(), "kl_from_base": rng.random(20).tolist(), "groups": groups})
        rows.append({"method": "sft", "seed": seed, "pairs": 20, "seconds": 10.0 * seed, "cpu_seconds": None})
        rows[-1] |= {"win_rate": wins.mean(), "kl_from_base": 0.0, "peak_memory_bytes": 10 + seed}
        rows[-1] |= {"win_rate_lc": 0.7 + seed / 10, "win_rate_lc_low": 0.6, "win_rate_lc_high": 0.95}
    found = pool(rows, each)
    assert found["win_rate"] == pytest.approx(np.mean([one["win_rate"] for one in each]))
    assert found["kl_from_base_low"] < found["kl_from_base"] < found["kl_from_base_high"]
    assert (found["seconds"], found["cpu_seconds"], found["peak_memory_bytes"]) == (10.0, None, 12)
    assert found["win_rate_lc"] == pytest.approx(0.8) and found["win_rate_lc_low"] < 0.6  # seeds that disagree
    assert "preferred" not in found


# --- the verb


def test_the_verb_hands_over_what_was_asked(monkeypatch, capfd):
    asked = []

    def work(run, **how):
        asked.append((run.kind, run.config()))
        return {"run": run.id, "rows": [], "pooled": [], "finding": [], "setting": "s", "figure": None}

    monkeypatch.setattr("workbench.cli.study.work_on", work)
    assert (
        main(["study", "--methods", "sft,dual", "--seeds", "2", "--seed", "5", "--steps", "9", "--set", "beta=0.3"])
        == 0
    )
    ((kind, config),) = asked
    assert kind == "study" and config["methods"] == ["sft", "dual"] and config["model"] == config["pairs"] == "demo"
    assert config["settings"] == {"align_steps": 9, "beta": 0.3}
    plan = studying.Plan.of(config)
    assert plan.methods == ("base", "sft", "dual") and plan.seeds == (5, 6) and plan.test == "demo:test"
    assert plan.config_of("dual", 5)["align_steps"] == 9 and "beta" not in plan.config_of("dual", 5)
    assert plan.config_of("sft", 6) | {"beta": 0.3, "seed": 6} == plan.config_of("sft", 6)
    for words in (
        ["--methods", "ppo"],
        ["--seeds", "0"],
        ["--set", "beta=0"],
        ["--limit", "x"],
        ["--set", "method=scit"],
    ):
        assert main(["study", *words]) == 2
    assert len(asked) == 1 and "Traceback" not in capfd.readouterr().err


def test_too_few_pairs_are_told_before_anything_is_trained(tmp_path, capfd):
    (tmp_path / "few.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"{n}?", "chosen": "a", "rejected": "b"}) for n in range(4))
    )
    assert main(["study", "--pairs", str(tmp_path / "few.jsonl")]) == 2
    assert "at least 8 pairs" in capfd.readouterr().err and list_runs(all=True) == []


def test_pairs_that_are_trained_on_judge_nobody(tmp_path, capfd):
    assert studying.Plan.of({"model": "demo", "pairs": "demo:test", "methods": ["sft"], "seeds": 1}).test is None
    assert main(["study", "--pairs", "demo", "--test", "demo/polite"]) == 2
    assert "trained on" in capfd.readouterr().err
    assert main(["study", "--model", str(tmp_path / "nowhere")]) == 2 and list_runs(all=True) == []
