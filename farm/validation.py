"""What is wrong with an object that did not validate, as one sentence: the field, the value, what is allowed."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from farm.errors import InvalidInput, did_you_mean

LONGEST_SHOWN = 80
"""Characters of a wrong value that an error repeats: enough to recognise it, too few to leak a file through a log."""


def invalid_input(error: ValidationError, model: type[BaseModel], *, prefix: str = "") -> InvalidInput:
    """The first mistake in what `model` was asked to hold; with a `prefix`, names are shown as of the environment."""
    mistakes = error.errors(include_url=False)
    mistake = min(
        mistakes, key=lambda each: each["type"] != "extra_forbidden"
    )  # a misspelt name explains a missing one
    context = mistake.get("ctx", {})
    *steps, last = mistake["loc"] or ("",)
    named = [str(part) for part in steps if _is_name(part)]
    if mistake["type"] == "extra_forbidden" or _is_name(last):  # a caller's own name may be any text
        named.append(str(last))
    path = context["field"].split(".") if "field" in context else named
    name = ".".join(path) if path else "request"
    shown = prefix + name.upper() if prefix else name
    if mistake["type"] == "extra_forbidden":
        return InvalidInput(f"{shown}: there is no such field{_hint(model, path, prefix)}")
    if mistake["type"] == "missing":
        return InvalidInput(f"{shown}: it is missing{_allowed(model, path)}")
    given = mistake["input"]
    value = given
    if "field" in context:
        value = _walk(given, path) if path[0] in given else model.model_fields[path[0]].default
    said = mistake["msg"].removeprefix("Input ")
    return InvalidInput(f"{shown}: got {_told(model, path, value)}; {said}{_allowed(model, path)}")


def _is_name(part: str | int) -> bool:
    """Whether a step of an error's path is a field or an index, and not the branch of a union."""
    return isinstance(part, int) or (part.isidentifier() and part.islower())


def _walk(value: Any, path: list[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return value


def _told(model: type[BaseModel], path: list[str], value: Any) -> str:
    field = model.model_fields.get(path[0]) if path else None
    return "a secret, which is not repeated here" if field and not field.repr else _short(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(text)} characters)"


def _allowed(model: type[BaseModel], path: list[str]) -> str:
    field = model.model_fields.get(path[0]) if path else None
    return f"; allowed: {field.description}" if field and field.description else ""


def _hint(model: type[BaseModel], path: list[str], prefix: str) -> str:
    """The known field that is closest to an unknown one, as the end of the error."""
    *parents, unknown = path
    for part in parents:
        model = _model_of(model, part) or model
    if prefix:
        known = [field.upper() for field in model.model_fields]
        return did_you_mean(unknown.upper(), known, prefix=prefix)
    parent = "".join(f"{part}." for part in parents)
    return did_you_mean(unknown, model.model_fields, prefix=parent)


def _model_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model that a field holds, as in `Boxes | None`."""
    field = model.model_fields.get(name)
    if field is None:
        return None
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if _is_model(kind)), None)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
