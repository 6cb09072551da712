"""What is typed into the settings of step 3: nonsense gets a sentence at its field, and edited pairs keep their oracle."""

import re
import threading
import time
from dataclasses import dataclass

import pytest

from workbench.errors import UserError
from workbench.rahf.config import RunConfig
from workbench.runs.store import create
from workbench.ui import align_check, align_fields, align_files, align_form, align_view, state, step_align
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


# -- presets, what was changed, and the way back -----------------------------------------------------------------------

VISITOR = "b" * 32


@dataclass
class Preset:
    label: str
    help: str
    values: dict


@pytest.fixture
def home(runs_root, monkeypatch):
    """A visitor's workspace with the demo, and two presets of our own."""
    presets = {
        "demo": Preset("Demo", "The defaults.", {}),
        "small": Preset("Small", "For a start.", {"align_steps": 60, "lora_rank": 4}),
        "large": Preset("Large", "For much.", {"method": "dual", "alpha": 5.0, "layers": [10, 12], "step1_share": 0.7}),
    }
    monkeypatch.setattr(align_form, "preset_list", lambda: presets)
    monkeypatch.setattr(align_check, "_desks", state.Cache(4))
    monkeypatch.setattr(align_check, "outcome", lambda workspace, values: align_check.nothing())
    pairs = {"kind": "bundled", "source": "demo", "name": "polite-demo", "count": 601}
    return state.change(VISITOR, pairs=pairs, model={"source": "demo", "blocks": 8}, picked=[2, 3], step="align")


def draft() -> dict:
    return align_form.draft_of(state.open_workspace(VISITOR))


def meant() -> dict:
    return align_form.read(draft(), state.open_workspace(VISITOR))[0]


def column() -> dict:
    return align_form.new_run(state.open_workspace(VISITOR), [])


def field(name: str) -> dict:
    found = column()
    return next(one for group in found["groups"] for one in group["fields"] if one["name"] == name)


def test_a_preset_fills_the_settings_and_each_can_be_changed_and_go_back(home):
    step_align.remember(VISITOR, "preset", "small")
    assert meant()["align_steps"] == 60 and column()["changed"] == 0 and column()["preset_help"] == "For a start."
    step_align.remember(VISITOR, "align_steps", "90")
    step_align.remember(VISITOR, "warmup", "0.3")
    assert (field("align_steps")["changed"], field("align_steps")["back"]) == (True, "60")
    assert field("warmup")["back"] == "0.1" and not field("lora_rank").get("changed") and column()["changed"] == 2
    step_align.remember(VISITOR, "warmup", "0.10")  # the same in other words
    assert column()["changed"] == 1
    step_align.reset(VISITOR, "align_steps")
    assert meant()["align_steps"] == 60 and column()["changed"] == 0


def test_choosing_a_preset_can_be_undone_and_done_again(home):
    step_align.remember(VISITOR, "align_steps", "plenty")
    before = draft()
    step_align.remember(VISITOR, "preset", "small")
    first = column()["undo"]
    assert "Small" in first["label"] and draft()["preset"] == "small"
    step_align.undo(VISITOR, first["id"])
    assert draft() == before
    with pytest.raises(UserError, match="another tab"):
        step_align.undo(VISITOR, first["id"])  # a tab that has not seen it
    step_align.undo(VISITOR, column()["undo"]["id"])
    assert draft()["preset"] == "small"
    step_align.reset(VISITOR, "")
    assert column()["undo"]["label"] == "Undo: back to the preset"


def test_instructions_of_a_value_fill_both_texts_and_can_be_taken_back(home):
    step_align.remember(VISITOR, "positive", "Be like Ann.")
    assert field("instructions")["value"] == "own"
    step_align.remember(VISITOR, "instructions", "honest")
    assert "honest" in meant()["positive"] and "dishonest" in meant()["negative"]
    assert field("instructions")["value"] == "honest" and field("positive")["changed"]
    step_align.undo(VISITOR, column()["undo"]["id"])
    assert meant()["positive"] == "Be like Ann." and field("instructions")["value"] == "own"
    for nonsense in ("own", "<b>", 7, ["honest"], None):
        step_align.remember(VISITOR, "instructions", nonsense)
    assert meant()["positive"] == "Be like Ann."
    step_align.remember(VISITOR, "method", "dual")
    assert field("instructions")["idle"]


