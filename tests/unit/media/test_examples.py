"""The example media are what their program makes."""

from __future__ import annotations

import numpy as np
import pytest

from examples.make_media import ANSWER, FOLDER, QUESTION, SENTENCE, couple, portrait
from farm.media.audio import decode
from farm.media.image import read_picture
from farm.media.probe import Picture, expect_sound, expect_visual
from farm.media.speech import speak


@pytest.mark.parametrize(("name", "draw"), [("portrait.png", portrait), ("couple.png", couple)])
def test_a_picture_is_what_the_program_draws(name, draw):
    np.testing.assert_array_equal(read_picture(FOLDER / name), np.asarray(draw()))


def test_the_portrait_is_a_small_square_picture():
    assert expect_visual(FOLDER / "portrait.png", field="cond_video") == Picture(512, 512, "PNG")
    assert (FOLDER / "portrait.png").stat().st_size < 150_000


@pytest.mark.parametrize(
    ("name", "words", "voice"),
    [("speech.wav", SENTENCE, None), ("question.wav", QUESTION, None), ("answer.wav", ANSWER, "en-gb+f3")],
)
def test_speech_is_what_the_program_speaks(tmp_path, name, words, voice):
    speak(words, tmp_path / "again.wav", voice=voice)
    (again, rate), (kept, kept_rate) = decode(tmp_path / "again.wav"), decode(FOLDER / name)
    assert (rate, again.shape) == (kept_rate, kept.shape)
    assert np.sqrt(np.mean(again**2)) == pytest.approx(np.sqrt(np.mean(kept**2)), rel=0.01)


def test_the_couple_is_a_small_wide_picture():
    assert expect_visual(FOLDER / "couple.png", field="cond_video") == Picture(640, 320, "PNG")
    assert (FOLDER / "couple.png").stat().st_size < 150_000


def test_the_speech_lasts_eight_to_nine_seconds():
    assert 8 <= expect_sound(FOLDER / "speech.wav", field="cond_audio.person1").seconds <= 9
    assert (FOLDER / "speech.wav").stat().st_size < 450_000
