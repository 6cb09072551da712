"""One boundary: exact masks, the same prompt ids whatever follows, honest cuts."""

import itertools
import math
import random

import pytest
import torch
from tiny import tiny_tokenizer

from workbench.errors import UserError
from workbench.tokens import CALL_TOKENS, Boundary, Encoded, Limits, by_length, collate

DIALOGUE = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "what is it?"},
    {"role": "assistant", "content": "a fox"},
    {"role": "user", "content": "and now?"},
]


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("bos", [True, False])
def test_prompt_ids_never_depend_on_the_completion(chat, bos):
    boundary = Boundary(tiny_tokenizer(chat=chat, bos=bos))
    for prompt in ("what is it?", DIALOGUE, "trailing space "):
        before = boundary.prompt_ids(prompt)
        for answer in ("it is", " a fox", "?", "é😀", "days"):
            item = boundary.encode(prompt, answer)
            assert item.ids[: item.start] == before
            assert item.ids[-1] in boundary.eos_ids
            assert boundary.decode(item.ids[item.start :]).strip() == answer.strip()


def test_a_tokenizer_that_merges_across_the_boundary_is_split_there():
    tokenizer = tiny_tokenizer(chat=True)
    # this template ends in a letter, so that the answer's first letters would merge with it
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}answer: th{% endif %}"
    )
    boundary = Boundary(tokenizer)
    merged = tokenizer("answer: the", add_special_tokens=False).input_ids
    assert tokenizer("answer: th", add_special_tokens=False).input_ids != merged[:-1] or len(merged) < 4
    item = boundary.encode("it", "e quick")
    assert item.ids[: item.start] == boundary.prompt_ids("it")
    assert tokenizer.decode(item.ids[item.start :]).startswith("e quick")


def test_the_instruction_is_the_only_difference_between_plus_and_minus():
    boundary = Boundary(tiny_tokenizer())
    plus, minus = (boundary.encode(DIALOGUE, "seven days", text) for text in ("be good", "be a lazy dog, never good"))
    assert plus.ids[plus.start :] == minus.ids[minus.start :]
    bare = boundary.prompt_ids(DIALOGUE)
    assert plus.ids[: plus.start] != minus.ids[: minus.start] != bare


@pytest.mark.parametrize("template", ["drops", "raises"])
def test_a_template_without_a_system_role_gets_the_instruction_in_the_first_turn(template):
    tokenizer = tiny_tokenizer()
    refuse = "{{ raise_exception('no system') }}" if template == "raises" else ""
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}" + refuse + "{% else %}<|user|>{{ m['content'] }}<|end|>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    boundary = Boundary(tokenizer)
    assert "be good\n\nwhat is it?" in boundary.render([{"role": "user", "content": "what is it?"}], "be good")


def test_long_prompts_lose_their_beginning_and_keep_what_opens_the_answer():
    boundary = Boundary(tiny_tokenizer(chat=False))
    text = "the lazy dog. " * 2000 + "what is it?"
    item = boundary.encode(text, "a fox", limits=Limits(40, 64))
    assert item.prompt_cut and not item.completion_cut
    assert item.start <= 40
    assert boundary.tokenizer.decode(item.ids[: item.start]).endswith("what is it?\n\nAssistant:")


def test_a_hundred_thousand_characters_are_cut_in_a_second():
    import time

    boundary = Boundary(tiny_tokenizer())
    started = time.monotonic()
    ids = boundary.prompt_ids("jumps over it? " * 7000, limit=64)
    assert len(ids) <= 64
    assert time.monotonic() - started < 8


def test_old_turns_go_first():
    boundary = Boundary(tiny_tokenizer())
    room = len(boundary.prompt_ids([DIALOGUE[0], DIALOGUE[3]]))
    messages, cut = boundary.fit([DIALOGUE[0], *DIALOGUE[1:3] * 4, DIALOGUE[3]], room + 3)
    assert cut
    assert messages[0] == DIALOGUE[0]
    assert messages[-1] == DIALOGUE[-1]
    assert len(messages) <= 4


def test_a_cut_completion_has_no_end_of_text():
    boundary = Boundary(tiny_tokenizer())
    item = boundary.encode("what?", "seven days " * 50, limits=Limits(64, 10))
    assert item.completion_cut
    assert len(item.ids) - item.start == 10
    assert not set(item.ids[item.start :]) & boundary.eos_ids


def test_limits_fit_the_context_or_say_that_they_cannot():
    assert Limits(256, 512).within(64) == Limits(32, 32)
    assert Limits(10, 20).within(4096) == Limits(10, 20)
    with pytest.raises(UserError, match="instruction alone takes 60"):
        Limits().within(64, 60)


def test_turn_markers_longer_than_the_limit_are_refused():
    with pytest.raises(UserError, match="turn markers alone"):
        Boundary(tiny_tokenizer(chat=False)).prompt_ids("what?", limit=8)


def test_several_end_of_text_ids_all_end_an_answer():
    tokenizer = tiny_tokenizer()
    other = tokenizer.convert_tokens_to_ids("<|user|>")
    boundary = Boundary(tokenizer, [tokenizer.eos_token_id, other])
    fox = tokenizer("a fox", add_special_tokens=False).input_ids
    assert boundary.decode([*fox, other, *fox]) == "a fox"


def test_without_pad_token_something_harmless_pads():
    boundary = Boundary(tiny_tokenizer(pad=False))
    assert boundary.pad_id in boundary.eos_ids


@pytest.mark.parametrize("side", ["left", "right"])
def test_masks_mark_the_completion_and_the_states_that_predict_it(side):
    boundary = Boundary(tiny_tokenizer())
    items = [boundary.encode("what is it?", "a"), boundary.encode("the", "seven days a week, please")]
    batch = collate(items, boundary.pad_id, side=side)
    for row, item in enumerate(items):
        completion = torch.tensor(item.ids[item.start :])
        assert torch.equal(batch.input_ids[row][batch.completion_mask[row]], completion)
        before = torch.tensor(item.ids[item.start - 1 : -1])
        assert torch.equal(batch.input_ids[row][batch.predicting_mask[row]], before)
        real = batch.attention_mask[row].bool()
        assert batch.position_ids[row][real].tolist() == list(range(len(item.ids)))


def test_batches_by_length_are_the_cheapest_there_are():
    """Against every way to cut the sorted sequences into runs."""
    rng = random.Random(0)
    for _ in range(20):
        items = [Encoded([0] * rng.randint(1, 200), 0) for _ in range(8)]
        budget = rng.choice((100, 400, 1000))
        found = by_length(items, budget)
        assert sorted(k for batch in found for k in batch) == list(range(8))
        lengths = sorted((len(item.ids) for item in items), reverse=True)
        assert [len(items[k].ids) for batch in found for k in batch] == lengths

        def cost(sizes, lengths=lengths, budget=budget):
            total, first = 0, 0
            for size in sizes:
                if size > 1 and size * lengths[first] > budget:
                    return math.inf
                total += size * lengths[first] + CALL_TOKENS
                first += size
            return total

        every = [
            [b - a for a, b in itertools.pairwise([0, *cuts, 8])]
            for count in range(8)
            for cuts in itertools.combinations(range(1, 8), count)
        ]
        assert cost([len(batch) for batch in found]) == min(map(cost, every))
    assert by_length([], 100) == []
