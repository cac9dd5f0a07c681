"""Validation errors as sentences: the field, its value, and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from farm.errors import MAX_MISTAKES, InvalidInput, did_you_mean, shorten


def invalid_input(
    error: ValidationError, model: type[BaseModel], *, prefix: str = ""
) -> InvalidInput:
    """What pydantic found in an object of type `model`: a line for each field, unknown ones first.

    A field that an unknown one seems to mean is left out: it may be missing for that reason. With a
    `prefix`, fields are shown as environment variables: `FARM_LEASE_S`, also for one of its items.
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
        if _lacks_wrong_items(problem, found):
            continue
        disagreements = problem.get("ctx", {}).get("disagreements")
        if disagreements is None:
            yield problem
            continue
        for field, message in disagreements:
            yield {**problem, "msg": message, "ctx": {"field": field}}


def _lacks_wrong_items(problem: ErrorDetails, found: list[ErrorDetails]) -> bool:
    """Whether a list is too short because pydantic does not count its items that are wrong."""
    place = problem["loc"]
    return problem["type"] == "too_short" and any(
        each["loc"][:-1] == place for each in found if each["loc"]
    )


def _line(problem: ErrorDetails, path: list[str], model: type[BaseModel], prefix: str) -> str:
    name = shorten(_printable(".".join(path))) if path else "request"
    shown = prefix + name.partition(".")[0].upper() if prefix else name
    if problem["type"] == "extra_forbidden":
        return f"{shown}: {reason_of(problem)}{_hint(model, path, prefix)}"
    allowed = _allowed(model, path)
    if problem["type"] in WITHOUT_VALUE:
        return f"{shown}: {reason_of(problem)}{allowed}"
    value = _value(problem, model, path)
    got = f"got {_shown_value(model, path, value)}"
    if value is None and "field" in problem.get("ctx", {}):
        got = "it is missing"
    hint = problem.get("ctx", {}).get("hint", "")
    return f"{shown}: {got}; {reason_of(problem)}{allowed}{hint}"


def _printable(name: str) -> str:
    """A name as one line without control characters, whatever its caller has sent."""
    return name if name.isprintable() else repr(name)


def json_type(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


TOO_DEEP = "it is nested too deeply"
NETWORK = "it must be a network, such as 10.1.0.0/16"
OBJECT, LIST = "it must be an object", "it must be a list"
NUMBER, WHOLE_NUMBER = "it must be a number", "it must be a whole number"
TEXT, FLAG = "it must be text", "it must be true or false"

REASONS = {
    "bool_parsing": FLAG,
    "bool_type": FLAG,
    "dict_type": OBJECT,
    "extra_forbidden": "there is no such field",
    "finite_number": "it must be a finite number",
    "float_parsing": NUMBER,
    "float_type": NUMBER,
    "greater_than": "it must be above {gt}",
    "greater_than_equal": "it must be {ge} or more",
    "int_from_float": WHOLE_NUMBER,
    "int_parsing": WHOLE_NUMBER,
    "int_parsing_size": "it has too many digits",
    "int_type": WHOLE_NUMBER,
    "ip_v4_network": NETWORK,
    "ip_v6_network": NETWORK,
    "json_invalid": "it is not JSON",
    "less_than": "it must be below {lt}",
    "less_than_equal": "it must be {le} or less",
    "list_type": LIST,
    "literal_error": "it must be {expected}",
    "missing": "it is missing",
    "model_attributes_type": OBJECT,
    "model_type": OBJECT,
    "none_required": "it must be null",
    "path_type": "it must be a path",
    "string_pattern_mismatch": "it is not written as it should be",
    "string_too_long": "it may have {max_length} characters at most",
    "string_too_short": "it must have {min_length} or more characters",
    "string_type": TEXT,
    "too_long": "it may have {max_length} items at most",
    "too_short": "it must have {min_length} or more items",
    "tuple_type": LIST,
    "union_tag_invalid": "its {discriminator} must be {expected_tags}",
    "union_tag_not_found": "it needs {discriminator}",
    "value_error": "{error}",
}
"""Why pydantic refuses a value, in place of its own words, which speak of Python and of itself."""

WITHOUT_VALUE = ("missing", "json_invalid")
"""Errors of no value that could be shown."""

OTHER_REASON = "it is of another kind"
PYDANTIC_TYPES = frozenset(get_args(ErrorType))
"""Errors of other types are raised by our own checks, in our own words."""


def reason_of(problem: ErrorDetails) -> str:
    """Why pydantic refuses a value, in our own words, without the value."""
    kind = problem["type"]
    words = OTHER_REASON if kind in PYDANTIC_TYPES else problem["msg"]
    limits = {name: _limit(value) for name, value in problem.get("ctx", {}).items()}
    if kind == "json_invalid" and "recursion" in limits["error"]:
        return TOO_DEEP
    reason = REASONS[kind].format_map(limits) if kind in REASONS else words
    return f"{reason}{_json_hint(problem['input'])}" if reason in (OBJECT, LIST) else reason


def _limit(value: Any) -> Any:
    """A limit as a person writes it: 20, not 20.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json_hint(value: Any) -> str:
    """What is wrong with a text in the place of an object or a list, if it is meant as one."""
    if not isinstance(value, str) or value.strip()[:1] not in ("{", "["):
        return ""
    try:
        json.loads(value)
    except (ValueError, RecursionError) as error:
        return f", and this is not JSON ({why_no_json(error)})"
    return ", and this is the text of one"


JSON_REASONS = {
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Expecting property name enclosed in double quotes": "a name in double quotes is missing",
    "Expecting value": "a value is missing",
    "Extra data": "something follows the end",
    "Invalid control character at": "a control character is not escaped",
    "Unterminated string starting at": "the text that begins here does not end",
}
"""In place of those of `json`."""


def why_no_json(error: Exception) -> str:
    """What is wrong with a text that `json.loads` has refused."""
    match error:
        case RecursionError():
            return TOO_DEEP
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case json.JSONDecodeError(doc=text, pos=position):
            needs_quotes = text[position : position + 1] == "'"
            quotes = "; names and texts need double quotes" if needs_quotes else ""
            reason = JSON_REASONS.get(error.msg, error.msg)
            return f"line {error.lineno}, column {error.colno}: {reason}{quotes}"
    return shorten(str(error))


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
    return shorten(as_json(value))


def as_json(value: Any) -> str:
    """A value as JSON writes it, but for texts, which errors have in single quotes."""
    if isinstance(value, str):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=repr)


def _allowed(model: type[BaseModel] | None, path: list[str]) -> str:
    """What the description of the innermost field says that has one, as the end of the error."""
    allowed = ""
    for part in path:
        field = _field(model, part) if model else None
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
    synonyms = getattr(model, "synonyms", None)
    return did_you_mean(unknown, model.model_fields, prefix=parent, synonyms=synonyms)


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    """A field by its name, or by another one under which it may be given."""
    fields = model.model_fields.items()
    return next((field for own, field in fields if name in (own, *_aliases(field))), None)


def _aliases(field: FieldInfo) -> Sequence[Any]:
    alias = field.validation_alias
    return alias.choices if isinstance(alias, AliasChoices) else ()


def _model_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model that a field holds, as in `Boxes | None`."""
    field = model.model_fields.get(name)
    if field is None:
        return None
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if _is_model(kind)), None)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
