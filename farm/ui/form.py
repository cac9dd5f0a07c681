"""The values that are entered on the page, as the fields of a job, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from farm.errors import invalid
from farm.job import JobRequest, ResolvedRequest, fields_from_text, resolve
from farm.job.request import DEFAULT_PROMPT, TtsAudio
from farm.presets import preset
from farm.ui.words import ADVANCED

RECORDING = "recording"
TEXT = "text"
"""Where the voice comes from."""

TOGETHER = "both talk at once"
IN_TURN = "one after the other"
"""How two recordings are combined."""

FILES = ("face", "audio1", "audio2")

BOXES = ("person1", "person2")

MAX_TITLE_LENGTH = 80
"""Characters by which a job is known in the list."""


def request_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for Farm.submit; InvalidInput for missing values that only the page can name."""
    invalid(_missing(values))
    fields = {"cond_video": values["face"], "quality": values["quality"] or None}
    if (values["prompt"] or "").strip():
        fields["prompt"] = values["prompt"]
    if values["voice"] == TEXT:
        fields |= _speech(values)
    else:
        fields |= _recordings(values)
    if values["speakers"] == 2:
        fields |= _boxes(values["boxes"])
    return {**fields, **_advanced(values)}


def title(values: Mapping[str, Any]) -> str:
    """What a job is known by: the words that are spoken, or the names of its files."""
    if values["voice"] == TEXT:
        words = " ".join(values["text"].split())
    else:
        words = " + ".join(Path(name).name for name in _chosen_files(values).values())
    if values["prompt"] and values["prompt"] != DEFAULT_PROMPT:
        words = f"{words}: {values['prompt']}"
    if len(words) > MAX_TITLE_LENGTH:
        words = f"{words[: MAX_TITLE_LENGTH - 1].rstrip()}…"
    return words


def file_names(values: Mapping[str, Any]) -> dict[str, str]:
    """The names of the files that were chosen, without their folders."""
    return {name: Path(path).name for name, path in _chosen_files(values).items()}


def entered(request: ResolvedRequest) -> dict[str, Any]:
    """The values with which a job was entered, without its files.

    A field that has the model's default is empty.
    """
    bare = JobRequest.parse(
        {"cond_video": "store://", "cond_audio": {"person1": "store://"}}
        | {"model": request.model, "quality": request.quality}
    )
    usual = resolve(bare, preset(request.model))
    speech = request.tts_audio
    return {
        "speakers": request.speakers,
        "voice": TEXT if speech else RECORDING,
        "order": TOGETHER if request.audio_type == "para" else IN_TURN,
        **(_spoken(speech) if speech else {}),
        "boxes": request.bbox.model_dump(mode="json") if request.bbox else dict.fromkeys(BOXES),
        "prompt": request.prompt,
        "quality": request.quality or "",
        **{name: _shown(name, getattr(request, name), getattr(usual, name)) for name in ADVANCED},
        "model": request.model,
    }


def choices(models: Sequence[str]) -> dict[str, list[str]]:
    """The values of fields that depend on the models of the farm."""
    sizes = (size for model in models for size in preset(model).sizes)
    return {"model": list(models), "size": list(dict.fromkeys(sizes))}


def _missing(values: Mapping[str, Any]) -> Iterator[str]:
    two = values["speakers"] == 2
    if not values["face"]:
        yield "cond_video: choose an image or a video with a face"
    if values["voice"] == TEXT:
        if not (values["text"] or "").strip():
            yield "tts_audio.text: write what is to be said"
        if two and not values["voice2"]:
            yield "tts_audio.human2_voice: choose a voice for the second speaker"
        return
    if not values["audio1"]:
        yield "cond_audio.person1: choose an audio file, or record one"
    if two and not values["audio2"]:
        yield "cond_audio.person2: choose an audio file for the second speaker, or record one"


def _chosen_files(values: Mapping[str, Any]) -> dict[str, str]:
    """The files of inputs that are shown, by input."""
    shown = ["face"]
    if values["voice"] == RECORDING:
        shown += ["audio1", "audio2"][: values["speakers"]]
    return {name: values[name] for name in shown if values[name]}


def _speech(values: Mapping[str, Any]) -> dict[str, Any]:
    speech = {
        "text": values["text"],
        "human1_voice": values["voice1"] or None,
        "human2_voice": values["voice2"] if values["speakers"] == 2 else None,
    }
    return {"tts_audio": speech}


def _spoken(speech: TtsAudio) -> dict[str, Any]:
    values = {"text": speech.text, "voice1": speech.human1_voice}
    return {**values, "voice2": speech.human2_voice} if speech.human2_voice else values


def _recordings(values: Mapping[str, Any]) -> dict[str, Any]:
    recordings = {"person1": values["audio1"]}
    fields: dict[str, Any] = {"cond_audio": recordings}
    if values["speakers"] == 2:
        recordings["person2"] = values["audio2"]
        fields["audio_type"] = "para" if values["order"] == TOGETHER else "add"
    return fields


def _boxes(drawn: Mapping[str, Any]) -> dict[str, Any]:
    boxes = {person: drawn[person] for person in BOXES if drawn.get(person)}
    return {"bbox": boxes} if boxes else {}


def _advanced(values: Mapping[str, Any]) -> dict[str, Any]:
    """The advanced fields that are not empty; an emptied one takes the model's default."""
    given = {name: values[name] for name in ADVANCED if values[name] not in (None, "")}
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    return {**given, **fields_from_text(texts)}


def _shown(name: str, value: Any, usual: Any) -> Any:
    """A value as its input shows it, the usual one as the contract's default."""
    default = JobRequest.model_fields[name].default
    if value == usual:
        value = default
    if value is None or value == ():
        return ""
    if name == "lora":
        return json.dumps([each.model_dump() for each in value])
    return value if default is not None else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def known_names(names: Any) -> Iterable[tuple[str, str]]:
    """The inputs and names of files in what a browser has kept."""
    if isinstance(names, Mapping):
        yield from ((each, Path(str(names[each])).name) for each in FILES if names.get(each))
