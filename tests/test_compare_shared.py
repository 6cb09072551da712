"""Step 4 where people, or tabs of one, come at once: nobody holds up the desk, no panel stays frozen, no vote counts twice."""

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from compare_setup import PROMPTS, finished, steering
from tiny import saved, tiny_model

from workbench.errors import UserError
from workbench.generation import Sampling
from workbench.runs import loading, store
from workbench.ui import (
    answers,
    compare_chat,
    compare_columns,
    compare_desk,
    compare_list,
    compare_votes,
    html,
    state,
    step_compare,
    votes,
)
from workbench.ui.page import Page

ANN, BOB = "a" * 32, "b" * 32
SHORT = Sampling(max_new_tokens=4, seed=5)
FORM = (5, 1.0, 1.0, 4)  # seed, temperature, top-p, tokens


def until(what):
    """Wait for something that threads do."""
    for _ in range(3000):
        if what():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")


def loaders():
    return [thread for thread in threading.enumerate() if thread.name == "compare-load"]


# -- the desk ----------------------------------------------------------------------------------------------------------


def test_asking_again_and_again_while_a_base_loads_holds_up_nobody():
    desk, gate, before = compare_desk.Desk(), threading.Event(), len(loaders())
    begun = []

    def work(job, loaded):
        begun.append((job, loaded))
        yield

    mine = [
        desk.ask(ANN, kind, lambda: gate.wait(60) and "model", work) for _ in range(30) for kind in ("chat", "list")
    ]
    assert len(loaders()) - before <= compare_desk.EACH
    assert all(job.done and job.dropped for job in mine[:-2]) and not any(job.done for job in mine[-2:])
    assert [job.result() for job in mine[:-2]] == [None] * 58, "whoever watched is let go of"
    desk.ask(BOB, "chat", lambda: None, work).result()
    gate.set()
    for job in mine[-2:]:
        job.result()
    until(lambda: len(loaders()) <= before)
    assert sorted((job.visitor, job.kind, loaded) for job, loaded in begun if loaded) == [
        (ANN, "chat", "model"),
        (ANN, "list", "model"),
    ], "what was asked before is not begun"


def test_stop_ends_what_is_still_loading_at_once():
    desk, gate = compare_desk.Desk(), threading.Event()
    job = desk.ask(ANN, "list", lambda: gate.wait(60), lambda job, loaded: pytest.fail("it was stopped"))
    desk.stop(ANN, "list")
    assert job.done and job.result() is None and desk.job(ANN, "list") is None
    desk.ask(ANN, "list", gate.set, lambda job, loaded: iter(())).result()


def test_what_is_asked_anew_is_let_go_of_and_cleared_away_while_a_piece_is_long():
    desk, gate, going, cleared = compare_desk.Desk(), threading.Event(), threading.Event(), []

    def work(job, loaded):
        try:
            while True:
                going.set()
                gate.wait(60)
                yield
        finally:
            cleared.append(threading.current_thread().name)

    old = desk.ask(ANN, "chat", lambda: None, work)
    assert going.wait(30)
    new = desk.ask(ANN, "chat", lambda: None, lambda job, loaded: iter(()))
    assert old.done and old.result() is None
    gate.set()
    new.result()
    assert cleared == ["compare-desk"], "hooks and adapters are touched by the desk alone"


def test_one_visitor_has_a_few_jobs_and_no_more():
    desk, gate = compare_desk.Desk(), threading.Event()
    jobs = [desk.ask(ANN, f"kind {n}", lambda: gate.wait(60), lambda job, loaded: iter(())) for n in range(3)]
    with pytest.raises(UserError, match="several things at once"):
        desk.ask(ANN, "a fourth", lambda: None, lambda job, loaded: iter(()))
    gate.set()
    for job in jobs:
        job.result()


# -- panels ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def step():
    page = Page()
    with gr.Blocks():
        page.error, page.busy, page.context, page.steps, page.live = (
            *(gr.HTML() for _ in range(4)), gr.Timer(active=False),
        )  # fmt: skip
        return step_compare.Step(page)


@pytest.fixture
def run(tmp_path):
    """A finished run of a tiny model, with a direction to steer along."""
    from safetensors.torch import save_file

    made = finished(tmp_path, saved(tmp_path, tiny_model()), 1)
    save_file({"1": steering().vectors[1]}, made.path / "steering.safetensors")
    made.write_status(layers=[1], alpha=1.5)
    return made


@pytest.fixture
def broken(monkeypatch):
    def fail(run):
        raise UserError("The base is gone.")

    monkeypatch.setattr(answers, "base_for", fail)


def test_a_list_that_fails_is_at_rest_again(step, run, broken):
    shown, asking = [], step._answer_list(ANN, run, list(PROMPTS), "", FORM)
    with pytest.raises(UserError, match="base is gone"):
        shown.extend(asking)
    assert shown and not shown[-1][step.stop_list].visible and shown[-1][step.six].visible


