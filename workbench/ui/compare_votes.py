"""Step 4's blind vote: two of the columns, answers without names, the running win rate, and the votes as new pairs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import (
    answers,
    compare_columns,
    compare_list,
    compare_marks,
    compare_runs,
    compare_view,
    html,
    state,
    votes,
)
from workbench.ui.compare_desk import Job, desk
from workbench.ui.compare_draw import draw
from workbench.ui.page import Page

if TYPE_CHECKING:
    from workbench.runs.store import Run

TOGETHER = 6  # pairs of answers prepared at once
KIND = "votes"  # of a job
GPU = {"concurrency_id": "compare-votes", "concurrency_limit": 8, "trigger_mode": "multiple"}


class Panel:
    """The vote and the buttons below it."""

    def __init__(self, page: Page, run: gr.Dropdown, sampling: list[gr.Number], timer: gr.Timer) -> None:
        self.timer = timer  # that looks at what is at work
        with gr.Column(elem_classes="rw-panel", elem_id="rw-blind-panel", min_width=0):
            self.view = html.view("compare-blind", elem_id="rw-compare-blind")
            with gr.Row(elem_classes="rw-acts rw-takes"):
                self.take = gr.Button("Votes as pairs", elem_classes="rw-sm i-download", elem_id="rw-take-votes")
                self.use = gr.Button("Use in step 1", elem_classes="rw-sm i-arrow", elem_id="rw-use-votes")
            page.download(self.take.click, votes_file, run)
        self.parts = [self.view]
        page.on(self.view.select, self.pressed, [run, *sampling], [self.view, timer], event=True, **GPU)
        page.go(page.on(self.use.click, self.use_pairs, run, refresh=True, busy="Taking your votes as pairs"), "pairs")

    def updates(self, visitor: str, run: Run) -> dict[Any, Any]:
        """The panel as it stands now."""
        return {self.view: html.value(self._drawn(visitor, run))}

    def pressed(self, visitor: str, sent: dict, run_id: str, *sampling: Any) -> Iterator[dict[Any, Any]]:
        """A vote, two other columns, or new answers to vote on."""
        run = compare_runs.finished(visitor, run_id)
        action, said = sent.get("action"), None
        if action == "pair":
            state.keep_setting(visitor, compare_vote=str(sent.get("value") or "")[:16])
        pair = Pair.of(visitor, run)
        if action == "vote":
            meant = votes.cast(run.path, visitor, str(sent.get("ballot")), str(sent.get("vote")), pair.ids)
            said = _told(meant, pair)
        ballot = votes.next_ballot(run.path, visitor, pair.ids)
        if ballot is None and action in ("vote", "prepare"):
            yield {self.view: html.value(self._drawn(visitor, run, said, busy=True))}
            try:
                kept = prepare(visitor, run, pair, answers.sampling_from(*sampling)).result()
            except Exception:
                yield self.updates(visitor, run) | self._awake(visitor)
                raise
            if kept == 0:  # None: stopped, or asked anew from another tab
                said = "Both gave the same answers to these prompts; prepare others."
        yield {self.view: html.value(self._drawn(visitor, run, said))} | self._awake(visitor)

    def _awake(self, visitor: str) -> dict[Any, Any]:
        """The timer goes on while answers are prepared for another tab."""
        return {self.timer: gr.Timer(active=True)} if desk.job(visitor, KIND) else {}

    def _drawn(self, visitor: str, run: Run, said: Any = None, busy: bool = False) -> dict[str, Any]:
        pair = Pair.of(visitor, run)
        cast = votes.votes_of(run.path, visitor, pair.ids)
        ballot = None if busy else votes.next_ballot(run.path, visitor, pair.ids)
        others = len(votes.votes_of(run.path, visitor)) - len(cast)
        return compare_view.blind(
            ballot,
            cast,
            said,
            busy or desk.job(visitor, KIND) is not None,
            pair.names[1],
            pair.choices,
            pair.value,
            others,
        )

    def use_pairs(self, visitor: str, run_id: str) -> None:
        """Bring the votes to step 1 in the place of the pairs that are loaded."""
        from workbench.ui import pairs_data

        pairs_data.take_upload(visitor, str(votes_file(visitor, run_id)))


def votes_file(visitor: str, run_id: str) -> Path:
    """The visitor's votes on this run as preference pairs, a file in their workspace. Raises UserError if none tells."""
    run = compare_runs.finished(visitor, run_id)
    pairs, left_out = votes.as_pairs(votes.votes_of(run.path, visitor))
    if not pairs:
        raise UserError(
            "No vote says yet which answer is better (ties and both bad make no pair): vote first."
            if left_out
            else "There are no votes yet: vote on some answers first."
        )
    path = state.open_workspace(visitor).folder / "votes-as-pairs.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    except OSError as error:
        raise UserError(f"The pairs could not be written ({error.strerror or error}): free some disk space.") from error
    return path


