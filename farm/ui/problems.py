"""What visitors are told of errors: what happened, in the page's words, and what they can do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from farm.errors import FarmError, InvalidInput
from farm.ui.words import ADVANCED, FAILURES, INPUT_LABELS

INPUTS = {
    "cond_video": "face",
    "cond_audio": "audio1",
    "cond_audio.person1": "audio1",
    "cond_audio.person2": "audio2",
    "audio_type": "order",
    "tts_audio.text": "text",
    "tts_audio.human1_voice": "voice1",
    "tts_audio.human2_voice": "voice2",
    "bbox": "boxes",
    "bbox.person1": "boxes",
    "bbox.person2": "boxes",
    "prompt": "prompt",
    "quality": "quality",
    **dict.fromkeys(ADVANCED, "advanced"),
}
"""The input beside which a mistake in a field is shown; for any other field it is the button."""

VISITORS = ("E_INPUT_VALIDATION", "E_QUOTA", "E_CANCELLED")
"""The codes of errors that are about what a visitor did, and say it."""

SETTING = re.compile(r" \(FARM_[^)]*\)")
CALLER = re.compile(r"^caller \S+: ")
"""What messages say to operators alone."""


def mistakes(error: FarmError) -> dict[str, str]:
    """The sentences of an error by the input that they are about, or else by `notice`."""
    if not isinstance(error, InvalidInput):
        return {"notice": told(error.code, error.message)}
    found: dict[str, list[str]] = {}
    for line in error.message.splitlines():
        field, _, reason = line.partition(": ")
        place = INPUTS.get(field, "notice")
        label = ADVANCED[field].label if field in ADVANCED else ""
        text = _sentence(reason, label) if field in INPUTS else _without_settings(line)
        found.setdefault(place, []).append(text)
    return {place: "\n".join(lines) for place, lines in found.items()}


def told(code: str, message: str) -> str:
    """What a visitor is told of an error, away from the inputs."""
    if is_of_the_farm(code):
        return FAILURES.get(code, FAILURES["E_INTERNAL"])
    if code == "E_CANCELLED":
        return _sentence(f"it was {message.partition(' at ')[0]}")
    return "\n".join(_labelled(CALLER.sub("", message)))


def is_of_the_farm(code: str) -> bool:
    """Whether the operator has to know of an error, and the visitor only that it happened."""
    return code not in VISITORS


def _labelled(message: str) -> Iterator[str]:
    for line in message.splitlines():
        field, _, reason = line.partition(": ")
        if field in INPUTS:
            label = ADVANCED[field].label if field in ADVANCED else INPUT_LABELS[INPUTS[field]]
            yield _sentence(reason, label)
        else:
            yield _sentence(line)


def _sentence(text: str, label: str = "") -> str:
    """In the page's words: an input that is empty is null in the contract."""
    text = _without_settings(text).replace("null = ", "empty: ").replace("got None", "it is empty")
    start = f"{label}: " if label else ""
    return f"{start}{text[:1].upper()}{text[1:].removesuffix('.')}."


def _without_settings(text: str) -> str:
    return SETTING.sub("", text)
