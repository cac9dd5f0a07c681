"""Text to speech: with espeak-ng, whose wheel includes its voices, or Kokoro where installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import espeakng_loader
import numpy as np

from farm.errors import FarmError, InvalidInput, did_you_mean
from farm.job.dialogue import Turn
from farm.media import espeak, kokoro
from farm.media.audio import Samples, resample, write_wav, write_wav_blocks

VOICE = "en-us"
SPEED_WPM = 175
PITCH = 50
"""espeak-ng's defaults: words per minute, and the middle of 0 to 100."""

KOKORO = "kokoro:"
"""Prefix of Kokoro's voices."""

MAX_CHARACTERS = 100_000
"""About two hours of speech."""

_MIN_SECONDS = 0.05
"""For a text without any sound espeak-ng still writes 7 ms of noise."""

_DEFAULT_PRIORITY = 5
"""espeak-ng's priority of a voice that does not state one."""


def speak(
    text: str,
    path: Path,
    *,
    voice: str | None = None,
    kokoro_folder: Path | None = None,
    field: str = "tts_audio.text",
    voice_field: str = "tts_audio.human1_voice",
) -> None:
    """Writes `text` as speech, a mono WAV at the synthesiser's own rate.

    It is deterministic, except for espeak-ng voices with a variant (`en-us+f3`), whose samples
    differ slightly in about one run of four. `voice` is a language of `voices()`, optionally with
    one of the `voice_variants()` (`en-us+f2`), or a Kokoro voice in `kokoro_folder`
    (`kokoro:af_heart`); None is `en-us`. Raises InvalidInput for an unknown voice, and for a text
    that is too long or cannot be pronounced; PipelineLoadFailed if Kokoro's files are broken.
    """
    samples, rate = _speech(text, voice, kokoro_folder, field, voice_field)
    write_wav(path, samples, rate)


def speak_dialogue(
    turns: Sequence[Turn],
    paths: tuple[Path, Path],
    *,
    speaker_voices: tuple[str | None, str | None],
    kokoro_folder: Path | None = None,
    field: str = "tts_audio.text",
) -> None:
    """Writes a mono WAV for each of two speakers, of one rate and length; one is always silent.

    Raises as `speak` does.
    """
    voice_fields = ("tts_audio.human1_voice", "tts_audio.human2_voice")
    spoken: list[tuple[int, Samples, int]] = []
    for speaker, text in turns:
        voice = speaker_voices[speaker - 1]
        samples, rate = _speech(text, voice, kokoro_folder, field, voice_fields[speaker - 1])
        spoken.append((speaker, samples, rate))
    common_rate = max(rate for _, _, rate in spoken)

    def track(speaker: int) -> Iterator[Samples]:
        for other, samples, rate in spoken:
            audible = np.float32(speaker == other)
            yield np.atleast_2d(resample(samples, rate, common_rate) * audible)

    for speaker, path in enumerate(paths, start=1):
        write_wav_blocks(path, track(speaker), common_rate)


def _speech(
    text: str, voice: str | None, kokoro_folder: Path | None, field: str, voice_field: str
) -> tuple[Samples, int]:
    """Float32 [n] in [-1, 1], and the sample rate."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"{field}: got {len(text):,} characters; allowed: {MAX_CHARACTERS:,}")
    if voice is not None and voice.startswith(KOKORO):
        samples = _kokoro_speech(text, voice.removeprefix(KOKORO), kokoro_folder, voice_field)
        rate = kokoro.RATE
    else:
        name = VOICE if voice is None else voice
        samples, rate = synthesise(text, name, field=voice_field)
    if len(samples) < _MIN_SECONDS * rate:
        raise InvalidInput(
            f"{field}: got {text[:40]!r}, which cannot be pronounced; allowed: at least one word"
        )
    return samples, rate


def _kokoro_speech(text: str, name: str, folder: Path | None, field: str) -> Samples:
    known = kokoro.voices(folder) if folder else []
    if folder is None or not known:
        raise InvalidInput(
            f"{field}: got '{KOKORO}{name}'; this farm has no Kokoro voices, "
            "see docs/operations/kokoro.md"
        )
    _check_known(name, known, "a Kokoro voice after 'kokoro:'", field)
    return kokoro.synthesise(text, name, folder)


def synthesise(
    text: str,
    voice: str,
    *,
    speed_wpm: int = SPEED_WPM,
    pitch: int = PITCH,
    field: str = "voice",
) -> tuple[Samples, int]:
    """`text` spoken by espeak-ng: float32 [n] in [-1, 1], and the sample rate.

    Raises InvalidInput for an unknown voice.
    """
    voice_file = _voice_file(voice, field)
    program = [sys.executable, "-I", espeak.__file__, voice_file, str(speed_wpm), str(pitch)]
    # A NUL would end the text for the library, which is written in C.
    content = text.replace("\0", " ").encode()
    completed = subprocess.run(program, input=content, capture_output=True, check=False)  # noqa: S603
    if completed.returncode:
        reason = completed.stderr.decode("utf-8", "replace").strip()
        raise FarmError(reason or f"espeak-ng died ({completed.returncode})")
    rate = int.from_bytes(completed.stdout[:4], sys.byteorder)
    integers = np.frombuffer(completed.stdout, np.int16, offset=4)
    return integers.astype(np.float32) / np.float32(32768), rate


@cache
def voices() -> dict[str, str]:
    """espeak-ng's languages, such as `en-us`, sorted, each with the name of its voice file."""
    root = Path(espeakng_loader.get_data_path(), "lang")
    best: dict[str, tuple[int, str]] = {}
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        name = str(file.relative_to(root))
        for language, priority in _languages(file):
            # Several accents claim `en`; espeak-ng itself prefers the lowest priority number.
            rank = (priority, name)
            best[language] = min(best.get(language, rank), rank)
    return {language: name for language, (_, name) in sorted(best.items())}


def _languages(file: Path) -> Iterator[tuple[str, int]]:
    """The languages that a voice file declares, each with its priority."""
    for line in file.read_text("utf-8").splitlines():
        if line.startswith("language"):
            _, language, *priority = line.split()
            yield language.lower(), int(priority[0]) if priority else _DEFAULT_PRIORITY


@cache
def voice_variants() -> tuple[str, ...]:
    """espeak-ng's voice variants, which may follow a language and a plus sign: `f2`; sorted."""
    folder = Path(espeakng_loader.get_data_path(), "voices", "!v")
    return tuple(sorted(file.name for file in folder.iterdir()))


def check_voice(voice: str, *, field: str) -> None:
    """Raises InvalidInput for an unknown voice of espeak-ng; a Kokoro voice only a worker knows."""
    if not voice.startswith(KOKORO):
        _voice_file(voice, field)


def _voice_file(voice: str, field: str) -> str:
    """espeak-ng's name for a voice; checked here, since it would silently use another voice."""
    language, plus, variant = voice.partition("+")
    _check_known(language.lower(), list(voices()), f"a language, such as {VOICE}", field)
    if plus:
        allowed = "an espeak-ng voice variant, such as f2"
        _check_known(variant, voice_variants(), allowed, field)
    return voices()[language.lower()] + plus + variant


def _check_known(name: str, known: Sequence[str], allowed: str, field: str) -> None:
    if name not in known:
        hint = did_you_mean(name, known)
        raise InvalidInput(f"{field}: got {name!r}; allowed: {allowed}{hint}")