def test_a_vote_whose_answers_fail_can_be_asked_for_again(step, run, broken, monkeypatch):
    monkeypatch.setattr(answers, "held_out_prompts", lambda run: list(PROMPTS))
    drawn = []
    monkeypatch.setattr(html, "value", lambda data: drawn.append(data))
    with pytest.raises(UserError, match="base is gone"):
        list(step.votes.pressed(ANN, {"action": "prepare"}, run.id, *FORM))
    assert [one["more"]["off"] for one in drawn] == [True, False]


def test_a_tab_whose_list_was_asked_anew_elsewhere_follows_that_one(step, run, monkeypatch):
    gate, plain = threading.Event(), compare_columns.ready
    monkeypatch.setattr(compare_columns, "ready", lambda *wanted: gate.wait(60) and plain(*wanted))
    tab = step._answer_list(ANN, run, [PROMPTS[0]], "", FORM)
    assert next(tab)[step.stop_list].visible
    other = compare_list.ask(ANN, run, list(PROMPTS), "", SHORT)
    *_, last = tab
    assert last[step.stop_list].visible and last[step.timer].active, "it shows the other tab's work"
    seen = step.watch(ANN, run.id, None)
    assert step.many in seen and step.answers in seen
    assert step.watch(ANN, run.id, seen[step.seen]) == {}, "nothing is sent while nothing changes"
    gate.set()
    other.result()
    until(lambda: compare_desk.desk.job(ANN, "list") is None)
    rest = step.watch(ANN, run.id, seen[step.seen])
    assert not rest[step.timer].active and not rest[step.stop_list].visible


def test_looking_at_what_is_written_reads_the_runs_once(step, run, monkeypatch):
    gate, going = threading.Event(), threading.Event()

    def work(job, loaded):
        going.set()
        gate.wait(60)
        yield

    columns = compare_columns.columns_of(state.open_workspace(ANN), run)
    chat = {"columns": columns, "names": ["Base", "run"], "turns": [], "marks": None, "live": "Answering"}
    job = compare_desk.desk.ask(ANN, "chat", lambda: None, work)
    assert going.wait(30)
    looked, plain = [], compare_columns.choices
    monkeypatch.setattr(compare_columns, "choices", lambda *wanted: looked.append(1) or plain(*wanted))
    seen = None
    for _ in range(4):
        job.show(chat)
        shown = step.watch(ANN, run.id, seen)
        assert step.answers in shown and (step.many in shown) == (seen is None), "only what has changed is sent"
        seen = shown[step.seen]
    assert len(looked) == 1
    gate.set()
    job.result()


def test_settings_of_runs_are_read_again_only_when_they_change(tmp_path, run, monkeypatch):
    other = store.create("align", run.config())
    assert compare_columns.same_base(run, other)
    read = []
    plain = store.Run.config
    monkeypatch.setattr(store.Run, "config", lambda self: read.append(self.id) or plain(self))
    assert compare_columns.same_base(run, other) and read == []
    (other.path / "made_of.json").write_text(json.dumps({"model": "other weights", "dtype": "bfloat16"}))
    assert not compare_columns.same_base(run, other) and set(read) == {other.id}


# -- nothing loads on the desk -----------------------------------------------------------------------------------------


def test_models_axes_and_directions_are_loaded_beside_the_desk(run, monkeypatch):
    monkeypatch.setattr(answers, "held_out_prompts", lambda run: list(PROMPTS))
    where = []
    for module, name in ((answers, "base_for"), (answers, "axes_for"), (loading, "steering_of")):
        plain = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda *given, plain=plain, name=name: (
                where.append((name, threading.current_thread().name)) or plain(*given)
            ),
        )
    steered = [{"kind": "base"}, {"kind": "steer", "run": run.id, "alpha": 2.0}]
    state.keep_setting(ANN, compare_columns=steered)
    compare_chat.ask(ANN, run, PROMPTS[0], SHORT).result()
    compare_list.ask(ANN, run, list(PROMPTS), "", SHORT).result()
    compare_votes.prepare(ANN, run, compare_votes.Pair.of(ANN, run), SHORT).result()
    assert {name for name, _ in where} == {"base_for", "axes_for", "steering_of"}
    assert {thread for _, thread in where} == {"compare-load"}
    assert [name for name, _ in where].count("steering_of") == 1, "directions are read once"
    assert answers.steering_for(run, -0.5).alpha == -0.5


def test_bases_load_one_at_a_time(tmp_path, run, monkeypatch):
    (tmp_path / "other").mkdir()
    other = finished(tmp_path, saved(tmp_path / "other", tiny_model(seed=9)), 1)
    at_once, most = [0], [0]
    plain = loading.need_memory

    def slow(**named):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        threading.Event().wait(0.1)
        at_once[0] -= 1
        plain(**named)

    monkeypatch.setattr(loading, "need_memory", slow)
    answers._bases.clear()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(answers.base_for, (run, other))
    assert most == [1] and first.fingerprint != second.fingerprint


