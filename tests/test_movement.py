"""What an alignment moved: planted shifts are found, and the base is as if nothing had been compared."""

import json

import numpy as np
import pytest
import torch
from test_representations import planted
from tiny import PAIRS, saved, tiny_model
from torch import nn

from workbench import representations as rep
from workbench.cli import main
from workbench.errors import UserError
from workbench.models import load_model
from workbench.pairs import Pair, PreferencePairs
from workbench.progress import Progress
from workbench.rahf.adapters import add_adapter, save_adapter
from workbench.rahf.config import RunConfig
from workbench.representations import movement
from workbench.representations.analysis import acting
from workbench.runs import create


@pytest.fixture(scope="module")
def pairs():
    return PreferencePairs.from_pairs(
        [
            Pair(n + 1, [{"role": "user", "content": p["prompt"]}], p["chosen"], p["rejected"])
            for n, p in enumerate(PAIRS)
        ]
    )


def moved(acts, *, along=0.0, across=0.0, rejected_only=False):
    """The states after a move of ``along`` half-gaps on each block's axis and of ``across`` spreads beside it."""
    rng = np.random.default_rng(9)
    sides = [acts.chosen.copy(), acts.rejected.copy()]
    for layer in range(acts.n_layers):
        direction = rep.preference_direction(acts, layer)
        way = rep.calibrate(acts, layer, direction)
        other = rng.standard_normal(len(direction)).astype(np.float32)
        other -= (other @ direction) * direction
        step = along * (way.chosen - way.rejected) / 2 * direction + across * other / np.linalg.norm(other)
        for side in sides[1:] if rejected_only else sides:
            side[layer] += step
    from dataclasses import replace

    return replace(acts, chosen=sides[0], rejected=sides[1])


def compare(acts, after, **settings):
    groups = np.arange(len(acts))
    axes = rep.frames(acts)
    shown = rep.pictures(acts, rep.held_out_projections(acts, groups=groups), axes=axes)
    return rep.measure_movement(acts, after, axes, shown, groups=groups, **settings), shown


def test_a_planted_shift_is_found_in_size_and_direction():
    acts, _ = planted([2.0, 4.0], pairs=400, width=24)
    found, shown = compare(acts, moved(acts, along=1.5), run="r", target_layers=[1])
    for row in found.layers:
        assert row.shift == pytest.approx(1.5, abs=0.05)
        assert row.shift_chosen == pytest.approx(row.shift_rejected, abs=0.02)
        assert row.cosine == pytest.approx(1, abs=1e-3)
        was = np.concatenate([acts.chosen[row.layer], acts.rejected[row.layer]])
        way = rep.calibrate(acts, row.layer, rep.preference_direction(acts, row.layer))
        step = 1.5 * (way.chosen - way.rejected) / 2
        assert row.relative == pytest.approx(float((step / np.linalg.norm(was, axis=1)).mean()), rel=1e-3)
        assert row.low <= row.probe_auc_after <= row.high
    plain = rep.score(acts, groups=np.arange(400), permutations=20)
    for row, base in zip(found.layers, plain, strict=True):
        assert row.probe_auc_after == pytest.approx(base.probe_auc, abs=1e-3)  # both sides moved alike
    np.testing.assert_allclose(found.axis[..., 0] - shown.axis.coords[..., 0], 1.5, atol=0.2)
    np.testing.assert_allclose(found.axis[..., 1], shown.axis.coords[..., 1], atol=0.05)
    assert (
        found.finding
        == "Answers moved towards chosen from block 0 on, most at block 1 (1.5 half-gaps), aimed at block 1"
    )


def test_sides_that_move_apart_from_each_other_are_told_apart():
    acts, _ = planted([3.0], pairs=200, width=16)
    found, _ = compare(acts, moved(acts, along=2.0, rejected_only=True))
    (row,) = found.layers
    assert row.shift_chosen == pytest.approx(0, abs=1e-3)
    assert row.shift_rejected == pytest.approx(2, abs=0.1)
    assert row.probe_auc_after < 0.75  # the rejected answers now lie where the chosen ones do


