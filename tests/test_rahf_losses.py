"""The mathematics of every loss, against slow computations written out token by token."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import FAMILIES, PAIRS, tiny_model

from workbench import likelihood
from workbench.cache import rows_of
from workbench.likelihood import couple_logps, mean_logps, prompts_serve_both, score_completions, scored_tokens
from workbench.models import Trunk
from workbench.pairs import Pair, PreferencePairs, as_messages
from workbench.progress import QUIET
from workbench.rahf.adapters import activate, adapter_state, add_adapter
from workbench.rahf.align import align_loss
from workbench.rahf.config import RunConfig
from workbench.rahf.instruct import instruct, scit_loss, scit_sequences
from workbench.rahf.patterns import Patterns, choose_alpha, make_examples, selected
from workbench.tokens import Limits, collate

LIMITS = Limits(64, 64)


def pairs(count=6):
    return PreferencePairs.from_pairs(
        [Pair(i, as_messages(p["prompt"]), p["chosen"], p["rejected"]) for i, p in enumerate(PAIRS[:count])]
    )


def slow_mean_logp(loaded, prompt, answer, instruction):
    """One sequence at a time, one token at a time, from the whole model's logits."""
    item = loaded.boundary.encode(prompt, answer, instruction, LIMITS)
    logits = loaded.model(input_ids=torch.tensor([item.ids])).logits[0].double()
    total = 0.0
    for place in range(item.start, len(item.ids)):
        row = logits[place - 1]
        total += float(row[item.ids[place]] - torch.logsumexp(row, 0))
    return total / (len(item.ids) - item.start)


@pytest.mark.parametrize("family", FAMILIES)
def test_mean_log_probability_equals_token_by_token(family):
    loaded = tiny_model(family)
    data = list(pairs())
    items = [loaded.boundary.encode(p.prompt, p.chosen, "be kind", LIMITS) for p in data]
    slow = [slow_mean_logp(loaded, p.prompt, p.chosen, "be kind") for p in data]
    torch.testing.assert_close(score_completions(loaded, items), torch.tensor(slow), atol=2e-5, rtol=1e-5)


