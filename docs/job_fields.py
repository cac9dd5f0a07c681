"""What farm/job/fields.py has of the contract: its fields as types of keyword arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from farm.job import JobRequest
from farm.job.request import Source

MODULE = Path(__file__).parents[1] / "farm/job/fields.py"

HEADING = '''\
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
'''

SHORT_FORMS = {"bbox": "Sequence[float] | "}
"""What a field takes besides its own type."""


def module() -> str:
    """A TypedDict for each object of the contract; those within others first."""
    return HEADING + "".join(map(_typed_dict, _objects(JobRequest)))


def _objects(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        for kind in _parts(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _objects(kind)
    yield model


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


def _typed_dict(model: type[BaseModel]) -> str:
    """Of the request itself no field is required: an object may have the others."""
    total = "" if model is not JobRequest else ", total=False"
    lines = [f"\n\nclass {_name(model)}(TypedDict{total}):\n"]
    hints = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        kind = SHORT_FORMS.get(name, "") + _type(hints[name])
        optional = not total and not field.is_required()
        lines.append(f"    {name}: {f'NotRequired[{kind}]' if optional else kind}\n")
    return "".join(lines)


def _name(model: type[BaseModel]) -> str:
    return f"{model.__name__.removesuffix('Request')}Fields"


def _type(kind: Any) -> str:
    """A type of the contract as Python writes it, without its limits."""
    origin, args = get_origin(kind), get_args(kind)
    if kind == Source:
        return "Media"
    if origin is Annotated:
        return _type(args[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(json.dumps, args))}]"
    if origin is tuple:
        return f"Sequence[{_type(args[0])}]"
    if args:
        return " | ".join(map(_type, args))
    if kind is NoneType:
        return "None"
    return _name(kind) if issubclass(kind, BaseModel) else str(kind.__name__)
