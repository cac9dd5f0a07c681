"""The left side of the page: an input for every field of a job.

Inputs that the number of speakers or the kind of voice makes irrelevant are hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from farm.job import JobRequest
from farm.job.request import DEFAULT_PROMPT
from farm.presets import QUALITIES
from farm.settings import Settings
from farm.ui import form
from farm.ui.boxes import boxes
from farm.ui.voices import voice_choice

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""Options of event handlers: no spinner, no public API endpoint, no queueing."""


def inputs(settings: Settings) -> dict[str, Component]:
    """Lays out the inputs in the order of their importance; keys are the names that `form` uses."""
    face = gr.File(label="Face: an image or a video", file_types=["image", "video"], elem_id="face")
    drawn = boxes(face)
    speakers = gr.Radio([("one", 1), ("two", 2)], value=1, label="Speakers", elem_id="speakers")
    voice = gr.Radio(
        [form.RECORDING, form.TEXT], value=form.RECORDING, label="Voice source", elem_id="voice"
    )
    with gr.Group() as recordings:
        audio1 = _audio(1, "Voice")
        audio2 = _audio(2, "Second voice")
        order = gr.Radio(
            [form.IN_TURN, form.TOGETHER], value=form.IN_TURN, label="Two voices", visible=False
        )
    with gr.Group(visible=False) as speech:
        syntax = "For two speakers: (s1) first speaker's text (s2) second speaker's text"
        text = gr.Textbox(label="Text to speak", lines=3, info=syntax, elem_id="text")
        voice1 = voice_choice(settings, 1, "Voice", **QUIET)
        with gr.Column(visible=False) as second:
            voice2 = voice_choice(settings, 2, "Second voice", **QUIET)
    prompt = gr.Textbox(DEFAULT_PROMPT, label="Prompt", elem_id="prompt")
    gr.on(
        [speakers.change, voice.change],
        _show_relevant,
        [speakers, voice],
        [recordings, speech, audio2, order, second, drawn],
        **QUIET,
    )
    return {
        "face": face,
        "boxes": drawn,
        "speakers": speakers,
        "voice": voice,
        "prompt": prompt,
        "audio1": audio1,
        "audio2": audio2,
        "order": order,
        "text": text,
        "voice1": voice1,
        "voice2": voice2,
    }


def _show_relevant(speakers: int, voice: str) -> list[Any]:
    """Updates of recordings, speech, audio2, order, second voice and boxes, in this order."""
    two = speakers == 2
    return [
        gr.update(visible=voice == form.RECORDING),
        gr.update(visible=voice == form.TEXT),
        gr.update(visible=two),
        gr.update(visible=two),
        gr.update(visible=two),
        gr.update(open=two),
    ]


def advanced(models: Sequence[str]) -> dict[str, Component]:
    """Lays out the quality, and below it the collapsed fields, which go before it."""
    quality = gr.Radio(
        [("the model's default", ""), *QUALITIES],
        value="",
        label="Quality",
        elem_id="quality",
    )
    with gr.Accordion("Advanced", open=False), gr.Row():
        choices = form.choices(models)
        fields = {name: _field(name, choices.get(name)) for name in form.ADVANCED}
    return {"quality": quality, **fields}


def _audio(person: int, label: str) -> gr.Audio:
    sources: Any = ["upload", "microphone"]
    return gr.Audio(
        label=label, sources=sources, type="filepath", visible=person == 1, elem_id=f"audio{person}"
    )


def _field(name: str, choices: Sequence[str] | None) -> Component:
    """The input of a field of the contract by its type, with its default; empty for null."""
    value = JobRequest.model_fields[name].default
    schema = JobRequest.model_json_schema()["properties"][name]
    options: dict[str, Any] = {
        "label": name,
        "info": schema["description"],
        "elem_id": name,
        "min_width": 260,
    }
    if choices:
        return gr.Dropdown(list(choices), value=value, **options)
    kind = schema.get("anyOf", [{}])[0]
    if kind.get("type") == "boolean":  # or null
        return gr.Dropdown(["", "true", "false"], value="", **options)
    if "enum" in kind:
        schema = kind
    match schema:  # an empty number would be shown as 0, so one that may be null is a text
        case {"enum": allowed}:
            return gr.Dropdown(allowed, value=value, **options)
        case {"type": "boolean"}:
            return gr.Checkbox(value, **options)
        case {"type": "integer"}:
            return gr.Number(value, precision=0, **options)
        case {"type": "number"}:
            return gr.Number(value, **options)
        case _:
            return gr.Textbox("" if value in (None, ()) else str(value), **options)
