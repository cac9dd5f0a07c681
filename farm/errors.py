"""Every error of the farm, as one tree.

    FarmError                     code                  a retry may help
    ├── InvalidInput              E_INPUT_VALIDATION    no
    │   ├── IdempotencyConflict   (the same)            no, with this key
    │   └── UnknownJob            (the same)            no
    ├── QuotaExceeded             E_QUOTA               later, when the caller has less
    ├── DownloadFailed            E_DOWNLOAD_FAILED     yes, unless the server refused permanently
    ├── EmbeddingFailed           E_AUDIO_EMBEDDING     no
    ├── PipelineLoadFailed        E_PIPELINE_LOAD       no
    ├── OutOfMemory               E_OOM                 no
    ├── FFmpegFailed              E_FFMPEG              no
    ├── GenerationFailed          E_GENERATION_RUNTIME  once
    ├── UploadFailed              E_UPLOAD              yes
    ├── CorruptObject             E_CORRUPT_OBJECT      once
    ├── TimedOut                  E_TIMEOUT             with a higher limit
    ├── Cancelled                 E_CANCELLED           no
    ├── WorkerLost                E_WORKER_LOST         no, retried already
    ├── WeightsChanged            E_WEIGHTS_CHANGED     yes, as a new job
    ├── VersionSkew               E_VERSION_SKEW        no, the versions must agree first
    └── FarmUnreachable           E_UNREACHABLE         yes, once the farm is up

The codes are part of the job contract; their meanings never change.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from typing import Any

VERY_CLOSE = 0.8
"""Of difflib's similarity, for which 0.6 is close."""

MAX_SHOWN = 80
"""Characters of a wrong value in an error: recognisable, but no leak of whole files to logs."""

MAX_TEXT = 4_000
"""Characters of a text in an error object, which is stored, listed and sent to webhooks."""


class FarmError(Exception):
    """A failure with a stable code, a message for the user, and whether a retry may help."""

    code = "E_INTERNAL"
    retries = 0
    """Retries by the farm before the job fails."""
    retry_later = False
    """The farm does not retry, but the caller may, later."""
    hidden: re.Pattern[str] | None = None
    """What `describe` leaves out of its texts: paths of the worker, which logs may have."""

    @property
    def retryable(self) -> bool:
        """Whether a retry may help."""
        return self._retryable

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retryable is None:
            retryable = self.retries > 0 or self.retry_later
        self._retryable = retryable

    def describe(self, *, at_stage: str) -> dict[str, Any]:
        """The contract's error object; the cause is the exception that this one was raised from."""
        cause = self.__cause__ or self
        return {
            "code": self.code,
            "message": self._shown(self.message),
            "retryable": self.retryable,
            "at_stage": at_stage,
            "cause_class": type(cause).__name__,
            "cause_message": self._shown(str(cause)),
        }

    def _shown(self, text: str) -> str:
        return abridge(self.hidden.sub("", text) if self.hidden else text)


class InvalidInput(FarmError):
    """The request, or a file that it names, is invalid.

    The message has a line for each mistake, which begins with the field.
    """

    code = "E_INPUT_VALIDATION"


class IdempotencyConflict(InvalidInput):
    """The idempotency key is that of another request."""


class UnknownJob(InvalidInput):
    """There is no such job: there never was, it was deleted, or it is another caller's."""


MAX_MISTAKES = 10
"""Of one request that an error names."""


def invalid(mistakes: Iterable[str]) -> None:
    """Raises InvalidInput with the first mistake of each field, if there is any."""
    lines: dict[str, str] = {}
    for line in "\n".join(mistakes).splitlines():
        lines.setdefault(line.partition(": ")[0], line)
    if lines:
        raise InvalidInput("\n".join(islice(lines.values(), MAX_MISTAKES)))


