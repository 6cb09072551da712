"""What is typed into the settings of step 3: nonsense gets a sentence at its field, and edited pairs keep their oracle."""

import pytest

from workbench.ui import align_form
from workbench.ui.state import Workspace


def workspace(**values) -> Workspace:
    return Workspace(visitor="a" * 32, **values)


@pytest.mark.parametrize(
    ("field", "typed"),
    [("alpha", "nan"), ("alpha", "much"), ("align_steps", "-3"), ("seed", "1.5"), ("lora_rank", ""), ("judge", 7)],
)
def test_nonsense_gets_one_sentence_at_its_field(field, typed):
    _, wrong = align_form.read({field: typed}, workspace())
    assert list(wrong) == [field]
    assert "\n" not in wrong[field] and len(wrong[field]) > 10


def test_blocks_the_model_does_not_have_are_refused():
    _, wrong = align_form.read({}, workspace(model={"source": "demo", "blocks": 8}, picked=[3, 9]))
    assert "blocks 0 to 7" in wrong["layers"]


def test_a_visitor_can_name_no_model_pairs_or_blocks_here():
    values, _ = align_form.read({"model": "/etc", "pairs": "/etc/passwd", "layers": "7"}, workspace())
    assert values["model"] == values["pairs"] == "demo"
    assert "layers" not in values


def test_edited_bundled_pairs_keep_their_oracle():
    pairs = {"kind": "bundled", "source": "demo/brief", "path": "/somewhere/clean.jsonl"}
    assert align_form.read({}, workspace(pairs=pairs))[0]["judge"] == "demo/brief"
    assert "judge" not in align_form.read({}, workspace(pairs={"kind": "upload", "source": "x.csv", "path": "/y"}))[0]
