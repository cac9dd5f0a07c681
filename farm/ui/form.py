"""The values that are entered on the page, as the fields of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.presets import preset

RECORDING = "recording"
TEXT = "text"
"""Where the voice comes from."""

TOGETHER = "both talk at once"
IN_TURN = "one after the other"
"""How two recordings are combined."""

ADVANCED = (
    "model",
    "size",
    "negative_prompt",
    "sample_steps",
    "sample_text_guide_scale",
    "sample_audio_guide_scale",
    "sample_shift",
    "color_correction_strength",
    "base_seed",
    "mode",
    "frame_num",
    "max_frame_num",
    "motion_frame",
    "use_teacache",
    "teacache_thresh",
    "use_apg",
    "apg_momentum",
    "apg_norm_threshold",
    "lora",
    "quant",
    "scene_seg",
    "priority",
    "placement",
    "max_cost",
)
"""Fields of the contract in the collapsed section: their defaults suit most videos."""


def request_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for Farm.submit; InvalidInput for a missing value that only the page can name."""
    if not values["face"]:
        raise InvalidInput("face: got nothing; allowed: an image or a video with a face")
    fields = {"cond_video": values["face"], "quality": values["quality"] or None}
    if values["prompt"].strip():
        fields["prompt"] = values["prompt"]
    if values["voice"] == TEXT:
        fields |= _speech(values)
    else:
        fields |= _recordings(values)
    if values["speakers"] == 2:
        fields |= _boxes(values["boxes"])
    return {**fields, **_advanced(values)}


def choices(models: Sequence[str]) -> dict[str, list[str]]:
    """The values of fields that depend on the models of the farm."""
    sizes = (size for model in models for size in preset(model).sizes)
    return {"model": list(models), "size": list(dict.fromkeys(sizes))}


def _speech(values: Mapping[str, Any]) -> dict[str, Any]:
    second_voice = None
    if values["speakers"] == 2:
        second_voice = values["voice2"]
        if not second_voice:
            raise InvalidInput("second voice: got nothing; allowed: a name, for two speakers")
    speech = {
        "text": values["text"],
        "human1_voice": values["voice1"] or None,
        "human2_voice": second_voice,
    }
    return {"tts_audio": speech}


def _recordings(values: Mapping[str, Any]) -> dict[str, Any]:
    recordings = {"person1": values["audio1"]}
    if values["speakers"] == 2:
        recordings["person2"] = values["audio2"]
    for person, recording in recordings.items():
        if not recording:
            raise InvalidInput(
                f"voice of {person}: got nothing; allowed: an audio file, or a recording made here"
            )
    fields: dict[str, Any] = {"cond_audio": recordings}
    if values["speakers"] == 2:
        fields["audio_type"] = "para" if values["order"] == TOGETHER else "add"
    return fields


def _boxes(drawn: Mapping[str, Any]) -> dict[str, Any]:
    boxes = {person: drawn[person] for person in ("person1", "person2") if drawn.get(person)}
    return {"bbox": boxes} if boxes else {}


def _advanced(values: Mapping[str, Any]) -> dict[str, Any]:
    """The advanced fields that are not empty; an emptied one takes the model's default."""
    given = {name: values[name] for name in ADVANCED if values[name] not in (None, "")}
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    return {**given, **JobRequest.fields_from_text(texts)}