def test_a_move_beside_the_axis_is_no_shift():
    acts, _ = planted([3.0], pairs=200, width=16)
    found, _ = compare(acts, moved(acts, across=5.0))
    (row,) = found.layers
    assert abs(row.shift) < 0.3
    assert abs(row.cosine) < 0.01
    assert row.relative > 0.5
    still, _ = compare(acts, acts)
    assert still.layers[0].relative == still.layers[0].shift == still.layers[0].cosine == 0
    assert still.finding == "The run moved nothing: all states are as before"


class Pushed(nn.Module):
    """A block whose output is pushed by a constant vector."""

    def __init__(self, block, push):
        super().__init__()
        self.block, self.push = block, push

    def forward(self, *args, **named):
        output = self.block(*args, **named)
        return (output[0] + self.push, *output[1:]) if isinstance(output, tuple) else output + self.push


def test_another_model_of_the_same_build_is_compared_and_the_base_is_as_ever(pairs):
    plain = rep.analyse(tiny_model(), pairs, permutations=20, untrained=False)
    other = tiny_model()
    direction = torch.from_numpy(rep.preference_direction(plain.acts, 1))
    way = rep.calibrate(plain.acts, 1, direction.numpy())
    push = direction * (way.chosen - way.rejected)  # from the rejected mean to the chosen one: two half-gaps
    other.model.model.layers[1] = Pushed(other.model.model.layers[1], push)
    both = rep.analyse(tiny_model(), pairs, permutations=20, untrained=False, after=other, target_layers=[1])
    assert both.scores == plain.scores
    np.testing.assert_array_equal(both.pca.coords, plain.pca.coords)
    first, second, third = both.movement.layers
    assert (first.shift, first.relative) == (0, 0)
    assert second.shift == pytest.approx(2, abs=0.1)
    assert second.cosine == pytest.approx(1, abs=1e-3)
    assert third.relative > 0.01
    with pytest.raises(UserError, match="4 blocks of width 32, tiny-llama has 3"):
        rep.analyse(tiny_model(), pairs, permutations=20, untrained=False, after=tiny_model(layers=4))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model"), tiny_model())["model"]


@pytest.fixture
def run(model):
    """An alignment as the pipeline leaves it: an adapter in the first two blocks that does something."""
    config = RunConfig(model=str(model), pairs="demo")
    made = create("align", config.to_dict())
    loaded = load_model(str(model))
    add_adapter(loaded, "aligned", config, depth=2, seed=0)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    save_adapter(loaded, "aligned", made.adapter)
    made.write_status(state="finished", layers=[0, 1])
    return made


def test_an_adapter_is_compared_with_its_own_base(run, model, pairs):
    from workbench.runs.loading import load_run

    plain = rep.analyse(load_model(str(model)), pairs, permutations=20, untrained=False)
    loaded = load_run(run)
    events = []
    watch = Progress(events.append)
    found = rep.analyse(loaded, pairs, permutations=20, untrained=False, after="aligned", progress=watch)
    steps = [(event.step, event.total) for event in events if event.stage == "capture"]
    assert steps == sorted(steps) and steps[-1][0] == steps[-1][1]  # both captures are counted as one
    assert list(dict.fromkeys(event.stage for event in events)) == ["capture", "score", "project"]
    np.testing.assert_allclose(found.acts.chosen, plain.acts.chosen, atol=1e-6)
    assert min(row.relative for row in found.movement.layers) > 0.01
    with acting(loaded, "aligned"):
        from workbench.representations.capture import capture

        after = capture(loaded, pairs)
    was = np.concatenate([plain.acts.chosen[0], plain.acts.rejected[0]])
    now = np.concatenate([after.chosen[0], after.rejected[0]])
    relative = (np.linalg.norm(now - was, axis=1) / np.linalg.norm(was, axis=1)).mean()
    assert found.movement.layers[0].relative == pytest.approx(float(relative), rel=1e-4)
    ids = torch.tensor([[5, 6, 7]])
    for off in (False, True):  # the model acts afterwards as it did before
        if off:
            loaded.model.base_model.disable_adapter_layers()
        said = loaded.model(ids).logits
        for name in (None, "aligned"):
            with acting(loaded, name):
                assert torch.equal(loaded.model(ids).logits, said) == (off == (name is None))
        assert torch.equal(loaded.model(ids).logits, said)
    assert not any(weight.requires_grad for weight in loaded.model.parameters())  # as it was loaded
    loaded.model.base_model.enable_adapter_layers()
    with pytest.raises(UserError, match="no adapter 'other'"):
        rep.analyse(loaded, pairs, permutations=20, untrained=False, after="other")
    with pytest.raises(UserError, match="no adapter 'aligned'"):
        rep.analyse(tiny_model(), pairs, permutations=20, untrained=False, after="aligned")