def test_blocks_of_a_preset_that_the_model_lacks_have_a_way_out(home):
    step_align.remember(VISITOR, "preset", "large")
    found = column()
    assert (found["method"], found["strength_part"]["way"], meant()["step1_share"]) == ("dual", "alpha", 0.7)
    assert (
        found["errors"]["layers"].startswith("The model has blocks 0 to 7, not 10 and 12") and not found["start"]["on"]
    )
    assert found["layers_mend"]["label"] == "Use blocks 2 and 3 of step 2"
    step_align.redraft(VISITOR, step_align.drop_blocks)
    assert meant()["layers"] == [2, 3] and column()["start"]["on"]
    step_align.remember(VISITOR, "preset", "large")
    state.change(VISITOR, picked=[4])  # choosing others in step 2 is a way out too
    assert meant()["layers"] == [4]
    state.change(VISITOR, model={"source": "big", "blocks": 32})
    step_align.remember(VISITOR, "preset", "large")
    assert state.open_workspace(VISITOR).picked == [10, 12] and not column()["errors"]


def test_strength_is_chosen_in_three_ways_and_none_forgets_what_was_typed(home):
    assert column()["strength_part"]["way"] == "auto" and meant().get("alpha") is None
    step_align.remember(VISITOR, "strength", "alpha")
    step_align.remember(VISITOR, "alpha", "")
    assert "needs a number" in column()["errors"]["alpha"]
    step_align.remember(VISITOR, "alpha", "1.5")
    step_align.remember(VISITOR, "strength", "relative")
    assert (meant()["relative_strength"], meant().get("alpha")) == (0.3, None)
    step_align.remember(VISITOR, "strength", "alpha")
    assert (meant()["alpha"], meant().get("relative_strength")) == (1.5, None)
    step_align.reset(VISITOR, "strength")
    assert meant().get("alpha") is None and column()["changed"] == 0


def test_fields_that_mean_nothing_say_why_and_their_nonsense_does_no_harm(home):
    step_align.remember(VISITOR, "label_smoothing", "much")
    step_align.remember(VISITOR, "align_epochs", "2")
    assert "label_smoothing" in column()["errors"] and "passes" in field("align_steps")["help"]
    step_align.remember(VISITOR, "method", "dual")
    assert field("label_smoothing")["idle"] and field("positive")["idle"] and not column()["errors"]
    assert not field("align_batch")["idle"]


def test_passes_that_were_emptied_or_are_nonsense_leave_the_steps_as_they_were(home):
    for typed in ("", "many"):
        step_align.remember(VISITOR, "align_epochs", "2")
        assert field("align_steps")["idle"]
        step_align.remember(VISITOR, "align_epochs", typed)
        assert not field("align_steps")["idle"]
    assert list(column()["errors"]) == ["align_epochs"]
    assert column()["sub"] == "One setting needs a look before it can start."
    step_align.remember(VISITOR, "seed", " ")
    assert column()["errors"]["seed"] == "Seed is empty: type a whole number, such as 0."
    assert column()["sub"] == "2 settings need a look before it can start."


def test_the_methods_steps_are_stages_on_the_page_whose_own_steps_are_pairs_to_export(home):
    texts = [align_fields.label(name) for name in align_fields.known_fields()]
    texts += [one["help"] for group in column()["groups"] for one in group["fields"]]
    texts += [group["title"] + group["about"] for group in column()["groups"]]
    assert not [text for text in texts if re.search(r"[Ss]teps? [123]", text)]
    said = (
        "Step 1 taught nothing, so step 3 has nothing to fit: answers fell apart by step 2. Steps 2 and 3 use others."
    )
    told = "Stage 1 taught nothing, so stage 3 has nothing to fit: answers fell apart by step 2. Stages 2 and 3 use others."
    assert align_fields.in_page_words(said) == told
    assert align_fields.in_page_words("Choose less, or leave it on auto.") == "Choose less, or let it be calibrated."


def test_every_field_has_a_place_and_words(home):
    shown = [one["name"] for group in column()["groups"] for one in group["fields"]] + list(align_fields.MAIN)
    assert sorted(shown) == sorted({"instructions"} | set(align_fields.known_fields()) - align_fields.ELSEWHERE)
    named = [align_fields.label(name) for name in shown]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("typed", ["nonsense", "-1", "1e999", "nan", "\x00", "<b>", " ", "9" * 400])
def test_nonsense_in_any_field_is_one_sentence_or_nothing(home, typed):
    workspace = state.open_workspace(VISITOR)
    for name in align_fields.known_fields():
        _, wrong = align_form.read({name: typed}, workspace)
        assert set(wrong) <= {name}
        assert all("\n" not in text and 10 < len(text) < 400 for text in wrong.values())
        assert align_form.new_run(state.Workspace(VISITOR, settings={"align": {"draft": {name: typed}}}), [])["groups"]