class Pair:
    """Between which two columns is voted: ``columns`` and ``names`` (the reference, the other), their ``ids`` as votes keep
    them, and the ``choices`` there are."""

    def __init__(self, columns: list[Any], names: list[str], value: str, main: Run) -> None:
        reference = compare_marks.reference_of(columns)
        order = [reference, *(place for place in range(len(columns)) if place != reference)]
        places = [(one, other) for at, one in enumerate(order) for other in order[at + 1 :]]
        self.choices = [
            {"value": f"{one}-{other}", "label": f"{names[one]} against {names[other]}"} for one, other in places
        ]
        known = [choice["value"] for choice in self.choices]
        self.value = value if value in known else known[0]
        one, other = places[known.index(self.value)]
        self.columns = [columns[one], columns[other]]
        self.names = [names[one], names[other]]
        self.ids = tuple(_id(column, main) for column in self.columns)

    @classmethod
    def of(cls, visitor: str, main: Run) -> Pair:
        """The pair that the visitor chose, of the columns as they are now."""
        workspace = state.open_workspace(visitor)
        columns = compare_columns.columns_of(workspace, main)
        chosen = str(workspace.settings.get("compare_vote") or "")
        return cls(columns, compare_columns.names(workspace, columns), chosen, main)


def _id(column: dict[str, Any], main: Run) -> str:
    """What names a column in votes, whatever it is called later; the base and the run itself as in older files."""
    if column["kind"] == "base":
        return votes.NAMES[0]
    if column["kind"] == "prompted":
        return f"Base under p+: {column['text']}"
    if column["kind"] == "steer":
        return f"Base steered by {column['run']}, alpha {column['alpha']:g}"
    return votes.NAMES[1] if column["run"] == main.id else str(column["run"])


def _told(meant: str, pair: Pair) -> Any:
    if meant in ("tie", "neither"):
        return f"{'A tie' if meant == 'tie' else 'Both bad'}: half a vote for each."
    look = compare_columns.look_of(pair.columns)[meant == "aligned"]
    name = pair.names[meant == "aligned"]
    return ["Your vote went to ", {"text": name, "as": f"c-{look['who']}"}, "."]


def prepare(visitor: str, run: Run, pair: Pair, drawn: Any) -> Job:
    """Have some prompts answered by both columns, with other luck than the list's: those of the visitor's list, else
    held-out ones; first those that were not voted on. What the job shows is how many pairs of answers it kept.

    At temperature 0 luck changes nothing: the list beside the vote would show the same answers with their names, so its
    prompts are left out. Raises UserError if none is left.
    """
    workspace = state.open_workspace(visitor)
    prompts = listed = [row["prompt"] for row in compare_list.open_list(workspace)["rows"]]
    if not listed or drawn.temperature == 0:
        prompts = [prompt for prompt in answers.held_out_prompts(run) if prompt not in listed]
    if not prompts:
        raise UserError(
            "At temperature 0 these answers stand in the list beside this, with their names: raise the temperature first."
            if listed
            else "This run has no held-out prompts: ask some of your own in the list beside this first."
        )
    before = votes.lines(run.path / "blind.jsonl")
    done = {json.dumps(item.get("prompt")) for item in before if votes.names_of(item) == pair.ids}
    fresh = [prompt for prompt in prompts if json.dumps(_kept(prompt)) not in done] or prompts
    some = random.SystemRandom().sample(fresh, min(TOGETHER, len(fresh)))
    luck = replace(drawn, seed=(drawn.seed + 7919 * (len(before) + 1)) % 2**31)

    def work(job: Job, ready: compare_columns.Ready) -> Iterator[None]:
        from workbench.generation import Row

        loaded, speakers = ready.loaded, (yield from ready.speakers())
        rows = [Row(prompt, one, at) for one in speakers for at, prompt in enumerate(some)]
        with answers.using(loaded, speakers):
            said = yield from draw(
                job, loaded, rows, luck, 60.0, lambda _: None
            )  # nothing is shown before both have ended
        texts = [one["text"] for one in said]
        if not job.stopping:
            shown = [_kept(prompt) for prompt in some]
            both = texts[: len(some)], texts[len(some) :]
            job.show(votes.add_answers(run.path, shown, *both, visitor, pair.ids))

    return desk.ask(visitor, KIND, lambda: compare_columns.ready(workspace, run, pair.columns, axes=False), work)


def _kept(prompt: Any) -> Any:
    """A prompt as votes keep it: plain text where it is one message, else its messages."""
    alone = not isinstance(prompt, str) and len(prompt) == 1 and prompt[0]["role"] == "user"
    return prompt[0]["content"] if alone else prompt
