"""Text becomes speech, the same text the same speech."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from farm.errors import InvalidInput
from farm.job.dialogue import turns
from farm.media.audio import decode
from farm.media.speech import (
    MAX_CHARACTERS,
    speak,
    speak_dialogue,
    synthesise,
    voice_variants,
    voices,
)

WORDS = "Hello, this is the farm."


@pytest.fixture
def synthesised(tmp_path):
    """Speaks a text; returns the samples and their rate."""

    def run(text, voice=None):
        speak(text, tmp_path / "speech.wav", voice=voice)
        return decode(tmp_path / "speech.wav")

    return run


def test_a_sentence_lasts_about_as_long_as_when_a_person_speaks_it(synthesised):
    samples, rate = synthesised(WORDS)
    assert samples.shape[0] == 1
    assert rate == 22_050
    assert 1 < samples.shape[1] / rate < 3
    assert 0.02 < np.sqrt(np.mean(samples**2)) < 0.5


def test_a_longer_text_takes_longer(synthesised):
    assert synthesised(WORDS * 3)[0].size > 2 * synthesised(WORDS)[0].size


def test_the_same_text_makes_the_same_samples_whatever_was_spoken_before(synthesised):
    first = synthesised(WORDS)[0]
    synthesised("Etwas anderes.", "de+f3")
    np.testing.assert_array_equal(synthesised(WORDS)[0], first)


def test_texts_can_be_spoken_concurrently(tmp_path):
    paths = [tmp_path / f"{index}.wav" for index in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda path: speak(WORDS, path), paths))
    assert len({path.read_bytes() for path in paths}) == 1


@pytest.mark.parametrize(
    "voice", ["en-us", "en-gb", "EN-GB", "de", "fr-fr", "cmn", "en-us+f2", "en-gb+m3"]
)
def test_known_voices_speak(synthesised, voice):
    assert synthesised("Hallo 1 2 3", voice)[0].size > 5000


def test_another_voice_sounds_different(synthesised):
    assert not np.array_equal(synthesised(WORDS, "en-us+f2")[0], synthesised(WORDS, "en-us")[0])


def test_speech_can_be_faster_and_higher():
    def pitch(samples, rate):
        """The fundamental frequency in Hz, by autocorrelation."""
        lags = np.arange(rate // 400, rate // 60)
        return rate / lags[np.argmax([np.dot(samples[lag:], samples[:-lag]) for lag in lags])]

    plain, fast, high = (
        synthesise("aaaa", "en-us", **how) for how in ({}, {"speed_wpm": 220}, {"pitch": 90})
    )
    assert len(fast[0]) < 0.9 * len(plain[0])
    assert pitch(*high) > 1.1 * pitch(*plain)


def test_the_default_voice_is_american_english(synthesised):
    np.testing.assert_array_equal(synthesised(WORDS, None)[0], synthesised(WORDS, "en-us")[0])


@pytest.mark.parametrize(
    ("voice", "near"),
    [
        ("en-uss", "did you mean en-us?"),
        ("en-us+f99", "such as f2"),
        ("af_heart", "such as en-us"),
        ("", "such as en-us"),
        ("../etc", "such as"),
    ],
)
def test_an_unknown_voice_is_refused_with_allowed_ones(synthesised, voice, near):
    with pytest.raises(InvalidInput, match=r"^tts_audio.human1_voice: ") as caught:
        synthesised(WORDS, voice)
    assert near in caught.value.message


@pytest.mark.parametrize("text", ["", "...", "   \n", "?!", "\0"])
def test_a_text_that_cannot_be_pronounced_is_invalid(synthesised, text):
    with pytest.raises(InvalidInput, match=r"^tts_audio\.text: got .*, which cannot be pronounced"):
        synthesised(text)


def test_a_text_that_is_too_long_is_refused(synthesised):
    with pytest.raises(
        InvalidInput, match=r"^tts_audio.text: got 100,001 characters; allowed: 100,000"
    ):
        synthesised("a" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize(
    "text", ["Grüße aus Köln", "你好", "one\0two", "<speak>tag</speak>", "-h", "😀"]
)
def test_unusual_text_is_spoken(synthesised, text):
    assert synthesised(text)[0].size > 3000


def test_the_voices_can_be_listed():
    assert {"en-us", "de", "cmn"} <= set(voices())
    assert list(voices()) == sorted(voices())
    assert "f2" in voice_variants()


@pytest.fixture
def conversation(tmp_path):
    """Speaks a dialogue; returns both tracks as float32 [2, n]."""

    def run(text, voices=("en-us", "en-gb")):
        paths = tmp_path / "first.wav", tmp_path / "second.wav"
        speak_dialogue(turns(text), paths, speaker_voices=voices)
        (first, rate), (second, other_rate) = map(decode, paths)
        assert rate == other_rate == 22_050
        return np.concatenate([first, second])

    return run


def test_in_a_dialogue_one_speaker_is_silent_at_a_time(conversation, synthesised):
    both = conversation("(s1) hello there (s2) good morning to you (s1) how are you")
    # then every turn equals its text spoken alone, and the other speaker's track holds zeros
    spoken = [
        synthesised("hello there"),
        synthesised("good morning to you", "en-gb"),
        synthesised("how are you"),
    ]
    ends = np.cumsum([0, *(samples.shape[1] for samples, _ in spoken)])
    assert both.shape[1] == ends[-1]
    for index, (samples, _) in enumerate(spoken):
        part = both[:, ends[index] : ends[index + 1]]
        np.testing.assert_array_equal(part[index % 2], samples[0])
        assert not part[1 - index % 2].any()


def test_an_unknown_second_voice_is_refused_by_its_field(conversation):
    with pytest.raises(
        InvalidInput, match=r"^tts_audio\.human2_voice: got 'robot'; allowed: a language"
    ):
        conversation("(s1) hello (s2) good morning", (None, "robot"))


def test_a_turn_that_cannot_be_pronounced_is_invalid(conversation):
    with pytest.raises(
        InvalidInput,
        match=r"^tts_audio\.text: got .*, which cannot be pronounced",
    ):
        conversation("(s1) hello (s2) ...")
