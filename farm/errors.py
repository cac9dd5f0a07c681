"""Everything that can go wrong, as one tree.

    FarmError                     code                  retrying helps
    ├── InvalidInput              E_INPUT_VALIDATION    no
    ├── DownloadFailed            E_DOWNLOAD_FAILED     yes, unless the far side refused for good
    ├── EmbeddingFailed           E_AUDIO_EMBEDDING     no
    ├── PipelineLoadFailed        E_PIPELINE_LOAD       no
    ├── OutOfMemory               E_OOM                 no
    ├── FFmpegFailed              E_FFMPEG              no
    ├── GenerationFailed          E_GENERATION_RUNTIME  once
    ├── UploadFailed              E_UPLOAD              yes
    ├── TimedOut                  E_TIMEOUT             with a higher limit
    ├── Cancelled                 E_CANCELLED           no
    ├── WorkerLost                E_WORKER_LOST         was done, up to the limit
    └── FarmUnreachable           E_UNREACHABLE         yes, once the farm is up

The codes are part of the job contract and never change their meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

MIN_SIMILARITY = 0.5
"""Below difflib's default of 0.6, so that `seed` finds `base_seed`."""


class FarmError(Exception):
    """A failure with a stable code, a sentence for the user, and whether trying again may help."""

    code = "E_INTERNAL"
    retries = 0
    """How often the farm itself tries again before it gives the job up."""

    @property
    def retryable(self) -> bool:
        """Whether trying again may help."""
        return self._retryable

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self._retryable = self.retries > 0 if retryable is None else retryable

    def describe(self, *, at_stage: str) -> dict[str, Any]:
        """The contract's error object; `cause` is the exception that this one was raised from."""
        cause = self.__cause__ or self
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "at_stage": at_stage,
            "cause_class": type(cause).__name__,
            "cause_message": str(cause),
        }


class InvalidInput(FarmError):
    """The request, or the media that it names, cannot be used as it is."""

    code = "E_INPUT_VALIDATION"


class DownloadFailed(FarmError):
    """A URL could not be fetched, or what came back is not what the field asks for."""

    code = "E_DOWNLOAD_FAILED"
    retries = 2


class EmbeddingFailed(FarmError):
    """The audio encoder could not turn the speech into embeddings."""

    code = "E_AUDIO_EMBEDDING"


class PipelineLoadFailed(FarmError):
    """A checkpoint is missing, incomplete or of another shape than its model."""

    code = "E_PIPELINE_LOAD"


class OutOfMemory(FarmError):
    """The device has too little memory for the size that was asked for; nothing is made smaller in silence."""

    code = "E_OOM"


class FFmpegFailed(FarmError):
    """Encoding or joining media failed; the message carries ffmpeg's last lines."""

    code = "E_FFMPEG"


class GenerationFailed(FarmError):
    """The model failed while it made a chunk."""

    code = "E_GENERATION_RUNTIME"
    retries = 1


class UploadFailed(FarmError):
    """The store did not take a product."""

    code = "E_UPLOAD"
    retries = 2


class TimedOut(FarmError):
    """A limit in seconds was reached."""

    code = "E_TIMEOUT"


class Cancelled(FarmError):
    """Somebody asked for the job to stop, and it did."""

    code = "E_CANCELLED"


class WorkerLost(FarmError):
    """Worker after worker died on the same step, so the step is parked instead of tried for ever."""

    code = "E_WORKER_LOST"


class FarmUnreachable(FarmError):
    """The farm's broker or store does not answer, or not as it should."""

    code = "E_UNREACHABLE"
    retries = 2


def error_from_code(code: str, message: str, *, retryable: bool) -> FarmError:
    """The error that `describe` wrote down, as an exception again; an unknown code becomes a plain FarmError."""
    kinds = {kind.code: kind for kind in FarmError.__subclasses__()}
    return kinds.get(code, FarmError)(message, retryable=retryable)


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """`; did you mean X?` for the end of an error, X being the known name closest to `name`.

    Empty if none is close. `prefix` is written in front of the known name.
    """
    close = get_close_matches(name, known, n=1, cutoff=MIN_SIMILARITY)
    return f"; did you mean {prefix}{close[0]}?" if close else ""
