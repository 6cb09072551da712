"""Figures of an evaluation against slow computations, and judges that say what they are."""

import json
import math

import numpy as np
import pytest
import torch
from tiny import PAIRS, tiny_model

from workbench.errors import UserError
from workbench.evaluation import BASE, make_baseline, measure, repeats
from workbench.generation import Sampling, Speaker, Steering
from workbench.judges import ProbeJudge, RuleJudge, choose_judge
from workbench.pairs import Pair, PreferencePairs, as_messages
from workbench.rahf.adapters import activate, add_adapter
from workbench.rahf.config import RunConfig
from workbench.statistics import bootstrap, distinct, length_controlled, share, wilson
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


P_PLUS = "please be a good fox"
SPEAKERS = {
    "adapter": Speaker("aligned"),
    "instruction": Speaker(instruction=P_PLUS),
    "both": Speaker("aligned", P_PLUS),
    "steering": Speaker(steering=Steering({1: torch.linspace(-1, 1, 32)}, 0.5)),
}


def slow_logps(loaded, speaker, row):
    """log pi of every next token [T, V], float64, one row at a time and the vector added by hand."""
    activate(loaded, [speaker.adapter] if speaker.adapter else [])
    blocks = loaded.model.base_model.model.model.layers
    hooks = [
        blocks[block].register_forward_hook(lambda module, args, out, v=vector: out + speaker.steering.alpha * v)
        for block, vector in (speaker.steering.vectors if speaker.steering else {}).items()
    ]
    with torch.no_grad():
        found = torch.log_softmax(loaded.model(input_ids=torch.tensor([row])).logits[0].double(), -1)
    for hook in hooks:
        hook.remove()
    activate(loaded, [])
    return found


@pytest.mark.parametrize("who", SPEAKERS)
def test_kl_equals_the_sum_over_tokens_and_vocabulary(loaded, who):
    """The speaker reads its instruction, the base does not, and both the very same answers."""
    speaker, prompts = SPEAKERS[who], [pair.prompt for pair in pairs(3)]
    measured = measure(
        loaded, who, speaker, make_baseline(loaded, pairs(3), None, SAMPLING, LIMITS), None, SAMPLING, LIMITS
    )
    assert measured.figures["kl_from_base"] == pytest.approx(measured.each["kl_from_base"].mean())
    surprises = []
    for prompt, answer, value in zip(prompts, measured.answers, measured.each["kl_from_base"], strict=True):
        tail = answer.ids + ([loaded.tokenizer.eos_token_id] if answer.ended else [])
        ours = loaded.boundary.prompt_ids(prompt, speaker.instruction, 200)
        theirs = loaded.boundary.prompt_ids(prompt, None, 200)
        assert (len(ours) > len(theirs)) == bool(speaker.instruction)
        p = slow_logps(loaded, speaker, ours + tail)[len(ours) - 1 : -1]
        q = slow_logps(loaded, BASE, theirs + tail)[len(theirs) - 1 : -1]
        total = sum(
            math.exp(float(p[place, token])) * float(p[place, token] - q[place, token])
            for place in range(len(tail))
            for token in range(p.shape[1])
        )
        assert value == pytest.approx(total, rel=1e-3, abs=1e-4) and value > 1e-4
        surprises.append(-float(q[range(len(tail)), tail].mean()))
    assert measured.figures["perplexity_base"] == pytest.approx(math.exp(np.mean(surprises)), rel=1e-3)


@pytest.mark.parametrize("who", SPEAKERS)
def test_likelihoods_are_read_as_the_speaker_reads(loaded, who):
    speaker = SPEAKERS[who]
    baseline = make_baseline(loaded, pairs(4), None, SAMPLING, LIMITS)
    figures = measure(loaded, who, speaker, baseline, None, SAMPLING, LIMITS).figures
    means = {}
    for name, one in (("speaker", speaker), ("base", BASE)):
        for side in ("chosen", "rejected"):
            rows = [loaded.boundary.encode(p.prompt, getattr(p, side), one.instruction, LIMITS) for p in pairs(4)]
            means[name, side] = np.array(
                [
                    slow_logps(loaded, one, row.ids)[
                        range(row.start - 1, len(row.ids) - 1), row.ids[row.start :]
                    ].mean()
                    for row in rows
                ]
            )
    margins = means["speaker", "chosen"] - means["base", "chosen"]
    margins -= means["speaker", "rejected"] - means["base", "rejected"]
    assert figures["reward_margin"] == pytest.approx(margins.mean(), abs=1e-4)
    assert figures["preference_accuracy"] == (means["speaker", "chosen"] > means["speaker", "rejected"]).mean()
    assert figures["perplexity_chosen"] == pytest.approx(math.exp(-means["speaker", "chosen"].mean()), rel=1e-4)
    assert figures["perplexity_chosen_low"] < figures["perplexity_chosen"] < figures["perplexity_chosen_high"]


def test_the_base_held_against_itself_gains_nothing(loaded, tmp_path):
    judge = rule_judge(tmp_path, preferred=[".*e.*"], dispreferred=["[^e]*"])
    baseline = make_baseline(loaded, pairs(), judge, SAMPLING, LIMITS)
    figures = measure(loaded, "base", BASE, baseline, judge, SAMPLING, LIMITS).figures
    assert figures["win_rate"] == 0.5
    assert figures["reward_margin"] == figures["kl_from_base"] == 0.0
    aligned = measure(loaded, "aligned", Speaker("aligned"), baseline, judge, SAMPLING, LIMITS).figures
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
    assert distinct([[1, 2, 1, 2], [1, 2]])[0] == 2 / 4
    assert distinct([[1], []]) == (None, None, None)
    assert distinct([[1, 2, 3]]) == (1.0, None, None)  # of one answer no spread can be told


def test_the_interval_of_distinct_pairs_is_the_jackknife_over_prompts():
    draw = np.random.default_rng(1)
    answers = [draw.integers(0, 12, draw.integers(2, 15)).tolist() for _ in range(30)]
    groups = [k // 2 for k in range(30)]

    def value(left_out=None):
        kept = [ids for ids, group in zip(answers, groups, strict=True) if group != left_out]
        runs = [tuple(ids[k : k + 2]) for ids in kept for k in range(len(ids) - 1)]
        return len(set(runs)) / len(runs)

    without = np.array([value(group) for group in range(15)])
    half = 1.959964 * math.sqrt(14 / 15 * ((without - without.mean()) ** 2).sum())
    assert distinct(answers, groups) == pytest.approx((value(), value() - half, value() + half))


def test_answers_to_one_prompt_are_one_observation():
    values, groups = [0.0, 0.0, 1.0, 1.0, 1.0, 1.0], [4, 4, 7, 7, 9, 9]
    assert share(values, groups) == wilson(2, 3) and share(values, range(6)) == wilson(4, 6)
    sums, counts = np.array([0, 2.0, 2.0]), np.array([2, 2, 2])
    draws = np.random.default_rng(0).integers(0, 3, (1000, 3))
    expected = np.percentile([sums[row].sum() / counts[row].sum() for row in draws], [2.5, 97.5])
    assert bootstrap(values, groups) == pytest.approx(tuple(expected))
    assert bootstrap(values, range(6)) == bootstrap(values)
    wide, narrow = (
        length_controlled(values, [3, 1, 2, -4, 5, 0], groups),
        length_controlled(values, [3, 1, 2, -4, 5, 0]),
    )
    assert wide[0] == narrow[0] and wide[2] - wide[1] > narrow[2] - narrow[1]
