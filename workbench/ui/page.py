"""``Page``: what the frame gives every step, so that all handlers fail, finish and move on in the same way.

A step module has ``def build(page: Page) -> None`` and uses:

``page.visitor``
    the component with the visitor's id. Handlers made with :meth:`Page.on` get the id as their first argument.
``page.on(button.click, handler, inputs, outputs, refresh=True)``
    wires an event. ``handler(visitor, *inputs)`` returns what Gradio handlers return (one value, a tuple, a dict of
    components, ``None`` for nothing, or yields them). ``UserError`` becomes a sentence on the page and changes nothing
    else; any other exception is logged and becomes "Something went wrong". ``event=True`` puts the dict that the page
    sent (``data-send`` or ``send``) after the visitor. ``refresh=True`` redraws header and steps line afterwards.
    ``busy="Reading the pairs"`` shows that line while the handler works.
``page.on_show("layers", show, outputs)``
    ``show(visitor)`` fills the step: called when the page is loaded in this step and whenever the step is opened.
``page.go(button.click, "align")`` or ``page.go(page.on(...), "align")``
    opens a step (after the handler, if it did not fail).
``page.refresh(page.on(...))``
    the same as ``refresh=True``, for an event made otherwise.
``page.timer(1.0, tick, outputs)``
    a ``gr.Timer``, off at first; ``tick(visitor)`` returns updates (``gr.skip()`` when nothing moved, the timer itself
    among the outputs to switch it off). Switch it on by returning ``gr.Timer(active=True)`` from any handler.
``page.download(button.click, make, inputs)``
    ``make(visitor, *inputs)`` returns the path of a file, which the browser then saves.
``page.show_step(visitor, "align")``
    for a handler made by hand: the dict of updates that opens a step.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import context, downloads, html, state
from workbench.ui.html import Markup

log = logging.getLogger("workbench.page")
TROUBLE = (
    "Something went wrong on the server (its log has the details); nothing was lost. Try again, or reload the page."
)
NO_MEMORY = "There is not enough memory for this now: try again with shorter answers or fewer prompts, or when no run is working."


class Page:
    """The shared parts of the page. Made by ``frame.build``; see the module's text for how steps use it."""

    def __init__(self) -> None:
        self.visitor = gr.BrowserState(storage_key=state.STORAGE_KEY, secret=state.STORAGE_SECRET)
        self.failed = gr.State(False)  # whether the handler before a `go` failed
        self.columns: dict[str, gr.Column] = {}
        self.error: gr.HTML
        self.busy: gr.HTML
        self.context: gr.HTML
        self.steps: gr.HTML
        self.live: gr.Timer
        self._shows: dict[str, list[tuple[Callable, list]]] = {name: [] for name in state.STEPS}
        self._goes: list[tuple[Any, str]] = []
        self._downloads = 0

    # -- for the steps -------------------------------------------------------------------------------------------------

    def on(
        self,
        listener: Callable,
        fn: Callable,
        inputs: Any = None,
        outputs: Any = None,
        *,
        event: bool = False,
        refresh: bool = False,
        quiet: bool = False,
        busy: str = "",
        **kwargs: Any,
    ) -> Any:
        """Wire ``fn(visitor, [event data,] *inputs)`` to an event; see the module's text. ``quiet=True`` (pollers)
        leaves the error line alone unless something fails. ``kwargs`` go to the Gradio listener. Returns the
        dependency.
        """
        if getattr(listener, "event_name", "") == "tick" and "trigger_mode" not in kwargs:
            # With "once" a tick whose answer is lost on its way would be the last one, and the page would stand still.
            fn, kwargs["trigger_mode"] = one_at_a_time(fn), "multiple"
        outs = _listed(outputs)
        shared = [self.error, self.failed, self.busy]
        shared += [self.context, self.steps, self.live] if refresh else []
        kwargs.setdefault("api_visibility", "private")
        kwargs.setdefault("show_progress", "hidden")
        return listener(
            self._guarded(fn, outs, event, refresh, quiet, busy),
            [self.visitor, *_listed(inputs)],
            [*outs, *(part for part in shared if part not in outs)],
            **kwargs,
        )

    def on_show(self, step: str, fn: Callable, outputs: Any) -> None:
        """``fn(visitor)`` gives the updates of ``outputs`` when ``step`` is opened or the page is loaded in it."""
        self._shows[step].append((fn, _listed(outputs)))

    def go(self, event: Any, step: str) -> None:
        """Open ``step`` on this event: a listener (``button.click``) or what :meth:`on` returned."""
        if step not in state.STEPS:
            raise ValueError(f"no such step: {step}")
        self._goes.append((event, step))

    def refresh(self, dependency: Any) -> Any:
        """Redraw header and steps line after an event."""
        return self.on(dependency.then, lambda visitor: None, refresh=True, quiet=True, queue=False)

    def timer(self, seconds: float, fn: Callable, outputs: Any, **kwargs: Any) -> gr.Timer:
        """A timer, off at first, that calls ``fn(visitor)``. To have the timer itself among the ``outputs``, give a
        function from the timer to them."""
        timer = gr.Timer(seconds, active=False)
        outs = outputs(timer) if callable(outputs) else outputs
        kwargs = {"concurrency_limit": None} | kwargs
        self.on(timer.tick, fn, None, outs, quiet=True, **kwargs)
        return timer

    def download(self, listener: Callable, make: Callable, inputs: Any = None, **kwargs: Any) -> Any:
        """Save the file whose path ``make(visitor, *inputs)`` returns. Call it inside a container: it adds a hidden
        button."""
        self._downloads += 1
        hidden_id = f"rw-download-{self._downloads}"
        hidden = gr.DownloadButton("Download", elem_id=hidden_id, elem_classes="rw-hidden")
        name = gr.State("")

        def prepare(visitor: str, *values: Any) -> tuple[str, str]:
            made = Path(make(visitor, *values))
            return str(downloads.handed(made)), made.name

        ready = self.on(listener, prepare, inputs, [hidden, name], **kwargs)
        press = (
            "(failed) => { if (!failed) setTimeout(() => { const a = "
            f"document.getElementById('{hidden_id}');"
            " if (a) (a.matches('a,button') ? a : a.querySelector('a,button')).click(); }, 60); }"
        )
        ready.then(None, self.failed, None, js=press)
        return ready

    # -- for the frame -------------------------------------------------------------------------------------------------

    def frame_updates(self, workspace: state.Workspace) -> dict[Any, Any]:
        """Header, steps line and whether anything has to be watched."""
        seen = context.look(workspace)
        return {
            self.context: html.value(context.header(seen)),
            self.steps: html.value(context.steps_line(seen)),
            self.live: gr.Timer(active=seen.live or context.device_text() is None),
        }

    def show_step(self, visitor: str, step: str) -> dict[Any, Any]:
        """The updates that open ``step``: header, columns, and what the step's own ``on_show`` functions give.

        Raises UserError, with what is missing, if the step cannot be used yet.
        """
        workspace = state.open_workspace(visitor)
        missing = context.missing(context.look(workspace), step)
        if missing:
            raise UserError(missing)
        if workspace.step != step:
            workspace = state.change(visitor, step=step)
        updates: dict[Any, Any] = {column: gr.Column(visible=name == step) for name, column in self.columns.items()}
        for fn, outputs in self._shows[step]:
            updates |= self._collected(fn(visitor), outputs)
        return updates | self.frame_updates(state.open_workspace(visitor))

    def show_nearest(self, visitor: str) -> dict[Any, Any]:
        """Open the step the visitor was in; if it cannot be shown, the nearest one before it that can, and say why."""
        wanted = state.open_workspace(visitor).step
        trouble: dict[Any, Any] = {}
        for step in reversed(state.STEPS[: state.STEPS.index(wanted) + 1]):
            try:
                return self.show_step(visitor, step) | trouble
            except UserError as error:
                trouble = trouble or {self.error: html.value(error_markup(str(error)))}
            except Exception:
                log.exception("step %s could not be shown", step)
                trouble = {self.error: html.value(error_markup(TROUBLE))}
        return {self.columns["pairs"]: gr.Column(visible=True)} | trouble

    @property
    def show_outputs(self) -> list:
        """Everything :meth:`show_step` may change."""
        parts = [part for shows in self._shows.values() for _, outputs in shows for part in outputs]
        return list(dict.fromkeys([*self.columns.values(), *parts, self.context, self.steps, self.live]))

    def finish(self) -> None:
        """Wire what needs to know all steps. Called once, after they are built."""
        for event, step in self._goes:
            chained = hasattr(event, "then")

            def open_step(visitor: str, failed: bool, step: str = step, chained: bool = chained) -> dict:
                return {} if chained and failed else self.show_step(visitor, step)

            self.on(
                event.then if chained else event,
                open_step,
                self.failed,
                self.show_outputs,
                js=None if chained else TOP,
                quiet=chained,
            )

    def _guarded(self, fn: Callable, outs: list, event: bool, refresh: bool, quiet: bool, busy: str) -> Callable:
        """``fn`` with its results as a dict of updates and its failures as sentences."""

        def updates(result: Any, visitor: str) -> dict[Any, Any]:
            made = self._collected(result, outs)
            if not quiet:
                made = {self.error: html.value(Markup()), self.failed: False, self.busy: html.value(Markup())} | made
            if refresh:
                made |= self.frame_updates(state.open_workspace(visitor))
            return made or {self.failed: gr.skip()}  # Gradio takes an empty dict for a value

        def run(visitor: Any, *arguments: Any) -> Iterator[dict]:
            try:
                if not state.is_visitor(visitor):
                    raise UserError(state.LOST)
                if busy:
                    yield {self.busy: self.busy_value(busy)}
                result = fn(visitor, *arguments)
                for part in result if hasattr(result, "__next__") else [result]:
                    yield updates(part, visitor)
            except UserError as error:
                yield self._failure(str(error))
            except Exception as error:
                log.exception("a handler of the page failed")
                yield self._failure(told(error))

        generates = bool(busy) or inspect.isgeneratorfunction(fn)
        if event and generates:

            def handler(sent: gr.EventData, visitor, *values):
                yield from run(visitor, _sent(sent), *values)
        elif event:

            def handler(sent: gr.EventData, visitor, *values):
                return next(run(visitor, _sent(sent), *values))
        elif generates:

            def handler(visitor, *values):
                yield from run(visitor, *values)
        else:

            def handler(visitor, *values):
                return next(run(visitor, *values))

        if event:  # annotations are strings here; Gradio looks for the class itself
            handler.__annotations__["sent"] = gr.EventData
        handler.serves = getattr(fn, "__module__", "")  # for tests: whose actions it knows
        handler.__name__ = getattr(fn, "__name__", "handler").strip("<>_") or "handler"
        return handler

    def busy_value(self, text: str) -> str:
        """What ``busy`` shows meanwhile: a line that appears after 0.2 s, so that quick work does not flash."""
        return html.value(Markup('<div class="busy" role="status"><i></i>{}</div>').format(text))

    def _failure(self, sentence: str) -> dict[Any, Any]:
        nothing = html.value(Markup())
        return {self.error: html.value(error_markup(sentence)), self.failed: True, self.busy: nothing}

    def _collected(self, result: Any, outs: Sequence) -> dict[Any, Any]:
        """What a handler returned, as a dict by component."""
        if result is None or (isinstance(result, dict) and result.get("__type__") == "update" and len(result) == 1):
            return {}
        if isinstance(result, dict) and all(isinstance(key, gr.blocks.Block) for key in result):
            return result
        if len(outs) == 1:
            return {outs[0]: result[0] if isinstance(result, tuple) and len(result) == 1 else result}
        if not isinstance(result, (tuple, list)) or len(result) != len(outs):
            raise TypeError(f"a handler for {len(outs)} outputs returned {type(result).__name__}")
        return dict(zip(outs, result, strict=True))


