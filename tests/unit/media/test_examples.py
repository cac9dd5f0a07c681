"""The example media are what their program makes."""

from __future__ import annotations

import os
import subprocess
import sys

import av
import numpy as np
import pytest

from examples.make_media import (
    ANSWER,
    ANSWERS_VOICE,
    COUPLE_SIZE,
    FILM_FRAMES,
    FILM_SIZE,
    FOLDER,
    PORTRAIT_SIZE,
    QUESTION,
    SENTENCE,
    SITTER,
    couple,
    film,
    picture,
    say,
    stranger,
)
from farm.media.audio import decode, speech
from farm.media.image import read_image
from farm.media.probe import StillImage, expect_audio, expect_visual


@pytest.mark.parametrize("program", sorted(FOLDER.glob("make_*.py")), ids=lambda path: path.stem)
def test_the_programs_write_nothing_but_their_help_when_they_are_asked_for_it(program, tmp_path):
    written = {path: path.stat().st_mtime_ns for path in FOLDER.iterdir()}
    command = [sys.executable, "-m", f"examples.{program.stem}", "--help"]
    environ = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert done.stdout.startswith("usage: ")
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in FOLDER.iterdir()} == written


@pytest.mark.parametrize(
    ("name", "who", "size"),
    [("portrait.png", stranger(SITTER), PORTRAIT_SIZE), ("couple.png", couple(), COUPLE_SIZE)],
)
def test_an_image_is_what_the_program_draws(name, who, size):
    kept, drawn = (
        np.asarray(each, int) for each in (read_image(FOLDER / name), picture(who, size))
    )
    # Processors differ in the last bit of a sine.
    assert abs(kept - drawn).max() <= 1


def test_the_portrait_is_a_small_square_image():
    assert expect_visual(FOLDER / "portrait.png", field="cond_video") == StillImage(512, 512, "PNG")
    assert (FOLDER / "portrait.png").stat().st_size < 150_000


SPOKEN = [
    ("speech.wav", SENTENCE, None),
    ("question.wav", QUESTION, None),
    ("answer.wav", ANSWER, ANSWERS_VOICE),
]


@pytest.mark.parametrize(("name", "text", "voice"), SPOKEN)
def test_speech_is_what_the_program_synthesises(tmp_path, name, text, voice):
    say(text, tmp_path / name, voice=voice)
    again, rate = decode(tmp_path / name)
    kept, kept_rate = decode(FOLDER / name)
    assert rate == kept_rate
    np.testing.assert_allclose(again, kept, atol=1e-3)


@pytest.mark.parametrize("name", [name for name, _, _ in SPOKEN])
def test_speech_lasts_whole_video_frames(name):
    assert len(speech(FOLDER / name)) % 640 == 0


def test_a_mouth_can_be_opened():
    shut, wide = (
        np.asarray(picture(stranger(SITTER), (64, 64), openings=[opening])) for opening in (0, 1)
    )
    assert (shut != wide).any()


def test_one_of_two_mouths_can_be_opened():
    shut, wide = (
        np.asarray(picture(couple(), (64, 128), openings=openings)) for openings in ([0, 0], [0, 1])
    )
    assert (shut[:, :64] == wide[:, :64]).all()
    assert (shut[:, 64:] != wide[:, 64:]).any()


def test_the_couple_is_a_small_wide_image():
    assert expect_visual(FOLDER / "couple.png", field="cond_video") == StillImage(640, 320, "PNG")
    assert (FOLDER / "couple.png").stat().st_size < 150_000


def test_the_speech_lasts_eight_to_nine_seconds():
    assert 8 <= expect_audio(FOLDER / "speech.wav", field="cond_audio.person1").seconds <= 9
    assert (FOLDER / "speech.wav").stat().st_size < 450_000


def test_the_video_is_what_the_program_draws():
    with av.open(str(FOLDER / "sitter.mp4")) as container:
        kept = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    drawn = list(film(stranger(SITTER), FILM_SIZE, FILM_FRAMES))
    assert len(kept) == len(drawn)
    assert max(abs(one - other).mean() for one, other in zip(kept, drawn, strict=True)) < 4
    assert (FOLDER / "sitter.mp4").stat().st_size < 150_000


def test_the_sitter_moves_in_the_video():
    first, *_, last = film(stranger(SITTER), FILM_SIZE, FILM_FRAMES)
    assert abs(first.astype(int) - last).mean() > 0.5
