"""What length, words, prompts and an untrained model can tell, and the one sentence about it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_representations import planted
from tiny import PAIRS, tiny_model

from workbench import representations as rep
from workbench.errors import UserError
from workbench.pairs import Pair, PreferencePairs
from workbench.representations.controls import Control
from workbench.representations.shortcut import shortcut
from workbench.tokens import Encoded


def sequences(chosen, rejected):
    """Encoded pairs with a prompt of one token each."""
    return [Encoded([1000 + n, *ids], 1) for side in (chosen, rejected) for n, ids in enumerate(side)]


def random_words(rng, lengths, words=40):
    return [rng.integers(0, words, size=count).tolist() for count in lengths]


def judged(encoded, delta, count=150, width=24, seed=0):
    """Scores of random states with a planted difference beside the controls of the texts."""
    groups = np.arange(count)
    acts, _ = planted([0.0, delta], pairs=count, width=width, seed=seed)
    scores = rep.score(acts, groups=groups, permutations=40)
    controls = rep.measure_controls(encoded, groups=groups, permutations=40)
    return scores, controls, {control.name: control for control in controls}


def test_a_length_only_data_set_is_called_out():
    rng = np.random.default_rng(0)
    encoded = sequences(random_words(rng, rng.integers(12, 20, 150)), random_words(rng, rng.integers(4, 13, 150)))
    scores, controls, named = judged(encoded, 3.6)
    assert named["length"].auc > 0.98
    assert named["prompt"].auc == 0.5
    sentence = shortcut(scores, controls)
    assert sentence.startswith("Length alone tells chosen from rejected as well as any block (AUC 0.99 against")
    assert sentence.endswith("nothing here shows preference.")


def test_a_words_only_data_set_is_called_out():
    rng = np.random.default_rng(1)
    lengths = rng.integers(5, 15, 150)
    chosen = [[*ids, 90] for ids in random_words(rng, lengths)]
    rejected = [[*ids, 91] for ids in random_words(rng, lengths)]
    scores, controls, named = judged(sequences(chosen, rejected), 3.6)
    assert named["length"].auc == pytest.approx(0.5, abs=0.1)
    assert named["words"].auc > 0.98
    assert shortcut(scores, controls).startswith("The words alone, in no order, tell chosen from rejected as well as")


def test_what_no_control_sees_is_no_shortcut():
    rng = np.random.default_rng(2)
    lengths = rng.integers(5, 15, 150)
    encoded = sequences(random_words(rng, lengths), random_words(rng, lengths))
    scores, controls, named = judged(encoded, 2.5)
    for name in ("length", "words", "prompt"):
        assert named[name].low <= 0.5 <= named[name].high
        assert named[name].null_low <= 0.5 <= named[name].null_high
    assert not rep.explaining(scores, controls)
    assert shortcut(scores, controls).startswith("Block 1 tells chosen from rejected better (AUC 0.9")
    none = shortcut(scores[:1], controls)
    assert none == "No block beats chance, so there is nothing that length or words would have to explain."


def test_the_sentence_decides_by_intervals_and_names_the_simplest_of_equals():
    acts, _ = planted([2.0], pairs=60)
    (score,) = rep.score(acts, groups=np.arange(60), permutations=20)
    best = [replace(score, layer=5, probe_auc=0.9, probe_auc_low=0.85, probe_auc_high=0.94, null_best_p95=0.6)]

    def control(name, auc, half=0.03, **more):
        return rep.Control(name, auc, auc - half, auc + half, 0.4, 0.6, 60, **more)

    length, words, random = control("length", 0.89), control("words", 0.895), control("random", 0.7)
    assert shortcut(best, [words, length, random]) == (
        "Length alone tells chosen from rejected as well as any block (AUC 0.89 against 0.90), and so do the words "
        "(0.90): nothing here shows preference."
    )
    assert shortcut(best, [control("length", 0.84, 0.05), random]) == (
        "On 60 pairs the best block (AUC 0.90) cannot be told from length (0.84): more pairs would show whether it "
        "knows more."
    )
    assert shortcut(best, [control("length", 0.6), control("words", 0.8), random]) == (
        "Block 5 tells chosen from rejected better (AUC 0.90) than length (0.60), the words (0.80) or an untrained model "
        "(0.70) can."
    )
    assert shortcut(best, [control("random", 0.8, rival={"auc": 0.81, "low": 0.75, "high": 0.86})]) == (
        "An untrained model tells chosen from rejected as well as any block (AUC 0.80 against 0.81): what is read here "
        "needed no training."
    )
    low = [replace(best[0], probe_auc=0.55, probe_auc_low=0.5)]
    assert shortcut(low, [control("length", 0.8)]).startswith(
        "Length alone tells chosen from rejected (AUC 0.80) while"
    )
    assert shortcut(best, []).endswith("no control was measured.")


# -- the untrained model -----------------------------------------------------------------------------------------------


def made(rows):
    return PreferencePairs.from_pairs(
        [
            Pair(n + 1, [{"role": "user", "content": p["prompt"]}], p["chosen"], p["rejected"])
            for n, p in enumerate(rows)
        ]
    )


@pytest.fixture(scope="module")
def loaded():
    return tiny_model(layers=3)


def test_an_untrained_model_has_the_architecture_and_other_weights_each_seed(loaded):
    before = torch.random.get_rng_state()
    other, again, third = (rep.untrained_model(loaded, seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert type(other.model) is type(loaded.model)
    assert (other.n_blocks, other.width, other.dtype) == (3, 32, loaded.dtype)
    assert other.fingerprint == again.fingerprint != third.fingerprint
    assert loaded.fingerprint not in (other.fingerprint, third.fingerprint)
    assert other.boundary is loaded.boundary


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "qwen3", "mixtral"])
def test_deep_models_are_cut_to_eight_blocks(family):
    loaded = tiny_model(family, layers=10)
    shallow = rep.untrained_model(loaded)
    assert shallow.n_blocks == 8
    assert loaded.n_blocks == loaded.model.config.num_hidden_layers == 10


def test_the_control_is_measured_like_the_blocks(loaded):
    pairs = made(PAIRS)
    analysis = rep.analyse(loaded, pairs, permutations=40, pooling="last", site="mlp")
    control = analysis.controls[-1]
    assert control.name == "random"
    assert control.pairs == 24
    assert control.low <= control.auc <= control.high
    assert control.null_low < 0.5 < control.null_high
    assert control.rival is None
    assert analysis.notes == []
    assert [c.name for c in rep.analyse(loaded, pairs, permutations=20, untrained=False).controls] == [
        "length", "words", "prompt"
    ]  # fmt: skip


def test_many_pairs_are_sampled_and_the_best_block_is_judged_on_the_same(loaded, monkeypatch):
    monkeypatch.setattr("workbench.representations.untrained.PAIRS", 16)
    analysis = rep.analyse(loaded, made(PAIRS), permutations=20)
    control = analysis.controls[-1]
    assert control.pairs == 16
    assert 0.5 < control.rival["low"] <= control.rival["auc"] <= 1
    assert "measured on 16 of the 24 pairs" in analysis.notes[0]


def test_without_room_or_a_way_to_build_it_the_control_is_left_out_and_said(loaded, monkeypatch):
    monkeypatch.setattr("workbench.representations.untrained.free_memory", lambda device: 1000)
    analysis = rep.analyse(loaded, made(PAIRS), permutations=20)
    assert [control.name for control in analysis.controls] == ["length", "words", "prompt"]
    assert "left out: its random weights would take" in analysis.notes[0]
    with pytest.raises(UserError, match="GiB are free"):
        rep.untrained_model(loaded)
    monkeypatch.undo()

    def broken(*args, **named):
        raise ValueError("no such thing")

    monkeypatch.setattr(type(loaded.model), "_from_config", broken)
    assert "could not be built from its configuration" in rep.analyse(loaded, made(PAIRS), permutations=20).notes[0]


@pytest.mark.parametrize(
    ("control", "explains"),
    [
        ({"name": "length", "auc": 0.7}, False),
        ({"name": "length", "auc": 0.9}, True),  # the intervals overlap
        ({"name": "prompt", "auc": 0.99}, False),  # no explanation, but a fault of the pairs
        ({"name": "random", "auc": 0.8, "rival": {"auc": 0.84, "low": 0.79, "high": 0.9}}, True),  # on fewer pairs
        ({"name": "words", "auc": 0.54, "half": 0.4}, False),  # within chance
    ],
)
def test_a_control_explains_where_it_cannot_be_told_from_the_best_block(control, explains):
    auc, half = control["auc"], control.pop("half", 0.03)
    made = Control(low=auc - half, high=auc + half, null_low=0.45, null_high=0.55, **control)
    scores = [SimpleNamespace(probe_auc=best, probe_auc_low=best - 0.04) for best in (0.6, 0.95)]
    assert rep.explaining(scores, [made]) == ([made] if explains else [])
