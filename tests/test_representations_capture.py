"""Capture against a slow independent computation, batching, padding sides, files, and the whole of step 2."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import PAIRS, tiny_model, tiny_tokenizer

from workbench import representations as rep
from workbench.errors import Stopped, UserError
from workbench.progress import Progress
from workbench.representations.capture import capture
from workbench.tokens import Limits

SIDES = ("chosen", "rejected")


class Rows:
    """As much of PreferencePairs as capturing uses."""

    def __init__(self, rows, first=100):
        self.rows = rows
        self.fingerprint = "abc"
        self.dataset = {name: [row[name] for row in rows] for name in ("prompt", "chosen", "rejected")}
        self.dataset["id"] = [row.get("id", first + k) for k, row in enumerate(rows)]
        self.prompt_keys = [json.dumps(row["prompt"]) for row in rows]

    def __len__(self):
        return len(self.rows)

    def select(self, indices):
        ids = self.dataset["id"]
        return Rows([{**self.rows[k], "id": ids[k]} for k in indices])


@pytest.fixture(scope="module")
def loaded():
    return tiny_model()


@pytest.fixture(scope="module")
def pairs():
    return Rows(PAIRS)


def slowly(loaded, pairs, pooling):
    """One sequence at a time, with the whole model and transformers' own hidden states where they are raw."""
    found = np.zeros((2, loaded.n_blocks, len(pairs), loaded.width), dtype=np.float32)
    raw = {}
    loaded.blocks[-1].register_forward_hook(
        lambda module, args, output: raw.update(last=output[0] if isinstance(output, tuple) else output)
    )
    for s, side in enumerate(SIDES):
        for n, row in enumerate(pairs.rows):
            lengths = [len(i.ids) - i.start for i in (loaded.boundary.encode(row["prompt"], row[k]) for k in SIDES)]
            item = loaded.boundary.encode(row["prompt"], row[side])
            with torch.no_grad():
                states = loaded.model(torch.tensor([item.ids]), output_hidden_states=True).hidden_states
            blocks = [*states[1:-1], raw["last"]]  # the last of transformers' is after the final norm
            for layer, hidden in enumerate(blocks):
                part = {"mean": hidden[0, item.start :], "last": hidden[0, -1:]}
                part["predicting"] = hidden[0, item.start - 1 : -1]
                said = min(lengths) - len(loaded.boundary.end_ids)
                part["difference"] = hidden[0, item.start : item.start + said]
                found[s, layer, n] = part[pooling].mean(0)
    return found


