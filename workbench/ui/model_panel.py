"""The panel that opens from the header's "Model" and "Device": choose another model, and see where it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from workbench.errors import UserError
from workbench.ui import context, html, state
from workbench.ui.html import Markup
from workbench.ui.page import Page


class ModelPanel:
    """The panel's components; wired once all steps are there, because another model changes what they show."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="rw-model", elem_classes="rw-panel") as self.column:
            self.about = html.markup()
            with gr.Row(elem_classes="rw-fields"):
                self.source = gr.Textbox(
                    label="Model", placeholder="demo, a folder on the server, or a Hub id such as org/name", max_lines=1
                )
                self.use = gr.Button("Use this model", variant="primary", scale=0, min_width=150)
                self.close = gr.Button("Close", elem_classes="rw-ghost", scale=0, min_width=70)
        self.outputs = [self.column, self.about, self.source]

    def show(self, visitor: str) -> dict[Any, Any]:
        """The updates that open the panel."""
        source = state.open_workspace(visitor).model_source
        return {self.column: gr.Column(visible=True), self.about: _about(), self.source: source}

    def wire(self, page: Page) -> None:
        """Connect the buttons."""

        def choose(visitor: str, text: str) -> Iterator[dict]:
            wanted = str(text or "").strip()
            if not wanted:
                raise UserError("Name a model: demo, a folder on the server, or a Hub id such as org/name.")
            job = Job(lambda: state.model_from(wanted))
            for seconds in job.wait():
                yield {self.about: _about(f"Loading {wanted[:80]}: {seconds:.0f} s. Close keeps the present model.")}
            state.use_model(visitor, wanted, job.result())
            yield {self.column: gr.Column(visible=False), self.about: _about(), **page.show_nearest(visitor)}

        outputs = [*self.outputs, *page.show_outputs]
        starts = [
            page.on(listener, choose, self.source, outputs, refresh=True, concurrency_limit=4)
            for listener in (self.use.click, self.source.submit)
        ]
        page.on(
            self.close.click, lambda visitor: {self.column: gr.Column(visible=False)}, None, outputs, cancels=starts
        )


class Job:
    """A function at work in a thread, for handlers that show the time passing meanwhile."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._began = time.monotonic()
        self._result: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._result = work()
            except BaseException as error:  # handed over to whoever asks for the result
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def wait(self, every: float = 0.5) -> Iterator[float]:
        """The seconds since it began, again and again until it is done."""
        while True:
            self._thread.join(every)
            if not self._thread.is_alive():
                return
            yield time.monotonic() - self._began

    def result(self) -> Any:
        """What the function returned, or its exception raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result


def build() -> ModelPanel:
    """The panel, closed."""
    return ModelPanel()


def _about(waiting: str = "") -> str:
    device = context.device_text() or "being looked at"
    line = waiting or "Any decoder of transformers with weights in safetensors. No code of a model's repository is run."
    return html.value(
        Markup(
            '<h2>Which model, and where it runs</h2><p class="s sm" role="status">{}</p><p class="q xs">Device: {}</p>'
        ).format(line, device)
    )
