"""Requests to click, of the media that are in the repository."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.ui import form

FOLDER = Path(__file__).parents[2] / "examples"
"""It is no part of an installed package; then there are no examples."""

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


def labels() -> list[str]:
    return list(EXAMPLES) if (FOLDER / "portrait.png").is_file() else []


def example(label: str, uploads: Path) -> dict[str, Any]:
    """The values of an example, its files as uploads, which are all that a visitor may name."""
    values = {**USUAL, **EXAMPLES[label]}
    folder = Path(tempfile.mkdtemp(dir=uploads))
    for name in form.FILES:
        if values[name]:
            values[name] = shutil.copy(FOLDER / values[name], folder)
    return values
