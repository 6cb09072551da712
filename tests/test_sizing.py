"""Growth: exponents are those of the numbers, and the expected ones those of the arithmetic. Sizing: the page says what
the estimate says, larger models need more, and the checked-in page is what the command writes."""

from dataclasses import replace
from pathlib import Path

import pytest

from workbench.bench import growth, sizing, sizing_check
from workbench.progress import QUIET
from workbench.rahf.estimate import Plan, batches, estimate, kept_bytes
from workbench.tokens import by_length

README = Path(__file__).parents[1] / "README.md"
SPEED = sizing.DOCUMENT.with_name("speed.md")


# -- growth ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [0.0, 1.0, 1.7, 2.0])
def test_an_exponent_is_the_slope_of_the_logarithms(law):
    sizes = [16, 32, 64, 128]
    assert growth.exponent(sizes, [0.3 * size**law for size in sizes]) == pytest.approx(law)
    noisy = [size**law * noise for size, noise in zip(sizes, (1.05, 0.97, 1.02, 0.96), strict=True)]
    assert growth.exponent(sizes, noisy) == pytest.approx(law, abs=0.1)


def expected(stage, grows, **more):
    base, every, operations, held = {
        "capture": (growth.CAPTURE, growth.CAPTURE_GROWS, growth.capture_operations, growth.capture_held),
        "step 3": (growth.STEP3, growth.STEP3_GROWS, growth.step3_operations, growth.step3_held),
    }[stage]
    sizes, others = every[grows]
    points = [replace(base, **{**others, **more, grows: size}) for size in sizes]
    return tuple(growth.exponent(sizes, [count(point) for point in points]) for count in (operations, held))


def test_what_is_expected_follows_from_the_arithmetic():
    for stage in ("capture", "step 3"):
        time, memory = expected(stage, "pairs")
        assert time == pytest.approx(1) and memory == pytest.approx(0, abs=0.05)
        assert 1.7 < expected(stage, "width")[0] < 2 and expected(stage, "width")[1] == pytest.approx(1, abs=0.05)
    assert 1 < expected("capture", "tokens")[0] < 1.3 < expected("capture", "tokens", width=16)[0] < 2
    assert expected("capture", "blocks")[0] == pytest.approx(1)
    assert expected("step 3", "blocks") == pytest.approx((0, 0))  # those above the targets do not run
    assert expected("step 3", "depth")[0] == pytest.approx(1) and 0.6 < expected("step 3", "depth")[1] < 1
    assert expected("step 3", "batch") == pytest.approx((0, 0))


def test_operations_are_those_of_the_weights_that_a_token_meets():
    size = growth.Size(pairs=1, tokens=10, blocks=1, width=512)
    block = sizing.built(llama_config(512, size.inner), context=0)
    assert growth.forward(size, 10)["weights"] == 2 * 10 * (block.block_weights - 2 * 512)  # but for the two norms
    assert size.traffic == block.traffic


def llama_config(width, inner):
    from transformers import AutoConfig

    sizes = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": width // 64}
    return AutoConfig.for_model("llama", num_hidden_layers=1, vocab_size=100, **sizes)


def test_growth_measures_both_stages(monkeypatch):
    small = {"pairs": 2, "tokens": 24, "blocks": 2, "width": 64}
    monkeypatch.setattr(growth, "REPEATS", 1)
    monkeypatch.setattr(growth, "CAPTURE", growth.Size(**small))
    monkeypatch.setattr(growth, "STEP3", growth.Size(**small, depth=1, batch=4))
    monkeypatch.setattr(growth, "CAPTURE_GROWS", {"pairs": ((2, 4), {})})
    monkeypatch.setattr(growth, "STEP3_GROWS", {"depth": ((1, 2), {})})
    found = growth.run("growth", QUIET)
    assert [(row["stage"], row["sizes"]) for row in found.details["rows"]] == [("capture", [2, 4]), ("step 3", [1, 2])]
    assert all(seconds > 0 for row in found.details["rows"] for seconds in row["seconds"])
    assert found.details["text"].count("\n") == 3 and "| step 3 | depth: 1, 2 |" in found.details["text"]


def test_the_document_s_expected_exponents_are_those_of_the_arithmetic():
    rows = [line.split(" | ") for line in SPEED.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row[0] in ("| capture", "| step 3") and len(row) == 8]
    known = [("capture", name) for name in growth.CAPTURE_GROWS] + [("step 3", name) for name in growth.STEP3_GROWS]
    assert [(row[0][2:], row[1].partition(":")[0]) for row in rows] == known
    for row, (stage, grows) in zip(rows, known, strict=True):
        assert [float(row[3]), float(row[6])] == pytest.approx(expected(stage, grows), abs=0.006)


# -- sizing ------------------------------------------------------------------------------------------------------------


def test_shapes_are_those_of_the_named_models():
    billions = [sizing.shape(model).weights / 1e9 for model in sizing.MODELS]
    assert billions == pytest.approx([0.494, 1.236, 3.213, 8.030, 14.770, 32.764, 70.554], abs=0.001)


