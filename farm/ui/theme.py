"""How the page looks, by the variables of Gradio's theme."""

from __future__ import annotations

import gradio as gr

READABLE = {
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "block_label_text_color": "*neutral_700",
    "block_title_text_color": "*neutral_700",
    "input_placeholder_color": "*neutral_500",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "button_cancel_background_fill": "#c9372c",
    "button_cancel_background_fill_dark": "#c9372c",
    "button_cancel_background_fill_hover": "#ae2e24",
    "button_cancel_background_fill_hover_dark": "#ae2e24",
}
"""Colours with a contrast of 4.5:1 and more, where Gradio's have less."""


def theme() -> gr.themes.Base:
    """System fonts, so that no font is loaded from another server."""
    look = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    return look.set(**READABLE)
