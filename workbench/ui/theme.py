"""How the page looks: Gradio's theme variables set from our design tokens, and our style sheets and scripts.

Colours are never written here: every variable points at a token of ``static/tokens.css``, whose values change with the
theme. Classes for Gradio's own components (``elem_classes=``):

``rw-panel`` on a Column (Gradio strips ``panel``): a surface with a border; ``rw-row`` on a Row: panels side by side,
``rw-side`` on a Column in it: the narrow first column (372 px), ``rw-late`` on a Column: comes second on narrow
screens; ``rw-title`` on a Row: heading (markup) left, actions right; ``rw-acts`` on a Row: buttons beside each other;
``seg`` on a Radio: segmented control; ``rw-fields`` on a Row: small fields beside each other; ``rw-bare`` on any
component: no frame of its own; ``rw-sm`` / ``rw-ghost`` on a Button: small / text only; ``i-<icon>`` on a Button: an
icon before the text (``i-arrow``: after it); ``rw-hidden`` on anything: in the document, for scripts, but not on the
page; ``c-chosen`` / ``c-rejected`` on a Textbox or Dropdown: the label with its mark; ``locked`` on a Column:
settings shown, not changeable.
"""

from __future__ import annotations

import re
from html import escape

import gradio as gr

from workbench.ui.html import ICONS, STATIC, plotly_js

_VARIABLES = {
    "bg": "body_background_fill background_fill_primary",
    "ink": "body_text_color block_title_text_color table_text_color checkbox_label_text_color accordion_text_color "
    "checkbox_label_text_color_selected button_secondary_text_color button_secondary_text_color_hover "
    "button_cancel_text_color button_cancel_text_color_hover link_text_color link_text_color_hover "
    "link_text_color_active link_text_color_visited",
    "ink-2": "block_label_text_color",
    "ink-3": "body_text_color_subdued block_info_text_color input_placeholder_color",
    "surface": "block_background_fill input_background_fill input_background_fill_focus input_background_fill_hover "
    "button_secondary_background_fill button_cancel_background_fill checkbox_background_color "
    "checkbox_background_color_focus checkbox_background_color_hover table_even_background_fill "
    "table_odd_background_fill panel_background_fill",
    "inset": "background_fill_secondary button_secondary_background_fill_hover button_cancel_background_fill_hover "
    "checkbox_label_background_fill checkbox_label_background_fill_hover checkbox_label_background_fill_selected "
    "table_row_focus code_background_fill block_label_background_fill stat_background_fill",
    "line": "border_color_primary block_border_color table_border_color panel_border_color block_label_border_color",
    "line-strong": "button_secondary_border_color button_cancel_border_color border_color_accent_subdued "
    "checkbox_label_border_color checkbox_label_border_color_hover",
    "control-line": "input_border_color input_border_color_hover checkbox_border_color checkbox_border_color_hover "
    "button_secondary_border_color_hover button_cancel_border_color_hover",
    "focus": "input_border_color_focus checkbox_border_color_focus",
    "accent": "color_accent border_color_accent slider_color loader_color checkbox_background_color_selected "
    "checkbox_border_color_selected checkbox_label_border_color_selected button_primary_background_fill "
    "button_primary_border_color",
    "accent-hover": "button_primary_background_fill_hover button_primary_border_color_hover",
    "on-accent": "button_primary_text_color button_primary_text_color_hover",
    "error": "error_text_color error_border_color error_icon_color",
    "error-soft": "error_background_fill",
    "null": "color_accent_soft",
}
_SIZES = {
    "none": "block_shadow input_shadow input_shadow_focus button_primary_shadow button_primary_shadow_hover "
    "button_primary_shadow_active button_secondary_shadow button_secondary_shadow_hover button_secondary_shadow_active "
    "shadow_drop shadow_drop_lg shadow_spread block_label_shadow checkbox_label_shadow",
    "0px": "block_border_width panel_border_width block_padding form_gap_width block_label_border_width "
    "checkbox_label_border_width",
    "1px": "input_border_width button_border_width",
    "var(--rw-r-md)": "input_radius button_large_radius button_medium_radius button_small_radius block_radius "
    "container_radius table_radius block_label_radius",
    "var(--rw-t-md)": "input_text_size body_text_size button_large_text_size button_medium_text_size prose_text_size",
    "var(--rw-t-sm)": "block_title_text_size button_small_text_size block_label_text_size checkbox_label_text_size",
    "var(--rw-t-xs)": "block_info_text_size",
    "600": "block_title_text_weight button_large_text_weight button_medium_text_weight button_small_text_weight "
    "prose_header_text_weight",
    "0 14px": "button_large_padding button_medium_padding",
    "0 10px": "button_small_padding",
    "7px 11px": "input_padding",
    "20px": "layout_gap",
}


def theme() -> gr.themes.Base:
    """The Gradio theme. The fonts ship inside Gradio (weights 400 and 700: the bundled 600 lacks letters)."""
    made = gr.themes.Base(
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "Menlo", "monospace"],
    )
    values = {name: f"var(--rw-{token})" for token, names in _VARIABLES.items() for name in names.split()}
    values |= {name: size for size, names in _SIZES.items() for name in names.split()}
    dark = {f"{name}_dark": value for name, value in values.items() if hasattr(made, f"{name}_dark")}
    return made.set(**values, **dark)


def _styles() -> str:
    first = ["tokens.css", "workbench.css", "gradio.css"]
    files = [STATIC / name for name in first] + sorted(p for p in STATIC.glob("*.css") if p.name not in first)
    masks = "\n".join(f'.i-{name}{{--rw-icon:url("{_data_url(paths)}")}}' for name, paths in ICONS.items())
    return "\n".join(path.read_text(encoding="utf-8") for path in files) + "\n" + masks


def _data_url(paths: str) -> str:
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' fill='none' stroke='black' stroke-width='1.6' "
        f"stroke-linecap='round' stroke-linejoin='round'>{paths}</svg>"
    )
    return "data:image/svg+xml," + re.sub(r"[<>#%\"]", lambda found: f"%{ord(found[0]):02X}", svg)


def _scripts() -> str:
    files = [STATIC / "core.js", *sorted(p for p in STATIC.glob("*.js") if p.name != "core.js")]
    return "\n".join(f"<script>\n{path.read_text(encoding='utf-8')}\n</script>" for path in files)


def head() -> str:
    """What goes into the page's head: our style sheets and scripts, and where plotly.js is.

    They stand in the head, not in ``launch(css_paths=...)``: Gradio rewrites the selectors of the latter and drops
    media rules for ``:root``, which the tokens need.
    """
    return (
        f'<meta name="rw-plotly" content="{escape(plotly_js().as_posix())}">\n'
        f"<style>\n{_styles()}\n</style>\n{_scripts()}"
    )


def serve_static() -> None:
    """Let Gradio serve plotly.js, and nothing else, from where the wheel put it."""
    gr.set_static_paths([plotly_js()])
