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

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""Options of event handlers: no spinner, no public API endpoint, no queueing."""


@dataclass(frozen=True)
class Inputs:
    """Inputs, and places for mistakes in them, by the names that `form` uses."""

    fields: dict[str, Component] = field(default_factory=dict)
    problems: dict[str, gr.HTML] = field(default_factory=dict)

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
    face = inputs.add(
        "face",
        gr.File(label="Face: an image or a video", file_types=["image", "video"], elem_id="face"),
    )
    drawn = inputs.add("boxes", boxes(face))
    speakers = gr.Radio([("one", 1), ("two", 2)], value=1, label="Speakers", elem_id="speakers")
    inputs.fields["speakers"] = speakers
    voice = gr.Radio(
        [("a recording", form.RECORDING), ("text, read aloud", form.TEXT)],
        value=form.RECORDING,
        label="Voice",
        elem_id="voice",
    )
    inputs.fields["voice"] = voice
    with gr.Column() as recordings:
        inputs.add("audio1", _audio(1, "Recording"))
        with gr.Column(visible=False) as second_recording:
            inputs.add("audio2", _audio(2, "Recording of the second speaker"))
            order = gr.Radio(
                [form.IN_TURN, form.TOGETHER], value=form.IN_TURN, label="Two recordings"
            )
            inputs.add("order", order)
    with gr.Column(visible=False) as speech:
        text = inputs.add("text", gr.Textbox(label="Text to speak", lines=3, elem_id="text"))
        inputs.add("voice1", voice_choice(settings, 1, "Speaker's voice", **QUIET))
        with gr.Column(visible=False) as second_voice:
            inputs.add("voice2", voice_choice(settings, 2, "Second speaker's voice", **QUIET))
    inputs.add(
        "prompt",
        gr.Textbox(
            DEFAULT_PROMPT,
            label="Prompt",
            info="What the video shows.",
            elem_id="prompt",
        ),
    )
    _add_quality(inputs, models)
    gr.on(
        [speakers.change, voice.change],
        _show_relevant,
        [speakers, voice],
        [recordings, speech, second_recording, second_voice, drawn, text],
        **QUIET,
    )
    return inputs


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


def _add_quality(inputs: Inputs, models: Sequence[str]) -> None:
    """Lays out the quality, and below it the collapsed fields, which go before it."""
    quality = gr.Radio(
        [(label, value) for value, label in CHOICES["quality"].items()],
        value="",
        label="Quality",
        elem_id="quality",
    )
    inputs.add("quality", quality)
    choices = form.choices(models)
    switches = [name for name in ADVANCED if _default(name) is False]
    with gr.Accordion("Advanced", open=False):
        inputs.add_problem("advanced")
        with gr.Row():
            for name in ADVANCED:
                if name not in switches:
                    inputs.fields[name] = _field(name, choices.get(name))
        for name in switches:
            inputs.fields[name] = gr.Checkbox(_default(name), **_options(name))


def _audio(person: int, label: str) -> gr.Audio:
    sources: Any = ["upload", "microphone"]
    return gr.Audio(label=label, sources=sources, type="filepath", elem_id=f"audio{person}")


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
        empty = [("", "")] if value is None else []
        named = [*empty, *((each, each) for each in allowed)]
        return gr.Dropdown(named, value="" if value is None else value, **options)
    match schema.get(
        "type"
    ):  # an empty number would be shown as 0, so one that may be null is text
        case "integer":
            return gr.Number(value, precision=0, **options)
        case "number":
            return gr.Number(value, **options)
        case _:
            return gr.Textbox("" if value in (None, ()) else str(value), **options)
