"""The job contract: the request, its progress and its result, the same on every interface."""

from farm.job.checks import SCHEMES
from farm.job.names import SHORT_NAMES, named_as
from farm.job.request import (
    NOT_YET,
    PRIORITIES,
    Boxes,
    CondAudio,
    JobRequest,
    Lora,
    OutputConfig,
    Priority,
    TtsAudio,
)
from farm.job.resolved import ResolvedRequest, resolve
from farm.job.status import (
    STAGES,
    Artifact,
    Event,
    Failure,
    JobStatus,
    Result,
    State,
    Video,
    WebhookStatus,
)
from farm.job.text_fields import PARTS, TEXT_FIELDS, fields_from_text, value_from_text
from farm.job.time_limits import TimeLimits

__all__ = [
    "NOT_YET",
    "PARTS",
    "PRIORITIES",
    "SCHEMES",
    "SHORT_NAMES",
    "STAGES",
    "TEXT_FIELDS",
    "Artifact",
    "Boxes",
    "CondAudio",
    "Event",
    "Failure",
    "JobRequest",
    "JobStatus",
    "Lora",
    "OutputConfig",
    "Priority",
    "ResolvedRequest",
    "Result",
    "State",
    "TimeLimits",
    "TtsAudio",
    "Video",
    "WebhookStatus",
    "fields_from_text",
    "named_as",
    "resolve",
    "value_from_text",
]