# -- files -------------------------------------------------------------------------------------------------------------


def load(tmp_path, text: str | bytes):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    step_align.load_file(VISITOR, str(path))


def test_settings_survive_the_file_and_the_command_line_reads_it(home, tmp_path):
    for name, value in {
        "method": "dual",
        "align_steps": "33",
        "strength": "relative",
        "warmup": "0.25",
        "seed": "7",
    }.items():
        step_align.remember(VISITOR, name, value)
    wanted, path = meant(), step_align.saved(VISITOR)
    assert path.name == "settings.yaml"
    config = RunConfig.from_yaml(path)
    assert (config.method, config.align_steps, config.relative_strength, config.seed) == ("dual", 33, 0.3, 7)
    step_align.reset(VISITOR, "")
    assert meant() != wanted
    load(tmp_path, path.read_text())
    assert meant() == wanted
    step_align.undo(VISITOR, column()["undo"]["id"])
    assert "align_steps" not in draft()


def test_a_file_tells_nothing_of_the_server(home, tmp_path):
    secret = state.workspaces() / VISITOR / "pairs-1-ab.jsonl"
    state.change(VISITOR, pairs={"kind": "upload", "source": "x.csv", "name": "x.csv", "path": str(secret), "count": 9})
    text = step_align.saved(VISITOR).read_text()
    assert VISITOR not in text and str(state.workspaces()) not in text and "pairs: x.csv" in text
    step_align.remember(VISITOR, "align_steps", "plenty")
    with pytest.raises(UserError, match=r"were not saved\. Steps of stage 3"):
        step_align.saved(VISITOR)


def test_model_and_pairs_of_a_file_are_never_taken(home, tmp_path):
    load(tmp_path, "model: /etc\npairs: /etc/passwd\nalign_steps: 12\nlayers: [1, 5]\n")
    assert (meant()["model"], meant()["pairs"], meant()["align_steps"]) == ("demo", "demo", 12)
    assert state.open_workspace(VISITOR).picked == [1, 5]
    assert "stay as chosen on this page" in column()["note"]
    load(tmp_path, "align_steps: plenty\n")  # a value that is wrong gets its sentence at its field
    assert "whole number" in column()["errors"]["align_steps"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("align_step: 3\nfoo: 1\n", "no settings: 'align_step', 'foo'; do you mean align_steps?"),
        ("", "must hold lines"),
        ("just words", "must hold lines"),
        ("- 1\n- 2\n", "must hold lines"),
        ("a: [", "no YAML"),
        ("align_steps: !!python/object/apply:os.system ['true']\n", "no YAML|within each other|single value"),
        ("align_steps: &x [1]\nseed: *x\n", "aliases"),
        ("a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}\n", "aliases|within"),
        ("[" * 100_000, "within each other"),
        ("align_steps: " + "9" * 100_000, "400 digits"),
        ("align_steps: " + "1:" * 100_000 + "1", "400 digits"),
        ("align_steps: 0x" + "f" * 5_000, "400 digits"),
        ("model: 0b" + "1" * 20_000, "400 digits"),
        ("align_steps: {a: 1}\n", "single value"),
        ("align_steps: 2020-13-45\n", "no YAML|single value"),
        ("positive: " + "x" * 20_001, "20,000 characters"),
        (b"\xff\xfe\x00\x01", "no text"),
        (b"a: 1\n" * 60_000, "larger than 256 KB"),
    ],
)
def test_wrong_and_hostile_files_change_nothing(home, tmp_path, text, said):
    before, began = state.open_workspace(VISITOR), time.monotonic()
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert state.open_workspace(VISITOR) == before and time.monotonic() - began < 5


def test_a_run_of_another_version_can_be_copied(home):
    run = create("align", RunConfig(align_steps=21).to_dict() | {"a_setting_of_old": 3}, owner=VISITOR)
    state.change(VISITOR, run=run.id)
    step_align.copy(VISITOR)
    assert draft()["align_steps"] == 21 and "no setting a_setting_of_old: left out" in column()["note"]
    before = draft()
    for nonsense in ("", "nothing", 3, None, ["demo"]):
        step_align.remember(VISITOR, "preset", nonsense)
    assert draft() == before


