"""The left side of the page: an input for every field of a job.

Inputs that the number of speakers or the kind of voice makes irrelevant are hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from farm.job import JobRequest
from farm.job.request import DEFAULT_PROMPT
from farm.settings import Settings
from farm.ui import form
from farm.ui.boxes import boxes
from farm.ui.voices import voice_choice
from farm.ui.words import ADVANCED, CHOICES
from farm.ui.words import INPUT_LABELS as LABELS

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""Options of event handlers: no spinner, no public API endpoint, no queueing."""
EACH: dict[str, Any] = {**QUIET, "trigger_mode": "multiple"}
"""The same for events that mean something each, also while another one is answered."""
UPLOAD_HEIGHT = 150
"""Of an empty place for a face, in pixels."""


@dataclass(frozen=True)
class Inputs:
    """Inputs, and places for mistakes in them, by the names that `form` uses."""

    fields: dict[str, Component] = field(default_factory=dict)
    problems: dict[str, gr.HTML] = field(default_factory=dict)
    restored: gr.JSON = field(default_factory=lambda: gr.JSON({}, visible="hidden"))
    """The boxes of an earlier job, with the `path` of its face."""

    def add(self, name: str, component: Component) -> Any:
        """Adds an input, and below it the place for mistakes in it."""
        self.fields[name] = component
        self.add_problem(name)
        return component

    def add_problem(self, name: str) -> None:
        self.problems[name] = gr.HTML(visible=False, elem_id=f"{name}-problem")


def add_inputs(settings: Settings, models: Sequence[str]) -> Inputs:
    """Lays out the inputs in the order of their importance."""
    inputs = Inputs()
    drawn = _add_face(inputs)
    speakers = _add_choice(inputs, "speakers", [("one", 1), ("two", 2)])
    voice = _add_choice(
        inputs, "voice", [("a recording", form.RECORDING), ("text, read aloud", form.TEXT)]
    )
    recordings, second_recording = _add_recordings(inputs)
    speech, second_voice = _add_speech(inputs, settings)
    prompt = gr.Textbox(
        DEFAULT_PROMPT, label=LABELS["prompt"], info="What the video shows.", elem_id="prompt"
    )
    inputs.add("prompt", prompt)
    _add_quality(inputs)
    _add_advanced(inputs, models)
    shown = [recordings, speech, second_recording, second_voice, drawn, inputs.fields["text"]]
    gr.on([speakers.change, voice.change], _show_relevant, [speakers, voice], shown, **QUIET)
    return inputs


def _add_face(inputs: Inputs) -> gr.HTML:
    """Returns the boxes."""
    face = gr.File(
        label="Face: an image or a video",
        file_types=["image", "video"],
        height=UPLOAD_HEIGHT,
        elem_id="face",
    )
    inputs.add("face", face)
    drawn: gr.HTML = inputs.add("boxes", boxes(face, inputs.restored))
    return drawn


def _add_choice(inputs: Inputs, name: str, choices: list[tuple[str, Any]]) -> gr.Radio:
    """A choice that cannot be a mistake; the first one is the usual."""
    choice = gr.Radio(choices, value=choices[0][1], label=LABELS[name], elem_id=name)
    inputs.fields[name] = choice
    return choice


def _add_recordings(inputs: Inputs) -> tuple[gr.Column, gr.Column]:
    """Returns the part for recordings, and within it that for the second one."""
    with gr.Column() as recordings:
        inputs.add("audio1", _audio("audio1"))
        with gr.Column(visible=False) as second:
            inputs.add("audio2", _audio("audio2"))
            orders = [form.IN_TURN, form.TOGETHER]
            inputs.add("order", gr.Radio(orders, value=form.IN_TURN, label=LABELS["order"]))
    return recordings, second


def _add_speech(inputs: Inputs, settings: Settings) -> tuple[gr.Column, gr.Column]:
    """Returns the part for a text, and within it that for the second voice."""
    with gr.Column(visible=False) as speech:
        inputs.add("text", gr.Textbox(label=LABELS["text"], lines=3, elem_id="text"))
        inputs.add("voice1", voice_choice(settings, 1, LABELS["voice1"], **QUIET))
        with gr.Column(visible=False) as second:
            inputs.add("voice2", voice_choice(settings, 2, LABELS["voice2"], **QUIET))
    return speech, second


TURNS = "Turns of two speakers: (s1) first speaker's text (s2) second speaker's text"


def _show_relevant(speakers: int, voice: str) -> list[Any]:
    """Updates of recordings, speech, both second ones, boxes and text, in this order."""
    two = speakers == 2
    return [
        gr.update(visible=voice == form.RECORDING),
        gr.update(visible=voice == form.TEXT),
        gr.update(visible=two),
        gr.update(visible=two),
        gr.update(open=two),
        gr.update(info=TURNS if two else None),
    ]


def _add_quality(inputs: Inputs) -> None:
    quality = gr.Radio(
        [(label, value) for value, label in CHOICES["quality"].items()],
        value="",
        label=LABELS["quality"],
        info="From quick to exact: draft, fast, best; or as the model was made.",
        elem_id="quality",
    )
    inputs.add("quality", quality)


def _add_advanced(inputs: Inputs, models: Sequence[str]) -> None:
    """Lays out the collapsed fields, which go before the quality."""
    choices = form.choices(models)
    switches = [name for name in ADVANCED if _default(name) is False]
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        inputs.add_problem("advanced")
        with gr.Row():
            for name in ADVANCED:
                if name not in switches:
                    inputs.fields[name] = _field(name, choices.get(name))
        for name in switches:
            inputs.fields[name] = gr.Checkbox(_default(name), **_options(name))


def _audio(name: str) -> gr.Audio:
    sources: Any = ["upload", "microphone"]
    return gr.Audio(label=LABELS[name], sources=sources, type="filepath", buttons=[], elem_id=name)


def _default(name: str) -> Any:
    return JobRequest.model_fields[name].default


def _options(name: str) -> dict[str, Any]:
    """What all advanced inputs have; the field's own name is for those who use the API too."""
    label, info = ADVANCED[name]
    return {"label": label, "info": f"{info} ({name})", "elem_id": name}


def _field(name: str, choices: Sequence[str] | None) -> Component:
    """The input of a field of the contract by its type, with its default; empty for null."""
    value = _default(name)
    schema = JobRequest.model_json_schema()["properties"][name]
    options = {**_options(name), "min_width": 260}
    kind = schema.get("anyOf", [{}])[0]  # or null
    allowed = choices or kind.get("enum") or schema.get("enum")
    if name in CHOICES:
        named = [(label, each) for each, label in CHOICES[name].items()]
        return gr.Dropdown(named, value="" if value is None else value, **options)
    if allowed:
        empty = [("default", "")] if value is None else []
        named = [*empty, *((each, each) for each in allowed)]
        return gr.Dropdown(named, value="" if value is None else value, **options)
    match schema.get("type"):  # an empty number would be shown as 0: one that may be null is text
        case "integer":
            return gr.Number(value, precision=0, **options)
        case "number":
            return gr.Number(value, **options)
        case _:
            return gr.Textbox("" if value in (None, ()) else str(value), **options)