@pytest.mark.parametrize("lean", [False, True])
def test_larger_models_and_finer_weights_need_more(lean):
    for method in sizing.METHODS:
        for kind in ("small", "paper"):  # within one preset: another one has other batches
            models = [model for model in sizing.MODELS if sizing.preset(model, method).startswith(kind)]
            for bits in sizing.PRECISIONS:
                memory = [sizing.needs(model, method, bits, lean) for model in models]
                for part in ("weights", "steady"):
                    values = [one.parts["memory"][part] for one in memory]
                    assert values == sorted(values) and len(set(values)) == len(values)
        for model in sizing.MODELS:
            needed = [sizing.needs(model, method, bits, lean).memory_bytes for bits in sizing.PRECISIONS]
            assert needed == sorted(needed, reverse=True)
            assert sizing.needs(model, method, lean=True).memory_bytes <= sizing.needs(model, method).memory_bytes


def test_the_page_says_what_the_estimate_says():
    model, page = "Llama-3.1-8B", sizing.computed()
    config = sizing.settings(model, "scit", "4bit")
    told = estimate(config, sizing.facts(model, config)).memory_bytes
    assert (config.instruct_batch, config.instruct_tuning, config.layers) == (64, "lora", None)
    (row, _) = [line for line in page.splitlines() if line.startswith(f"| {model} | SCIT |")]
    assert row.endswith(f"| {told / 1e9:.1f} ({sizing.smallest(told)}) |")
    assert [sizing.smallest(size) for size in (7.9e9, 8.1e9, 141e9, 142e9)] == [8, 16, 141, None]


def test_the_page_is_what_the_command_writes():
    computed, mark, measured = sizing.DOCUMENT.read_text(encoding="utf-8").partition(sizing.MEASURED)
    assert computed == sizing.computed() and mark
    assert measured.count("\n| ") == 2 + len(sizing_check.CASES)
    for case in sizing_check.CASES:
        assert f"| {case.name} |" in measured
    assert "assets/docs/sizing.md" in README.read_text(encoding="utf-8")


def test_what_is_measured_is_told_with_its_errors():
    runs = [sizing_check.Found("a", {}, 11, 10, {}), sizing_check.Found("b", {"method": "dual"}, 8, 10, {})]
    said = sizing.held_against(runs)
    assert "2 runs, 1 of them within\n15%; the worst -20% and +10%" in said and "| b | method=dual |" in said


def test_check_makes_a_model_that_reads_a_token_a_word(tmp_path):
    case = sizing_check.Case("llama", 1, 64, 200)
    made = sizing_check.made(case, tmp_path)
    tokenizer = sizing_check.words(case.vocabulary)
    rows = sizing_check.pairs(case.vocabulary)
    assert len(tokenizer) == 200 and len(rows) == sizing_check.PAIRS
    assert all(len(tokenizer(row["chosen"])["input_ids"]) == len(row["chosen"].split()) for row in rows)
    assert (tmp_path / "model" / "model.safetensors").exists() and made["pairs"].endswith(".jsonl")


@pytest.mark.parametrize("targets", ["all", "attention"])
def test_what_a_block_keeps_in_bfloat16_is_what_is_counted(targets):
    """Without a GPU: the tensors that autograd saves for the way back do not depend on the device."""
    saved = [saved_bytes(blocks, targets) for blocks in (1, 2)]
    config = replace(sizing.settings("Llama-3.2-1B", "scit", "none"), lora_dropout=0.0, lora_targets=targets)
    build = sizing.built(llama_config(128, 352), targets)
    plan = Plan(config, replace(sizing.facts("Llama-3.2-1B", config), shape=build))
    assert kept_bytes(plan, 1, 1, 2) - kept_bytes(plan, 1, 1, 1) == pytest.approx((saved[1] - saved[0]) / 64, rel=0.15)


def saved_bytes(blocks, targets):
    import torch
    from tiny import tiny_model

    from workbench.models import Trunk
    from workbench.rahf.adapters import activate, add_adapter
    from workbench.rahf.config import RunConfig

    sizes = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 352}
    loaded = tiny_model("llama", layers=blocks, width=128, **sizes)
    loaded.model.to(torch.bfloat16)
    add_adapter(loaded, "it", RunConfig(lora_targets=targets), blocks, 0)
    activate(loaded, ["it"], train="it")
    loaded.model.train()
    weights = {weight.untyped_storage().data_ptr() for weight in loaded.model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor too, or its place would be used again
        return tensor

    ids = torch.randint(8, 300, (1, 64))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Trunk(loaded.model, blocks)(ids, torch.ones_like(ids))
    return sum(size for size, _ in kept.values())


def test_batches_are_those_that_a_run_makes():
    lengths = sizing.lengths()[:64, :2]
    items = [sizing_check_item(before, answer) for before, answer in lengths.tolist()]
    found = batches(lengths, 2048)
    assert [rows for rows, _, _ in found] == [len(rows) for rows in by_length(items, 2048)]
    assert all(rows == 1 or rows * longest <= 2048 for rows, longest, _ in found)


def sizing_check_item(before, answer):
    from workbench.tokens import Encoded

    return Encoded([1] * (before + answer), before)