def test_only_a_run_of_the_same_kind_tells_what_an_alpha_means(home):
    """A start is refused for an alpha that was measured to be too high, so it must have been measured."""
    result = {"alpha": 0.5, "relative_strength": {"2": 0.8, "3": 0.8}}
    status = {"method": "scit", "run": "scit-1", "title": "", "kind": "align", "result": result}
    like, wanted = RunConfig(layers=(2, 3)).to_dict(), {"model": "demo", "pairs": "demo", "method": "scit"}
    found = align_form.measured([(status, like)], wanted)
    assert found["mean"] == pytest.approx(1.6) and "collapses" in align_form.alpha_error(0.9, found)
    for other in (
        {"states": "completion"},
        {"foundation": "instructed"},
        {"instruct_tuning": "full"},
        {"positive": "x"},
    ):
        assert align_form.measured([(status, like | other)], wanted) is None


def test_copy_says_which_pairs_and_model_the_run_had(home):
    config = RunConfig.from_dict(
        {"model": "org/other", "pairs": "demo/brief", "align_steps": 21, "layers": [1]}
    ).to_dict()
    run = create("align", config, owner=VISITOR)
    state.change(VISITOR, run=run.id)
    step_align.copy(VISITOR)
    assert draft()["align_steps"] == 21 and meant()["model"] == "demo"
    assert (
        column()["note"]
        == "Made with model other and pairs brief: not taken over. Model and pairs stay as chosen on this page."
    )
    assert RunConfig.from_yaml(align_files.run_file(run, state.open_workspace(VISITOR))).align_steps == 21


# -- before the start --------------------------------------------------------------------------------------------------


def test_looking_at_settings_never_waits_and_skips_what_was_typed_over(home, monkeypatch):
    asked, go = [], threading.Event()

    def outcome(workspace, values):
        asked.append(values["align_steps"])
        go.wait(20)
        return align_check.nothing() | {"basis": str(values["align_steps"])}

    monkeypatch.setattr(align_check, "_desks", state.Cache(4))
    monkeypatch.setattr(align_check, "outcome", outcome)
    began = time.monotonic()
    for steps in range(10, 16):
        assert align_check.look(home, {"align_steps": steps})["working"]
    assert time.monotonic() - began < 5
    go.set()
    assert align_check.wait(home, {"align_steps": 15})["basis"] == "15"
    assert asked[-1] == 15 and len(asked) <= 2
    assert align_check.look(home, {"align_steps": 15}) == align_check.nothing() | {"basis": "15"}


def test_what_stops_a_run_switches_start_off_here_and_on_the_server(home, monkeypatch):
    stop = {"severity": "stop", "field": "dtype", "label": "Number format", "text": "There is not enough memory."}
    monkeypatch.setattr(align_check, "_desks", state.Cache(4))
    monkeypatch.setattr(align_check, "outcome", lambda workspace, values: align_check.nothing() | {"problems": [stop]})
    values = meant()
    check = align_check.wait(state.open_workspace(VISITOR), values)
    found = align_form.new_run(state.open_workspace(VISITOR), [], check | {"working": False})
    assert not found["start"]["on"] and found["start"]["text"] == "Start is off: There is not enough memory."
    with pytest.raises(UserError, match=r"not started\. There is not enough memory"):
        step_align.start(VISITOR)
    assert state.open_workspace(VISITOR).run is None


def test_a_look_that_fails_is_said_and_does_not_stop(home, monkeypatch):
    monkeypatch.setattr(align_check, "_desks", state.Cache(4))
    monkeypatch.setattr(align_check, "outcome", lambda workspace, values: 1 / 0)
    found = align_check.wait(home, meant())
    assert "could not be estimated" in found["basis"] and not found["problems"]


def test_what_a_run_took_stands_beside_what_was_estimated():
    result = {"estimated": {"seconds": 70, "memory_bytes": 1.4e9}, "peak_memory_bytes": 1.6e9}
    calibration = {
        "points": [{"alpha": 0.7, "relative_strength": 0.31}], "chosen": 0.7, "prompts": 48, "reason": "It gains most.",
        "seconds": 12,
    }  # fmt: skip
    status = {"state": "finished", "seconds": 67, "result": result | {"calibration": calibration}}
    found = align_form.of_run(status, {"method": "scit"}, align_view.Story())
    rows = {name: figure for name, figure, _ in found["facts"]}
    assert (rows["Time, estimated"], rows["Time, taken"]) == ("1 min 10 s", "1 min 07 s")
    assert (rows["Memory, estimated peak"], rows["Memory, peak"]) == ("1.40 GB", "1.60 GB")
    assert found["calibration"]["title"] == "Alpha 0.7, relative strength 0.31"
    assert found["calibration"]["reason"] == "It gains most."
