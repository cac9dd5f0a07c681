"""What jobs through the real farm are made of: small ones, whose chunks take about a second each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farm.media.speech import speak

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.png"

SMALL = {
    "prompt": "a friendly person talks",
    "cond_video": str(PORTRAIT),
    "mode": "streaming",
    "frame_num": 21,
    "motion_frame": 5,
    "sample_steps": 2,
    "sample_text_guide_scale": 1.0,
    "sample_audio_guide_scale": 1.0,
}
"""A job whose chunks take about a second each."""


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About three seconds of speech: four or five chunks of a small job."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    speak("one two three four five six seven eight", path)
    return path


@pytest.fixture
def small(voice: Path) -> dict[str, Any]:
    return {**SMALL, "cond_audio": {"person1": str(voice)}}
