"""Text to speech: with espeak-ng, whose wheel includes its voices, or Kokoro where installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path

import espeakng_loader
import numpy as np

from farm.errors import FarmError, InvalidInput, shorten
from farm.job.dialogue import Turn
from farm.job.voices import (
    ALLOWED,
    DEFAULT_VOICE,
    KOKORO,
    NO_VOICE,
    did_you_mean_voice,
    is_espeak_voice,
    unknown_kokoro_voice,
)
from farm.media import espeak, kokoro
from farm.media.audio import Samples, resample, write_wav, write_wav_blocks
from farm.media.scripts import (
    BORROWED,
    JAPANESE,
    LANGUAGES,
    scripts_of,
    unread_kanji,
    unread_script,
)

SPEED_WPM = 175
PITCH = 50
"""espeak-ng's defaults: words per minute, and the middle of 0 to 100."""

FIELD = "tts_audio.text"
VOICE_FIELDS = ("tts_audio.human1_voice", "tts_audio.human2_voice")
"""The fields of a request that errors name."""

SHOWN_VOICES = 5
"""Voices that an error suggests."""

_MIN_SECONDS = 0.05
"""For a text without any sound espeak-ng still writes 7 ms of noise."""

_DEFAULT_PRIORITY = 5
"""espeak-ng's priority of a voice that does not state one."""


@dataclass(frozen=True)
class _Utterance:
    """A text and the voice that speaks it, with the field that names the voice."""

    text: str
    given_voice: str | None
    voice_field: str

    @property
    def voice(self) -> str:
        return DEFAULT_VOICE if self.given_voice is None else self.given_voice


def speak(
    text: str,
    path: Path,
    *,
    voice: str | None = None,
    kokoro_folder: Path | None = None,
    max_seconds: float = inf,
) -> None:
    """Writes `text` as speech, a mono WAV at the synthesiser's own rate.

    It is deterministic, except for espeak-ng voices with a variant (`en-us+f3`), whose samples
    differ slightly in about one run of four. `voice` is a language of `voices()`, optionally with
    one of the `voice_variants()` (`en-us+f2`), or a Kokoro voice in `kokoro_folder`
    (`kokoro:af_heart`); None is `en-us`. Raises InvalidInput for an unknown voice, for a text that
    cannot be pronounced or is in a script that the voice does not read, and for speech beyond
    `max_seconds`; PipelineLoadFailed if Kokoro's files are broken.
    """
    utterance = _Utterance(text, voice, VOICE_FIELDS[0])
    ((samples, rate),) = _speech([utterance], kokoro_folder, max_seconds)
    write_wav(path, samples, rate)


def check_speech(
    turns: Sequence[Turn],
    *,
    speaker_voices: tuple[str | None, str | None],
    kokoro_folder: Path | None = None,
) -> None:
    """Raises InvalidInput for an unknown voice, or one that does not read its turns.

    Without Kokoro in its folder here its voices are not checked: a worker elsewhere may have it.
    """
    has_kokoro = kokoro_folder is not None and bool(kokoro.voices(kokoro_folder))
    for utterance in _utterances(turns, speaker_voices):
        if has_kokoro or not utterance.voice.startswith(KOKORO):
            _check_script(utterance, kokoro_folder)


def speak_dialogue(
    turns: Sequence[Turn],
    paths: tuple[Path, Path],
    *,
    speaker_voices: tuple[str | None, str | None],
    kokoro_folder: Path | None = None,
    max_seconds: float = inf,
) -> None:
    """Writes a mono WAV for each of two speakers, of one rate and length; one is always silent.

    Raises as `speak` does.
    """
    spoken = _speech(_utterances(turns, speaker_voices), kokoro_folder, max_seconds)
    common_rate = max(rate for _, rate in spoken)

    def track(speaker: int) -> Iterator[Samples]:
        for turn, (samples, rate) in zip(turns, spoken, strict=True):
            audible = np.float32(speaker == turn.speaker)
            yield np.atleast_2d(resample(samples, rate, common_rate) * audible)

    for speaker, path in enumerate(paths, start=1):
        write_wav_blocks(path, track(speaker), common_rate)


def _utterances(
    turns: Sequence[Turn], speaker_voices: tuple[str | None, str | None]
) -> list[_Utterance]:
    return [
        _Utterance(text, speaker_voices[speaker - 1], VOICE_FIELDS[speaker - 1])
        for speaker, text in turns
    ]


