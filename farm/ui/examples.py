"""Requests to click, of the drawn faces and the speech that are installed with the page."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from farm.ui import form
from farm.ui.parts import read_part

MEDIA = Path(__file__).with_name("media")
"""What `examples.make_media` drew; `examples/` has links to it."""

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "A portrait and a recording": {"face": "portrait.png", "audio1": "speech.wav"},
    "A portrait and a text": {
        "face": "portrait.png",
        "voice": form.TEXT,
        "text": "Hello! I can say whatever you write.",
    },
    "A couple, one after the other": {
        "face": "couple.png",
        "speakers": 2,
        "audio1": "question.wav",
        "audio2": "answer.wav",
    },
    "A video with another voice": {"face": "sitter.mp4", "audio1": "speech.wav"},
}
USUAL = {"face": None, "audio1": None, "audio2": None, "speakers": 1, "voice": form.RECORDING}

# The first frame of a video is its thumbnail.
TEMPLATE = """<h2>Examples</h2><ul>${value.map(({label, mark, url}) => `<li>
<button value="${label}">${url.endsWith('.mp4')
? `<video src="${url}" muted playsinline preload="auto"></video>` : `<img src="${url}" alt="">`}
<i aria-hidden="true">${mark}</i><span>${label}</span></button></li>`).join('')}</ul>"""

SELECT = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("select", { label: button.value });
});"""


def examples(folder: Path) -> gr.HTML:
    """The examples with their faces, from a folder that the page serves; `select` has a `label`."""
    return gr.HTML(
        [
            {
                "label": label,
                "mark": _mark(values),
                "url": f"gradio_api/file={quote(str(folder / values['face']))}",
            }
            for label, values in EXAMPLES.items()
        ],
        html_template=TEMPLATE,
        css_template=read_part("examples.css"),
        js_on_load=SELECT,
        apply_default_css=False,
        elem_id="examples",
    )


def example(label: str, uploads: Path) -> dict[str, Any]:
    """The values of an example, its files as uploads, which are all that a visitor may name."""
    values = {**USUAL, **EXAMPLES[label]}
    folder = Path(tempfile.mkdtemp(dir=uploads))
    for name in form.FILES:
        if values[name]:
            values[name] = shutil.copy(MEDIA / values[name], folder)
    return values


def _mark(values: Mapping[str, Any]) -> str:
    """What tells apart examples with the same face."""
    if "text" in values:
        return "Aa"
    return "▶" if values["face"].endswith(".mp4") else "♪"
