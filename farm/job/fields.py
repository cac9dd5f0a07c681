"""The contract's fields as keyword arguments, for type checkers and editors.

Written by `python -m docs.generate` from `JobRequest`, which says what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal, NotRequired, Protocol, TypedDict


class Readable(Protocol):
    """A file that is open in binary mode, or anything like it."""

    def read(self) -> bytes: ...


Media = str | PathLike[str] | bytes | Readable
"""A source: its URL, its path, its content, or a file to read it from."""


class CondAudioFields(TypedDict):
    person1: Media
    person2: NotRequired[Media | None]


class TtsAudioFields(TypedDict):
    text: str
    human1_voice: NotRequired[str | None]
    human2_voice: NotRequired[str | None]


class BoxesFields(TypedDict):
    person1: Sequence[float]
    person2: NotRequired[Sequence[float] | None]


class LoraFields(TypedDict):
    name: str
    scale: NotRequired[float]


class OutputConfigFields(TypedDict):
    store: Literal["s3", "volume", "inline"]
    bucket: NotRequired[str | None]
    region: NotRequired[str | None]
    prefix: NotRequired[str | None]


class JobFields(TypedDict, total=False):
    prompt: str
    negative_prompt: str | None
    cond_video: Media
    cond_audio: CondAudioFields | None
    tts_audio: TtsAudioFields | None
    audio_type: Literal["para", "add"] | None
    bbox: Sequence[float] | BoxesFields | None
    model: str | None
    size: str | None
    quality: Literal["draft", "fast", "best"] | None
    mode: Literal["auto", "clip", "streaming"] | None
    frame_num: int | None
    max_frame_num: int | None
    motion_frame: int | None
    sample_steps: int | None
    sample_shift: float | None
    sample_text_guide_scale: float | None
    sample_audio_guide_scale: float | None
    color_correction_strength: float
    use_teacache: bool | None
    teacache_thresh: float
    use_apg: bool
    apg_momentum: float
    apg_norm_threshold: float
    base_seed: int
    lora: Sequence[LoraFields]
    quant: Literal["int8", "fp8", "auto", "none"] | None
    num_persistent_param_in_dit: int | None
    offload_model: bool | None
    quant_dir: str | None
    scene_seg: bool
    output_config: OutputConfigFields | None
    webhook: str | None
    priority: Literal["high", "normal", "low"]
    placement: Literal["any", "local"]
    max_cost: float | None
    idempotency_key: str | None
