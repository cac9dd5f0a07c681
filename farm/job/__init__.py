"""The job contract: the request, its progress and its result, the same on every interface."""

from farm.job.request import (
    NOT_YET,
    PARTS,
    SCHEMES,
    Boxes,
    CondAudio,
    JobRequest,
    Lora,
    OutputConfig,
    TtsAudio,
)
from farm.job.status import (
    STAGES,
    Artifact,
    Event,
    Failure,
    JobStatus,
    Notice,
    Result,
    State,
    Video,
)

__all__ = [
    "NOT_YET",
    "PARTS",
    "SCHEMES",
    "STAGES",
    "Artifact",
    "Boxes",
    "CondAudio",
    "Event",
    "Failure",
    "JobRequest",
    "JobStatus",
    "Lora",
    "Notice",
    "OutputConfig",
    "Result",
    "State",
    "TtsAudio",
    "Video",
]
