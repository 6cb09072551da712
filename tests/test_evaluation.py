"""Figures of an evaluation against slow computations, and judges that say what they are."""

import json
import math

import numpy as np
import pytest
import torch
from tiny import PAIRS, tiny_model

from workbench.errors import UserError
from workbench.evaluation import distinct, kl_from_base, make_baseline, measure, repeats, rows_of
from workbench.generation import Sampling, generate
from workbench.judges import ProbeJudge, RuleJudge, choose_judge
from workbench.pairs import Pair, PreferencePairs, as_messages
from workbench.rahf.adapters import activate, add_adapter
from workbench.rahf.config import RunConfig
from workbench.statistics import bootstrap, length_controlled, wilson
from workbench.tokens import Limits

LIMITS = Limits(64, 32)
SAMPLING = Sampling(max_new_tokens=6)


def pairs(count=8):
    return PreferencePairs.from_pairs(
        [Pair(i, as_messages(p["prompt"]), p["chosen"], p["rejected"]) for i, p in enumerate(PAIRS[:count])]
    )


@pytest.fixture
def loaded():
    model = tiny_model()
    add_adapter(model, "aligned", RunConfig(), 3, seed=1)
    with torch.no_grad():
        for key, parameter in model.model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.2)
    activate(model, [])
    return model


def rule_judge(tmp_path, **rules):
    path = tmp_path / "oracle.json"
    path.write_text(json.dumps({"name": "test", "preferred": [], "dispreferred": [], "facts": None} | rules))
    return RuleJudge(path)


def test_kl_equals_the_sum_over_tokens_and_vocabulary(loaded):
    prompts = [pair.prompt for pair in pairs(3)]
    answers = generate(loaded, prompts, SAMPLING, "aligned")
    rows = rows_of(loaded, prompts, answers, LIMITS)
    fast = kl_from_base(loaded, "aligned", rows)
    for row, value in zip(rows, fast, strict=True):
        logps = []
        for names in (["aligned"], []):
            activate(loaded, names)
            logps.append(torch.log_softmax(loaded.model(input_ids=torch.tensor([row.ids])).logits[0].double(), -1))
        total = 0.0
        for place in range(row.start - 1, len(row.ids) - 1):
            for token in range(logps[0].shape[1]):
                p, q = float(logps[0][place, token]), float(logps[1][place, token])
                total += math.exp(p) * (p - q)
        assert value == pytest.approx(total, rel=1e-3, abs=1e-4)


def test_the_base_held_against_itself_gains_nothing(loaded, tmp_path):
    judge = rule_judge(tmp_path, preferred=[".*e.*"], dispreferred=["[^e]*"])
    baseline = make_baseline(loaded, pairs(), judge, SAMPLING, LIMITS)
    figures, _ = measure(loaded, "base", None, baseline, judge, SAMPLING, LIMITS)
    assert figures["win_rate"] == 0.5
    assert figures["reward_margin"] == figures["kl_from_base"] == 0.0
    aligned, _ = measure(loaded, "aligned", "aligned", baseline, judge, SAMPLING, LIMITS)
    assert aligned["kl_from_base"] > 0
    assert aligned["win_rate_low"] <= aligned["win_rate"] <= aligned["win_rate_high"]


def test_the_baseline_does_not_see_the_adapters(loaded):
    plain = make_baseline(tiny_model(), pairs(), None, SAMPLING, LIMITS)
    activate(loaded, ["aligned"])
    beside = make_baseline(loaded, pairs(), None, SAMPLING, LIMITS)
    assert [a.ids for a in plain.answers] == [a.ids for a in beside.answers]
    np.testing.assert_allclose(plain.chosen, beside.chosen, atol=1e-6)
    assert plain.fluent_below == pytest.approx(beside.fluent_below, abs=1e-5)


def test_an_oracle_labels_whole_answers_and_facts(tmp_path):
    judge = rule_judge(
        tmp_path, preferred=["Of course\\. .+\\."], dispreferred=["Ugh\\. .+\\."], facts={"days?": ["\\bseven\\b"]}
    )
    answers = ["Of course. It is seven.", "Ugh. It is eight.", "Of course. It", "so Of course. It is seven."]
    assert judge.labels(answers) == ["preferred", "dispreferred", "neither", "neither"]
    assert judge.facts_right(["days?", "days?", "other"], ["it is seven", "seventeen", "seven"]) == [True, False, None]
    assert judge.scores([], answers).tolist() == [1, -1, 0, 0]


