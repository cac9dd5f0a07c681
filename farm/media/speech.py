"""Speech from text: by espeak-ng, which its wheel brings along with its voices, or by Kokoro where it is installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import espeakng_loader
import numpy as np

from farm.errors import FarmError, InvalidInput, did_you_mean
from farm.job.dialogue import Turn
from farm.media import espeak, kokoro
from farm.media.audio import Samples, resample, write_wav, write_wav_blocks

VOICE = "en-us"
SPEED_WPM, PITCH = 175, 50
"""espeak-ng's own: words a minute, and the middle of 0 to 100."""

KOKORO = "kokoro:"
"""What a voice of Kokoro's begins with."""

MAX_CHARACTERS = 100_000
"""About two hours of speech."""

_SHORTEST_S = 0.05
"""For a text without a single sound the synthesiser still writes 7 ms of noise."""


def speak(
    text: str,
    path: Path,
    *,
    voice: str | None = None,
    weights: Path | None = None,
    field: str = "tts_audio.text",
    voice_field: str = "tts_audio.human1_voice",
) -> None:
    """`text` spoken, as a mono WAV at the synthesiser's own rate; but for a timbre, the same words sound the same.

    `voice` is a language of `voices()`, optionally with a timbre of `timbres()` (`en-us+f2`), or one of Kokoro's in the
    folder `weights` (`kokoro:af_heart`); None is `en-us`. Raises InvalidInput for an unknown voice, naming near ones,
    and for a text that is too long or cannot be pronounced; PipelineLoadFailed if Kokoro's files are broken.
    """
    write_wav(path, *_spoken(text, voice, weights, field, voice_field))


def speak_dialogue(
    said: Sequence[Turn],
    paths: tuple[Path, Path],
    *,
    voices: tuple[str | None, str | None],
    weights: Path | None = None,
    field: str = "tts_audio.text",
) -> None:
    """What two speakers say in turn, as a mono WAV each; both are of one rate and length, one silent at a time.

    Raises as `speak` does.
    """
    voice_fields = ("tts_audio.human1_voice", "tts_audio.human2_voice")
    spoken = [(who, *_spoken(words, voices[who - 1], weights, field, voice_fields[who - 1])) for who, words in said]
    rate = max(own for _, _, own in spoken)
    for speaker, path in enumerate(paths, start=1):
        track = (resample(samples, own, rate) * (who == speaker) for who, samples, own in spoken)
        write_wav_blocks(path, (np.atleast_2d(samples) for samples in track), rate)


def _spoken(text: str, voice: str | None, weights: Path | None, field: str, voice_field: str) -> tuple[Samples, int]:
    """Float32 [n] in [-1, 1] and its rate."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"{field}: {len(text):,} characters; allowed: {MAX_CHARACTERS:,}")
    if voice is not None and voice.startswith(KOKORO):
        samples, rate = _by_kokoro(text, voice.removeprefix(KOKORO), weights, voice_field), kokoro.RATE
    else:
        samples, rate = synthesise(text, VOICE if voice is None else voice, field=voice_field)
    if len(samples) < _SHORTEST_S * rate:
        raise InvalidInput(f"{field}: nothing in {text[:40]!r} can be pronounced; wanted at least one word")
    return samples, rate


def _by_kokoro(text: str, name: str, weights: Path | None, field: str) -> Samples:
    known = kokoro.voices(weights) if weights else []
    if weights is None or not known:
        raise InvalidInput(f"{field}: got '{KOKORO}{name}'; this farm has no voice of Kokoro's, see docs/operations.md")
    _check(name, known, "voice of Kokoro's after 'kokoro:'", field)
    return kokoro.synthesise(text, name, weights)


def synthesise(
    text: str, voice: str, *, speed_wpm: int = SPEED_WPM, pitch: int = PITCH, field: str = "voice"
) -> tuple[Samples, int]:
    """`text` spoken by espeak-ng: float32 [n] in [-1, 1] and its rate. Raises InvalidInput for an unknown voice."""
    program = [sys.executable, "-I", espeak.__file__, _file_of(voice, field), str(speed_wpm), str(pitch)]
    # A zero would end the text for the library, which is written in C.
    done = subprocess.run(program, input=text.replace("\0", " ").encode(), capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise FarmError(done.stderr.decode("utf-8", "replace").strip() or f"espeak-ng died ({done.returncode})")
    samples = np.frombuffer(done.stdout, np.int16, offset=4).astype(np.float32) / np.float32(32768)
    return samples, int.from_bytes(done.stdout[:4], sys.byteorder)


@cache
def voices() -> dict[str, str]:
    """The languages that can be spoken, such as `en-us`, sorted, each with the name of its file."""
    root = Path(espeakng_loader.get_data_path(), "lang")
    found: dict[str, tuple[int, str]] = {}
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        for line in file.read_text("utf-8").splitlines():
            if line.startswith("language"):
                _, language, *priority = line.split()
                # Several accents answer to `en`; the lowest number is the one that the library itself prefers.
                rank = (int(priority[0]) if priority else 5, str(file.relative_to(root)))
                found[language.lower()] = min(found.get(language.lower(), rank), rank)
    return {language: name for language, (_, name) in sorted(found.items())}


@cache
def timbres() -> tuple[str, ...]:
    """What may follow a language and a plus sign, such as `f2`, sorted."""
    return tuple(sorted(file.name for file in Path(espeakng_loader.get_data_path(), "voices", "!v").iterdir()))


def _file_of(voice: str, field: str) -> str:
    """The library's name for a voice. It is checked here, because the library would speak on in some other voice."""
    language, plus, timbre = voice.partition("+")
    _check(language.lower(), list(voices()), f"language, such as {VOICE}", field)
    if plus:
        _check(timbre, timbres(), "timbre, such as f2", field)
    return voices()[language.lower()] + plus + timbre


def _check(name: str, known: Sequence[str], what: str, field: str) -> None:
    if name not in known:
        raise InvalidInput(f"{field}: got {name!r}; allowed: a {what}{did_you_mean(name, known)}")