@contextmanager
def all_mistakes() -> Iterator[Callable[..., Any]]:
    """Yields `check(function, *arguments)`, which notes an InvalidInput instead of raising it.

    All that were noted are raised together after the block, or when anything fails in it.
    """
    noted: list[str] = []

    def check(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except InvalidInput as error:
            noted.append(error.message)
            return None

    try:
        yield check
    except FarmError as error:
        if not noted:
            raise
        if isinstance(error, InvalidInput):
            noted.append(error.message)
    invalid(noted)


class QuotaExceeded(FarmError):
    """The caller has as many jobs, GPU seconds or bytes as the operator allows."""

    code = "E_QUOTA"
    retry_later = True

    def __init__(
        self, message: str, *, retryable: bool | None = None, retry_after_s: float | None = None
    ) -> None:
        """`retry_after_s`: in how many seconds there is certainly room; None if that depends."""
        super().__init__(message, retryable=retryable)
        self.retry_after_s = retry_after_s


class DownloadFailed(FarmError):
    """A URL could not be fetched, or its content is not what the field requires."""

    code = "E_DOWNLOAD_FAILED"
    retries = 2


class EmbeddingFailed(FarmError):
    """The audio encoder could not compute embeddings from the speech."""

    code = "E_AUDIO_EMBEDDING"


class PipelineLoadFailed(FarmError):
    """A checkpoint is missing, incomplete, or of a different shape than its model."""

    code = "E_PIPELINE_LOAD"


class OutOfMemory(FarmError):
    """The request does not fit into device memory.

    The farm never lowers size or quality by itself.
    """

    code = "E_OOM"


class FFmpegFailed(FarmError):
    """Encoding or joining media failed; the message ends with ffmpeg's last lines."""

    code = "E_FFMPEG"


class GenerationFailed(FarmError):
    """The model failed while generating a chunk."""

    code = "E_GENERATION_RUNTIME"
    retries = 1


class UploadFailed(FarmError):
    """The store did not accept an object."""

    code = "E_UPLOAD"
    retries = 2


class CorruptObject(FarmError):
    """An object in the store is not what was written: its SHA-256 differs.

    The farm reads it once more, since it may have been damaged on its way.
    """

    code = "E_CORRUPT_OBJECT"
    retries = 1


class TimedOut(FarmError):
    """A time limit was reached."""

    code = "E_TIMEOUT"


class Cancelled(FarmError):
    """The job was cancelled."""

    code = "E_CANCELLED"


class WorkerLost(FarmError):
    """The attempts at a step are used up, and the last one lost its worker.

    The job fails instead of being retried forever.
    """

    code = "E_WORKER_LOST"


class WeightsChanged(FarmError):
    """No worker with the weights of the job's first chunk was found.

    A video is never made by two sets of weights.
    """

    code = "E_WEIGHTS_CHANGED"


class VersionSkew(FarmError):
    """A record or a message of a job was written by a version of the farm that this one cannot
    read.
    """

    code = "E_VERSION_SKEW"


class FarmUnreachable(FarmError):
    """The farm's broker or store does not answer, or gives an unexpected answer."""

    code = "E_UNREACHABLE"
    retries = 2


FULL = (errno.ENOSPC, errno.EDQUOT)
"""The operating system's errors of a full disk."""


def system_errno(error: BaseException) -> int | None:
    """The number of the operating system's error that an error was raised from, or is."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno
        cause = cause.__cause__
    return None


def error_from_code(code: str, message: str, *, retryable: bool) -> FarmError:
    """The exception that `describe` was called on; an unknown code becomes a plain FarmError."""
    kinds = {kind.code: kind for kind in FarmError.__subclasses__()}
    return kinds.get(code, FarmError)(message, retryable=retryable)


def did_you_mean(
    name: str, known: Iterable[str], *, prefix: str = "", synonyms: Mapping[str, str] | None = None
) -> str:
    """`; did you mean X?` for the end of an error, X being the known name that is very close to
    `name`, shares a whole word with it, or is close to it; or that has such a synonym.

    Empty if there is none. `prefix` is written in front of the known name.
    """
    name = name[:MAX_SHOWN]
    meant = {each: prefix + each for each in known} | dict(synonyms or {})
    near = [
        *get_close_matches(name, meant, n=1, cutoff=VERY_CLOSE),
        *(each for each in meant if each in name.split("_") or name in each.split("_")),
        *get_close_matches(name, meant, n=1),
    ]
    return f"; did you mean {meant[near[0]]}?" if near else ""


def how_to_install(extra: str) -> str:
    """The command for an extra of this package, which no package index has."""
    return f"pip install '.[{extra}]' in a checkout of the farm"


def shorten(text: str) -> str:
    """A text for an error: of a long one its beginning and its length."""
    if len(text) <= MAX_SHOWN:
        return text
    return f"{text[:MAX_SHOWN]}... ({len(text)} characters)"


def abridge(text: str) -> str:
    """A text for an error object: of a very long one its beginning and its end."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2 - 50
    return f"{text[:half]} [... {len(text)} characters ...] {text[-half:]}"


def one_line(text: str) -> str:
    """A message of several lines as one, for tables and lists."""
    return " | ".join(text.splitlines())


def printable(text: str) -> str:
    """A text without control characters, which callers could send to an operator's terminal."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)
