"""What a committed step leaves for the next ones: one frozen type for each kind of step.

Everything named `..._key`, or listed as keys, is the key of an object in the store.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from farm.job import Result


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Output(_Record):
    step: str

    @model_serializer(mode="wrap")
    def _with_step(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The step says of which type an output is, so a text without defaults has it too."""
        return {"step": self.step, **fields(self)}


class DownloadOutput(_Output):
    """The checked source and voices, written anew except for a video."""

    step: Literal["download"] = "download"
    visual_kind: Literal["image", "video"]
    visual_key: str
    """A PNG, or the video as it came, which is decoded in the sandbox only."""
    visual_scale: float
    """Pixels of the PNG for each pixel of the source, along a side; 1 for a video."""
    visual_seconds: float | None
    """The length of a video; None for an image."""
    audio_keys: tuple[str, ...]
    """One recording for each speaker, as FLAC, or as WAV if it was synthesised."""
    warnings: tuple[str, ...]


class EmbedOutput(_Output):
    """The embedded speech, the audio of the video, and the plan of its chunks."""

    step: Literal["embed"] = "embed"
    embedding_prefixes: tuple[str, ...]
    """For each speaker, the prefix of the keys of its embeddings."""
    rows: int
    """Rows of each speaker's embedding: 25 a second."""
    audio_key: str
    """The audio of the whole video: the original recording, or both speakers mixed."""
    aac_keys: tuple[str, ...]
    """The same as AAC, in pieces of a minute, for the segments."""
    frames: int
    chunks: int
    cuts: tuple[int, ...]
    """The frames at which a new scene of the source begins."""
    source_keys: tuple[str, ...]
    """The frames of a source video at which chunks begin, as PNGs; the last one also serves for all
    later chunks. Empty for an image.
    """
    source_scale: float
    """Pixels of these PNGs for each pixel of the source, along a side."""
    weights: str
    """The fingerprint of the speech encoder's weights."""
    warnings: tuple[str, ...]


class UsedParameters(_Record):
    """Parameters that the request left open, or that the operator decides, as they were used."""

    sample_shift: float
    negative_prompt: str | None
    """None if the guidance reads none."""
    quant: str | None
    offload_model: bool
    num_persistent_param_in_dit: int | None
    skip_last_step: bool
    attention: str
    fold_audio: bool = False


class SegmentLinks(_Record):
    """How the playlist refers to a segment; made once, because a signed URL changes every time."""

    init: str
    segment: str


class ChunkOutput(_Output):
    """One chunk of the video, playable behind the ones before it."""

    step: Literal["generate"] = "generate"
    init_key: str
    """The initialisation section (fragmented MP4) that a player reads before the segment."""
    segment_key: str
    links: SegmentLinks
    frames: int
    """Frames that the segment adds to the video."""
    condition_key: str | None
    """The condition of an image, which all chunks share; None for a video."""
    tail_key: str | None
    """Motion frames, generator state, reference colours for the next chunk; None for the last."""
    weights: str
    """The fingerprint of all weights that made it, equal for all chunks of a job."""
    used: UsedParameters | None = None
    """Reported by the first chunk for all of them."""
    on_cpu: bool = False
    """Whether a CPU made it, in place of a GPU."""


class MuxOutput(_Output):
    """The finished video."""

    step: Literal["mux"] = "mux"
    result: Result
    video_key: str


class NotifyOutput(_Output):
    """The delivery of the webhook of a job that ended."""

    step: Literal["notify"] = "notify"
    outcome: Literal["delivered", "failed"]
    attempts: int
    reason: str


StepOutput = DownloadOutput | EmbedOutput | ChunkOutput | MuxOutput | NotifyOutput
Output = TypeVar("Output", bound=StepOutput)


class Committed(_Record):
    """An output with the attempt that produced it."""

    output: Annotated[StepOutput, Field(discriminator="step")]
    timings: dict[str, int]
    """Milliseconds by the name of what took them."""
    attempt_id: str
    inputs: dict[str, str]
    """For each step whose output was read, the attempt that left it."""
    digests: dict[str, str]
    """The SHA-256 of each object that the attempt stored, by key."""

    def output_as(self, kind: type[Output]) -> Output:
        """The output as the type that its step leaves; TypeError if it is of another step."""
        if not isinstance(self.output, kind):
            expected = kind.model_fields["step"].default
            raise TypeError(f"{expected}: got the output of {self.output.step}")
        return self.output


def chunks_of(embedded: Committed | None) -> int | None:
    """The number of chunks of a job, from the output of `embed`; None until that is committed."""
    return None if embedded is None else embedded.output_as(EmbedOutput).chunks
