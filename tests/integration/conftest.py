"""A small farm, and jobs whose chunks take it a fraction of a second each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm import Farm
from farm.media.speech import speak
from tests.conftest import EXAMPLES
from tests.support.small_farm import SmallFarm, small_farm

PORTRAIT = EXAMPLES / "portrait.png"

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

ONE_CHUNK = {"max_frame_num": 21}
"""Fields that limit a small job to one chunk."""

ENDLESS = {"sample_steps": 1000}
"""Fields of a small job that is cancelled, or whose worker is stopped, long before it ends."""


@pytest.fixture(scope="session")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFarm]:
    with small_farm(tmp_path_factory.mktemp("home")) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def farm(supervisor: SmallFarm) -> Farm:
    """The client of the small farm, or of the one that a module has of its own."""
    return Farm(settings=supervisor.settings)


@pytest.fixture
def restarted(supervisor: SmallFarm) -> Iterator[None]:
    """Workers that a test has ended run again for the next."""
    yield
    supervisor.restart_dead()


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About three seconds of speech: four or five chunks of a small job."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    speak("one two three four five six seven eight", path)
    return path


@pytest.fixture(scope="session")
def small(voice: Path) -> dict[str, Any]:
    """The fields of a small job."""
    return {**SMALL, "cond_audio": {"person1": str(voice)}}