def test_the_command_and_the_run_folder(run, model, tmp_path, capfd):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    common = ["separability", "--model", str(model), "--pairs", str(path), "--json"]

    def say(*more):
        code = main([*common, *map(str, more)])
        seen = capfd.readouterr()
        return code, json.loads(seen.out) if code == 0 else seen.err.strip().splitlines()[-1]

    out = tmp_path / "moves"
    code, result = say("--run", run.id, "--out", out, "--no-random", "--pool", "difference", "--site", "attention")
    assert code == 0
    assert (result["pooling"], result["site"]) == ("difference", "attention")
    assert [control["name"] for control in result["controls"]] == ["length", "words", "prompt"]
    values = json.loads((out / "movement.json").read_text())
    assert values == result["movement"]
    assert (values["run"], values["target_layers"]) == (run.id, [0, 1])
    wanted = {
        "layer",
        "shift",
        "shift_chosen",
        "shift_rejected",
        "relative",
        "cosine",
        "probe_auc_after",
        "low",
        "high",
    }
    assert [set(row) for row in values["layers"]] == [wanted] * 3
    again = rep.Analysis.load(out)
    assert again.movement.to_dict() == values
    assert again.movement.pca.shape == again.movement.axis.shape == (3, 48, 2)
    assert again.to_dict()["shortcut"] == result["shortcut"]
    code, sentence = say("--run", create("align", {"model": str(model)}).id)
    assert code == 2
    assert "no aligned model: it is queued" in sentence
    code, sentence = say("--run", "align-nothing")
    assert code == 2
    assert "no run align-nothing" in sentence
    other = tiny_model(seed=4)
    other.model.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    code, sentence = say("--model", tmp_path / "other", "--run", run.id)
    assert code == 2
    assert "other weights" in sentence


def said(*shifts):
    """The finding for blocks whose (chosen, rejected) sides moved that far."""
    rows = [movement.LayerMove(k, (c + r) / 2, c, r, 0.3, 0.1, 0.9, 0.8, 1.0) for k, (c, r) in enumerate(shifts)]
    return movement.finding(rows)


def test_sides_that_move_apart_are_not_said_to_stay_where_they_are():
    apart = said((0.2, -0.2), (1.2, -1.3))
    assert apart == "Chosen and rejected answers moved apart, most at block 1 (+1.2 and \N{MINUS SIGN}1.3 half-gaps)"
    assert said((-0.4, 0.6), (0, 0)).startswith("Chosen and rejected answers moved towards each other, most at block 0")
    assert "towards chosen, most at block 1 (0.9 half-gaps)" in said((0, 0), (2.0, -0.2)), "mostly one way"


def test_from_block_means_every_block_from_there():
    there = said((0.1, 0.1), (-0.3, -0.3), (0.2, 0.2), (0.5, 0.5))
    assert there == "Answers moved towards chosen from block 2 on, most at block 3 (0.5 half-gaps)"
    assert "from block" not in said((0.3, 0.3), (0, 0), (0.5, 0.5))
