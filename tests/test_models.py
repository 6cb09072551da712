"""Blocks found by structure, and a truncated view that gives the full model's own block outputs."""

import json

import pytest
import torch
from tiny import FAMILIES, tiny_model, tiny_tokenizer
from torch import nn

from workbench.errors import UserError
from workbench.models import Trunk, describe_device, find_blocks, fingerprint, load_model, pick_device, pick_dtype
from workbench.tokens import collate


def _batch(loaded, side="right"):
    encode = loaded.boundary.encode
    items = [encode("what is it?", "seven days"), encode("please tell me how many", "no, never. a fox")]
    return collate(items, loaded.boundary.pad_id, side=side)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_truncated_view_equals_the_full_models_block_outputs(family):
    loaded = tiny_model(family)
    for side in ("right", "left"):
        batch = _batch(loaded, side)
        full = loaded.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            output_hidden_states=True,
        ).hidden_states
        got = Trunk(loaded.model, 2)(batch.input_ids, batch.attention_mask, batch.position_ids, collect=[0, 1])
        real = batch.attention_mask.bool()
        for block in (0, 1):  # hidden_states[l + 1] is block l's raw output, but for the last one
            torch.testing.assert_close(got[block][real], full[block + 1][real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_runs_beyond_the_last_wanted_block(family):
    loaded = tiny_model(family)
    ran = []
    for number, block in enumerate(loaded.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    loaded.model.get_output_embeddings().register_forward_hook(lambda *_: ran.append("head"))
    batch = _batch(loaded)
    trunk = Trunk(loaded.model, 2)
    ran.clear()
    trunk(batch.input_ids, batch.attention_mask, batch.position_ids)
    assert ran == [0, 1]
    assert any(isinstance(child, nn.Identity) for child in trunk.decoder.children())  # the final norm is out


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "mixtral"])
def test_batched_equals_one_by_one_on_either_side(family):
    loaded = tiny_model(family)
    items = [loaded.boundary.encode("what is it?", text) for text in ("a fox", "seven days a week, of course!", "no")]
    trunk = Trunk(loaded.model, 3)
    for side in ("left", "right"):
        together = collate(items, loaded.boundary.pad_id, side=side)
        hidden = trunk(together.input_ids, together.attention_mask, together.position_ids)[2]
        for row, item in enumerate(items):
            alone = collate([item], loaded.boundary.pad_id)
            single = trunk(alone.input_ids, alone.attention_mask, alone.position_ids)[2]
            torch.testing.assert_close(
                hidden[row][together.attention_mask[row].bool()], single[0], rtol=1e-4, atol=1e-5
            )


def test_the_view_leaves_the_model_as_it_was():
    loaded = tiny_model()
    names = [name for name, _ in loaded.model.named_modules()]
    Trunk(loaded.model, 1)
    assert names == [name for name, _ in loaded.model.named_modules()]


def test_two_blocks_and_depth_out_of_range():
    loaded = tiny_model(layers=2)
    assert loaded.n_blocks == 2
    with pytest.raises(UserError, match="blocks 0 to 1"):
        Trunk(loaded.model, 3)


def test_what_has_no_single_list_of_blocks_is_refused():
    loaded = tiny_model(layers=3)
    loaded.model.config.num_hidden_layers = 5
    with pytest.raises(UserError, match="could not be told from its structure"):
        find_blocks(loaded.model)


def test_fingerprint_tells_weights_apart():
    assert fingerprint(tiny_model(seed=1).model) == fingerprint(tiny_model(seed=1).model)
    assert fingerprint(tiny_model(seed=1).model) != fingerprint(tiny_model(seed=2).model)


def test_a_saved_model_loads_and_others_are_refused(tmp_path):
    loaded = tiny_model()
    loaded.model.save_pretrained(tmp_path / "good")
    loaded.tokenizer.save_pretrained(tmp_path / "good")
    again = load_model(str(tmp_path / "good"), device="cpu")
    assert again.fingerprint == loaded.fingerprint
    assert again.context == 256

    torch.save(loaded.model.state_dict(), tmp_path / "pickle.bin")
    (tmp_path / "pickled").mkdir()
    loaded.model.config.save_pretrained(tmp_path / "pickled")
    loaded.tokenizer.save_pretrained(tmp_path / "pickled")
    (tmp_path / "pickle.bin").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load_model(str(tmp_path / "pickled"))

    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    with pytest.raises(UserError):
        load_model(str(tmp_path / "odd"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        load_model(str(tmp_path / "empty"))


@pytest.mark.parametrize("source", ["nobody/nothing", "../../etc", "", "a b", "no/such/model", "https://x.y/z"])
def test_unknown_models_get_one_sentence(source):
    with pytest.raises(UserError) as caught:
        load_model(source)
    assert "\n" not in str(caught.value)


def test_a_strangers_text_reaches_no_folder(tmp_path):
    loaded = tiny_model()
    loaded.model.save_pretrained(tmp_path / "m")
    with pytest.raises(UserError):
        load_model(str(tmp_path / "m"), local=False)


def test_devices_and_types():
    assert pick_device("cpu").type == "cpu"
    for bad in ("tpu", "cuda:99", "", "cpu:x"):
        with pytest.raises(UserError, match="no device"):
            pick_device(bad)
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    with pytest.raises(UserError, match="no data type"):
        pick_dtype("int8", torch.device("cpu"))


def test_the_device_in_words():
    assert describe_device("cpu").startswith("CPU, ")
    with pytest.raises(UserError, match="no device"):
        describe_device("tpu")


def test_bfloat16_loads(tmp_path):
    loaded = tiny_model(tokenizer=tiny_tokenizer(bos=True))
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    assert load_model(str(tmp_path), device="cpu", dtype="bfloat16").dtype is torch.bfloat16
