"""The left side of the page: an input for every field of a job, of which only those are shown that are asked for."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from farm.job import JobRequest
from farm.ui import form
from farm.ui.boxes import boxes

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def inputs() -> dict[str, Component]:
    """Lays them out, in the order in which a person thinks of them, and returns each by the name that `form` uses."""
    face = gr.File(label="Face: an image or a video", file_types=["image", "video"], elem_id="face")
    drawn = boxes(face)
    speakers = gr.Radio([("one", 1), ("two", 2)], value=1, label="Speakers", elem_id="speakers")
    voice = gr.Radio(
        [form.RECORDED, form.SPOKEN], value=form.RECORDED, label="Voice from a", elem_id="voice"
    )
    with gr.Group() as recorded:
        sound1, sound2 = _sound(1, "Voice"), _sound(2, "Second voice")
        order = gr.Radio(
            [form.IN_TURN, form.TOGETHER], value=form.IN_TURN, label="Two voices", visible=False
        )
    with gr.Group(visible=False) as spoken:
        turns = "two speakers: (s1) What the first says (s2) and the second"
        text = gr.Textbox(label="Words to speak", lines=3, info=turns, elem_id="text")
        voice1 = gr.Textbox(label="Name of the voice", placeholder="en-us+f3", elem_id="voice1")
        voice2 = gr.Textbox(label="Name of the second voice", visible=False, elem_id="voice2")
    prompt = gr.Textbox(
        "a person talks to the camera", label="What the video shows", elem_id="prompt"
    )

    def fold(speakers: int, voice: str) -> list[Any]:
        visible = [voice == form.RECORDED, voice == form.SPOKEN, *[speakers == 2] * 3]
        return [*(gr.update(visible=each) for each in visible), gr.update(open=speakers == 2)]

    gr.on(
        [speakers.change, voice.change],
        fold,
        [speakers, voice],
        [recorded, spoken, sound2, order, voice2, drawn],
        **QUIET,
    )
    return {
        "face": face,
        "boxes": drawn,
        "speakers": speakers,
        "voice": voice,
        "prompt": prompt,
        "sound1": sound1,
        "sound2": sound2,
        "order": order,
        "text": text,
        "voice1": voice1,
        "voice2": voice2,
    }


def advanced(usual: str) -> dict[str, Component]:
    """Those that have a default that serves, folded away, under the presets that write into them."""
    preset = gr.Radio(list(form.PRESETS), value=usual, label="Preset", elem_id="preset")
    with gr.Accordion("Advanced", open=False), gr.Row():
        folded = {name: _folded(name, form.initial(name, usual)) for name in form.ADVANCED}
    written = [folded[name] for name in form.PRESETS[usual]]
    preset.input(lambda name: list(form.PRESETS[name].values()), preset, written, **QUIET)
    return folded


def _sound(person: int, label: str) -> gr.Audio:
    sources: Any = ["upload", "microphone"]
    return gr.Audio(
        label=label, sources=sources, type="filepath", visible=person == 1, elem_id=f"sound{person}"
    )


def _folded(name: str, value: Any) -> Component:
    """The input of a field of the contract, by what it holds; one that may hold nothing is a text."""
    schema = JobRequest.model_json_schema()["properties"][name]
    shown: dict[str, Any] = {
        "label": name,
        "info": schema["description"],
        "elem_id": name,
        "min_width": 260,
    }
    match schema:
        case {"enum": allowed}:
            return gr.Dropdown(allowed, value=value, **shown)
        case {"type": "boolean"}:
            return gr.Checkbox(value, **shown)
        case {"type": "integer" | "number" as kind}:
            return gr.Number(value, precision=0 if kind == "integer" else None, **shown)
        case _:
            return gr.Textbox(value or "", **shown)
