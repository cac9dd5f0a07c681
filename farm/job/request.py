"""The contract: what a job is on every door, and what comes back.

Every door hands its object to `JobRequest.parse` and gets a frozen value, or an InvalidInput that names the field, the
value and what is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from farm.errors import InvalidInput
from farm.job.contract import Contract
from farm.job.dialogue import has_turns, turns
from farm.validation import invalid_input

SCHEMES = ("http", "https", "store")


def _source(value: str) -> str:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", value)
    if scheme and scheme[1].lower() not in SCHEMES:
        raise PydanticCustomError("source", "URLs may start with http://, https:// or store://")
    return value


def _speakable(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "it holds no words")
    return value


def _one_over_four(value: int) -> int:
    if value % 4 != 1:
        below, above = (value - 1) // 4 * 4 + 1, (value - 1) // 4 * 4 + 5
        raise PydanticCustomError(
            "4n+1", f"it must be 4n+1 (the video model packs four frames in one): {below} or {above}"
        )
    return value


def _corners(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = value
    if not (0 <= x_min < x_max and 0 <= y_min < y_max):
        raise PydanticCustomError("corners", "it must hold 0 <= x_min < x_max and 0 <= y_min < y_max")
    return value


def _of_person1(value: Any) -> Any:
    """One box alone is the first speaker's."""
    return {"person1": value} if isinstance(value, list | tuple) else value


def _names(value: str) -> str:
    if any(part in ("", ".", "..") for part in value.split("/")) or "\\" in value or not value.isprintable():
        raise PydanticCustomError("names", "it must be names with / between, none of them empty, '.' or '..'")
    return value


def _receiver(value: str) -> str:
    try:
        parts = urlsplit(value)
        reachable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        reachable = False
    if not reachable or "@" in parts.netloc or parts.fragment or not value.isprintable() or " " in value:
        raise PydanticCustomError("receiver", "it must be https:// with a host, and without password, # and spaces")
    return value


Source = Annotated[str, Field(min_length=1), AfterValidator(_source)]
Words = Annotated[str, Field(min_length=1, max_length=100_000), AfterValidator(_speakable)]
FrameCount = Annotated[int, AfterValidator(_one_over_four)]


class CondAudio(Contract):
    """One sound file for each speaker."""

    person1: Source
    person2: Source | None = None


class TtsAudio(Contract):
    """Words to be spoken, with a voice for each speaker; a second voice means `(s1) ... (s2) ...` turns in the text."""

    text: Words
    human1_voice: str | None = None
    human2_voice: str | None = None


class Lora(Contract):
    """An adapter that the farm's operator has configured under this name."""

    name: str
    scale: float = 1.0


Box = Annotated[
    tuple[float, float, float, float],
    Field(strict=False),  # a list, which is what JSON's array is once `_of_person1` has seen it
    AfterValidator(_corners),
]


class Boxes(Contract):
    """x_min, y_min, x_max, y_max of each speaker, in pixels of the source."""

    person1: Box
    person2: Box | None = None


class OutputConfig(Contract):
    """Where the results go besides the farm's store, as far as its operator allows."""

    store: Literal["s3", "volume", "inline"]
    bucket: str | None = None
    region: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,63}$")] | None = None
    prefix: Annotated[str, Field(max_length=500), AfterValidator(_names)] | None = None


