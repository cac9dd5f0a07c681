"""The example media are what their program makes."""

from __future__ import annotations

import numpy as np
import pytest

from examples.make_media import FOLDER, SENTENCE, portrait
from farm.media.audio import decode
from farm.media.image import read_picture
from farm.media.probe import Picture, expect_sound, expect_visual
from farm.media.speech import speak


def test_the_portrait_is_what_the_program_draws():
    np.testing.assert_array_equal(read_picture(FOLDER / "portrait.png"), np.asarray(portrait()))


def test_the_portrait_is_a_small_square_picture():
    assert expect_visual(FOLDER / "portrait.png", field="cond_video") == Picture(512, 512, "PNG")
    assert (FOLDER / "portrait.png").stat().st_size < 150_000


def test_the_speech_is_what_the_program_speaks(tmp_path):
    speak(SENTENCE, tmp_path / "again.wav")
    (again, rate), (kept, kept_rate) = decode(tmp_path / "again.wav"), decode(FOLDER / "speech.wav")
    assert (rate, again.shape) == (kept_rate, kept.shape)
    assert np.sqrt(np.mean(again**2)) == pytest.approx(np.sqrt(np.mean(kept**2)), rel=0.01)


def test_the_speech_lasts_eight_to_nine_seconds():
    assert 8 <= expect_sound(FOLDER / "speech.wav", field="cond_audio.person1").seconds <= 9
    assert (FOLDER / "speech.wav").stat().st_size < 450_000
