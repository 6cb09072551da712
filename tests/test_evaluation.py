"""Figures of an evaluation against slow computations, and judges that say what they are."""

import json
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from test_judges import asking, endpoint, prefers, reward_model
from tiny import PAIRS, saved, tiny_model

from workbench import capability
from workbench.baselines.config import config_class
from workbench.errors import UserError
from workbench.evaluation import BASE, Measured, differences, make_baseline, measure, measure_all, repeats
from workbench.generation import Sampling, Speaker, Steering
from workbench.heldout import evaluate
from workbench.judges import ProbeJudge, RuleJudge, choose_judge
from workbench.judges.reward import RewardJudge
from workbench.models import load_model
from workbench.pairs import Pair, PreferencePairs, as_messages, load_pairs
from workbench.pairs.sources import ASSETS
from workbench.progress import Progress
from workbench.rahf.adapters import activate, add_adapter, load_adapter, save_adapter
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
    preferred, dispreferred, *broken = judge.scores([], [*answers, "", "asdf"])
    assert preferred > dispreferred > max(broken) and len(set(broken)) == 1  # who falls apart wins nothing by it


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


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three runs of one tiny model: an adapter, an adapter that answers under an instruction, and steering."""
    home = tmp_path_factory.mktemp("runs")
    settings = saved(home, tiny_model()) | {"dtype": "float32", "max_new_tokens": 6, "prompt_tokens": 64}
    settings |= {"completion_tokens": 32, "held_out": 8}
    model = load_model(settings["model"], "cpu", "float32")
    add_adapter(model, "aligned", RunConfig(), 3, seed=1)
    with torch.no_grad():
        for key, parameter in model.model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.2)
    vectors = {"1": torch.linspace(-1, 1, 32)}
    told = {"adapter": ("scit", {"layers": [1]}), "hir": ("hir", {"instruction": P_PLUS}), "steering": ("steering", {})}
    for name, (method, more) in told.items():
        folder = home / name
        folder.mkdir()
        config = config_class({"method": method}).from_dict(settings | {"method": method}).to_dict()
        (folder / "result.json").write_text(json.dumps({"config": config, "alpha": 0.5, "layers": [2]} | more))
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if method == "steering":
            save_file(vectors, folder / "steering.safetensors")
        else:
            save_adapter(model, "aligned", folder / "adapter")
    return home


def other_pairs(count=5):
    rows = [Pair(k, as_messages(f"please, {k}?"), f"of course {k}", f"no {k}") for k in range(count)]
    return PreferencePairs.from_pairs(rows)


def test_runs_of_every_kind_are_judged_together(folders):
    names = ["Mine", "Mine", "base"]
    result = evaluate(
        [folders / one for one in ("adapter", "hir", "steering")], other_pairs(), names=names, judge="probe"
    )
    assert [row["name"] for row in result["models"]] == ["base", "Mine", "Mine (2)", "base (2)"]
    loaded = load_model(str(folders / "model"), "cpu", "float32")
    load_adapter(loaded, folders / "adapter" / "adapter", "aligned")
    speakers = {"Mine": SPEAKERS["adapter"], "Mine (2)": SPEAKERS["both"], "base (2)": SPEAKERS["steering"]}
    alone = measure_all(loaded, speakers, other_pairs(), None, SAMPLING, LIMITS)
    for row in result["models"]:
        expected = alone[row["name"]].figures
        for key in (
            "preference_accuracy",
            "reward_margin",
            "kl_from_base",
            "perplexity_base",
            "mean_tokens",
            "distinct_2",
        ):
            assert row[key] == pytest.approx(expected[key], abs=1e-5), (row["name"], key)
        texts = [sample[row["name"]] for sample in result["samples"]]
        assert texts == [answer.text for answer in alone[row["name"]].answers]
    assert "trained on the same pairs" in result["judge"] and "no independent witness" in result["judge_about"]
    assert result["models"][0]["text_ratio"] == 1.0 and "perplexity" in result["models"][1]["capability"]
    assert len(result["differences"]) == 6 and json.dumps(result)
    by_name = {(row["name"], row["than"]): row for row in result["differences"]}
    one, other = by_name["Mine", "base (2)"], by_name["base (2)", "Mine"]
    assert one["win_rate"] == -other["win_rate"] and one["head_to_head"] == pytest.approx(1 - other["head_to_head"])


def test_differences_are_paired_over_prompts(loaded):
    """A figure that both share prompt by prompt has a difference without spread, however wide their own intervals."""
    rates = np.array([0.0, 1, 1, 0, 1, 0, 1, 1])
    made = [
        Measured({"name": name}, [], None, {"win_rate": rates * (1 - shift), "kl_from_base": rates + shift})
        for name, shift in (("a", 0.0), ("b", 0.25))
    ]
    (first, second) = differences(made, np.arange(8))
    assert (first["name"], first["than"]) == ("a", "b") and first["kl_from_base"] == -0.25
    assert (first["kl_from_base_low"], first["kl_from_base_high"]) == (-0.25, -0.25)
    draws = np.random.default_rng(0).integers(0, 8, (1000, 8))
    low, high = np.percentile((rates * 0.25)[draws].mean(1), [2.5, 97.5])
    assert (first["win_rate_low"], first["win_rate_high"]) == pytest.approx((low, high))
    assert (second["win_rate_low"], second["win_rate_high"]) == pytest.approx((-high, -low))
    assert "preferred" not in first and "head_to_head" not in first


def test_runs_of_different_models_are_one_sentence(folders, tmp_path):
    other = json.loads((folders / "adapter" / "result.json").read_text())
    other["config"]["model"] = "demo"
    (tmp_path / "result.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="different base models"):
        evaluate([folders / "adapter", tmp_path], other_pairs())
    for judge, sentence in (
        ("my friend", "endpoint:URL#MODEL"),
        ("votes", "Nobody has voted"),
        ("endpoint:x#y", "no address"),
    ):
        with pytest.raises(UserError, match=sentence):
            evaluate([folders / "adapter"], other_pairs(), judge=judge)


def test_votes_stand_for_the_win_rate(folders):
    vote = {"id": "x", "voter": "ann", "vote": "aligned"}
    (folders / "adapter" / "votes.jsonl").write_text(json.dumps(vote))
    result = evaluate([folders / "adapter", folders / "steering"], other_pairs(3), judge="votes")
    (folders / "adapter" / "votes.jsonl").unlink()
    assert result["judge"] == "people's votes" and result["models"][1]["win_rate"] == 1.0
    assert (result["models"][1]["votes"], result["models"][1]["voters"]) == (1, 1)
    assert result["models"][1]["win_rate_low"] == wilson(1, 1)[0] and result["models"][2]["win_rate"] is None


def test_an_endpoint_judges_runs_and_a_rerun_asks_nothing(folders, tmp_path):
    told = []
    progress = Progress(lambda event: told.append(event.stage))
    with endpoint(prefers("e")) as server:
        given = {"judge": f"endpoint:{server.url}#m", "asking": asking(tmp_path, price=(1.0, 2.0))}
        first = evaluate([folders / "adapter"], other_pairs(), progress=progress, **given)
        count = len(server.asked)
        again = evaluate([folders / "adapter"], other_pairs(), **given)
        assert count and len(server.asked) == count
    outcomes = []
    for row in first["samples"]:
        ours, base = "e" in row["adapter"], "e" in row["base"]
        outcomes.append(0.5 if ours == base else float(ours))
    assert first["models"][1]["win_rate"] == again["models"][1]["win_rate"] == np.mean(outcomes)
    assert first["models"][0]["win_rate"] == 0.5 and first["judge"].startswith("m at 127.0.0.1")
    assert first["judge_use"]["cost"] > 0 == again["judge_use"]["cost"] and again["judge_use"]["cached"] == count
    assert "judge" in told and "reward" not in first["judge"]


def test_facts_are_counted_whoever_judges(folders):
    some = load_pairs("demo:test").select(range(6))
    result = evaluate([folders / "adapter"], some, judge="none")
    assert {"facts_right", "facts_gained"} <= set(result["models"][1]) and "Facts" in result["models"][1]["capability"]
    right = RuleJudge(ASSETS / "polite" / "oracle.json").facts_right(
        [pair.prompt for pair in some], [row["base"] for row in result["samples"]]
    )
    assert result["models"][0]["facts_right"] == np.mean(right)
    assert result["models"][1]["win_rate"] is None and result["judge"] is None


def test_a_reward_model_judges_runs(folders, tmp_path):
    reward_model(tmp_path)
    result = evaluate([folders / "adapter"], other_pairs(), judge=f"reward:{tmp_path}")
    judge = RewardJudge(str(tmp_path), "cpu")
    prompts = [row["prompt"] for row in result["samples"]]
    ours, base = ([row[name] for row in result["samples"]] for name in ("adapter", "base"))
    assert result["models"][1]["win_rate"] == judge.outcomes(prompts, ours, base).mean()
    assert result["judge"] == judge.name and result["judge_about"] == judge.about


# -- capability --------------------------------------------------------------------------------------------------------


def test_held_out_text_token_by_token(loaded, tmp_path):
    (tmp_path / "text.txt").write_text(
        "the quick brown fox.\n\na lazy dog has seven days\n\n\n\nx\n\nof course, please tell me"
    )
    text = capability.held_out_text(str(tmp_path / "text.txt"), "demo", pairs())
    base, ours = capability.surprise(loaded, text), capability.surprise(loaded, text, SPEAKERS["both"])
    kept = [document for _, document in text.documents if len(loaded.tokenizer(document).input_ids) > 1]
    sums = {"base": [], "ours": []}
    for document in kept:
        ids = loaded.tokenizer(document).input_ids
        for name, speaker in (
            ("base", BASE),
            ("ours", Speaker("aligned")),
        ):  # plain text has no place for an instruction
            logps = slow_logps(loaded, speaker, ids)
            sums[name].append(-sum(float(logps[k, ids[k + 1]]) for k in range(len(ids) - 1)))
    tokens = np.array([len(loaded.tokenizer(document).input_ids) - 1 for document in kept])
    np.testing.assert_allclose(base[0], sums["base"], rtol=1e-4)
    np.testing.assert_allclose(ours[0], sums["ours"], rtol=1e-4)
    figures = capability.text_figures(base, ours)
    assert figures["text_perplexity"] == pytest.approx(math.exp(sum(sums["ours"]) / tokens.sum()), rel=1e-4)
    ratio = math.exp((sum(sums["ours"]) - sum(sums["base"])) / tokens.sum())
    assert figures["text_ratio"] == pytest.approx(ratio, rel=1e-4)
    assert figures["text_ratio_low"] <= figures["text_ratio"] <= figures["text_ratio_high"]


def test_the_text_of_the_demo_is_not_about_its_pairs():
    text = capability.held_out_text(None, "demo", load_pairs("demo:test"))
    assert "brief" in text.about and "polite" not in text.about and 100 < len(text.documents) <= 400
    other = capability.held_out_text(None, "org/name", pairs(4))
    assert [document for _, document in other.documents] == [p["prompt"] for p in PAIRS[:4]]


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", ""), ("a.txt", b"\xff\xfe\xfa"), ("a.jsonl", '{"no": 1}'), ("b.txt", None)]
)
def test_a_text_that_cannot_be_read_is_one_sentence(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError):
        capability.held_out_text(str(tmp_path / name), "demo", pairs(2))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.9, 0.98, "improved"), (0.99, 1.04, "did not suffer"), (0.9, 1.2, "may have"), (1.1, 1.2, " suffered")],
)
def test_what_was_lost_is_said_as_far_as_it_can_be_told(low, high, word):
    row = {"text_ratio": (low + high) / 2, "text_ratio_low": low, "text_ratio_high": high}
    assert word in capability.finding(row)
    row = {"facts_gained": 1 - (low + high) / 2, "facts_gained_low": 1 - high, "facts_gained_high": 1 - low}
    assert word in capability.finding(row)


def test_facts_are_compared_prompt_by_prompt():
    known = np.array([1.0, 0.0, np.nan, 1.0])
    ours = np.array([1.0, 1.0, np.nan, 0.0])
    made = [Measured({}, [], None, {"facts_right": values}) for values in (known, ours)]
    found = capability.fact_figures(*made, np.arange(4))
    assert found["facts_gained"] == 0.0
    low, high = bootstrap([0.0, 1.0, -1.0])
    assert (found["facts_gained_low"], found["facts_gained_high"]) == (low, high)
    assert capability.fact_figures(made[0], Measured({}, [], None, {}), np.arange(4)) == {}


def test_tasks_without_the_harness_or_without_files_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no task"):
        capability.Tasks(tmp_path)
    (tmp_path / "a.yaml").write_text("task: mine")
    if find_spec("lm_eval") is None:
        with pytest.raises(UserError, match="pip install lm_eval"):
            capability.Tasks(tmp_path / "a.yaml")


def test_local_tasks_of_the_harness(folders, tmp_path):
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    rows = [{"q": "what?", "a": k % 2, "choices": ["a good answer", "no"]} for k in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = {
        "task": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
    }
    task |= {"test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_target": "a"}
    task |= {
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(task))
    result = evaluate([folders / "adapter"], other_pairs(2), judge="none", tasks=str(tmp_path / "mine.yaml"))
    found = result["tasks"]["base"]["mine"]["acc"]
    assert found["value"] == 0.5 and (found["low"], found["high"]) == wilson(2, 4)
    assert set(result["tasks"]) == {"base", "adapter"}