@pytest.mark.parametrize("pooling", ["mean", "last", "predicting", "difference"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pooled_states_equal_a_slow_independent_computation(loaded, pairs, pooling, side):
    acts = capture(loaded, pairs, pooling=pooling, side=side, batch_tokens=400)
    chosen, rejected = slowly(loaded, pairs, pooling)
    np.testing.assert_allclose(acts.chosen, chosen, atol=2e-5)
    np.testing.assert_allclose(acts.rejected, rejected, atol=2e-5)
    assert acts.pair_ids.tolist() == list(range(100, 124))
    assert acts.chosen.dtype == np.float32


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_batched_equals_one_by_one(family, side):
    loaded, pairs = tiny_model(family), Rows(PAIRS[:8])
    alone = capture(loaded, pairs, batch_tokens=1)
    together = capture(loaded, pairs, batch_tokens=10_000, side=side)
    np.testing.assert_allclose(together.chosen, alone.chosen, atol=2e-5)
    np.testing.assert_allclose(together.rejected, alone.rejected, atol=2e-5)


def test_batches_keep_the_budget_and_waste_little(loaded, pairs):
    from workbench.tokens import by_length

    encoded = rep.encode_pairs(loaded, pairs)
    batches = by_length(encoded, 300)
    assert sorted(k for batch in batches for k in batch) == list(range(48))
    for batch in batches:
        assert max(len(encoded[k].ids) for k in batch) * len(batch) <= 300
    padded = sum(max(len(encoded[k].ids) for k in batch) * len(batch) for batch in batches)
    assert padded < 1.15 * sum(len(item.ids) for item in encoded)


def test_nothing_but_pooled_states_is_kept(loaded, pairs, monkeypatch):
    from workbench.models import Trunk

    kept = []
    run = Trunk.forward
    monkeypatch.setattr(Trunk, "forward", lambda *args, **named: kept.append(run(*args, **named)) or kept[-1])
    capture(loaded, pairs)
    for states in kept:
        for tensor in states.values():
            assert tensor.ndim == 2
            assert tensor.untyped_storage().nbytes() == tensor.numel() * 4


def test_facts_progress_and_mode(loaded, pairs):
    events = []
    loaded.model.train()
    try:
        acts = capture(loaded, pairs, batch_tokens=300, progress=Progress(events.append))
        assert loaded.model.training
    finally:
        loaded.model.eval()
    encoded = rep.encode_pairs(loaded, pairs)
    assert acts.tokens == sum(len(item.ids) for item in encoded)
    assert acts.lengths[3].tolist() == [len(encoded[k].ids) - encoded[k].start for k in (3, 27)]
    assert (acts.model_fingerprint, acts.pairs_fingerprint) == (loaded.fingerprint, "abc")
    assert events[-1].step == events[-1].total == len(events) - 1
    assert {event.stage for event in events} == {"capture"}
    assert events[-1].metrics["tokens_per_second"] > 0
    assert events[-1].metrics["seconds_left"] == 0


def test_a_stop_ends_between_batches_and_leaves_no_hook(loaded, pairs):
    with pytest.raises(Stopped):
        capture(loaded, pairs, batch_tokens=200, progress=Progress(stopping=lambda: True))
    hooks = [hook for block in loaded.blocks for hook in block._forward_hooks.values()]
    assert not [hook for hook in hooks if "keep" in getattr(hook, "__qualname__", "")]


def test_longer_input_than_the_context_is_cut_and_said(pairs):
    loaded = tiny_model(context=64)
    long = Rows([{"prompt": "how many days? " * 200, "chosen": "seven " * 300, "rejected": "no"}, *PAIRS[:4]])
    acts = capture(loaded, long, limits=Limits(40, 60))
    assert acts.cut[0].tolist() == [True, True]
    assert not acts.cut[2].any()
    assert acts.lengths.max() <= 60


def test_what_the_user_can_mend_is_said(loaded, pairs):
    with pytest.raises(UserError, match=r"no pooling 'median'.*mean, last, predicting"):
        capture(loaded, pairs, pooling="median")
    with pytest.raises(UserError, match=r"no site 'head'.*block, attention, mlp"):
        capture(loaded, pairs, site="head")
    with pytest.raises(UserError, match="no pairs"):
        capture(loaded, Rows([]))
    broken = tiny_model(seed=1)
    with torch.no_grad():
        broken.model.model.layers[1].mlp.down_proj.weight.fill_(float("inf"))
    with pytest.raises(UserError, match=r"block 1 are not finite.*bfloat16"):
        capture(broken, pairs)
    bare = tiny_model(tokenizer=tiny_tokenizer(chat=False))
    bare.boundary.end_ids = []
    with pytest.raises(UserError, match="Pair 100 has a completion without tokens"):
        encoded = rep.encode_pairs(bare, pairs)
        encoded[0] = replace(encoded[0], start=len(encoded[0].ids))
        capture(bare, pairs, encoded=encoded)


def test_saved_and_loaded_again(loaded, pairs, tmp_path):
    acts = capture(loaded, pairs)
    path = tmp_path / "new" / "activations.safetensors"
    acts.save(path)
    again = rep.Activations.load(path)
    for name in ("chosen", "rejected", "pair_ids", "lengths", "cut"):
        np.testing.assert_array_equal(getattr(again, name), getattr(acts, name))
    assert replace(again, **{name: None for name in ("chosen", "rejected", "pair_ids", "lengths", "cut")}) == replace(
        acts, **{name: None for name in ("chosen", "rejected", "pair_ids", "lengths", "cut")}
    )
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        rep.Activations.load(path)


def test_a_disk_that_refuses_is_said_and_loses_nothing(loaded, pairs, tmp_path, monkeypatch):
    acts = capture(loaded, pairs)
    path = tmp_path / "activations.safetensors"
    acts.save(path)
    before = path.read_bytes()

    def full(*args, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(UserError, match=r"No space left on device.*free disk space"):
        acts.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [path.name]


def test_the_two_sides_difference_is_the_mean_difference_token_by_token(loaded, pairs):
    acts = capture(loaded, pairs, pooling="difference")
    for n in (2, 3):
        items = [loaded.boundary.encode(pairs.rows[n]["prompt"], pairs.rows[n][side]) for side in SIDES]
        states = [loaded.model(torch.tensor([i.ids]), output_hidden_states=True).hidden_states[1][0] for i in items]
        both = [hidden[item.start :] for hidden, item in zip(states, items, strict=True)]
        assert len(both[0]) != len(both[1])
        by_token = [a - b for a, b in zip(*both, strict=False)][: -len(loaded.boundary.end_ids)]
        np.testing.assert_allclose(acts.chosen[0, n] - acts.rejected[0, n], torch.stack(by_token).mean(0), atol=2e-5)


def test_the_end_of_the_shorter_side_does_not_tell_its_length(loaded):
    """Where one answer begins with the other and goes on, the first states are the same: nothing is left to tell."""
    short = [row["chosen"] for row in PAIRS[:6]]
    rows = [{"prompt": "which?", "chosen": f"{text} {short[n - 1]}", "rejected": text} for n, text in enumerate(short)]
    acts = capture(loaded, Rows(rows), pooling="difference")
    assert (acts.lengths[:, 0] > acts.lengths[:, 1]).all()
    np.testing.assert_allclose(acts.chosen, acts.rejected, atol=1e-5)
    assert np.abs(capture(loaded, Rows(rows)).chosen - capture(loaded, Rows(rows)).rejected).max() > 1e-3


# -- tokens on the preference axis -------------------------------------------------------------------------------------


class One:
    def __init__(self, row):
        self.prompt, self.chosen, self.rejected = row["prompt"], row["chosen"], row["rejected"]


@pytest.mark.parametrize("pooling", ["mean", "predicting"])
@pytest.mark.parametrize("site", ["block", "mlp"])
def test_the_mean_of_a_pairs_token_values_is_its_pooled_states_projection(loaded, pairs, pooling, site):
    acts = capture(loaded, pairs, pooling=pooling, site=site)
    for n in (0, 7):
        found = rep.token_projections(loaded, One(pairs.rows[n]), acts)
        for side, states in (("chosen", acts.chosen), ("rejected", acts.rejected)):
            assert len(found[side]["values"]) == loaded.n_blocks
            for layer, values in enumerate(found[side]["values"]):
                assert len(values) == len(found[side]["tokens"])
                direction = rep.preference_direction(acts, layer)
                place = rep.project_on(states[layer, n], direction, rep.calibrate(acts, layer, direction))
                assert np.mean(values) == pytest.approx(float(place), abs=5e-3)
    assert "all captured pairs" in found["note"]


def test_tokens_join_to_the_text_also_where_characters_are_spread_over_them(loaded, pairs):
    acts = capture(loaded, pairs)
    row = {"prompt": "what is it?", "chosen": "a 🦊 fox, \n  日本 é! ", "rejected": "मन ok"}
    found = rep.token_projections(loaded, One(row), acts)
    for side in SIDES:
        tokens = found[side]["tokens"]
        assert "".join(tokens).removesuffix("<|end|>") == row[side]
        assert len(tokens) == len(found[side]["values"][0])
        assert not any("\ufffd" in token for token in tokens)
    assert "🦊" in found["chosen"]["tokens"]
    assert found["chosen"]["tokens"][found["chosen"]["tokens"].index("🦊") - 1] == ""


def test_tokens_on_the_axis_of_something_else_are_refused(loaded, pairs):
    acts = capture(loaded, pairs)
    with pytest.raises(UserError, match="of the site block, not mlp"):
        rep.token_projections(loaded, One(PAIRS[0]), acts, "mlp")
    with pytest.raises(UserError, match="another model's"):
        rep.token_projections(tiny_model(seed=5), One(PAIRS[0]), acts)
    with pytest.raises(UserError, match="do not fit"):
        rep.token_projections(loaded, One(PAIRS[0]), replace(acts, model_fingerprint="", chosen=acts.chosen[:1]))


# -- the whole of step 2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_step_two_in_one_piece(layers, pairs, tmp_path):
    loaded = tiny_model(layers=layers)
    events = []
    analysis = rep.analyse(loaded, pairs, permutations=40, progress=Progress(events.append))
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["capture", "score", "project"]
    values = analysis.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert {"suggested_layers", "tokens_per_second", "finding", "reason", "densities"} <= set(values)
    wanted = {"layer", "probe_auc", "probe_auc_low", "probe_auc_high", "null_auc_p95", "paired_accuracy", "fisher"}
    assert [row["layer"] for row in values["layers"]] == list(range(layers))
    assert all(wanted | {"silhouette"} <= set(row) for row in values["layers"])
    assert set(values["seconds"]) == {"capture", "score", "project"}
    assert values["pairs"] == 24
    assert all(row["probe_auc"] > 0.95 for row in values["layers"])  # the two sides use different words
    assert len(values["suggested_layers"]) == min(layers, 2)
    controls = {control["name"]: control for control in values["controls"]}
    assert list(controls) == ["length", "words", "prompt", "random"]
    assert controls["prompt"]["auc"] == 0.5
    assert controls["words"]["auc"] > 0.95
    assert values["shortcut"].startswith("The words alone, in no order, tell chosen from rejected as well as any block")
    assert (values["site"], values["pooling"], values["notes"]) == ("block", "mean", [])
    assert {"d_prime", "explained"} <= set(values["layers"][0])
    assert analysis.pca.coords.shape == analysis.axis.coords.shape == (layers, 48, 2)
    assert analysis.pictures.pca3.coords.shape == analysis.pictures.axis3.coords.shape == (layers, 48, 3)
    np.testing.assert_array_equal(analysis.axis.coords[..., 0], analysis.held_out)
    np.testing.assert_array_equal(analysis.pictures.axis3.coords[..., 0], analysis.held_out)
    places = rep.held_out_projections(analysis.acts, groups=analysis.groups)
    np.testing.assert_allclose(analysis.held_out, places, atol=1e-5)

    analysis.save(tmp_path / "step2")
    again = rep.Analysis.load(tmp_path / "step2")
    assert again.to_dict() == values
    np.testing.assert_array_equal(again.axis.coords, analysis.axis.coords)
    old = {key: value for key, value in values.items() if key != "shortcut"}
    (tmp_path / "step2" / "layers.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match="an older version's"):
        rep.Analysis.load(tmp_path / "step2")
    (tmp_path / "step2" / "layers.json").write_text("{")
    with pytest.raises(UserError, match="holds no scores"):
        rep.Analysis.load(tmp_path / "step2")


def test_a_limit_takes_some_pairs_repeatably(loaded, pairs):
    first, again = (rep.analyse(loaded, pairs, limit=10, permutations=20).acts.pair_ids for _ in range(2))
    assert len(first) == 10
    assert sorted(first) == first.tolist() == again.tolist()
    with pytest.raises(UserError, match="at least 1"):
        rep.analyse(loaded, pairs, limit=0)


def test_too_few_prompts_are_refused_before_the_work(loaded):
    events = []
    with pytest.raises(UserError, match="these pairs have 1"):
        rep.analyse(loaded, Rows(PAIRS[:1] * 9), progress=Progress(events.append))
    assert not events


def test_importing_the_package_loads_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, workbench.representations as r; assert 'torch' not in sys.modules; r.suggest; print(len(dir(r)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
