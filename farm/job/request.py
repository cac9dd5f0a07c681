"""The contract's request, the same on every interface.

Every interface passes its object to `JobRequest.parse`, which returns a frozen value, or raises an
InvalidInput that names the field, its value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

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
from farm.job.checks import (
    SIZES,
    box_to_boxes,
    check_4n_plus_1,
    check_corners,
    check_not_blank,
    check_plain,
    check_prefix,
    check_scheme,
    check_size,
    check_webhook,
)
from farm.job.contract import Contract
from farm.job.dialogue import has_turns, turns
from farm.job.names import SHORT_NAMES
from farm.job.voices import ALLOWED, DEFAULT_VOICE, check_voice
from farm.presets import PRESETS, Quality
from farm.validation import invalid_input

MAX_PROMPT = 5_000
MAX_SPEECH = 100_000
MAX_NAME = 200
"""Characters of texts."""

DEFAULT_PROMPT = "a person talks to the camera"

MAX_FRAMES = 2_250_000
"""Frames of a video: 25 hours."""

STREAMING_FRAMES = 1000
"""The same in mode `streaming`, for a request that does not say."""

MAX_LORAS = 16
MAX_SIDE = 16_384
"""Pixels of a source on each side."""

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

Mode = Literal["auto", "clip", "streaming"]

MODELS_DEFAULT = "null = the model's default"
BY_QUALITY = "null = as quality says"

Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT), AfterValidator(check_not_blank)]
Source = Annotated[str, Field(min_length=1), AfterValidator(check_scheme)]
Name = Annotated[str, Field(max_length=MAX_NAME)]
VoiceName = Annotated[Name, AfterValidator(check_voice)]
FrameLimit = Annotated[int, Field(ge=1, le=MAX_FRAMES)]
FrameCount = Annotated[int, Field(ge=1, le=1001), AfterValidator(check_4n_plus_1)]

ONE_SPEAKER = (
    "there is only one speaker; a second one needs cond_audio.person2 or tts_audio.human2_voice"
)

Disagreement = tuple[str, str]
"""A field that does not go together with another one, and why."""


class CondAudio(Contract):
    """An audio file for each speaker."""

    person1: Source
    person2: Source | None = None


class TtsAudio(Contract):
    """Text to be spoken, and a voice for each speaker.

    With a second voice the text is a dialogue: `(s1) ... (s2) ...`.
    """

    text: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_SPEECH,
            description="what tts_audio.human1_voice speaks; with tts_audio.human2_voice too, "
            "(s1) (s2) turns",
        ),
        AfterValidator(check_not_blank),
        AfterValidator(check_plain),
    ]
    human1_voice: VoiceName | None = Field(None, description=f"{ALLOWED}; null = {DEFAULT_VOICE}")
    human2_voice: VoiceName | None = Field(None, description=ALLOWED)


class Lora(Contract):
    """A LoRA adapter that the operator has configured under this name."""

    name: Name
    scale: float = Field(1.0, ge=-100, le=100)


Corner = Annotated[float, Field(le=MAX_SIDE)]
Box = Annotated[
    tuple[Corner, Corner, Corner, Corner],
    Field(strict=False),  # `box_to_boxes` turns JSON's array into a list
    AfterValidator(check_corners),
]


class Boxes(Contract):
    """x_min, y_min, x_max, y_max of each speaker, in pixels of the source."""

    person1: Box
    person2: Box | None = None


class OutputConfig(Contract):
    """Where results are copied to besides the farm's store, if the operator allows it."""

    store: Literal["s3", "volume", "inline"]
    bucket: Annotated[str, Field(max_length=63)] | None = None
    region: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,63}$")] | None = None
    prefix: Annotated[str, Field(max_length=500), AfterValidator(check_prefix)] | None = None