def test_who_answers_is_counted_only_as_long_as_they_do(run):
    loaded = answers.base_for(run)
    speaker = answers.adapter_of(loaded, run)
    before = dict(answers._in_use)
    with answers.using(loaded, [speaker]), answers.using(loaded, [speaker]):
        assert answers._in_use[(id(loaded), speaker.adapter)] == 2
    assert dict(answers._in_use) == before


# -- votes -------------------------------------------------------------------------------------------------------------


def test_a_vote_that_is_sent_several_times_at_once_counts_once(tmp_path, monkeypatch):
    votes.add_answers(tmp_path, ["one", "two"], ["x", "x"], ["y", "y"], ANN)
    together, plain = threading.Barrier(4, timeout=1.0), votes.append

    def slow(path, items):
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait()  # all have looked before the first is written
        plain(path, items)

    monkeypatch.setattr(votes, "append", slow)
    ballot = votes.next_ballot(tmp_path, ANN)["id"]

    def send(_):
        try:
            return votes.cast(tmp_path, ANN, ballot, "a")
        except UserError:
            return None

    with ThreadPoolExecutor(4) as pool:
        meant = list(pool.map(send, range(4)))
    assert len([one for one in meant if one]) == 1 and len(votes.lines(tmp_path / "votes.jsonl")) == 1


def test_of_votes_that_an_older_version_counted_twice_the_first_stands(tmp_path):
    line = {"id": "x", "voter": votes.voter(ANN), "vote": "tie", "prompt": "p", "base": "a", "aligned": "b"}
    without = {key: value for key, value in line.items() if key != "id"}
    kept = [line, line | {"vote": "base"}, without, without]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
    assert votes.votes_of(tmp_path, ANN) == [line, without, without]


def test_what_the_browser_knows_does_not_tell_the_sides(tmp_path):
    count = 200
    prompts = [f"prompt {n}" for n in range(count)]
    votes.add_answers(tmp_path, prompts, ["the base"] * count, ["the aligned"] * count, ANN)
    guessed = 0
    while ballot := votes.next_ballot(tmp_path, ANN):
        assert set(ballot) == {"id", "prompt", "a", "b"} and votes.next_ballot(tmp_path, ANN) == ballot
        guess = votes.aligned_first(ANN, ballot["id"])
        guessed += guess == (ballot["a"] == "the aligned")
        meant = votes.cast(tmp_path, ANN, ballot["id"], "a")
        assert ballot["a"] == f"the {meant}"
    assert 0.25 * count < guessed < 0.75 * count
    assert "salt" not in (tmp_path / "votes.jsonl").read_text()


def test_answers_of_older_files_keep_their_sides(tmp_path):
    old = {"prompt": "p", "base": "the base", "aligned": "the aligned"}
    (tmp_path / "blind.jsonl").write_text(json.dumps(old) + "\n")
    ballot = votes.next_ballot(tmp_path, ANN)
    assert (ballot["a"] == "the aligned") == votes.aligned_first(ANN, ballot["id"])


def test_without_luck_what_the_list_shows_by_name_is_not_voted_on(run, monkeypatch):
    held = [*PROMPTS, "another one?"]
    monkeypatch.setattr(answers, "held_out_prompts", lambda run: held)
    greedy = Sampling(temperature=0.0, max_new_tokens=4)
    compare_list.ask(ANN, run, list(PROMPTS), "", greedy).result()
    pair = compare_votes.Pair.of(ANN, run)
    kept = []
    monkeypatch.setattr(votes, "add_answers", lambda folder, prompts, *_: kept.append(prompts) or len(prompts))
    assert compare_votes.prepare(ANN, run, pair, greedy).result() == 1 and kept == [["another one?"]]
    assert compare_votes.prepare(ANN, run, pair, SHORT).result() == 3 and set(kept[1]) == set(PROMPTS)
    held.pop()
    with pytest.raises(UserError, match="raise the temperature"):
        compare_votes.prepare(ANN, run, pair, greedy)


def test_answers_asked_for_anew_in_another_tab_are_not_said_to_be_equal(step, run, monkeypatch):
    gate, plain = threading.Event(), compare_columns.ready
    monkeypatch.setattr(answers, "held_out_prompts", lambda run: list(PROMPTS))
    monkeypatch.setattr(compare_columns, "ready", lambda *given, **more: gate.wait(60) and plain(*given, **more))
    drawn = []
    monkeypatch.setattr(html, "value", lambda data: drawn.append(data))
    tab = step.votes.pressed(ANN, {"action": "prepare"}, run.id, *FORM)
    next(tab)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, tab)
        until(lambda: compare_desk.desk.job(ANN, "votes"))
        other = compare_votes.prepare(ANN, run, compare_votes.Pair.of(ANN, run), SHORT)
        (last,) = rest.result(60)
    assert drawn[-1]["said"] is None and drawn[-1]["more"]["off"] and last[step.timer].active
    gate.set()
    other.result()
