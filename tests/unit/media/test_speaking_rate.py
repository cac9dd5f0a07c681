"""The length of a text before it is spoken."""

from __future__ import annotations

import pytest

from farm.job import TtsAudio
from farm.media.audio import speech
from farm.media.speaking_rate import OTHER, spoken_seconds
from farm.media.speech import speak
from farm.plan import SPEECH_RATE

ENGLISH = "Hello and welcome! Today I want to show you how we make bread at home."
GERMAN = "Hallo und willkommen! Heute zeige ich euch, wie wir zu Hause Brot backen."


@pytest.mark.parametrize(
    ("text", "voice"),
    [
        (ENGLISH, None),
        (ENGLISH, "en-gb+f3"),
        (GERMAN, "de"),
        ("大家好，欢迎！今天我想告诉你们我们怎么在家里做面包。", "cmn"),
    ],
)
def test_the_length_of_a_text_is_about_that_of_its_speech(text, voice, tmp_path):
    speak(text, tmp_path / "speech.wav", voice=voice)
    seconds = len(speech(tmp_path / "speech.wav")) / SPEECH_RATE
    assert spoken_seconds(TtsAudio(text=text, human1_voice=voice)) == pytest.approx(
        seconds, rel=0.25
    )


def test_turns_are_spoken_one_after_the_other_each_at_the_rate_of_its_voice():
    dialogue = TtsAudio(
        text="(s1) Hello! (s2) 你好 (s1) Bye.", human1_voice="kokoro:af_heart", human2_voice="cmn"
    )
    assert spoken_seconds(dialogue) == pytest.approx((6 + 4) / OTHER + 2 / 3.9)


def test_blanks_take_no_time():
    assert spoken_seconds(TtsAudio(text="a \n\n b")) == spoken_seconds(TtsAudio(text="a b"))
