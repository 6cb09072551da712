"""Step 4 without widgets: visitors who share a machine, chats, columns, lists of prompts and blind votes."""

import csv
import json
import re
import threading

import numpy as np
import pytest
import torch
from compare_setup import PROMPTS, SAMPLING, finished, steering, with_adapter
from tiny import saved, tiny_model

from workbench.errors import UserError
from workbench.generation import Row, Sampling, Speaker, answer_rows, answer_together, generate
from workbench.models import load_model
from workbench.reading import token_logprobs
from workbench.runs import loading
from workbench.ui import (
    answers,
    compare_chat,
    compare_columns,
    compare_desk,
    compare_list,
    compare_marks,
    compare_view,
    compare_votes,
    compare_words,
    state,
    votes,
)

# -- the desk ----------------------------------------------------------------------------------------------------------

ANN, BOB = "a" * 32, "b" * 32


class Clock:
    """Seconds that pass only when somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def at_once(costs, log, clock):
    """Two visitors whose work lies on the desk before the first piece is done; pieces take the given seconds."""
    desk, gate, jobs = compare_desk.Desk(clock), threading.Event(), []

    def work(name, cost, count):
        def pieces(job, loaded):
            for _ in range(count):
                gate.wait(30)
                clock.now += cost
                log.append(name)
                yield

        return pieces

    for name, (cost, count) in costs.items():
        jobs.append(desk.ask(name, "chat", lambda: None, work(name, cost, count)))
    for job in jobs:
        for _ in range(3000):
            if job.work is not None:
                break
            threading.Event().wait(0.01)
    gate.set()
    for job in jobs:
        job.result()
    return jobs


@pytest.mark.parametrize("costs", [(1.0, 1.0), (1.0, 8.0), (8.0, 1.0)])
def test_of_two_who_ask_at_once_each_waits_at_most_twice_as_long_as_alone(costs):
    log, clock = [], Clock()
    work = {ANN: (costs[0], 40), BOB: (costs[1], 40)}
    at_once(work, log, clock)
    alone = {name: cost * count for name, (cost, count) in work.items()}
    for name, other in ((ANN, BOB), (BOB, ANN)):
        end = len(log) - log[::-1].index(name)
        took = sum(work[who][0] for who in log[:end])
        assert took <= 2 * alone[name] + work[other][0], "one piece of the other may be under way"
    assert log.count(ANN) == log.count(BOB) == 40


def test_who_comes_late_is_not_made_to_wait_for_what_others_had_before():
    clock, log, come, ready = Clock(), [], threading.Event(), threading.Event()
    desk = compare_desk.Desk(clock)

    def pieces(name, count):
        def work(job, loaded):
            for at in range(count):
                if (name, at) == (ANN, 20):
                    come.set()
                    ready.wait(30)
                clock.now += 1.0
                log.append(name)
                yield

        return work

    first = desk.ask(ANN, "chat", lambda: None, pieces(ANN, 60))
    assert come.wait(30)
    late = desk.ask(BOB, "chat", ready.set, pieces(BOB, 5))
    late.result()
    first.result()
    start, end = log.index(BOB), len(log) - log[::-1].index(BOB)
    assert log[start:end].count(ANN) <= 5


def test_asking_anew_ends_what_was_asked_before_and_failures_are_handed_over():
    desk, going = compare_desk.Desk(), threading.Event()

    def endless(job, loaded):
        while not job.stopping:
            going.set()
            yield

    def failing(job, loaded):
        yield
        raise UserError("no")

    old = desk.ask(ANN, "chat", lambda: None, endless)
    assert going.wait(30) and desk.job(ANN, "chat") is old and desk.job(BOB, "chat") is None
    new = desk.ask(ANN, "chat", lambda: None, failing)
    with pytest.raises(UserError, match="no"):
        new.result()
    old.result()
    assert old.dropped and desk.job(ANN, "chat") is None
    broken = desk.ask(ANN, "chat", lambda: 1 / 0, endless)
    with pytest.raises(ZeroDivisionError):
        broken.result()


def test_too_many_at_once_are_told(monkeypatch):
    monkeypatch.setattr(compare_desk, "MOST", 1)
    desk, go = compare_desk.Desk(), threading.Event()
    job = desk.ask(ANN, "chat", lambda: go.wait(30), lambda job, loaded: iter(()))
    with pytest.raises(UserError, match="Many people"):
        desk.ask(BOB, "chat", lambda: None, lambda job, loaded: iter(()))
    go.set()
    job.result()


# -- turns in the model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_answers_that_take_turns_token_by_token_are_those_given_alone(family):
    loaded = with_adapter(with_adapter(tiny_model(family), "one", 1), "two", 2)
    wanted = [
        [Row(PROMPTS[0], Speaker()), Row(PROMPTS[0], Speaker("one"))],
        [
            Row(PROMPTS[1], Speaker()),
            Row(PROMPTS[1], Speaker("two", "be kind")),
            Row(PROMPTS[1], Speaker(None, None, steering())),
        ],
        [Row(PROMPTS[2], Speaker())],
    ]
    plain = [
        generate(tiny_model(family), [rows[0].prompt], SAMPLING)[0].ids for rows in wanted
    ]  # every first row is the base
    alone = []
    for rows in wanted:
        *_, last = answer_rows(loaded, rows, SAMPLING)
        alone.append([answer.ids for answer in last])
    going = [answer_rows(loaded, rows, SAMPLING) for rows in wanted]
    said = [None] * len(wanted)
    while any(going):
        for place, steps in enumerate(going):
            now = next(steps, None) if steps else None
            said[place] = now or said[place]
            going[place] = steps if now else None
    assert [[answer.ids for answer in rows] for rows in said] == alone
    assert [rows[0] for rows in alone] == plain


def test_full_fine_tunings_take_turns_too():
    from workbench.rahf.adapters import add_full

    loaded = tiny_model()
    add_full(loaded, "full")
    for tensor in loaded.tuned.state("full").values():
        tensor.add_(0.05 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(4)))
    loaded.tuned.settle("full")
    plain = [answer.ids for answer in generate(tiny_model(), PROMPTS, SAMPLING)]
    both = [answer_together(loaded, PROMPTS, SAMPLING, speakers) for speakers in ([Speaker("full")], [Speaker()])]
    *_, (full, base) = zip(*both, strict=False)
    assert [answer.ids for answer in base[0]] == plain != [answer.ids for answer in full[0]]


# -- two visitors ------------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path):
    """Two finished runs of one tiny model, which both visitors may see; steering beside the first."""
    from safetensors.torch import save_file

    settings = saved(tmp_path, tiny_model())
    found = [finished(tmp_path, settings, seed) for seed in (1, 2)]
    save_file({"1": steering().vectors[1]}, found[0].path / "steering.safetensors")
    for run in found:
        run.write_status(layers=[1], alpha=1.5)
    return found


def columns(visitor, *wanted):
    state.keep_setting(visitor, compare_columns=list(wanted))


BASE, LONG = {"kind": "base"}, Sampling(max_new_tokens=24, seed=5)


def test_the_base_column_is_the_model_without_adapter_while_others_ask_other_things(runs):
    columns(ANN, BASE, {"kind": "run", "run": runs[0].id})
    columns(
        BOB,
        {"kind": "steer", "run": runs[0].id, "alpha": 2.0},
        BASE,
        {"kind": "run", "run": runs[1].id},
        {"kind": "prompted", "text": "be kind"},
    )
    plain = load_model(runs[0].config()["model"])
    for seed in (5, 6):
        drawn = Sampling(max_new_tokens=24, seed=seed)
        jobs = [compare_chat.ask(who, runs[0], text, drawn) for who, text in ((ANN, PROMPTS[0]), (BOB, PROMPTS[1]))]
        said = [[one["ids"] for one in job.result()["turns"][0]["answers"]] for job in jobs]
        assert said[0][0] == generate(plain, [PROMPTS[0]], drawn)[0].ids != said[0][1]
        assert said[1][1] == generate(plain, [PROMPTS[1]], drawn)[0].ids
        alone = loading.load_run(runs[1])
        assert said[1][2] == generate(alone, [PROMPTS[1]], drawn, adapter=loading.ALIGNED)[0].ids
        assert said[1][3] == generate(plain, [PROMPTS[1]], drawn, instruction="be kind")[0].ids
        assert said[1][0] != said[1][1]


def test_nobody_sees_what_another_asked(runs):
    secret = "the secret of ann"
    compare_chat.ask(ANN, runs[0], secret, LONG).result()
    compare_list.ask(ANN, runs[0], [secret], "", LONG).result()
    pair = compare_votes.Pair.of(ANN, runs[0])
    compare_votes.prepare(ANN, runs[0], pair, LONG).result()
    mine, theirs = (state.open_workspace(who) for who in (ANN, BOB))
    assert votes.next_ballot(runs[0].path, ANN, pair.ids)["prompt"] == secret
    assert votes.next_ballot(runs[0].path, BOB, pair.ids) is None
    shown = [compare_chat.open_chat(theirs), compare_list.open_list(theirs)]
    assert secret not in json.dumps(shown) and secret in json.dumps(compare_chat.open_chat(mine))
    assert ANN not in (runs[0].path / "blind.jsonl").read_text()


# -- the chat ----------------------------------------------------------------------------------------------------------


def test_a_reply_goes_to_every_column_with_its_own_history(runs):
    columns(ANN, BASE, {"kind": "run", "run": runs[0].id})
    first = compare_chat.ask(ANN, runs[0], PROMPTS[0], LONG).result()["turns"][0]["answers"]
    chat = compare_chat.reply(ANN, runs[0], " and then? ", LONG).result()
    assert [turn["user"] for turn in chat["turns"]] == [PROMPTS[0], "and then?"]
    for place, speaker in enumerate((Speaker(), Speaker("aligned"))):
        history = [
            {"role": "user", "content": PROMPTS[0]},
            {"role": "assistant", "content": first[place]["text"]},
            {"role": "user", "content": "and then?"},
        ]
        *_, last = answer_rows(loading.load_run(runs[0]), [Row(history, speaker, 1)], LONG)
        assert chat["turns"][1]["answers"][place]["ids"] == last[0].ids
    assert compare_chat.open_chat(state.open_workspace(ANN)) == json.loads(json.dumps(chat)), "a reload finds it"
    same = compare_chat.again(ANN, runs[0], next_seed=False).result()
    assert same["turns"][1]["answers"][1]["ids"] == chat["turns"][1]["answers"][1]["ids"]
    other = compare_chat.again(ANN, runs[0], next_seed=True).result()
    assert other["turns"][1]["sampling"]["seed"] == LONG.seed + 1
    assert other["turns"][1]["answers"][1]["ids"] != chat["turns"][1]["answers"][1]["ids"]
    compare_chat.clear(ANN)
    assert compare_chat.open_chat(state.open_workspace(ANN))["turns"] == []
    with pytest.raises(UserError, match="ask first"):
        compare_chat.reply(ANN, runs[0], "more", LONG)


def test_what_does_not_fit_the_context_is_said(runs):
    said = compare_chat.ask(ANN, runs[0], "a lazy dog. " * 200, LONG).result()["turns"][0]["answers"]
    assert all(one["cut"] for one in said) and "left out" in compare_view.below(said[0])
    assert not compare_chat.ask(ANN, runs[0], "hi", LONG).result()["turns"][0]["answers"][0]["cut"]


@pytest.mark.parametrize("text", ["", "  ", None, "x" * 5000])
def test_a_message_that_is_none_is_refused(runs, text):
    with pytest.raises(UserError):
        compare_chat.ask(ANN, runs[0], text, LONG)


def test_marks_tell_where_an_answer_parts_and_how_likely_that_was(runs):
    columns(ANN, {"kind": "run", "run": runs[0].id}, BASE)
    chat = compare_chat.ask(ANN, runs[0], PROMPTS[0], LONG).result()
    aligned, base = chat["turns"][0]["answers"]
    marks = chat["marks"]
    place = compare_marks.parting(base["ids"], aligned["ids"])
    assert (
        marks[0]["parts"] == place is not None
        and marks[1]["parts"] is None
        and compare_marks.reference_of(chat["columns"]) == 1
    )
    assert "".join(marks[0]["pieces"]) == aligned["text"]
    loaded = loading.load_run(runs[0])
    for mark, said, own in ((marks[0], aligned, Speaker("aligned")), (marks[1], base, Speaker())):
        other = Speaker() if own.adapter else Speaker("aligned")
        for key, speaker in (("own", own), ("other", other)):
            slow = token_logprobs(loaded, [PROMPTS[0]], [said["ids"]], speaker, LONG)[0]
            np.testing.assert_allclose(mark[key], slow, atol=2e-3)
    assert re.search(
        r"token \d+, .*probability [\d.e-]+ here, [\d.e-]+ under Base", compare_view.parting(marks[0], "X", "Base")
    )
    assert compare_marks.parting([1, 2], [1, 2]) is None and compare_marks.parting([1, 2, 3], [1, 2]) == 2


def test_words_that_the_reference_lacks_are_found():
    def marked(old, new):
        return [new[start:end] for start, end in compare_words.differing(old, new)]

    assert marked("It is Venus, and so on.", "It is Mercury, and so on.") == ["Mercury"]
    assert marked("a b", "a b") == [] and marked("", "all new.") == ["all new."]
    assert compare_words.differing("w " * 900, "v") is None


# -- columns -----------------------------------------------------------------------------------------------------------


def test_columns_are_added_chosen_and_taken_away(runs, tmp_path):
    workspace = state.open_workspace(ANN)
    now = compare_columns.columns_of(workspace, runs[0])
    assert now == [BASE, {"kind": "run", "run": runs[0].id}]
    now = compare_columns.changed(workspace, runs[0], now, {"action": "add-column"})
    now = compare_columns.changed(workspace, runs[0], now, {"action": "add-column"})
    assert [column["kind"] for column in now] == ["base", "run", "prompted", "steer"]
    assert now[3]["alpha"] == 1.5 and "not measured" in compare_columns.strength_text(runs[0], 1.5)
    runs[0].write_status(result={"relative_strength": {"1": 0.3}})
    assert compare_columns.strength_text(runs[0], 0.75) == "relative strength 0.15"
    now = compare_columns.changed(workspace, runs[0], now, {"action": "set-alpha", "at": 3, "value": "-0.5"})
    now = compare_columns.changed(workspace, runs[0], now, {"action": "set-text", "at": "2", "value": " be kind "})
    now = compare_columns.changed(
        workspace, runs[0], now, {"action": "choose-column", "at": 1, "value": f"run:{runs[1].id}"}
    )
    assert [now[3]["alpha"], now[2]["text"], now[1]["run"]] == [-0.5, "be kind", runs[1].id]
    looks = compare_columns.look_of(now)
    assert [(one["who"], one["line"]) for one in looks] == [
        ("base", "solid"), ("aligned", "solid"), ("base", "dashed"), ("aligned", "dashed"),
    ]  # fmt: skip
    assert len(set(compare_columns.names(workspace, [*now, now[1]]))) == 5, "columns of one name get a number"
    for sent in (
        {"action": "add-column"},
        {"action": "remove-column", "at": 9},
        {"action": "set-alpha", "at": 3, "value": "nan"},
        {"action": "set-text", "at": 2, "value": "x" * 2000},
        {"action": "set-text", "at": 0, "value": "x"},
        {"action": "choose-column", "at": 0, "value": "run:../../etc"},
        {"action": "choose-column", "at": 0, "value": None},
        {"action": None},
    ):
        with pytest.raises(UserError):
            compare_columns.changed(workspace, runs[0], now, sent)
    left = compare_columns.changed(workspace, runs[0], now[:3], {"action": "remove-column", "at": 0})
    with pytest.raises(UserError, match="at least"):
        compare_columns.changed(workspace, runs[0], left, {"action": "remove-column", "at": 0})


def test_runs_of_another_base_are_refused_with_a_sentence(runs, tmp_path):
    (tmp_path / "other").mkdir()
    other = finished(tmp_path, saved(tmp_path / "other", tiny_model(seed=9)), 1)
    sent = {"action": "choose-column", "at": 1, "value": f"run:{other.id}"}
    with pytest.raises(UserError, match="another base model"):
        compare_columns.changed(state.open_workspace(ANN), runs[0], [BASE, BASE], sent)


def test_a_column_that_changes_loses_its_answer_and_the_others_keep_theirs(runs):
    before = [BASE, {"kind": "run", "run": runs[0].id}]
    columns(ANN, *before)
    chat = compare_chat.ask(ANN, runs[0], PROMPTS[0], LONG).result()
    now = [BASE, {"kind": "run", "run": runs[1].id}, before[1]]
    moved = compare_chat.columns_changed(ANN, before, now)["turns"][0]["answers"]
    assert (
        moved[0] == chat["turns"][0]["answers"][0] and moved[1] is None and moved[2] == chat["turns"][0]["answers"][1]
    )


# -- lists -------------------------------------------------------------------------------------------------------------


def test_a_list_answers_every_prompt_by_every_column_whatever_the_batch(runs, monkeypatch):
    columns(ANN, BASE, {"kind": "run", "run": runs[0].id})
    prompts = [*PROMPTS, [{"role": "user", "content": "hi"}], "=1+1"]
    whole = compare_list.ask(ANN, runs[0], prompts, "a note", LONG).result()
    assert [row["prompt"] for row in whole["rows"]] == prompts and whole["note"] == "a note"
    monkeypatch.setattr(compare_list, "ROWS", 4)
    small = compare_list.ask(ANN, runs[0], prompts, "", LONG).result()
    for one, other in zip(whole["rows"], small["rows"], strict=True):
        assert [said["ids"] for said in one["answers"]] == [said["ids"] for said in other["answers"]]
    base = [row["answers"][0]["ids"] for row in whole["rows"]]
    assert base == [answer.ids for answer in generate(load_model(runs[0].config()["model"]), prompts, LONG)]
    rows = [json.loads(line) for line in compare_list.write_file(ANN, "jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == prompts and rows[0]["answers"][0]["column"] == "Base"
    with compare_list.write_file(ANN, "csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0][:2] == ["prompt", "Base"] and table[5][0] == "'=1+1" and len(table) == 6
    opened = compare_chat.show_row(ANN, runs[0], small["columns"], small["rows"][3], small["sampling"]).result()
    assert opened["turns"][0]["answers"][0]["text"] == small["rows"][3]["answers"][0]["text"] and opened["marks"]
    view = compare_view.many(small, compare_columns.look_of(small["columns"]))
    assert len(view["rows"]) == 5 and view["rows"][3]["prompt"] == "hi"


def test_a_list_that_is_stopped_keeps_what_is_there(runs):
    job = compare_list.ask(ANN, runs[0], [f"number {i}?" for i in range(120)], "", LONG)
    for shown in job.watch(0.0):
        if shown.get("done"):
            compare_desk.desk.stop(ANN, compare_list.KIND)
    kept = compare_list.open_list(state.open_workspace(ANN))
    assert 0 < len(kept["rows"]) < 120 and kept["note"].startswith("Stopped after")
    with pytest.raises(UserError, match="no answers"):
        compare_list.write_file(BOB, "csv")


def test_typed_prompts_are_bounded():
    assert compare_list.typed("a\n\n b ") == (["a", "b"], "")
    many, note = compare_list.typed("\n".join(map(str, range(300))))
    assert len(many) == 200 and "first 200" in note
    with pytest.raises(UserError):
        compare_list.typed(" \n")


# -- votes -------------------------------------------------------------------------------------------------------------


def test_four_outcomes_add_up_and_become_pairs_that_step_1_reads(tmp_path, runs):
    folder, ids = runs[0].path, ("Base", "other-run")
    prompts = [f"prompt {i}" for i in range(6)]
    votes.add_answers(folder, prompts, [f"bad {i}" for i in range(6)], [f"a good one {i}" for i in range(6)], ANN, ids)
    meant = []
    for choice in ("good", "good", "bad", "t", "x", "good"):
        ballot = votes.next_ballot(folder, ANN, ids)
        assert set(ballot) == {"id", "prompt", "a", "b"} and "other-run" not in json.dumps(ballot)
        key = choice if len(choice) == 1 else "a" if choice in ballot["a"] else "b"
        meant.append(votes.cast(folder, ANN, ballot["id"], key, ids))
        with pytest.raises(UserError, match="counted already"):
            votes.cast(folder, ANN, ballot["id"], key, ids)
    assert meant == ["aligned", "aligned", "base", "tie", "neither", "aligned"]
    cast = votes.votes_of(folder, ANN, ids)
    view = compare_view.blind(None, cast, name="the other")
    assert view["tally"]["title"] == "3 of 6 votes for the other, 1 tie, 1 both bad"
    assert view["tally"]["text"].startswith("0.67 [") and view["tally"]["even"].startswith("At equal length 0.")
    assert not (folder / "votes.jsonl").exists(), "the run itself was not voted on"
    assert votes.votes_of(folder, ANN, votes.NAMES) == [] and votes.votes_of(folder, BOB) == []
    pairs, left_out = votes.as_pairs(cast)
    assert len(pairs) == 4 and left_out == 2
    assert sum("good" in pair["chosen"] for pair in pairs) == 3 and sum("bad" in pair["chosen"] for pair in pairs) == 1
    path = compare_votes.votes_file(ANN, runs[0].id)
    from workbench.pairs import load_pairs

    read = load_pairs(str(path))
    assert len(read) == 4 and read.report.dropped == {}
    with pytest.raises(UserError, match="no votes yet"):
        compare_votes.votes_file(BOB, runs[0].id)


def test_votes_of_older_files_still_count(tmp_path):
    old = {
        "id": "x",
        "voter": votes.voter(ANN),
        "vote": "tie",
        "time": 1.0,
        "prompt": "p",
        "base": "one",
        "aligned": "other",
    }
    (tmp_path / "votes.jsonl").write_text(json.dumps(old) + "\n")
    assert votes.votes_of(tmp_path, ANN, votes.NAMES) == [old]
    assert votes.running([old])["outcomes"] == [0.5] and votes.as_pairs([old]) == ([], 1)


def test_the_pair_that_is_voted_on_is_the_reference_and_another_column(runs):
    wanted = [{"kind": "prompted", "text": "be kind"}, BASE, {"kind": "run", "run": runs[0].id}]
    pair = compare_votes.Pair(wanted, ["p", "Base", "run"], "", runs[0])
    assert pair.names == ["Base", "p"] and len(pair.choices) == 3
    assert compare_votes.Pair(wanted, ["p", "Base", "run"], "1-2", runs[0]).ids == votes.NAMES


def test_adapters_that_nobody_uses_are_let_go_of(runs, monkeypatch):
    monkeypatch.setattr(answers, "ADAPTERS", 1)
    loaded = answers.base_for(runs[0])
    assert answers.base_for(runs[1]) is loaded, "one base for all its runs"
    speakers = [answers.adapter_of(loaded, run) for run in runs]
    with answers.using(loaded, speakers[:1]):
        with answers.using(loaded, speakers[1:]):
            pass
        assert list(loaded.model.peft_config) == [speakers[0].adapter]
    assert answers.adapter_of(loaded, runs[1]).adapter in loaded.model.peft_config


def test_of_a_deep_model_only_one_block_s_scores_are_sent(monkeypatch):
    columns = [BASE, {"kind": "prompted", "text": "be kind"}]
    answer = {"text": "a b", "ids": [1, 2], "seconds": 0.5, "ended": True, "stopped": False, "cut": False}
    mark = {"pieces": ["a", " b"], "prefs": [[0.1, 0.2], [0.3, 0.4]], "own": [-1.0, -2.0], "other": [-2.0, -1.0]}
    marks = [mark | {"against": 1, "parts": None}, mark | {"against": 0, "parts": 1}]
    turn = {"user": "hi", "sampling": {"seed": 7}, "answers": [answer, answer]}
    said = {"columns": columns, "names": [], "turns": [turn], "marks": marks}
    drawn = [{"name": "Base"}, {"name": "Base under p+"}]
    view = compare_view.chat(said, drawn, [], 1)
    assert view["panes"][0]["prefs"] == mark["prefs"] and view["blocks"] == 2
    assert view["panes"][0]["note"] == "2 tokens, 4 a second, seed 7"
    assert "at token 2, \N{LEFT DOUBLE QUOTATION MARK}b" in view["panes"][1]["parting"]
    monkeypatch.setattr(compare_view, "MOST_SENT", 7)
    assert compare_view.chat(said, drawn, [], 1)["panes"][1]["prefs"] == {"1": [0.3, 0.4]}