def lively_couples(family):
    """A tiny model with an adapter that does something, trained, and four sequences of pairs, as step 1 has them."""
    loaded = tiny_model(family)
    config = RunConfig(lora_rank=4, lora_dropout=0.0)
    add_adapter(loaded, "instructed", config, loaded.n_blocks, 0)
    activate(loaded, ["instructed"], train="instructed")
    trained = [weight for weight in loaded.model.parameters() if weight.requires_grad]
    for place, weight in enumerate(trained):
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(place))
    sides = scit_sequences(loaded, list(pairs()), config, LIMITS)
    return loaded, trained, [*zip(sides[0], sides[3], strict=True), *zip(sides[1], sides[2], strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_read_once_for_both_responses_gives_the_same_scores_and_gradients(family, monkeypatch):
    loaded, trained, couples = lively_couples(family)
    assert prompts_serve_both(loaded) == (family not in ("gemma2", "mistral"))  # these forget what is far back
    if family in ("gemma2", "mistral"):
        return
    assert all(first.ids[: first.start] == second.ids[: second.start] for first, second in couples)
    assert len({first.start for first, _ in couples}) > 1  # so that prompts are padded
    flat = [item for couple in couples for item in couple]
    usual = mean_logps(loaded.model, flat, loaded.boundary.pad_id, loaded.device).view(-1, 2)
    once = couple_logps(loaded.model, couples, loaded.boundary.pad_id, loaded.device)
    torch.testing.assert_close(once, usual, atol=2e-5, rtol=1e-5)
    monkeypatch.setattr(likelihood, "by_length", lambda items: [[place] for place in reversed(range(len(items)))])
    once = couple_logps(loaded.model, couples, loaded.boundary.pad_id, loaded.device)  # every answer read on its own
    torch.testing.assert_close(once, usual, atol=2e-5, rtol=1e-5)
    weights = torch.randn(once.shape, generator=torch.Generator().manual_seed(1))
    for found, slope in zip(
        torch.autograd.grad((once * weights).sum(), trained),
        torch.autograd.grad((usual * weights).sum(), trained),
        strict=True,
    ):
        torch.testing.assert_close(found, slope, atol=1e-5, rtol=1e-4)


def test_whether_a_prompt_serves_both_responses_is_seen_where_it_does_not(monkeypatch):
    """A decoder that does not mind its padding, or whose cache cannot be repeated, would teach wrong things in silence."""
    loaded, _, _ = lively_couples("llama")
    assert prompts_serve_both(loaded)
    right = likelihood.collate
    with monkeypatch.context() as patch:

        def mindless(*args, **named):
            batch = right(*args, **named)
            return replace(batch, attention_mask=torch.ones_like(batch.attention_mask))

        patch.setattr(likelihood, "collate", mindless)
        assert not prompts_serve_both(loaded)
    with monkeypatch.context() as patch:
        patch.setattr(likelihood, "rows_of", lambda cache, rows: rows_of(cache, rows.flip(0)))
        assert not prompts_serve_both(loaded)


def test_prompts_are_read_for_each_response_where_the_model_computes_its_blocks_again(tmp_path):
    loaded = tiny_model()
    loaded.model.gradient_checkpointing_enable()  # as a model's own configuration may ask for
    config = RunConfig(lora_rank=4, instruct_steps=2, instruct_batch=2)
    assert instruct(loaded, pairs(6), config, "instructed", LIMITS, tmp_path, QUIET)["steps"] == 2


def counted(calls):
    def scored(*args):
        calls.append(args)
        return couple_logps(*args)

    return scored


def test_step_1_teaches_the_same_whether_prompts_are_read_once_or_twice(monkeypatch, tmp_path):
    ends = []
    for name, serve in (("once", prompts_serve_both), ("twice", lambda loaded: False)):
        monkeypatch.setattr("workbench.rahf.instruct.prompts_serve_both", serve)
        calls = []
        monkeypatch.setattr("workbench.rahf.instruct.couple_logps", counted(calls))
        loaded = tiny_model()
        config = RunConfig(lora_rank=4, lora_dropout=0.0, instruct_steps=5, instruct_batch=4, instruct_rate=1e-3)
        said = instruct(loaded, pairs(12), config, "instructed", LIMITS, tmp_path / name, QUIET)
        assert bool(calls) == (name == "once")
        ends.append((said["loss_last"], adapter_state(loaded, "instructed")))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-5)
    for name, weight in ends[0][1].items():
        torch.testing.assert_close(weight, ends[1][1][name], atol=1e-5, rtol=1e-3)


def test_scores_keep_no_graph_and_do_not_depend_on_how_many_go_at_once(monkeypatch):
    loaded = tiny_model()
    loaded.model.requires_grad_(True)
    items = [loaded.boundary.encode(p["prompt"], p["chosen"], None, LIMITS) for p in PAIRS[:9]]
    batches = []
    at_once = score_completions(loaded, items, batches.append)
    monkeypatch.setattr(likelihood, "SCORED_NUMBERS", 1)  # as of an enormous vocabulary
    monkeypatch.setattr(likelihood, "by_length", lambda items, tokens: [[place] for place in range(len(items))])
    one_by_one = score_completions(loaded, items, batches.append)
    assert not at_once.requires_grad and len(batches) == 1 + len(items)
    torch.testing.assert_close(at_once, one_by_one, atol=2e-5, rtol=1e-5)


def test_a_large_vocabulary_is_scored_in_smaller_batches():
    assert [scored_tokens(vocabulary) for vocabulary in (1_500, 32_000, 152_064, 2**30)] == [8192, 8192, 1765, 256]


def test_padding_changes_no_likelihood():
    loaded = tiny_model()
    short = loaded.boundary.encode("no", "a fox", None, LIMITS)
    long = loaded.boundary.encode("what is it? " * 8, "seven days, of course! " * 5, None, LIMITS)
    alone = mean_logps(loaded.model, [short], loaded.boundary.pad_id, loaded.device)
    beside = mean_logps(loaded.model, [short, long], loaded.boundary.pad_id, loaded.device)[:1]
    torch.testing.assert_close(alone, beside, atol=1e-6, rtol=1e-5)


def test_scit_loss_equals_the_formula_written_out():
    loaded = tiny_model()
    config = RunConfig(positive="be kind", negative="be a lazy dog, never good").validate()
    data = list(pairs(4))
    total = 0.0
    for pair in data:
        for answer, match, mismatch in (
            (pair.chosen, config.positive, config.negative),
            (pair.rejected, config.negative, config.positive),
        ):
            s_match = slow_mean_logp(loaded, pair.prompt, answer, match)
            s_mis = slow_mean_logp(loaded, pair.prompt, answer, mismatch)
            sigmoid = 1 / (1 + math.exp(-(s_match - s_mis)))
            total += -s_match - 0.8 * math.log(sigmoid) - 0.2 * math.log(1 - sigmoid)
    sides = scit_sequences(loaded, data, config, LIMITS)
    scores = [mean_logps(loaded.model, side, loaded.boundary.pad_id, loaded.device) for side in sides]
    loss = scit_loss(torch.cat([scores[0], scores[2]]), torch.cat([scores[1], scores[3]]), 0.2)
    assert float(loss) == pytest.approx(total / 8, abs=1e-5)


def test_the_mismatched_input_keeps_its_own_labels_when_instructions_differ_in_length():
    """With one instruction much longer, the completion's tokens must still be the ones scored."""
    loaded = tiny_model()
    config = RunConfig(positive="be", negative="never " * 20).validate()
    sides = scit_sequences(loaded, list(pairs(3)), config, LIMITS)
    for match, mismatch in ((sides[0], sides[1]), (sides[2], sides[3])):
        for one, other in zip(match, mismatch, strict=True):
            assert one.ids[one.start :] == other.ids[other.start :]
            assert len(one.ids) != len(other.ids)


def test_align_loss_equals_a_loop():
    draw = torch.Generator().manual_seed(0)
    states, foundation, shift = (torch.randn(2, 7, 5, generator=draw) for _ in range(3))
    loss, left = align_loss(states, foundation, shift, 0.7)
    total, start = 0.0, [0.0, 0.0]
    distance = [0.0, 0.0]
    for layer in range(2):
        for token in range(7):
            difference = [
                float(states[layer, token, k] - foundation[layer, token, k] - 0.7 * shift[layer, token, k])
                for k in range(5)
            ]
            size = math.sqrt(sum(x * x for x in difference))
            total += size
            distance[layer] += size
            start[layer] += 0.7 * math.sqrt(sum(float(x) ** 2 for x in shift[layer, token]))
    assert float(loss) == pytest.approx(total / 14, rel=1e-5)
    assert left.tolist() == pytest.approx([distance[k] / start[k] for k in range(2)], rel=1e-5)


def _instructed(loaded, config):
    for number, name in enumerate(config.instructed_adapters):
        add_adapter(loaded, name, config, loaded.n_blocks, seed=number)
        with torch.no_grad():
            for key, parameter in loaded.model.named_parameters():
                if "lora_B" in key and name in key:
                    parameter.normal_(std=0.1)


@pytest.mark.parametrize("method", ["scit", "dual"])
@pytest.mark.parametrize("states", ["predicting", "completion"])
@pytest.mark.parametrize("foundation", ["base", "instructed"])
def test_patterns_equal_full_model_passes(method, states, foundation):
    loaded = tiny_model(layers=4)
    config = RunConfig(
        method=method,
        states=states,
        foundation=foundation,
        response="chosen",
        positive="be kind",
        negative="be a dog, no",
    ).validate()
    _instructed(loaded, config)
    data = pairs(3)
    patterns = Patterns(loaded, make_examples(loaded, data, config, LIMITS), config, [0, 2])
    got = patterns.get([2, 0, 1])

    def states_of(pair, adapters, instruction):
        activate(loaded, adapters)
        item = loaded.boundary.encode(pair.prompt, pair.chosen, instruction, LIMITS)
        out = loaded.model(input_ids=torch.tensor([item.ids]), output_hidden_states=True).hidden_states
        first = item.start - 1 if states == "predicting" else item.start
        last = len(item.ids) - 1 if states == "predicting" else len(item.ids)
        return torch.stack([out[block + 1][0, first:last] for block in (0, 2)])

    winner, loser = ("instructed", "instructed") if method == "scit" else ("chosen", "rejected")
    texts = (config.positive, config.negative) if method == "scit" else (None, None)
    for index, pattern in zip([2, 0, 1], got, strict=True):
        pair = data[index]
        with torch.no_grad():
            shift = states_of(pair, [winner], texts[0]) - states_of(pair, [loser], texts[1])
            bare = states_of(pair, [winner] if foundation == "instructed" else [], None)
        torch.testing.assert_close(pattern.shift, shift, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(pattern.foundation, bare, atol=2e-5, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "opt", "phi", "mixtral", "gemma2", "qwen3"])
def test_gradient_reaches_every_adapter_matrix_and_nothing_else(family):
    loaded = tiny_model(family, layers=4)
    config = RunConfig(method="dual").validate()
    _instructed(loaded, config)
    patterns = Patterns(loaded, make_examples(loaded, pairs(3), config, LIMITS), config, [0, 2])
    known = patterns.get(range(6))
    add_adapter(loaded, "aligned", config, 3, seed=9)
    activate(loaded, ["aligned"], train="aligned")
    with torch.no_grad():  # at the start lora_B is 0 and hides lora_A's gradient
        for key, parameter in loaded.model.named_parameters():
            if "lora_B.aligned" in key:
                parameter.normal_(std=0.05)
    batch = collate([example.bare for example in patterns.examples], loaded.boundary.pad_id)
    hidden = Trunk(loaded.model, 3)(batch.input_ids, batch.attention_mask, batch.position_ids, collect=[0, 2])
    mask = selected(batch, "predicting")
    loss, _ = align_loss(
        torch.stack([hidden[0][mask], hidden[2][mask]]),
        torch.cat([p.foundation for p in known], 1),
        torch.cat([p.shift for p in known], 1),
        1.0,
    )
    loss.backward()
    trained = {key for key, p in loaded.model.named_parameters() if p.grad is not None}
    adapters = {key for key, _ in loaded.model.named_parameters() if "lora_" in key and ".aligned." in key}
    assert adapters
    assert trained == adapters
    assert all(float(p.grad.abs().max()) > 0 for key, p in loaded.model.named_parameters() if key in adapters)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_change_the_alignment_loss(side):
    loaded = tiny_model()
    config = RunConfig(method="dual", response="chosen").validate()
    _instructed(loaded, config)
    patterns = Patterns(loaded, make_examples(loaded, pairs(5), config, LIMITS), config, [1])
    known = patterns.get(range(5))
    losses = []
    for rows in ([[0], [1], [2], [3], [4]], [[0, 1, 2, 3, 4]]):
        distances = []
        for some in rows:
            batch = collate([patterns.examples[k].bare for k in some], loaded.boundary.pad_id, side=side)
            hidden = Trunk(loaded.model, 2)(batch.input_ids, batch.attention_mask, batch.position_ids, collect=[1])
            states = hidden[1][selected(batch, "predicting")][None]
            joined = [torch.cat([getattr(known[k], name) for k in some], 1) for name in ("foundation", "shift")]
            distances.append((float(align_loss(states, *joined, 0.7)[0]), states.shape[1]))
        losses.append(sum(value * n for value, n in distances) / sum(n for _, n in distances))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_patterns_that_are_computed_within_training_leave_every_module_in_its_mode():
    """Or dropout and gradient checkpointing would be off in every step whose patterns were not kept."""
    loaded = tiny_model()
    config = RunConfig(method="dual", response="chosen", lora_dropout=0.3).validate()
    _instructed(loaded, config)
    patterns = Patterns(loaded, make_examples(loaded, pairs(2), config, LIMITS), config, [1])
    Trunk(loaded.model, 2).train()  # as the Trainer has it, which knows the first blocks only
    before = [module.training for module in loaded.model.modules()]
    patterns.get([0])
    assert any(before) and [module.training for module in loaded.model.modules()] == before


def test_alpha_is_chosen_for_the_relative_strength_and_bounded():
    assert choose_alpha({3: 0.4, 5: 0.6}, 0.26) == pytest.approx(0.52)
    assert choose_alpha({3: 0.01}, 0.26) == 0.75
    assert choose_alpha({3: 1000.0}, 0.26) == pytest.approx(0.00026)  # and never 0
