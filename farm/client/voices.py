"""The voices that read a text, as far as they are known on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from farm.client.uploads import can_probe
from farm.errors import InvalidInput, how_to_install
from farm.job.voices import ESPEAK, Voice, did_you_mean_voice
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
        allowed = "a code, such as de, or an English name, such as german"
        raise InvalidInput(
            f"language: got {language!r}; no voice speaks it; allowed: {allowed}{hint}"
        )
    return found


def say(text: str, voice: str | None, path: Path, settings: Settings) -> None:
    """Writes a text as a WAV, spoken by a voice; raises InvalidInput as a worker does."""
    if not can_probe():
        raise InvalidInput(f"say: av is not installed; {how_to_install('worker')}")
    from farm.media.speech import speak

    speak(text, path, voice=voice, kokoro_folder=settings.kokoro_folder)


def _kokoro(settings: Settings) -> Iterator[Voice]:
    if can_probe() and settings.kokoro_folder.is_dir():
        from farm.media import kokoro

        for name in kokoro.voices(settings.kokoro_folder):
            yield Voice.of_kokoro(name, kokoro.LANGUAGES[name[0]])
