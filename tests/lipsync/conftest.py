"""A few jobs through the real farm, each used by many tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.make_media import (
    COUPLE_SIZE,
    FOLDER,
    PORTRAIT_SIZE,
    SITTER,
    couple,
    picture,
    stranger,
)
from farm import Farm
from farm.media.audio import write_wav
from farm.media.video import encode_video
from miniature.clips import Scene
from tests.lipsync import other_hand
from tests.lipsync.sitter import Drawing, Sitter
from tests.lipsync.take import Take, take

WORDS = (
    "The train was late again, so we walked home along the river. "
    "It snowed all night, and this morning the whole street was quiet. Could you open the window?"
)
TURNS = {
    "text": (
        "(s1) Who are you, and where do you live? "
        "(s2) I am the second voice. A program drew us both."
    ),
    "human1_voice": "en-us",
    "human2_voice": "en-gb+linda",
}

Taken = Callable[..., Take]


@pytest.fixture(scope="session")
def taken(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    """Runs a job with these fields for a sitter."""
    return lambda sitter, **fields: take(farm, sitter, tmp_path_factory.mktemp("take"), **fields)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for source images and sounds."""
    return tmp_path_factory.mktemp("studio")


@pytest.fixture(scope="session")
def sitter(studio: Path) -> Sitter:
    """The examples' portrait, a face that the miniature was not trained on."""
    return Sitter.drawn(
        drawing(stranger(SITTER), PORTRAIT_SIZE),
        studio / "one.png",
        speakers=1,
        size=(128, 128),
    )


@pytest.fixture(scope="session")
def talk(taken: Taken, sitter: Sitter) -> Take:
    """Three chunks of synthesised speech, in a language that the miniature was not trained on."""
    return taken(sitter, tts_audio={"text": WORDS})


@pytest.fixture(scope="session")
def hush(taken: Taken, sitter: Sitter, studio: Path) -> Take:
    """A chunk of silence."""
    write_wav(studio / "silence.wav", np.zeros(52_000, np.float32), 16_000)
    return taken(sitter, cond_audio={"person1": str(studio / "silence.wav")}, mode="clip")


@pytest.fixture(scope="session")
def pair(taken: Taken, studio: Path) -> Take:
    """Two people in turns, two chunks."""
    two = Sitter.drawn(
        drawing(couple(), COUPLE_SIZE),
        studio / "two.png",
        speakers=2,
        size=(96, 176),
    )
    return taken(two, tts_audio=TURNS)


@pytest.fixture(scope="session")
def foreign(taken: Taken, studio: Path) -> Take:
    """A chunk of a portrait in another style."""
    draw = lambda openings: other_hand.portrait(openings[0])  # noqa: E731
    sitter = Sitter.drawn(draw, studio / "foreign.png", speakers=1, size=(128, 128))
    return taken(sitter, cond_audio={"person1": str(FOLDER / "speech.wav")}, mode="clip")


@pytest.fixture(scope="session")
def distilled(taken: Taken, studio: Path) -> Take:
    """Four chunks in FlashTalk's loop, of two steps."""
    sitter = Sitter.drawn(
        drawing(stranger(SITTER), (768, 448)), studio / "tall.png", speakers=1, size=(192, 112)
    )
    fields = {"cond_audio": {"person1": str(FOLDER / "speech.wav")}, "sample_steps": 2}
    return taken(sitter, model="miniature-flashtalk", **fields)


@pytest.fixture(scope="session", params=["int8", "fp8"])
def rounded(request: pytest.FixtureRequest, taken: Taken, sitter: Sitter) -> Take:
    """Two short chunks of a model with linears of 8 bits."""
    voice = {"person1": str(FOLDER / "question.wav")}
    return taken(sitter, cond_audio=voice, frame_num=41, quant=request.param)


@pytest.fixture(scope="session")
def walk(taken: Taken, studio: Path) -> tuple[Take, Sitter]:
    """Two short chunks of a film whose sitter jumps aside between them, and the sitter after it."""
    here = _aside(studio, -0.05)
    there = _aside(studio, 0.05)
    before, after = (np.asarray(Image.open(each.source)) for each in (here, there))
    encode_video(studio / "walk.mp4", [before] * 32 + [after] * 40)
    filmed = replace(here, source=studio / "walk.mp4")
    return taken(filmed, cond_audio={"person1": str(FOLDER / "question.wav")}, frame_num=41), there


def _aside(studio: Path, x: float) -> Sitter:
    """The examples' sitter, moved to the right by `x`."""
    who = stranger(SITTER)
    moved = replace(who, heads=(replace(who.heads[0], x=who.heads[0].x + x),))
    return Sitter.drawn(
        drawing(moved, PORTRAIT_SIZE),
        studio / f"aside{x}.png",
        speakers=1,
        size=(128, 128),
    )


def drawing(who: Scene, size: tuple[int, int]) -> Drawing:
    """A function that draws `who`; size is (height, width) in pixels."""

    def draw(openings: Sequence[float]) -> Image.Image:
        return picture(who, size, openings=openings)

    return draw
