"""Number formats, memory savers and repeats: what may change a result, and by how much (assets/docs/numerics.md).

That the same seed gives the same adapter, and a resumed run that of an uninterrupted one, is tested beside the pipeline;
that padding and the other rows of a batch change nothing, beside the losses.
"""

import json

import pytest
import torch
from tiny import PAIRS, saved, tiny_model

from workbench.models import load_model
from workbench.pairs import Pair, PreferencePairs, as_messages
from workbench.progress import QUIET, Progress
from workbench.rahf.adapters import adapter_state
from workbench.rahf.align import ALIGNED, align_loss, fit
from workbench.rahf.config import RunConfig
from workbench.rahf.instruct import instruct, judge_step1
from workbench.rahf.patterns import Patterns, choose_alpha, make_examples
from workbench.rahf.pipeline import align
from workbench.representations.capture import capture
from workbench.tokens import Limits

LIMITS = Limits(64, 32)
QUICK = {
    "instruct_steps": 4, "align_steps": 8, "instruct_batch": 4, "align_batch": 8, "checkpoint_every": 1000,
    "positive": "be kind", "negative": "be a lazy dog", "layers": (0, 1), "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved tiny model."""
    return saved(tmp_path_factory.mktemp("model"), tiny_model())["model"]


@pytest.fixture
def trained(model, tmp_path):
    """Trains on a few pairs without looks and judging: the adapter as one vector, and what was measured on the way."""
    made = []

    def train(dtype="float32", method="scit", **settings):
        home = tmp_path / str(len(made))
        made.append(home)
        loaded = load_model(model, "cpu", dtype)
        ran = []
        loaded.blocks[0].mlp.register_forward_pre_hook(lambda *_: ran.append(torch.is_grad_enabled()))
        config = RunConfig.from_dict({**QUICK, "method": method, **settings})
        rows = PreferencePairs.from_pairs(
            [Pair(i, as_messages(p["prompt"]), p["chosen"], p["rejected"]) for i, p in enumerate(PAIRS[:12])]
        )
        losses = []
        watching = Progress(lambda event: losses.append(event.metrics["loss"]) if "loss" in event.metrics else None)
        states = torch.tensor(capture(loaded, rows, limits=LIMITS).chosen)
        for name in config.instructed_adapters:
            instruct(loaded, rows, config, name, LIMITS, home / name, watching)
        checked = judge_step1(loaded, rows, config, LIMITS, QUIET)
        patterns = Patterns(loaded, make_examples(loaded, rows, config, LIMITS), config, config.layers)
        unit = patterns.collect(QUIET)
        fit(loaded, patterns, 0.5, config, home / "aligned", watching)
        weights = adapter_state(loaded, ALIGNED)
        return {
            "kinds": {tensor.dtype for tensor in weights.values()},
            "adapter": torch.cat([weights[name].double().flatten() for name in sorted(weights)]),
            "states": states,
            "losses": torch.tensor(losses),
            "gap": checked["margin_gap"],
            "separation": checked["separation"],
            "unit": unit,
            "alpha": choose_alpha(unit, 0.26),
            "passes": sum(ran),
        }

    return train


def apart(one, other):
    """The length of the difference as a share of the second's length."""
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("method", ["scit", "dual"])
def test_bfloat16_agrees_with_float32(trained, method):
    whole, half = trained("float32", method), trained("bfloat16", method)
    assert half["kinds"] == {torch.float32}  # adapters, and so the optimiser's states, are never rounded to it
    assert 0 < apart(half["states"], whole["states"]) < 0.02
    torch.testing.assert_close(half["losses"], whole["losses"], rtol=0.05, atol=1e-3)
    assert half["gap"] == pytest.approx(whole["gap"], rel=0.05, abs=1e-3)
    assert half["separation"] == pytest.approx(whole["separation"], abs=0.1)
    assert list(half["unit"].values()) == pytest.approx(list(whole["unit"].values()), rel=0.1)
    assert half["alpha"] == pytest.approx(whole["alpha"], rel=0.05)
    assert apart(half["adapter"], whole["adapter"]) < 0.1


def test_float16_trains_to_about_the_same(trained):
    whole, half = trained("float32"), trained("float16")
    torch.testing.assert_close(half["losses"], whole["losses"], rtol=0.02, atol=1e-3)
    assert apart(half["adapter"], whole["adapter"]) < 0.1


def test_gradient_checkpointing_computes_again_and_changes_nothing(trained):
    plain, saving = trained(), trained(gradient_checkpointing=True)
    assert saving["passes"] > plain["passes"]
    assert apart(saving["adapter"], plain["adapter"]) < 1e-5


def test_two_batches_added_up_equal_one_of_twice_the_size(trained):
    one = trained()
    two = trained(instruct_batch=2, align_batch=4, accumulation=2)
    torch.testing.assert_close(two["losses"][:4], one["losses"][:4], rtol=1e-4, atol=1e-5)
    assert apart(two["adapter"], one["adapter"]) < 0.05  # step 3's mean runs over the states of a batch


@pytest.mark.parametrize("method", ["scit", "dual"])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(trained, monkeypatch, method):
    """The parts are one sequence each (a response under both instructions in SCIT's step 1), or all of the batch."""
    counts = []
    for tokens in (10**6, 1):
        monkeypatch.setattr("workbench.tokens.PART_TOKENS", {"cpu": tokens, "cuda": tokens})
        monkeypatch.setattr("workbench.tokens.CALL_TOKENS", 10**6 if tokens > 1 else 0)
        counts.append(trained(method=method))
    whole, parts = counts
    assert parts["passes"] > 2 * whole["passes"]
    torch.testing.assert_close(parts["losses"], whole["losses"], rtol=1e-4, atol=1e-5)
    assert apart(parts["adapter"], whole["adapter"]) < 1e-3


def test_another_number_of_threads_changes_last_bits_only(trained):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = trained()
        torch.set_num_threads(2)
        two = trained()
    finally:
        torch.set_num_threads(before)
    assert apart(two["adapter"], one["adapter"]) < 1e-3


def test_a_small_shift_of_large_states_is_not_rounded_away():
    draw = torch.Generator().manual_seed(0)
    foundation = (100 * torch.randn(1, 5, 64, generator=draw)).bfloat16()
    shift = (0.2 * torch.randn(1, 5, 64, generator=draw)).bfloat16()
    loss, left = align_loss(foundation, foundation, shift, 0.5)
    assert float(loss) == pytest.approx(float((0.5 * shift.double()).norm(dim=-1).mean()), rel=1e-4)
    assert left.tolist() == pytest.approx([1.0], rel=1e-4)


@pytest.mark.parametrize("method", ["scit", "dual"])
def test_a_run_repeated_from_its_settings_file_gives_the_same_bytes(model, tmp_path, method):
    """With nothing chosen by hand: blocks are suggested and alpha is calibrated again."""
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    small = {
        "model": model, "pairs": str(tmp_path / "pairs.jsonl"), "layers": None, "alpha": None, "relative_strength": None,
        "instruct_steps": 6, "calibration_prompts": 4, "evaluate_prompts": 4, "max_new_tokens": 4, "force": True,
        "evaluate_every": 8, "prompt_tokens": 64, "completion_tokens": 32,
    }  # fmt: skip
    config = RunConfig.from_dict({**QUICK, "method": method, **small})
    first = align(config, tmp_path / "first", QUIET)
    config.to_yaml(tmp_path / "config.yaml")
    again = align(RunConfig.from_yaml(tmp_path / "config.yaml"), tmp_path / "again", QUIET)
    assert (again["layers"], again["alpha"]) == (first["layers"], first["alpha"])
    one, two = (tmp_path / run / "adapter" / "adapter_model.safetensors" for run in ("first", "again"))
    assert one.read_bytes() == two.read_bytes()