class JobRequest(Contract):
    """One talking video. Field descriptions say what is allowed; they are shown in errors and in `--help`."""

    prompt: Words = Field(description="what the video shows, in words; at least 1 character")
    negative_prompt: str | None = Field(
        None,
        validation_alias=AliasChoices("negative_prompt", "n_prompt"),
        description="what it must not show; null = the model's standard one",
    )
    cond_video: Source = Field(description="the face: an image or a video, as URL, data URI, base64, store key or path")
    cond_audio: CondAudio | None = Field(
        None, description='the voices: {"person1": sound, "person2": sound or null}, in the same forms as cond_video'
    )
    tts_audio: TtsAudio | None = Field(
        None, description='words to speak instead: {"text", "human1_voice"}; with "human2_voice" too, (s1) (s2) turns'
    )
    audio_type: Literal["para", "add"] | None = Field(
        None, description="two sounds: para = together, add = one after the other; null for one, add or null for words"
    )
    bbox: Annotated[Boxes, BeforeValidator(_of_person1)] | None = Field(
        None, description='where both speakers are: {"person1": [x_min, y_min, x_max, y_max], "person2": [...]} or null'
    )
    size: Literal["infinitetalk-480", "infinitetalk-720"] = Field(
        "infinitetalk-480", description="infinitetalk-480 or infinitetalk-720; the aspect ratio follows the source"
    )
    mode: Literal["clip", "streaming"] = Field(
        "clip", description="clip: one chunk; streaming: as many as the audio needs"
    )
    frame_num: FrameCount = Field(81, ge=5, le=1001, description="frames of one chunk, 4n+1, 5 to 1001")
    max_frame_num: int = Field(
        1000, ge=1, le=2_250_000, description="streaming: the most frames, at 25 a second; 1 to 2250000"
    )
    motion_frame: FrameCount = Field(
        9, ge=1, description="frames that a chunk shares with the one before, 4n+1, below frame_num"
    )
    sample_steps: int = Field(40, ge=1, le=1000, description="denoise steps, 1 to 1000 (4 to 40 in practice)")
    sample_shift: float | None = Field(None, gt=0, le=100, description="above 0 to 100; null = 7 at 480, 11 at 720")
    sample_text_guide_scale: float = Field(5.0, ge=0, le=20, description="text guidance, 0 to 20")
    sample_audio_guide_scale: float = Field(4.0, ge=0, le=20, description="audio guidance, 0 to 20")
    color_correction_strength: float = Field(1.0, ge=0, le=1, description="0 to 1")
    use_teacache: bool = Field(False, description="true or false")
    teacache_thresh: float = Field(0.2, ge=0, le=1, description="0 to 1")
    use_apg: bool = Field(False, description="true or false")
    apg_momentum: float = Field(-0.75, ge=-1, le=1, description="-1 to 1")
    apg_norm_threshold: float = Field(55, ge=0, description="0 or more")
    base_seed: int = Field(
        42, ge=-1, lt=2**63, description="0 or more; -1 = drawn at submission and told in the result"
    )
    lora: tuple[Lora, ...] = Field((), description='adapters by the operator\'s names: [{"name", "scale"}]')
    quant: Literal["int8", "fp8"] | None = Field(None, description="int8, fp8 or null")
    num_persistent_param_in_dit: int | None = Field(None, ge=0, description="0 or more, or null")
    offload_model: bool | None = Field(None, description="true, false or null")
    quant_dir: str | None = Field(None, description="a folder that the operator has configured, or null")
    scene_seg: bool = Field(
        False, description="true: a source video's scenes are made apart, so that none begins with another's picture"
    )
    output_config: OutputConfig | None = Field(
        None,
        description='where results go too: {"store": "s3", "bucket", "prefix", "region"}, '
        '{"store": "volume", "prefix"}, {"store": "inline"} or null',
    )
    webhook: Annotated[str, Field(max_length=2000), AfterValidator(_receiver)] | None = Field(
        None, description="an https URL that is called with the result at the end, or null"
    )
    priority: Literal["low", "normal", "high"] = Field("normal", description="low, normal or high")
    idempotency_key: str | None = Field(
        None, min_length=1, max_length=200, description="same key, same job; 1 to 200 characters"
    )

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if (self.cond_audio is None) == (self.tts_audio is None):
            raise _disagreement("cond_audio", "give exactly one of cond_audio (a sound) and tts_audio (words to speak)")
        if self.motion_frame >= self.frame_num:
            raise _disagreement("motion_frame", f"it must be smaller than frame_num, which is {self.frame_num}")
        return self

    @model_validator(mode="after")
    def _speakers_agree(self) -> Self:
        if self.cond_audio and self.cond_audio.person2 and not self.audio_type:
            raise _disagreement("audio_type", "two sounds need it")
        if self.speakers == 1 and self.audio_type:
            raise _disagreement("audio_type", "there is only one speaker")
        if self.tts_audio and self.audio_type == "para":
            raise _disagreement("audio_type", "spoken turns come one after the other")
        if self.bbox and (self.bbox.person2 is None) is (self.speakers == 2):
            why = "two speakers need a box each" if self.speakers == 2 else "there is only one speaker"
            raise _disagreement("bbox.person2", why)
        return self

    @model_validator(mode="after")
    def _words_agree(self) -> Self:
        if self.tts_audio is None:
            return self
        if self.speakers == 2:
            try:
                turns(self.tts_audio.text)
            except ValueError as error:
                raise _disagreement("tts_audio.text", str(error)) from error
        elif has_turns(self.tts_audio.text):
            raise _disagreement("tts_audio.text", "it marks turns of two speakers, but there is no human2_voice")
        return self

    @model_validator(mode="after")
    def _output_agrees(self) -> Self:
        if self.output_config is None:
            return self
        wanted = self.output_config.store
        if wanted == "s3" and not self.output_config.bucket:
            raise _disagreement("output_config.bucket", "s3 needs it")
        unused = {"s3": (), "volume": ("bucket", "region"), "inline": ("bucket", "region", "prefix")}[wanted]
        for part in unused:
            if getattr(self.output_config, part) is not None:
                raise _disagreement(f"output_config.{part}", f"{wanted} has none")
        return self

    @model_validator(mode="after")
    def _farm_can_do_it(self) -> Self:
        for field, allowed in NOT_YET.items():
            if _look_up(self, field) != allowed:
                raise _disagreement(
                    field, f"this version of the farm cannot do that yet; allowed is {json.dumps(allowed)}"
                )
        return self

    @property
    def speakers(self) -> int:
        """1 or 2: a second speaker has a sound or a voice of his own."""
        second = (self.cond_audio and self.cond_audio.person2, self.tts_audio and self.tts_audio.human2_voice)
        return 2 if any(voice is not None for voice in second) else 1

    def with_sources(self, change: Callable[[str, str], str]) -> Self:
        """The request with each of its sources replaced by what `change` says of it and its field."""
        changed: dict[str, Any] = {"cond_video": change(self.cond_video, "cond_video")}
        if self.cond_audio:
            voices = self.cond_audio.model_dump(exclude_none=True)
            found = {person: change(voice, f"cond_audio.{person}") for person, voice in voices.items()}
            changed["cond_audio"] = self.cond_audio.model_copy(update=found)
        return self.model_copy(update=changed)

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """The request that a plain object describes; raises InvalidInput."""
        try:
            return cls.model_validate_json(json.dumps(fields, ensure_ascii=False).encode())
        except ValidationError as error:
            raise invalid_input(error, cls) from error
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"request: {error}; allowed are values that JSON knows") from error

    @classmethod
    def fields_from_text(cls, words: Mapping[str, str]) -> dict[str, Any]:
        """What the texts of a command line or a table mean: anything but a plain text is JSON, for `parse` to judge.

        A part of a field is named as in `cond_audio.person1`.
        """
        fields: dict[str, Any] = {}
        for name, word in words.items():
            field, dot, part = name.partition(".")
            if dot:
                fields.setdefault(field, {})[part] = _value(PARTS[field], part, word)
            else:
                fields[field] = _value(cls, field, word)
        return fields


PARTS: dict[str, type[Contract]] = {
    "cond_audio": CondAudio,
    "tts_audio": TtsAudio,
    "bbox": Boxes,
    "output_config": OutputConfig,
}
"""Fields that have parts, which may be named by themselves."""

NOT_YET: dict[str, Any] = {
    "quant_dir": None,
}
"""Fields of the contract that are checked but not served yet, with the one value that is: refused, never ignored."""


def _disagreement(field: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("disagreement", "{message}", {"field": field, "message": message})


def _look_up(request: BaseModel, field: str) -> Any:
    value: Any = request
    for part in field.split("."):
        value = getattr(value, part, None)
    return value


def _value(cls: type[BaseModel], field: str, word: str) -> Any:
    if field in cls.model_fields and not _is_text(cls, field):
        try:
            return json.loads(word)
        except (ValueError, RecursionError):
            return word
    return word


@cache
def _is_text(cls: type[BaseModel], field: str) -> bool:
    schema = cls.model_json_schema()["properties"][field]
    return any(kind.get("type") == "string" for kind in (schema, *schema.get("anyOf", ())))