class JobRequest(Contract):
    """One talking video.

    The fields' descriptions say what is allowed; they are shown in errors and in `--help`.
    """

    synonyms: ClassVar[Mapping[str, str]] = SHORT_NAMES
    """What errors suggest for names that other interfaces have."""

    prompt: Prompt = Field(
        DEFAULT_PROMPT, description=f"text description of the video; 1 to {MAX_PROMPT} characters"
    )
    negative_prompt: str | None = Field(
        None,
        max_length=MAX_PROMPT,
        validation_alias=AliasChoices("negative_prompt", "n_prompt"),
        description=f"what the video must not show, up to {MAX_PROMPT} characters; null = the "
        "model's default negative prompt",
    )
    cond_video: Source = Field(
        description="the face: an image or a video, as URL, data URI, base64 or store key, "
        "or as a path where files may be named"
    )
    cond_audio: CondAudio | None = Field(
        None,
        description='the speech: {"person1": audio, "person2": audio or null}, in the same forms '
        "as cond_video",
    )
    tts_audio: TtsAudio | None = Field(
        None,
        description='text to speak instead: {"text", "human1_voice"}; with "human2_voice" too, '
        "(s1) (s2) turns",
    )
    audio_type: Literal["para", "add"] | None = Field(
        None,
        description="two recordings: para = simultaneous, add = one after the other; null for "
        "one, add or null for text",
    )
    bbox: Annotated[Boxes, BeforeValidator(box_to_boxes)] | None = Field(
        None,
        description='positions of two speakers: {"person1": [x_min, y_min, x_max, y_max], '
        '"person2": [...]} or null',
    )
    model: Name | None = Field(
        None,
        description=f"{', '.join(PRESETS)}, as far as the farm serves it; null = the farm's "
        "default model",
    )
    size: Annotated[Name, AfterValidator(check_size)] | None = Field(
        None,
        description=f"{', '.join(SIZES)}, as far as the model makes it; the aspect ratio follows "
        f"the source; {MODELS_DEFAULT}",
    )
    quality: Quality | None = Field(
        None,
        description="draft, fast or best: steps, guidance, TeaCache and 8 bits, unless they are "
        "given; null = what the model is made for",
    )
    mode: Mode | None = Field(
        "auto",
        description="auto or null: as long as the voice, up to max_frame_num; clip: one chunk; "
        f"streaming: as auto, but up to {STREAMING_FRAMES} frames where max_frame_num is null",
    )
    frame_num: FrameCount | None = Field(
        None,
        ge=5,
        description=f"frames of one chunk, 4n+1, 5 to 1001; {MODELS_DEFAULT}",
    )
    max_frame_num: FrameLimit | None = Field(
        None,
        description=f"maximum number of frames, at 25 per second, but for mode clip; 1 to "
        f"{MAX_FRAMES}; null = no limit but the operator's",
    )
    motion_frame: FrameCount | None = Field(
        None,
        description="frames that a chunk shares with the previous one, 4n+1, below frame_num; "
        + MODELS_DEFAULT,
    )
    sample_steps: int | None = Field(
        None,
        ge=1,
        le=1000,
        description=f"denoise steps, 1 to 1000 (4 to 40 in practice); {BY_QUALITY}",
    )
    sample_shift: float | None = Field(
        None,
        gt=0,
        le=100,
        description="shift of the noise schedule, above 0 to 100; null = that of the size",
    )
    sample_text_guide_scale: float | None = Field(
        None,
        ge=0,
        le=20,
        description=f"text guidance scale, 0 to 20; {BY_QUALITY}",
    )
    sample_audio_guide_scale: float | None = Field(
        None,
        ge=0,
        le=20,
        description=f"audio guidance scale, 0 to 20; {BY_QUALITY}",
    )
    color_correction_strength: float = Field(
        1.0, ge=0, le=1, description="strength of the colour correction between chunks, 0 to 1"
    )
    use_teacache: bool | None = Field(
        None,
        description=f"reuse of similar denoise steps (TeaCache): true or false; {BY_QUALITY}",
    )
    teacache_thresh: float = Field(0.2, ge=0, le=1, description="TeaCache threshold, 0 to 1")
    use_apg: bool = Field(False, description="adaptive projected guidance (APG): true or false")
    apg_momentum: float = Field(-0.75, ge=-1, le=1, description="APG momentum, -1 to 1")
    apg_norm_threshold: float = Field(
        55, ge=0, le=1_000_000, description="APG norm threshold, 0 to 1000000"
    )
    base_seed: int = Field(
        42,
        ge=-1,
        lt=2**63,
        description="random seed, 0 or more; -1 = drawn at submission and returned in the result",
    )
    lora: tuple[Lora, ...] = Field(
        (),
        max_length=MAX_LORAS,
        description=f"up to {MAX_LORAS} LoRA adapters by the names that the operator configured: "
        '[{"name", "scale"}]',
    )
    quant: Literal["int8", "fp8", "auto", "none"] | None = Field(
        None,
        description="8 bits for the linears: int8, fp8, none, or auto = where they are quicker; "
        "null = as quality says, else the operator",
    )
    num_persistent_param_in_dit: int | None = Field(
        None,
        ge=0,
        le=10**12,
        description="transformer parameters kept on the device while streaming: 0 to 10^12, or "
        "null",
    )
    offload_model: bool | None = Field(
        None, description="stream the model from host memory: true, false or null"
    )
    quant_dir: Name | None = Field(
        None, description="a folder that the operator has configured, or null"
    )
    scene_seg: bool = Field(
        False,
        description="true: plan each scene of a source video separately, so that none starts with "
        "frames of another",
    )
    output_config: OutputConfig | None = Field(
        None,
        description='additional destination of the result: {"store": "s3", "bucket", "prefix", '
        '"region"}, {"store": "volume", "prefix"}, {"store": "inline"} or null',
    )
    webhook: Annotated[str, Field(max_length=2000), AfterValidator(check_webhook)] | None = Field(
        None, description="https URL that is called with the result when the job ends, or null"
    )
    priority: Priority = Field("normal", description="low, normal or high")
    placement: Literal["any", "local"] = Field(
        "any", description="local = only on the farm's own GPUs, never on rented ones; any or local"
    )
    max_cost: float | None = Field(
        None,
        ge=0,
        le=1_000_000_000,
        description="most that the video may be estimated to cost, in the currency of the farm's "
        "price of a GPU, 0 to 1000000000; a job beyond it is refused; null = any amount",
    )
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="the same key returns the same job; 1 to 200 characters",
    )

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        """Raises one error for all fields that do not go together."""
        checks = (self._fields, self._speakers, self._text, self._output, self._unsupported)
        found = [each for check in checks for each in check()]
        if found:
            raise PydanticCustomError("disagreement", "fields disagree", {"disagreements": found})
        return self

    def _fields(self) -> Iterator[Disagreement]:
        if (self.cond_audio is None) == (self.tts_audio is None):
            yield (
                "cond_audio",
                "give exactly one of cond_audio (audio) and tts_audio (text to speak)",
            )
        if self.motion_frame and self.frame_num and self.motion_frame >= self.frame_num:
            yield "motion_frame", f"it must be smaller than frame_num, which is {self.frame_num}"

    def _speakers(self) -> Iterator[Disagreement]:
        if self.cond_audio and self.cond_audio.person2 and not self.audio_type:
            yield "audio_type", "two audio files need it"
        if self.speakers == 1 and self.audio_type:
            yield "audio_type", ONE_SPEAKER
        elif self.tts_audio and self.audio_type == "para":
            yield "audio_type", "turns are spoken one after the other"
        if self.bbox and (self.bbox.person2 is None) is (self.speakers == 2):
            if self.speakers == 2:
                yield "bbox.person2", "two speakers need a box each"
            else:
                yield "bbox.person2", ONE_SPEAKER
        elif self.bbox and self.bbox.person1 == self.bbox.person2:
            yield "bbox.person2", "it is the box of person1; each needs its own"

    def _text(self) -> Iterator[Disagreement]:
        if self.tts_audio is None:
            return
        if self.speakers == 2:
            try:
                turns(self.tts_audio.text)
            except ValueError as error:
                yield "tts_audio.text", str(error)
        elif has_turns(self.tts_audio.text):
            yield (
                "tts_audio.text",
                "it has turns of two speakers; tts_audio.human2_voice is missing",
            )

    def _output(self) -> Iterator[Disagreement]:
        if self.output_config is None:
            return
        store = self.output_config.store
        if store == "s3" and not self.output_config.bucket:
            yield "output_config.bucket", "s3 needs it"
        for part in UNUSED_PARTS[store]:
            if getattr(self.output_config, part) is not None:
                yield f"output_config.{part}", f"{store} has none"

    def _unsupported(self) -> Iterator[Disagreement]:
        for field, allowed in NOT_YET.items():
            if _look_up(self, field) != allowed:
                yield field, f"not supported yet; allowed is {json.dumps(allowed)}"

    @property
    def speakers(self) -> int:
        """1 or 2; a second speaker has an audio file or a voice."""
        has_second_audio = self.cond_audio is not None and self.cond_audio.person2 is not None
        has_second_voice = self.tts_audio is not None and self.tts_audio.human2_voice is not None
        return 2 if has_second_audio or has_second_voice else 1

    def with_sources(self, change: Callable[[str, str], str]) -> Self:
        """The request with each source replaced by `change(source, field)`."""
        changed: dict[str, Any] = {"cond_video": change(self.cond_video, "cond_video")}
        if self.cond_audio:
            voices = self.cond_audio.model_dump(exclude_none=True)
            sources = {
                person: change(voice, f"cond_audio.{person}") for person, voice in voices.items()
            }
            changed["cond_audio"] = self.cond_audio.model_copy(update=sources)
        return self.model_copy(update=changed)

    def differences(self, other: Self) -> list[str]:
        """The fields in which another request would make another video, or send it elsewhere."""
        fields = (name for name in type(self).model_fields if name not in NOT_COMPARED)
        return [name for name in fields if getattr(self, name) != getattr(other, name)]

    @property
    def digest(self) -> str:
        """The same for requests without differences, also in later versions of the contract."""
        text = self.model_dump_json(exclude=NOT_COMPARED, exclude_defaults=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """The request in a plain object; raises InvalidInput."""
        try:
            return cls.model_validate_json(json.dumps(fields, ensure_ascii=False).encode())
        except ValidationError as error:
            raise invalid_input(error, cls) from error
        except UnicodeEncodeError as error:
            field, text = next(each for each in _leaves("", fields) if _is_undecodable(each[1]))
            raise InvalidInput(
                f"{field}: got {text!r}; allowed: UTF-8, also in a file's name (rename it)"
            ) from error
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(
                f"{_why_no_json(fields)}; allowed: values that JSON can represent"
            ) from error


UNUSED_PARTS: dict[str, tuple[str, ...]] = {
    "s3": (),
    "volume": ("bucket", "region"),
    "inline": ("bucket", "region", "prefix"),
}
"""Parts of `output_config` that each kind of store has no use for."""

NOT_COMPARED = {"priority", "max_cost", "idempotency_key"}
"""Fields that say nothing of the video itself."""

NOT_YET: dict[str, Any] = {
    "quant_dir": None,
}
"""Unsupported fields of the contract, with their one allowed value: refused, never ignored."""


def _look_up(request: BaseModel, field: str) -> Any:
    value: Any = request
    for part in field.split("."):
        value = getattr(value, part, None)
    return value


def _leaves(field: str, value: Any) -> Iterator[tuple[str, Any]]:
    """All names in a request, and its texts, numbers and other values, by their fields."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield field or "request", name
            yield from _leaves(f"{field}.{name}".lstrip("."), part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(field, part)
    else:
        yield field, value


def _is_undecodable(value: Any) -> bool:
    """Whether a text had bytes that were not UTF-8, which Python keeps as surrogates."""
    return isinstance(value, str) and value != value.encode("utf-8", "replace").decode()


def _why_no_json(fields: Mapping[str, Any]) -> str:
    """The first value of a request that JSON cannot represent, by its field and its type."""
    try:
        for field, value in _leaves("", fields):
            if not _is_json(value):
                return f"{field}: got a value of Python's type {type(value).__name__}"
    except RecursionError:
        return "request: it contains itself, or is nested too deeply"
    return "request: the name of a field is no text"


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):  # a number may have too many digits
        return False
    return True
