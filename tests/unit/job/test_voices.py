"""The names of voices, and what is meant by another name."""

from __future__ import annotations

import pytest

from docs import voices as generated
from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.job.espeak_voices import LANGUAGES
from farm.job.own_names import OWN_NAMES
from farm.job.voices import ESPEAK, Voice, did_you_mean_voice
from tests.support.jobs import FIELDS


def spoken(voice: str) -> JobRequest:
    speech = {"text": "(s1) one (s2) two", "human2_voice": voice}
    return JobRequest.parse({**FIELDS, "cond_audio": None, "tts_audio": speech})


def test_the_voices_are_those_of_the_installed_synthesiser():
    assert generated.MODULE.read_text() == generated.module()


@pytest.mark.parametrize(
    "name", ["de", "EN-GB", "en-us+f3", "fr-fr+Mr serious", "kokoro:af_heart", "kokoro:xy_own"]
)
def test_a_voice_is_accepted(name):
    assert spoken(name).tts_audio.human2_voice == name


@pytest.mark.parametrize("name", ["german", "en-us+f9", "de+", "+f3", "", "Kokoro:af_heart"])
def test_another_name_is_refused_by_the_contract(name):
    with pytest.raises(InvalidInput) as caught:
        spoken(name)
    assert caught.value.message.startswith(
        f"tts_audio.human2_voice: got {name!r}; no voice has that name; allowed: a voice that "
        "`farm voices` lists, such as en-us, en-us+f3 or kokoro:af_heart"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("german", "de"),
        ("Russian", "ru"),
        ("english", "en"),
        ("portugese", "pt"),
        ("chinese", "cmn"),
        ("de-DE", "de"),
        ("deutsch", "de"),
        ("Francais", "fr"),
        ("Русский", "ru"),
        ("en-uk", "en-gb"),
        ("en_UK+f3", "en-gb+f3"),
        ("zh-Hant-TW", "zh"),
        ("en_US", "en-us"),
        ("en-uss", "en-us"),
        ("en-us+F3", "en-us+f3"),
        ("german+whisprr", "de+whisper"),
    ],
)
def test_an_error_suggests_the_voice_that_is_meant(name, meant):
    assert did_you_mean_voice(name) == f"; did you mean {meant}?"


@pytest.mark.parametrize("name", ["", "nosuchvoice", "../etc", "kokoro:af_hart", "x" * 9999])
def test_nothing_is_suggested_if_no_voice_is_near(name):
    assert did_you_mean_voice(name) == ""


def test_kokoros_voices_are_suggested_where_they_are_known():
    assert did_you_mean_voice("kokoro:af_hart", ["af_heart"]) == "; did you mean kokoro:af_heart?"


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("german", ["de"]),
        ("DE", ["de"]),
        ("Deutsch", ["de"]),
        ("portugues", ["pt", "pt-br", "pt-pt"]),
        ("en-us", ["en-us", "en-us-nyc"]),
        ("e", []),
    ],
)
def test_voices_are_found_by_code_or_name_of_their_language(language, names):
    assert [voice.name for voice in ESPEAK if voice.speaks(language)] == names


def test_a_list_names_a_language_in_english_and_in_itself():
    labels = {voice.name: voice.label for voice in ESPEAK}
    assert [labels[name] for name in ("de", "es-419", "en-us")] == [
        "German, Deutsch",
        "Spanish (Latin America), Español",
        "English (America)",
    ]


def test_every_own_name_is_that_of_a_voice():
    assert {*OWN_NAMES} - {*LANGUAGES} == set()


def test_a_kokoro_voice_speaks_the_language_of_its_first_letter():
    voice = Voice.of_kokoro("bf_emma", "en-gb")
    assert (voice.name, voice.language_name) == ("kokoro:bf_emma", LANGUAGES["en-gb"])
    assert voice.speaks("english")