def _speech(
    utterances: Sequence[_Utterance], kokoro_folder: Path | None, max_seconds: float
) -> list[tuple[Samples, int]]:
    """Float32 [n] in [-1, 1] of each utterance, and its sample rate."""
    for utterance in utterances:
        _check_script(utterance, kokoro_folder)
    left_s = max_seconds
    spoken = []
    for utterance in utterances:
        samples, rate = _synthesise(utterance, kokoro_folder, left_s)
        if len(samples) < _MIN_SECONDS * rate:
            shown = shorten(repr(utterance.text))
            raise InvalidInput(
                f"{FIELD}: got {shown}, which cannot be pronounced; allowed: at least one word"
            )
        left_s -= len(samples) / rate
        if left_s < 0:
            allowed = f"{max_seconds:g} s"
            raise InvalidInput(f"{FIELD}: got speech of more than {allowed}; allowed: {allowed}")
        spoken.append((samples, rate))
    return spoken


def _synthesise(
    utterance: _Utterance, kokoro_folder: Path | None, max_seconds: float
) -> tuple[Samples, int]:
    text = utterance.text
    voice = utterance.voice
    if kokoro_folder and voice.startswith(KOKORO):
        name = voice.removeprefix(KOKORO)
        return kokoro.synthesise(text, name, kokoro_folder, max_seconds=max_seconds), kokoro.RATE
    return synthesise(text, voice, max_seconds=max_seconds)


def _check_script(utterance: _Utterance, kokoro_folder: Path | None) -> None:
    """Raises InvalidInput for an unknown voice, or one that does not read the text's letters."""
    text = utterance.text
    voice = utterance.voice
    scripts = _scripts(voice, kokoro_folder, utterance.voice_field)
    if kanji := unread_kanji(text, scripts):
        raise InvalidInput(
            f"{FIELD}: got {shorten(repr(text))}; the voice {voice} reads no Kanji, as in it "
            f"{shorten(', '.join(kanji))}; allowed: Japanese in kana"
        )
    script = unread_script(text, scripts)
    if script is None:
        return
    fitting = LANGUAGES.get(script, "").split()[:SHOWN_VOICES]
    allowed = "a script that some voice reads"
    if script == JAPANESE:
        allowed = "the voice ja, with the text in kana"
    elif fitting:
        allowed = f"a voice that does, such as {', '.join(fitting)}"
    raise InvalidInput(
        f"{FIELD}: got {shorten(repr(text))}; most of its letters are {script.capitalize()}, "
        f"which the voice {voice} does not read; allowed: {allowed}"
    )


def _scripts(voice: str, kokoro_folder: Path | None, field: str) -> Set[str]:
    """The scripts that a voice reads; InvalidInput for an unknown voice."""
    if not voice.startswith(KOKORO):
        _voice_file(voice, field)
        return scripts_of(voice.partition("+")[0].lower()) | BORROWED
    name = voice.removeprefix(KOKORO)
    known = kokoro.voices(kokoro_folder) if kokoro_folder else []
    if name not in known:
        raise unknown_kokoro_voice(field, voice, known)
    return scripts_of(kokoro.LANGUAGES[name[0]])


def synthesise(
    text: str,
    voice: str,
    *,
    speed_wpm: int = SPEED_WPM,
    pitch: int = PITCH,
    field: str = "voice",
    max_seconds: float = inf,
) -> tuple[Samples, int]:
    """`text` spoken by espeak-ng: float32 [n] in [-1, 1], and the sample rate.

    It stops soon after `max_seconds` of speech. Raises InvalidInput for an unknown voice.
    """
    voice_file = _voice_file(voice, field)
    arguments = [voice_file, str(speed_wpm), str(pitch), str(max_seconds)]
    program = [sys.executable, "-I", espeak.__file__, *arguments]
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


def _voice_file(voice: str, field: str) -> str:
    """espeak-ng's name for a voice; checked here, since it would silently use another voice."""
    if not is_espeak_voice(voice):
        raise _unknown(voice, field)
    language, plus, variant = voice.partition("+")
    return voices()[language.lower()] + plus + variant


def _unknown(voice: str, field: str) -> InvalidInput:
    """The error for a name that no voice has, as the contract words it."""
    hint = did_you_mean_voice(voice)
    return InvalidInput(
        f"{field}: got {shorten(repr(voice))}; {NO_VOICE}; allowed: {ALLOWED}{hint}"
    )