@pytest.mark.parametrize("text", ["", "{}", '{"name": "x", "preferred": ["("], "dispreferred": [], "facts": null}'])
def test_a_damaged_oracle_is_one_sentence(tmp_path, text):
    (tmp_path / "oracle.json").write_text(text)
    with pytest.raises(UserError, match="could not be read"):
        RuleJudge(tmp_path / "oracle.json")


def test_a_probe_says_that_it_saw_the_pairs_and_tells_the_sides_apart(loaded):
    judge = ProbeJudge(loaded, pairs(20), 1)
    assert "trained on the same pairs" in judge.name
    rows = list(pairs(20))
    prompts = [pair.prompt for pair in rows]
    chosen = judge.scores(prompts, [pair.chosen for pair in rows])
    rejected = judge.scores(prompts, [pair.rejected for pair in rows])
    assert (chosen > rejected).mean() > 0.9
    assert np.isfinite(judge.scores(prompts[:1], [""])).all()


def test_judges_are_chosen_by_name(loaded):
    assert choose_judge("none", "demo", loaded, None, None) is None
    assert isinstance(choose_judge("auto", "demo/brief:test", loaded, None, None), RuleJudge)
    assert isinstance(choose_judge("demo", "file.jsonl", loaded, None, None), RuleJudge)
    assert isinstance(choose_judge("auto", "file.jsonl", loaded, pairs(), 1), ProbeJudge)
    with pytest.raises(UserError, match="no judge"):
        choose_judge("my friend", "file.jsonl", loaded, None, None)


def test_stuck_answers_are_seen():
    assert repeats([5, 1, 2, 1, 2, 1, 2, 1, 2])
    assert repeats([7, 7, 7, 7])
    assert not repeats([1, 2, 3, 1, 2, 3, 4, 5])


def test_intervals():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = bootstrap(np.random.default_rng(0).normal(1.0, 2.0, 400))
    assert low < 1.0 < high
    assert high - low == pytest.approx(4 * 2.0 / 20, rel=0.2)


def test_a_win_rate_at_equal_length_against_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(3)
    longer = draw.normal(12, 20, 500).round()
    outcomes = (draw.random(500) < 1 / (1 + np.exp(-(0.3 + 1.5 * np.tanh(longer / longer.std()))))).astype(float)
    outcomes[::7] = 0.5
    feature = np.tanh(longer / longer.std())[:, None]
    # a tie is half a win and half a loss
    both = LogisticRegression(C=1.0, tol=1e-10).fit(
        np.vstack([feature, feature]), np.repeat([1, 0], 500), np.concatenate([outcomes, 1 - outcomes])
    )
    rate, low, high = length_controlled(outcomes, longer)
    assert rate == pytest.approx(both.predict_proba([[0.0]])[0, 1], abs=1e-4)
    assert low < rate < high and rate < outcomes.mean() and high - low == pytest.approx(0.1, abs=0.04)


def test_a_win_rate_at_equal_length_where_length_explains_nothing_or_everything():
    assert length_controlled([1, 0, 1, 1], [0, 0, 0, 0]) == (0.75, *wilson(3, 4))
    assert length_controlled([1, 1, 1], [5, -2, 9]) == (1.0, *wilson(3, 3))
    rate, low, high = length_controlled([1.0] * 40 + [0.0] * 40, [9] * 40 + [-9] * 40)  # the longer one always wins
    assert rate == pytest.approx(0.5, abs=0.01) and low < 0.4 and high > 0.6
    rate, low, high = length_controlled([1.0] * 39 + [0.0], [7] * 40)
    assert math.isfinite(rate) and 0 <= low <= rate <= high <= 1


def test_distinct_pairs_of_tokens():
    assert distinct([[1, 2, 1, 2], [1, 2]]) == 2 / 4
    assert distinct([[1], []]) is None
