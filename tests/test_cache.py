"""What was read is kept with room for the next tokens: the same logits as with the model's own cache, in any family."""

from itertools import pairwise

import pytest
import torch
from families import FAMILIES, build
from test_families import known
from tiny import tiny_model
from transformers.cache_utils import DynamicLayer

from workbench import generation
from workbench.cache import RoomyLayer, rows_together
from workbench.generation import BASE, Sampling, Speaker, answer_together, generate, lanes_of
from workbench.rahf.adapters import add_adapter
from workbench.rahf.config import RunConfig

PROMPTS = [
    list(range(10, 41)),
    list(range(50, 53)),
    list(range(60, 72)),
    list(range(80, 110)),
]  # ids, of unequal lengths
TOKENS = torch.arange(20, 44).view(6, 4)  # what is answered, six tokens a row


def lane_of(loaded, room, adapters=None):
    (lane,) = lanes_of(loaded, PROMPTS, adapters or [BASE] * 4, [None] * 4, room=room)
    return lane


@torch.inference_mode()
def logits_of(loaded, lane, read):
    """The logits before each of the answer's tokens, [tokens, rows, V]."""
    found = [read(loaded)]
    for tokens in TOKENS:
        lane.advance(tokens)
        found.append(lane.forward(loaded))
    return torch.stack(found)[:, :, -1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_those_with_the_models_own_cache(family):
    known(family)
    loaded = build(family, FAMILIES[family])
    own, roomy = lane_of(loaded, 0), lane_of(loaded, 4)
    expected = logits_of(loaded, own, own.forward)
    torch.testing.assert_close(logits_of(loaded, roomy, roomy.read), expected, rtol=1e-4, atol=1e-5)
    for was, now in zip(own.cache.layers, roomy.cache.layers, strict=True):
        plain = type(was) is DynamicLayer and was.is_initialized
        assert type(now) is (RoomyLayer if plain else type(was))


def test_a_token_is_written_beside_the_others_until_the_room_is_full():
    loaded = tiny_model("llama")
    lane = lane_of(loaded, 4)
    with torch.inference_mode():
        lane.read(loaded)
        places = [[layer.held[0].data_ptr() for layer in lane.cache.layers]]
        for tokens in TOKENS:
            lane.advance(tokens)
            lane.forward(loaded)
            places.append([layer.held[0].data_ptr() for layer in lane.cache.layers])
    assert [now == before for before, now in pairwise(places)] == [False, True, True, True, False, True]
    assert lane.cache.get_seq_length() == 31 + 6
    assert {layer.held[0].shape[2] for layer in lane.cache.layers} == {31 + 4 + 4}


def test_prompts_are_read_without_the_padding_of_others_and_adapters_on_their_own_rows_only(monkeypatch):
    monkeypatch.setattr("workbench.tokens.CALL_TOKENS", 4)
    loaded = tiny_model("llama")
    add_adapter(loaded, "aligned", RunConfig(), 3, seed=1)
    seen = []
    loaded.model.get_input_embeddings().register_forward_hook(lambda module, args, output: seen.append(args[0].shape))
    shapes = {(2, 31), (1, 12), (1, 3)}
    lane = lane_of(loaded, 4, [BASE, "aligned", BASE, "aligned"])
    adapted = []
    for name, module in loaded.model.named_modules():
        if name.endswith("lora_A.aligned"):
            module.register_forward_hook(lambda module, args, output: adapted.append(len(args[0])))
    seen.clear()
    adapted.clear()
    with torch.inference_mode():
        lane.read(loaded)
    assert sorted(map(tuple, seen)) == [(1, 3), (1, 12), (1, 30), (1, 31)] and set(adapted) == {1}
    lane = lane_of(loaded, 4)
    seen.clear()
    with torch.inference_mode():
        lane.read(loaded)
    assert set(map(tuple, seen)) == shapes


def test_where_the_model_makes_another_cache_than_was_thought_all_is_read_in_one_pass(monkeypatch):
    loaded = tiny_model("llama")
    prompts, sampling = ["what is it?", "please tell me how many days a week has", "no"], Sampling(max_new_tokens=6)
    expected = [answer.ids for answer in generate(loaded, prompts, sampling)]
    asked = []
    monkeypatch.setattr("workbench.tokens.CALL_TOKENS", 0)
    monkeypatch.setattr(generation, "keeps_all", lambda cache: asked.append(cache) or len(asked) == 1)
    assert [answer.ids for answer in generate(loaded, prompts, sampling)] == expected
    assert len(asked) == 2


def test_answers_longer_than_the_room_do_not_change(monkeypatch):
    loaded = tiny_model("llama")
    sampling = Sampling(max_new_tokens=20, seed=2)
    speakers = [Speaker(), Speaker(instruction="be kind")]

    def answers():
        *_, last = answer_together(loaded, ["what is it?", "no"], sampling, speakers)
        return [[answer.ids for answer in side] for side in last]

    expected = answers()
    monkeypatch.setattr(generation, "ROOM", 3)
    assert answers() == expected


def test_answers_whose_keys_and_values_would_take_too_much_are_written_a_few_at_a_time(monkeypatch):
    loaded = tiny_model()
    prompts = [f"what is it, number {place}?" + " please" * place for place in range(5)]
    held = []
    plain = generation._decode

    def watched(loaded, ids, *rest):
        held.append(sum(map(len, ids)))
        return plain(loaded, ids, *rest)

    monkeypatch.setattr(generation, "_decode", watched)
    sampling = Sampling(max_new_tokens=6, seed=1)
    together = [answer.ids for answer in generate(loaded, prompts, sampling)]
    assert len(held) == 1
    longest = max(len(loaded.boundary.prompt_ids(prompt)) for prompt in prompts) + 6
    a_token = loaded.n_blocks * 2 * 2 * 8 * 4  # keys and values of two heads of 8 float32 numbers in each block
    assert rows_together(64, longest, a_token) == 64
    monkeypatch.setattr("workbench.cache.MOST_BYTES", 2.5 * longest * a_token)
    assert [answer.ids for answer in generate(loaded, prompts, sampling)] == together
    assert len(held) == 1 + 3  # two, two, one
    monkeypatch.setattr("workbench.cache.MOST_BYTES", 1)
    assert rows_together(64, longest, a_token) == 1
