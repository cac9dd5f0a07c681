"""A real farm for the tests that need one: a broker process, two worker processes, the miniature on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.embedded.house import House, open_house
from farm.media.speech import speak
from farm.settings import Settings

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
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), lease_s=3, reap_every_s=1)
    with open_house(settings) as house:
        yield house


@pytest.fixture(scope="session")
def farm(house: House) -> Farm:
    return Farm(settings=house.settings)


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About three seconds of speech: four or five chunks of a small job."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    speak("one two three four five six seven eight", path)
    return path


@pytest.fixture
def small(voice: Path) -> dict[str, Any]:
    return {**SMALL, "cond_audio": {"person1": str(voice)}}
