"""Text becomes speech, the same text the same speech."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from farm.errors import InvalidInput
from farm.job.dialogue import turns
from farm.media.audio import decode
from farm.media.scripts import LANGUAGES
from farm.media.speech import (
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
        ("en-us+f99", "such as en-us, en-us+f3"),
        ("af_heart", "such as en-us"),
        ("de-DE", "did you mean de?"),
        ("zh-CN", "did you mean zh?"),
        ("zh-Hant-TW", "did you mean zh?"),
        ("pl_PL", "did you mean pl?"),
        ("en_US", "did you mean en-us?"),
        ("x" * 9999, "(10001 characters)"),
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


def test_speech_beyond_the_limit_is_refused_and_not_synthesised_further(tmp_path):
    with pytest.raises(
        InvalidInput, match=r"^tts_audio\.text: got speech of more than 2 s; allowed: 2 s$"
    ):
        speak(WORDS * 100, tmp_path / "speech.wav", max_seconds=2)
    samples, rate = synthesise(WORDS * 100, "en-us", max_seconds=2)
    assert 2 < len(samples) / rate < 10


def test_the_turns_of_a_dialogue_share_the_limit(tmp_path):
    paths = tmp_path / "first.wav", tmp_path / "second.wav"
    dialogue = turns(f"(s1) {WORDS} (s2) {WORDS} (s1) {WORDS}")
    with pytest.raises(InvalidInput, match=r"got speech of more than 4 s"):
        speak_dialogue(dialogue, paths, speaker_voices=(None, None), max_seconds=4)
    speak_dialogue(dialogue[:2], paths, speaker_voices=(None, None), max_seconds=4)


@pytest.mark.parametrize("text", ["Grüße aus Köln", "one\0two", "-h", "😀", "¡Ａｂｃ!", "𝐁𝐨𝐥𝐝"])
def test_unusual_text_is_spoken(synthesised, text):
    assert synthesised(text)[0].size > 3000


SPOKEN = [
    ("en-us", "Hello 世界"),
    ("ru", "Привет, мир, hello"),
    ("ru", "hello"),
    ("sr", "Добар дан"),
    ("cmn", "今天天气很好。"),
    ("zh", "今天天气很好。"),
    ("yue", "今天天气很好。"),
    ("ja", "きょうはいいてんきです。"),
    ("ja", "コーヒー"),
    ("ko", "오늘은 날씨가 좋습니다."),
    ("en-us", "오늘은 날씨가 좋습니다."),
    ("ar", "مرحبا بالعالم"),
    ("he", "שלום עולם"),
    ("hi", "नमस्ते दुनिया"),
    ("th", "สวัสดีชาวโลก"),
    ("el", "Γειά σου Κόσμε"),
    ("ka", "გამარჯობა მსოფლიო"),
    ("en-us", "1 + 1 = 2 µm"),
    ("en-us", "5 Ω"),
    ("vi", "Xin chào thế giới"),
]


@pytest.mark.parametrize(("voice", "text"), SPOKEN)
def test_a_text_in_the_script_of_the_voices_language_is_spoken(synthesised, voice, text):
    assert synthesised(text, voice)[0].size > 3000


UNREAD = [
    (None, "你", "Chinese", "a voice that does, such as cmn, yue, zh"),
    (None, "今天天气很好。", "Chinese", "a voice that does, such as cmn, yue, zh"),
    ("en-gb+f3", "Привет, мир", "Cyrillic", "a voice that does, such as ru, uk, bg, sr, be"),
    ("de", "مرحبا بالعالم", "Arabic", "a voice that does, such as ar, fa, ur, sd, ug"),
    ("fr", "שלום עולם", "Hebrew", "a voice that does, such as he"),
    ("en-us", "Γειά σου Κόσμε", "Greek", "a voice that does, such as el, grc"),
    ("en-us", "สวัสดีชาวโลก", "Thai", "a voice that does, such as th"),
    ("en-us", "コーヒー", "Katakana", "a voice that does, such as ja"),
    ("en-us", "今日は良い天気です。", "Japanese", "the voice ja, with the text in kana"),
    ("cmn", "今日はいい天気ですね", "Japanese", "the voice ja, with the text in kana"),
    ("ja", "hello", "Latin", "a voice that does, such as en, es, fr, de, it"),
    ("en-us", "ສະບາຍດີ", "Lao", "a script that some voice reads"),
]


@pytest.mark.parametrize(("voice", "text", "script", "allowed"), UNREAD)
def test_a_text_that_the_voice_would_only_spell_is_refused(
    synthesised, voice, text, script, allowed
):
    with pytest.raises(InvalidInput, match=r"^tts_audio\.text: got ") as caught:
        synthesised(text, voice)
    unread = f"most of its letters are {script}, which the voice {voice or 'en-us'} does not read"
    assert caught.value.message.endswith(f"{unread}; allowed: {allowed}")


@pytest.mark.parametrize(
    ("text", "kanji"),
    [
        ("今日はいい天気ですね", "今, 日, 天, 気"),
        ("日本語のテキスト", "日, 本, 語"),
        ("こんにちは、世界", "世, 界"),
        ("私はテストです", "私"),
        ("人々", "人"),
        ("天気予報", "天, 気, 予, 報"),
    ],
)
def test_a_japanese_voice_refuses_each_kanji_by_name(synthesised, text, kanji):
    with pytest.raises(InvalidInput) as caught:
        synthesised(text, "ja+f3")
    assert caught.value.message == (
        f"tts_audio.text: got {text!r}; the voice ja+f3 reads no Kanji, as in it {kanji}; "
        "allowed: Japanese in kana"
    )


def test_every_language_of_the_scripts_has_a_voice():
    assert {name for names in LANGUAGES.values() for name in names.split()} <= voices().keys()


def test_the_script_of_every_turn_is_checked_before_the_first_is_spoken(conversation):
    with pytest.raises(InvalidInput, match="the voice de does not read"):
        conversation(f"(s1) {WORDS * 1000} (s2) 今天天气很好。", ("en-us", "de"))


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
        InvalidInput, match=r"^tts_audio\.human2_voice: got 'robot'; no voice has that name"
    ):
        conversation("(s1) hello (s2) good morning", (None, "robot"))


def test_a_turn_that_cannot_be_pronounced_is_invalid(conversation):
    with pytest.raises(
        InvalidInput,
        match=r"^tts_audio\.text: got .*, which cannot be pronounced",
    ):
        conversation("(s1) hello (s2) ...")
