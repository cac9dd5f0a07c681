"""The voices that read a text, as far as they are known on this machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from farm.client.uploads import can_probe
from farm.errors import InvalidInput, how_to_install
from farm.job import JobRequest
from farm.job.english import is_english
from farm.job.voices import ESPEAK, KOKORO, Voice, did_you_mean_voice, unknown_kokoro_voice
from farm.settings import Settings


def voices(settings: Settings, language: str | None = None) -> list[Voice]:
    """The voices of espeak-ng, and Kokoro's if it is installed here; those of one language.

    Raises InvalidInput for a language that none of them speaks.
    """
    known = [*ESPEAK, *_kokoro(settings)]
    if language is None:
        return known
    found = [voice for voice in known if voice.speaks(language)]
    if not found:
        hint = did_you_mean_voice(language)
        allowed = "a code, such as de, or a name, such as german or deutsch"
        raise InvalidInput(
            f"language: got {language!r}; no voice speaks it; allowed: {allowed}{hint}"
        )
    return found


def check_kokoro(request: JobRequest, known: Callable[[], Collection[str] | None]) -> None:
    """Raises InvalidInput for a voice of Kokoro's that is not `known`; None if nothing is.

    That is asked for only if the request names such a voice.
    """
    for part in ("human1_voice", "human2_voice"):
        voice = getattr(request.tts_audio, part, None) or ""
        if not voice.startswith(KOKORO):
            continue
        names = known()
        if names is not None and voice.removeprefix(KOKORO) not in names:
            raise unknown_kokoro_voice(f"tts_audio.{part}", voice, names)


def is_read_by_default(fields: Mapping[str, Any]) -> bool:
    """Whether the default voice reads a text which may be of another language than its own."""
    speech = fields.get("tts_audio")
    if not isinstance(speech, Mapping) or speech.get("human1_voice"):
        return False
    return not is_english(str(speech.get("text", "")))


def say(text: str, voice: str | None, path: Path, settings: Settings) -> None:
    """Writes a text as a WAV, spoken by a voice; raises InvalidInput as a worker does."""
    if not can_probe():
        raise InvalidInput(f"say: av is not installed; {how_to_install('worker')}")
    from farm.media.speech import speak

    speak(text, path, voice=voice, kokoro_folder=settings.kokoro_folder)


def _kokoro(settings: Settings) -> Iterator[Voice]:
    for name in kokoro_names(settings):
        from farm.media.kokoro import LANGUAGES

        yield Voice.of_kokoro(name, LANGUAGES[name[0]])


def kokoro_names(settings: Settings) -> list[str]:
    """Kokoro's voices that are installed here, without their prefix."""
    if not (can_probe() and settings.kokoro_folder.is_dir()):
        return []
    from farm.media import kokoro

    return kokoro.voices(settings.kokoro_folder)
