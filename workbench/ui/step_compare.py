"""Step 4, Compare: base and aligned side by side, lists of prompts, and blind votes; the held-out table below is a
room of its own (``compare_heldout``)."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.export import read_samples
from workbench.ui import answers, compare_heldout, compare_runs, compare_view, context, html, state, votes
from workbench.ui.page import Page

EVERY = 0.08  # seconds between two pictures of a growing answer
TOGETHER = 6  # prompts of the list, and pairs of answers prepared for votes
MOST = 12  # prompts of one's own
FOLD = "Sampling: seed {}, temperature {}, up to {} tokens"
LONGEST = 4000  # characters of a prompt that is typed here


def build(page: Page) -> None:
    """Put the step into the open column."""
    Step(page)


class Step:
    """The components of the step and what they do."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.head = html.view("compare-head", elem_id="rw-compare-head")
        with gr.Column(elem_classes=["rw-panel", "rw-ask"], elem_id="rw-compare"):
            with gr.Row(elem_classes=["rw-fields", "rw-asks"]):
                self.prompt = gr.Textbox(
                    label="Prompt",
                    show_label=False,
                    placeholder="Ask both models something",
                    max_lines=4,
                    lines=1,
                    max_length=LONGEST,
                    elem_id="rw-prompt",
                    container=False,
                    scale=1,
                )
                self.go = gr.Button(
                    "Ask both", variant="primary", elem_classes="rw-lg", scale=0, min_width=110, elem_id="rw-ask-both"
                )
                self.stop = gr.Button(
                    "Stop", elem_classes="rw-lg i-stop", scale=0, min_width=90, visible=False, elem_id="rw-ask-stop"
                )
            with gr.Row(elem_classes=["rw-fields", "rw-asks", "rw-choices"]):
                self.run = gr.Dropdown(
                    label="Aligned run", choices=[], scale=2, elem_id="rw-compare-run", filterable=False
                )
                self.steer = gr.Slider(
                    -2,
                    2,
                    0,
                    step=0.1,
                    label="Extra steering, times the run’s shift",
                    visible=False,
                    scale=2,
                    elem_id="rw-steer",
                )
            self.fold = gr.Accordion(FOLD.format(7, 1, 64), open=False, elem_classes="rw-asks rw-fold")
            with self.fold, gr.Row(elem_classes="rw-fields"):
                self.seed = gr.Number(7, label="Seed", precision=0, minimum=0)
                self.temperature = gr.Number(1.0, label="Temperature", minimum=0, maximum=10, step=0.1)
                self.top_p = gr.Number(1.0, label="Top-p", minimum=0.01, maximum=1, step=0.05)
                self.tokens = gr.Number(64, label="Longest answer, tokens", precision=0, minimum=1, maximum=512)
            self.answers = html.view("compare-answers", elem_id="rw-answers")
        with gr.Row(elem_classes="rw-row"):
            with gr.Column(scale=2):
                self.many = html.view("compare-many", elem_id="rw-compare-many", elem_classes="rw-fill")
            with gr.Column(scale=1):
                self.blind = html.view("compare-blind", elem_id="rw-compare-blind", elem_classes="rw-fill")
        self.evaluating = compare_heldout.Panel(page, self.run)
        self.list = gr.State([])  # what the list of prompts shows: answers and token scores
        self.sampling = [self.seed, self.temperature, self.top_p, self.tokens]
        self.asking = [self.go, self.stop, self.answers]
        self._wire()

    def _wire(self) -> None:
        page = self.page
        shown = [
            self.head,
            self.prompt,
            self.run,
            self.steer,
            self.answers,
            self.many,
            self.blind,
            *self.evaluating.parts,
        ]
        page.on_show("compare", self.show, shown)
        work = {"concurrency_id": "gpu", "concurrency_limit": 1}
        inputs = [self.prompt, self.run, self.steer, *self.sampling]
        asked = [
            page.on(listener, self.ask, inputs, self.asking, **work) for listener in (self.go.click, self.prompt.submit)
        ]
        listed = page.on(
            self.many.select,
            self.pick,
            [self.list, self.run, *self.sampling],
            [self.many, self.list, self.answers, self.prompt],
            event=True,
            **work,
        )
        stop = "(...values) => values"
        page.on(
            self.stop.click, self.stopped, self.answers, self.asking, cancels=[*asked, listed], queue=False, js=stop
        )
        page.on(self.run.input, self.choose, self.run, [*shown, self.list], refresh=True)
        page.on(self.blind.select, self.vote, [self.run, *self.sampling], self.blind, event=True, **work)
        for part in self.sampling:
            page.on(part.change, self.retitle, self.sampling, self.fold, quiet=True)

    # -- showing -------------------------------------------------------------------------------------------------------

    def show(self, visitor: str) -> dict[Any, Any]:
        """Everything of the step, from disk."""
        workspace = state.open_workspace(visitor)
        finished = [run for run in state.runs_of(visitor) if context.usable(run.status())]
        run = next((one for one in finished if one.id == workspace.run), finished[0] if finished else None)
        if run is None:
            raise UserError("Step 4 needs a finished run: align a model in step 3 first.")
        status = run.status()
        source = answers.captured_of(workspace, run)
        cast = votes.votes_of(run.path, visitor)
        samples = read_samples(run.path, 1)
        return {
            self.head: html.value(compare_view.head(context.title_of(status), status)),
            self.prompt: workspace.settings.get("asked") or (samples[0]["prompt"] if samples else ""),
            self.run: gr.Dropdown(
                choices=[(compare_runs.named(one.status()), one.id) for one in finished], value=run.id
            ),
            self.steer: gr.Slider(visible=answers.can_steer(run), value=0),
            self.answers: html.value(compare_view.empty(source is not None)),
            self.many: html.value(compare_view.many([])),
            self.blind: html.value(compare_view.blind(votes.next_ballot(run.path, visitor), cast)),
        } | self.evaluating.updates(workspace, run)

    def choose(self, visitor: str, run_id: str) -> dict[Any, Any]:
        """Another run: the whole step follows."""
        compare_runs.finished(visitor, run_id)
        state.change(visitor, run=run_id)
        return self.show(visitor) | {self.list: []}

    def retitle(self, visitor: str, seed: Any, temperature: Any, top_p: Any, tokens: Any) -> Any:
        """The fold says what is in it."""
        text = FOLD.format(
            *(f"{value:g}" if isinstance(value, (int, float)) else "?" for value in (seed, temperature, tokens))
        )
        return gr.Accordion(label=text if top_p in (1, None) else f"{text}, top-p {top_p:g}")

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(self, visitor: str, prompt: str, run_id: str, steer: float, *sampling: Any) -> Iterator[dict[Any, Any]]:
        """Both answers, growing together; then the preference of each token."""
        prompt = str(prompt or "").strip()
        if not prompt:
            raise UserError("There is nothing to answer yet: write a prompt.")
        run = compare_runs.finished(visitor, run_id)
        state.keep_setting(visitor, asked=prompt[:LONGEST])
        workspace = state.open_workspace(visitor)
        drawn = answers.sampling_from(*sampling)
        wait = "Thinking" if answers.is_loaded(run) else "Loading the model: a few seconds, the first time"
        blank, coloured = compare_view.side(wait=wait), answers.captured_of(workspace, run) is not None
        yield {
            self.go: gr.Button(visible=False),
            self.stop: gr.Button(visible=True),
            self.answers: html.value(compare_view.answers(prompt, blank, blank, live=True, bars=coloured)),
        }
        try:
            step, last = None, 0.0
            for step in answers.ask(run, [prompt], drawn, float(steer or 0)):
                if time.monotonic() - last >= EVERY:
                    last = time.monotonic()
                    yield {self.answers: html.value(self._panes(prompt, step, drawn.seed, live=True, bars=coloured))}
            colours = answers.colours_of(workspace, run)
            yield {
                self.answers: html.value(self._panes(prompt, step, drawn.seed, run=run, colours=colours))
            } | self._ready()
        except UserError:
            yield {self.answers: html.value(compare_view.empty(False))} | self._ready()
            raise

    def _ready(self) -> dict[Any, Any]:
        return {self.go: gr.Button(visible=True), self.stop: gr.Button(visible=False)}

    def stopped(self, visitor: str, shown: str) -> dict[Any, Any]:
        """What was said so far stays."""
        import json

        try:
            panes = json.loads(shown)
            for name in ("base", "aligned"):
                panes[name] = compare_view.side(
                    str(panes[name].get("text") or "")[: LONGEST * 4], below="Stopped before the end"
                )
        except (TypeError, ValueError, KeyError, AttributeError):
            panes = compare_view.empty(False)
        return {self.answers: html.value(panes)} | self._ready()

    def _panes(
        self,
        prompt: str,
        step: Any,
        seed: int,
        run: Any = None,
        colours: Any = None,
        live: bool = False,
        bars: bool = False,
    ) -> dict[str, Any]:
        sides = []
        for answer in (step.base[0], step.aligned[0]):
            pane = compare_view.side(
                answer.text, len(answer.ids), seed, below="" if live or answer.ended else "Cut at the longest answer"
            )
            if colours is not None and run is not None:
                tokens = answers.token_scores(answers.model_of_run(run), prompt, answer.ids, colours)
                pane |= {"tokens": tokens, "mean": answers.mean_score(tokens)}
            sides.append(pane)
        return compare_view.answers(prompt, *sides, block=colours.block if colours else None, live=live, bars=bars)

    # -- several prompts -----------------------------------------------------------------------------------------------

    def pick(self, visitor: str, sent: dict, kept: list, run_id: str, *sampling: Any) -> Iterator[dict[Any, Any]]:
        """A press in the list: ask several, or open a row above."""
        action = sent.get("action")
        if action == "row":
            row = _index(sent.get("row"), len(kept))
            if row is not None:
                item = kept[row]
                yield {
                    self.answers: html.value(item["panes"]),
                    self.prompt: item["prompt"],
                    self.many: html.value(compare_view.many([one["row"] for one in kept], row)),
                }
            return
        run = compare_runs.finished(visitor, run_id)
        workspace = state.open_workspace(visitor)
        drawn = answers.sampling_from(*sampling)
        if action == "own":
            prompts = [line.strip()[:LONGEST] for line in str(sent.get("text") or "").splitlines() if line.strip()][
                :MOST
            ]
            if not prompts:
                raise UserError("Write at least one prompt, one per line.")
        else:
            held = answers.held_out_prompts(run, workspace)
            before = {item["prompt"] for item in kept}
            fresh = [prompt for prompt in held if _text(prompt) not in before] or held
            prompts = random.SystemRandom().sample(fresh, min(TOGETHER, len(fresh)))
        texts = [_text(prompt) for prompt in prompts]
        rows = [
            {"prompt": text, "base": "", "aligned": "", "b": None, "a": None, "wait": "\N{HORIZONTAL ELLIPSIS}"}
            for text in texts
        ]
        yield {self.many: html.value(compare_view.many(rows, busy=True))}
        step, last = None, 0.0
        for step in answers.ask(run, prompts, drawn):
            if time.monotonic() - last >= 3 * EVERY:
                last = time.monotonic()
                for row, base, aligned in zip(rows, step.base, step.aligned, strict=True):
                    row |= {"base": base.text, "aligned": aligned.text}
                yield {self.many: html.value(compare_view.many(rows, busy=True))}
        kept = self._listed(prompts, texts, step, run, workspace, drawn.seed)
        yield {self.many: html.value(compare_view.many([one["row"] for one in kept])), self.list: kept}

    def _listed(
        self, prompts: list, texts: list[str], step: Any, run: Any, workspace: Any, seed: int
    ) -> list[dict[str, Any]]:
        colours = answers.colours_of(workspace, run)
        loaded = answers.model_of_run(run)
        out = []
        for prompt, text, base, aligned in zip(prompts, texts, step.base, step.aligned, strict=True):
            sides = []
            for answer in (base, aligned):
                pane = compare_view.side(
                    answer.text, len(answer.ids), seed, below="" if answer.ended else "Cut at the longest answer"
                )
                if colours is not None:
                    tokens = answers.token_scores(loaded, prompt, answer.ids, colours)
                    pane |= {"tokens": tokens, "mean": answers.mean_score(tokens)}
                sides.append(pane)
            row = {
                "prompt": text,
                "base": base.text,
                "aligned": aligned.text,
                "b": sides[0].get("mean"),
                "a": sides[1].get("mean"),
            }
            out.append(
                {
                    "prompt": text,
                    "row": row,
                    "panes": compare_view.answers(text, *sides, block=colours.block if colours else None),
                }
            )
        return out

    # -- blind vote ----------------------------------------------------------------------------------------------------

    def vote(self, visitor: str, sent: dict, run_id: str, *sampling: Any) -> Iterator[dict[Any, Any]]:
        """A vote, or new answers to vote on."""
        run = compare_runs.finished(visitor, run_id)
        said = None
        if sent.get("action") == "vote":
            meant = votes.cast(run.path, visitor, str(sent.get("ballot")), str(sent.get("vote")))
            said = (
                "A tie: half a vote for each."
                if meant == "tie"
                else ["Your vote went to ", {"text": meant, "as": f"c-{meant}"}, "."]
            )
        ballot = votes.next_ballot(run.path, visitor)
        cast = votes.votes_of(run.path, visitor)
        if ballot is None and (cast or sent.get("action") == "prepare"):
            yield {self.blind: html.value(compare_view.blind(None, cast, said, busy=True))}
            self._prepare(visitor, run, answers.sampling_from(*sampling), len(cast))
            ballot = votes.next_ballot(run.path, visitor)
            if ballot is None:
                said = "Both models gave the same answers to these prompts; prepare others."
        yield {self.blind: html.value(compare_view.blind(ballot, cast, said))}

    def _prepare(self, visitor: str, run: Any, drawn: Any, already: int) -> None:
        """Answer some held-out prompts that were not voted on, with other luck than the list's."""
        from dataclasses import replace

        held = answers.held_out_prompts(run, state.open_workspace(visitor))
        done = {item.get("prompt") for item in votes.lines(run.path / "blind.jsonl")}
        fresh = [prompt for prompt in held if _text(prompt) not in done] or held
        prompts = random.SystemRandom().sample(fresh, min(TOGETHER, len(fresh)))
        luck = replace(drawn, seed=(drawn.seed + 7919 * (already + 1)) % 2**31)
        (last,) = deque(answers.ask(run, prompts, luck), maxlen=1)  # nothing is shown before both have ended
        texts = [[answer.text for answer in side] for side in (last.base, last.aligned)]
        votes.add_answers(run.path, [_text(prompt) for prompt in prompts], *texts)


def _index(value: Any, count: int) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < count else None


def _text(prompt: Any) -> str:
    from workbench.pairs import prompt_text

    return prompt if isinstance(prompt, str) else prompt_text(prompt)
