"""The format of what the farm stores and sends: its version, and records as texts.

A text is `{"format": 1, "record": {...}}`. It leaves out every field that has its default, so a
reader that does not know a new field goes on until someone uses it.
"""

from __future__ import annotations

from functools import cache
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from farm.errors import VersionSkew, shorten
from farm.validation import reason_of

FORMAT = 1
"""The version of the format of every stored record and every message.

Within a version only fields with a default are added, and no default changes. All else takes the
next version, except what lets every version end the jobs of every other: `format` and `record` of a
text, `state` and `created_at` of a status, and a message's first argument, the id of its job.
"""

REMEDY = (
    "upgrade the older workers and clients; before an upgrade that changes the format, let all "
    "jobs end"
)

AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


class _Text(BaseModel, Generic[AnyRecord]):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[FORMAT]  # type: ignore[valid-type]
    record: AnyRecord


def dump(record: BaseModel) -> str:
    """A record as a text."""
    fields = record.model_dump_json(exclude_defaults=True)
    return f'{{"format":{FORMAT},"record":{fields}}}'


def load(text: str | bytes, kind: type[AnyRecord], *, name: str) -> AnyRecord:
    """The record in a text; VersionSkew, which calls it by its name, if it cannot be read."""
    try:
        read: _Text[AnyRecord] = _text_of(kind).model_validate_json(text)
    except ValidationError as error:
        # Not chained: pydantic quotes values, and a request may have signed URLs.
        raise _skew_of(name, error) from None
    return read.record


def unknown_format(found: object, *, name: str) -> VersionSkew:
    """The error for a text or a message in another format; None if it names none."""
    written = "no format" if found is None else f"format {shorten(repr(found))}"
    return VersionSkew(f"{name} is in {written}, and this version reads {FORMAT}; {REMEDY}")


@cache
def _text_of(kind: type[AnyRecord]) -> type[_Text[AnyRecord]]:
    return _Text[kind]  # type: ignore[valid-type]


def _skew_of(name: str, error: ValidationError) -> VersionSkew:
    """The error for a text: its format, or the first of its fields that is not understood."""
    problem = error.errors(include_url=False)[0]
    if problem["loc"] == ("format",):
        return unknown_format(None if problem["type"] == "missing" else problem["input"], name=name)
    field = ".".join(str(part) for part in problem["loc"][1:])
    reason = f"{field}: {reason_of(problem)}" if field else reason_of(problem)
    return VersionSkew(f"{name} cannot be read by this version ({reason}); {REMEDY}")
