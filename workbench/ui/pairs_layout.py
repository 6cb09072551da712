"""Step 1's components: the empty page, the source, the report, the lengths, the table and the editor."""

from __future__ import annotations

import gradio as gr

from workbench.ui import html, pairs_view
from workbench.ui.html import Markup

SOURCES = ["Upload", "Bundled", "Paste", "Hub"]


class PairsLayout:
    """The components of the step."""

    def __init__(self) -> None:
        self.reading = html.markup(elem_id="rw-reading")
        self.waking = gr.Timer(0.1, active=False)
        self._build_empty()
        with gr.Column(visible=False, elem_id="rw-pairs") as self.work:
            with gr.Row(elem_classes="rw-title"):
                self.title = html.markup()
                with gr.Row(elem_classes="rw-acts") as self.acts:
                    with gr.Row(elem_classes="rw-split"):
                        self.clean = gr.Button("Clean file", elem_classes="i-download")
                        self.formats = html.markup(pairs_view.formats())
                    self.onward = gr.Button("Look at the layers", variant="primary", elem_classes="i-arrow")
            with gr.Row(elem_classes="rw-row"):
                with gr.Column(elem_id="rw-source", elem_classes="rw-panel rw-side", scale=0, min_width=0):
                    self._build_source()
                with gr.Column(elem_classes="rw-rest", min_width=0):
                    with gr.Column(elem_id="rw-trial", elem_classes="rw-panel rw-aside"):
                        self.trial = html.view("pairs-trial")
                    with gr.Column(elem_id="rw-rows", elem_classes="rw-panel rw-aside"):
                        self.rows = html.markup()
                    with gr.Column(elem_classes="rw-rest", min_width=0) as self.rest:
                        with gr.Column(elem_id="rw-lengths", elem_classes="rw-panel"):
                            self.lengths = html.markup()
                        with gr.Column(elem_id="rw-pair-table", elem_classes="rw-panel"):
                            self.table = html.view("pairs-table", elem_id="rw-pairs-shown")
            with gr.Column(elem_id="rw-pair-edit", elem_classes="rw-panel"):
                self.editor = html.view("pairs-editor")
        self.everything = [
            self.empty,
            self.work,
            self.title,
            self.acts,
            self.rest,
            self.source,
            *self.sources.values(),
            self.card,
            self.bundled,
            self.recognised,
            self.columns,
            self.report,
            self.split,
            self.seed,
            self.hints,
            self.trial,
            self.rows,
            self.lengths,
            self.counting,
            self.table,
            self.editor,
            self.reading,
            self.waking,
        ]

    # -- layout --------------------------------------------------------------------------------------------------------

    def _build_empty(self) -> None:
        with gr.Column(visible=False, elem_id="rw-empty") as self.empty:
            with gr.Row(elem_classes="rw-hero"):
                with gr.Column(min_width=0, elem_classes="rw-herotext"):
                    html.markup(pairs_view.hero_text())
                    with gr.Row(elem_classes="rw-acts rw-wrap"):
                        self.demo = gr.Button("Start with the demo", variant="primary", elem_classes="rw-lg i-arrow")
                        self.first_upload = gr.UploadButton(
                            "Upload pairs", elem_classes="rw-lg i-upload", elem_id="rw-first-upload"
                        )
                        self.other = gr.Button("Paste or name a Hub data set", elem_classes="rw-lg rw-ghost")
                    html.markup(pairs_view.hero_small())
                html.markup(pairs_view.hero_picture(), elem_classes="rw-heropicture")
            html.markup(pairs_view.hero_steps())

    def _build_source(self) -> None:
        html.markup(Markup("<h2>Where the pairs come from</h2>"))
        self.source = gr.Radio(
            SOURCES, value="Upload", show_label=False, label="Source", container=False, elem_classes="seg"
        )
        self.sources: dict[str, gr.Column] = {}
        with gr.Column(elem_classes="rw-drop", min_width=0) as self.sources["Upload"]:
            self.card = html.markup(pairs_view.source_card(None))
            self.file = gr.File(label="Pairs file", elem_id="rw-source-file", height=70, container=False)
        with gr.Column(visible=False, min_width=0) as self.sources["Bundled"]:
            self.bundled = html.markup()
        with gr.Column(visible=False, min_width=0) as self.sources["Paste"]:
            self.text = gr.Textbox(
                label="Pasted pairs",
                info="One JSON object a line, or CSV with a header.",
                lines=6,
                max_lines=12,
                elem_id="rw-paste",
                placeholder='{"prompt": "…", "chosen": "…", "rejected": "…"}',
            )
            self.read_text = gr.Button("Read these pairs")
        with gr.Column(visible=False, min_width=0) as self.sources["Hub"]:
            self.hub = gr.Textbox(
                label="Data set on the Hub",
                info="org/name, or org/name:split. It is downloaded to this server.",
                max_lines=1,
                placeholder="org/name:train",
                elem_id="rw-hub",
            )
            self.read_hub = gr.Button("Load")
        self.recognised = html.markup()
        self.columns = html.view("pairs-columns", elem_id="rw-columns")
        self.report = html.markup(elem_id="rw-report")
        self.split = html.markup(elem_id="rw-split")
        self.seed = html.view("pairs-seed", elem_id="rw-split-seed")
        self.hints = html.markup(elem_id="rw-hints")
        self.counting = gr.Timer(0.15, active=False)
