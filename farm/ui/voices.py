"""The choice of a voice: a list that can be searched, and a button to hear the chosen one."""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from farm.client.uploads import can_probe
from farm.client.voices import say, voices
from farm.errors import FarmError
from farm.job.voices import DEFAULT_VOICE
from farm.settings import Settings
from farm.ui import view

SAMPLE = "1, 2, 3, 4, 5."
"""Read in the language of each voice, whatever its script."""

MAX_SAMPLES = 100
"""Of which the speech is kept, about 200 KB each."""


def voice_choice(settings: Settings, person: int, label: str, **options: Any) -> gr.Dropdown:
    """A list of the voices. A variant may be typed behind a name: `de+f3`."""
    chosen = gr.Dropdown(
        [(f"{voice.label}: {voice.name}", voice.name) for voice in voices(settings)],
        value=DEFAULT_VOICE if person == 1 else "en-gb",
        label=label,
        info="Type to search by language; a variant may follow the name, as in de+f3.",
        allow_custom_value=True,
        num_choices_shown=None,
        elem_id=f"voice{person}",
    )
    if can_probe():
        button = gr.Button("Listen", size="sm", elem_id=f"listen{person}")
        player = gr.HTML(elem_id=f"sample{person}")
        button.click(lambda voice: _player(settings, voice), chosen, player, **options)
    return chosen


def _player(settings: Settings, voice: str | None) -> str:
    try:
        return _spoken(settings, voice or None)
    except FarmError as error:
        return view.alert(error)


@lru_cache(MAX_SAMPLES)
def _spoken(settings: Settings, voice: str | None) -> str:
    """A player of the sample, which it contains: so no file is kept or served."""
    with TemporaryDirectory(prefix="farm-") as folder:
        path = Path(folder, "sample.wav")
        say(SAMPLE, voice, path, settings)
        content = b64encode(path.read_bytes()).decode()
    return f'<audio src="data:audio/wav;base64,{content}" controls autoplay></audio>'
