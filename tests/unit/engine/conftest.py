"""A job in memory whose face and voice are uploaded."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from tests.support.harness import Harness, open_harness


@pytest.fixture(scope="session")
def word(voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first half second of the voice."""
    path = tmp_path_factory.mktemp("word") / "word.wav"
    with wave.open(str(voice)) as whole, wave.open(str(path), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(whole.getframerate() // 2))
    return path


@pytest.fixture
def harness(tmp_path: Path, portrait: Path, word: Path) -> Harness:
    """The job is not entered yet."""
    return open_harness(tmp_path, portrait, word)


@pytest.fixture
def entered(harness: Harness) -> Harness:
    harness.enter()
    return harness


@pytest.fixture
def writing(harness: Harness) -> Harness:
    """A job whose download writes to the store, because its speech is synthesised."""
    harness.enter(cond_audio=None, tts_audio={"text": "hello"})
    return harness
