"""Errors in the words of the command line: options in place of the contract's fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from farm.cli.options import SHORTHANDS, dashed, given, head
from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.job.names import renamed


@contextmanager
def as_typed(file: Path | None, options: Mapping[str, str | None]) -> Iterator[None]:
    """Errors of the block name options instead of fields, unless these come from the file."""

    def typed(name: str) -> str:
        if head(name) not in JobRequest.model_fields:
            return name
        return _option(name, given(options), has_file=file is not None)

    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(renamed(error.message, typed)) from error


def _option(field: str, typed: Mapping[str, str], *, has_file: bool) -> str:
    """How the user wrote a field, or would write it."""
    whole, _, part = field.partition(".")
    shorthands = [each for each in SHORTHANDS if field in (each.field, head(each.field))]
    used = [each.name for each in shorthands if each.name in typed]
    if used:
        return dashed(used[0])
    if has_file and whole not in typed:
        return field
    if whole in typed or not shorthands:
        return f"{dashed(whole)} {part}".rstrip()
    same = (each.name for each in shorthands if each.field == shorthands[0].field)
    return " or ".join(map(dashed, same))
