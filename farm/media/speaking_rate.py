"""How long a text takes to speak, before it is spoken: by its characters and its language."""

from __future__ import annotations

from farm.job import TtsAudio
from farm.job.dialogue import Turn, turns

CHARACTERS_PER_S = {
    "ar": 11.5,
    "bg": 15,
    "cmn": 3.9,
    "cs": 15,
    "da": 18,
    "de": 18,
    "el": 18.5,
    "en": 18,
    "es": 17.5,
    "fi": 15,
    "fr": 23,
    "hi": 15.5,
    "hu": 14.5,
    "id": 15.5,
    "it": 17.5,
    "ja": 8,
    "ko": 7,
    "nb": 15,
    "nl": 16,
    "pl": 15,
    "pt": 16.5,
    "ro": 15.5,
    "ru": 18.5,
    "sv": 16,
    "tr": 14,
    "uk": 12,
    "vi": 18.5,
    "yue": 3.9,
}
"""Of espeak-ng, as measured (docs/lab-log.md); most texts are within a tenth of it."""

OTHER = 15.0
"""Of a language or a synthesiser that was not measured."""


def spoken_seconds(tts: TtsAudio) -> float:
    """About how long a text of one or two speakers is, before it is spoken."""
    voices = (tts.human1_voice, tts.human2_voice)
    spoken = [Turn(1, tts.text)] if tts.human2_voice is None else turns(tts.text)
    return sum(len(" ".join(text.split())) / _rate(voices[speaker - 1]) for speaker, text in spoken)


def _rate(voice: str | None) -> float:
    """The characters that a voice speaks in a second."""
    language = (voice or "en").partition("+")[0].lower()
    return CHARACTERS_PER_S.get(language) or CHARACTERS_PER_S.get(language.split("-")[0], OTHER)