TOP = "(...values) => { window.scrollTo({top: 0}); return values; }"


def one_at_a_time(fn: Callable) -> Callable:
    """``fn(visitor, ...)``, but nothing (None) while it is at work for the same visitor: pollers that come faster than they
    are answered do not pile up."""
    at_work: set[str] = set()
    guard = threading.Lock()

    @functools.wraps(fn)
    def once(visitor: str, *values: Any) -> Any:
        with guard:
            if visitor in at_work:
                return None
            at_work.add(visitor)
        try:
            return fn(visitor, *values)
        finally:
            with guard:
                at_work.discard(visitor)

    return once


def told(error: Exception) -> str:
    """What to say of an unexpected failure. Where memory was short, kept models are let go of, so that a second try has
    more."""
    from workbench.runs.worker import memory_full

    if not memory_full(error):
        return TROUBLE
    state.forget_models()
    return NO_MEMORY


def error_markup(sentence: str) -> Markup:
    """The page's error line: one sentence, read out at once by screen readers."""
    return html.note(sentence, kind="err", attributes=Markup(' role="alert"'))


def _sent(data: gr.EventData) -> dict:
    return data._data if isinstance(data._data, dict) else {}


def _listed(parts: Any) -> list:
    if parts is None:
        return []
    return list(parts) if isinstance(parts, (list, tuple, set)) else [parts]
