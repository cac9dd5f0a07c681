"""What another version of the farm would write, and what a format promises to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from farm.registry.formats import FORMAT

REQUIRED = "required"


def text_of(record: Mapping[str, Any], *, format: int = FORMAT) -> str:
    """A record as a text, whatever its fields are."""
    return json.dumps({"format": format, "record": record})


def defaults_of(*kinds: type[BaseModel]) -> dict[str, Any]:
    """The default of every field of these models and of those within them, as JSON."""
    return {
        f"{model.__name__}.{name}": REQUIRED
        if field.is_required()
        else json.loads(json.dumps(field.get_default(call_default_factory=True), default=_json))
        for model in _models(*kinds)
        for name, field in model.model_fields.items()
    }


def _models(*kinds: Any) -> Iterator[type[BaseModel]]:
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind
            yield from _models(*(field.annotation for field in kind.model_fields.values()))
        else:
            yield from _models(*(each for each in get_args(kind) if not isinstance(each, str)))


def _json(value: Any) -> Any:
    return value.model_dump(mode="json")
