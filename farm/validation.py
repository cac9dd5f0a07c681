"""Validation errors as sentences: the field, its value, and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from farm.errors import MAX_MISTAKES, InvalidInput, did_you_mean, shorten


def invalid_input(
    error: ValidationError, model: type[BaseModel], *, prefix: str = ""
) -> InvalidInput:
    """What pydantic found in an object of type `model`: a line for each field, unknown ones first.

    A field that an unknown one seems to mean is left out: it may be missing for that reason. With a
    `prefix`, fields are shown as environment variables: `FARM_LEASE_S`.
    """
    lines: dict[str, str] = {}
    for problem in islice(_problems(error), MAX_MISTAKES):
        path = _path(problem)
        lines.setdefault(".".join(path), _line(problem, path, model, prefix))
    hints = " ".join(line for line in lines.values() if ": there is no such field" in line)
    for name in [name for name in lines if f" {name}?" in hints]:
        del lines[name]
    return InvalidInput("\n".join(lines.values()))


def _problems(error: ValidationError) -> Iterator[ErrorDetails]:
    """One for each mistake; a check across fields may have found several."""
    found = error.errors(include_url=False)
    for problem in sorted(found, key=lambda each: each["type"] != "extra_forbidden"):
        disagreements = problem.get("ctx", {}).get("disagreements")
        if disagreements is None:
            yield problem
            continue
        for field, message in disagreements:
            yield {**problem, "msg": message, "ctx": {"field": field}}


def _line(problem: ErrorDetails, path: list[str], model: type[BaseModel], prefix: str) -> str:
    name = shorten(".".join(path)) if path else "request"
    shown = prefix + name.upper() if prefix else name
    if problem["type"] == "extra_forbidden":
        return f"{shown}: there is no such field{_hint(model, path, prefix)}"
    allowed = _allowed(model, path)
    if problem["type"] == "missing":
        return f"{shown}: it is missing{allowed}"
    value = _value(problem, model, path)
    got = f"got {_shown_value(model, path, value)}"
    if value is None and "field" in problem.get("ctx", {}):
        got = "it is missing"
    hint = problem.get("ctx", {}).get("hint", "")
    return f"{shown}: {got}; {_reason(problem)}{allowed}{hint}"


def json_type(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


REASONS = {
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "string_pattern_mismatch": "it is not written as it should be",
    "too_long": "should have at most {max_length} items",
    "too_short": "should have {min_length} or more items",
    "union_tag_invalid": "its {discriminator} should be {expected_tags}",
    "union_tag_not_found": "it needs {discriminator}",
}
"""Why a value is refused, where pydantic speaks of Python or of itself."""


def _reason(problem: ErrorDetails) -> str:
    reason = REASONS.get(problem["type"])
    if reason is None:
        return problem["msg"].removeprefix("Input ")
    return reason.format(**problem.get("ctx", {}))


def _path(problem: ErrorDetails) -> list[str]:
    """The names of the fields that lead to a problem, outermost first."""
    context = problem.get("ctx", {})
    if "field" in context:  # our own checks across fields name theirs
        return str(context["field"]).split(".")
    *parents, last = problem["loc"] or ("",)
    path = [str(part) for part in parents if _is_field(part)]
    # A field that the caller misspelt may have any name.
    if problem["type"] == "extra_forbidden" or _is_field(last):
        path.append(str(last))
    return path


def _is_field(part: str | int) -> bool:
    """Whether a part of pydantic's path is a field or an index, and not the branch of a union."""
    return isinstance(part, int) or (part.isidentifier() and part[0].islower())


def _value(problem: ErrorDetails, model: type[BaseModel], path: list[str]) -> Any:
    """The wrong value; for a check across fields, the value of the field that it names."""
    given = problem["input"]
    if "field" not in problem.get("ctx", {}):
        return given
    if path[0] not in given:
        return model.model_fields[path[0]].default
    value = given
    for part in path:
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return value


def _shown_value(model: type[BaseModel], path: list[str], value: Any) -> str:
    field = model.model_fields.get(path[0]) if path else None
    if field and not field.repr:
        return "a secret, which is not shown"
    return shorten(repr(value))


def _allowed(model: type[BaseModel] | None, path: list[str]) -> str:
    """What the description of the innermost field says that has one, as the end of the error."""
    allowed = ""
    for part in path:
        field = model.model_fields.get(part) if model else None
        if model and field and field.description:
            allowed = f"; allowed: {field.description}"
        model = _model_of(model, part) if model else None
    return allowed


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
