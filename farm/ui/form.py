"""What is filled in on the page, as the fields of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.model.presets import MINIATURE

RECORDED, SPOKEN = "recording", "words"
TOGETHER, IN_TURN = "both talk at once", "one after the other"

ADVANCED = (
    "size", "negative_prompt", "sample_steps", "sample_text_guide_scale", "sample_audio_guide_scale", "sample_shift",
    "color_correction_strength", "base_seed", "mode", "frame_num", "max_frame_num", "motion_frame", "use_teacache",
    "teacache_thresh", "use_apg", "apg_momentum", "apg_norm_threshold", "lora", "quant", "scene_seg", "priority",
)  # fmt: skip
"""Fields of the contract that are folded away: each has a default that serves."""

WHOLE = {"mode": "streaming"}
"""On a page, a video is as long as its sound."""


def _preset(*, steps: int, text: float, audio: float, cached: bool = False) -> dict[str, Any]:
    scales = {"sample_text_guide_scale": text, "sample_audio_guide_scale": audio}
    return {"sample_steps": steps, **scales, "use_teacache": cached}


PRESETS: dict[str, dict[str, Any]] = {
    "quality": _preset(steps=40, text=5.0, audio=4.0),
    "fast": _preset(steps=12, text=5.0, audio=4.0, cached=True),
    "draft": _preset(steps=4, text=1.0, audio=1.0),
}
"""What a preset writes into the folded fields, where it can be seen and changed."""


def request(filled: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that Farm.submit takes; InvalidInput if something is missing that only the page can tell."""
    if not filled["face"]:
        raise InvalidInput("face: got nothing; allowed: an image or a video with a face")
    fields = {"prompt": filled["prompt"], "cond_video": filled["face"], **_voices(filled)}
    boxes = {
        person: box for person in ("person1", "person2") if (box := filled["boxes"].get(person))
    }
    if boxes and filled["speakers"] == 2:
        fields["bbox"] = boxes
    return {**fields, **_advanced(filled)}


def usual(model: str) -> str:
    """The preset that a page begins with: four steps are as good as forty to the miniature."""
    return "draft" if model == MINIATURE.name else "quality"


def initial(field: str, preset: str) -> Any:
    """What a folded field shows at first."""
    return {**WHOLE, **PRESETS[preset]}.get(field, JobRequest.model_fields[field].default)


def _voices(filled: Mapping[str, Any]) -> dict[str, Any]:
    two = filled["speakers"] == 2
    if filled["voice"] == SPOKEN:
        voices = {
            "human1_voice": filled["voice1"] or None,
            "human2_voice": (two and filled["voice2"]) or None,
        }
        if two and not voices["human2_voice"]:
            raise InvalidInput(
                "second voice: got nothing; two speakers need the name of a voice each"
            )
        return {"tts_audio": {"text": filled["text"], **voices}}
    sounds = {
        f"person{person}": filled[f"sound{person}"] for person in (1, 2)[: filled["speakers"]]
    }
    for person, sound in sounds.items():
        if not sound:
            raise InvalidInput(
                f"voice of {person}: got nothing; allowed: a sound file, or a recording made here"
            )
    return {
        "cond_audio": sounds,
        **({"audio_type": "para" if filled["order"] == TOGETHER else "add"} if two else {}),
    }


def _advanced(filled: Mapping[str, Any]) -> dict[str, Any]:
    """The folded fields that hold something; whoever empties one takes the default."""
    given = {name: filled[name] for name in ADVANCED if filled[name] not in (None, "")}
    words = {name: value for name, value in given.items() if isinstance(value, str)}
    return {**given, **JobRequest.fields_from_text(words)}
