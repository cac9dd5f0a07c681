"""Errors of validation are in the farm's own words, whatever pydantic finds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from farm.errors import InvalidInput
from farm.gateway.envelope import Envelope, Policy
from farm.job import PARTS, JobRequest, Lora, ResolvedRequest, TimeLimits
from farm.runpod.endpoint import EndpointFile
from farm.settings import Settings
from farm.validation import OTHER_REASON, invalid_input, why_no_json
from tests.support.jobs import FIELDS, resolved

VALUES: list[Any] = [
    None, True, 1, 0, -1, -(10**30), 10**30, 1.5, -1e308, float("nan"), float("inf"),
    "", " ", "x", "1", "\x00", "\u202e", "x" * 101_000, "https://", "{'a': 1}", "[1", "[1]",
    [], [None], [[]], [1, "2", None, {}], [{}] * 20, {}, {"a": 1}, {"person1": None}, {"": ""},
]  # fmt: skip
"""What no field takes all of."""

PYDANTIC = re.compile(
    r"(?i:\binput\b (should|is)|(?<!as it )should (be|have|match)"
    r"|valid (string|integer|number|boolean|list|array|dictionary|tuple)|field required|\bctx\b"
    r"|value error|permitted|pydantic|greater than or|less than or|parse)|got .*\b(None|True)\b"
)


def wrong_requests() -> Iterator[Mapping[str, Any]]:
    """Requests of which one field, or a part of one, has each value."""
    for value in VALUES:
        yield from ({**FIELDS, name: value} for name in JobRequest.model_fields)
        for name, kind in {**PARTS, "lora": Lora}.items():
            whole: dict[str, Any] = {"person1": "a.wav", "store": "s3", "text": "a", "name": "a"}
            known = {part: whole[part] for part in kind.model_fields if part in whole}
            for part in kind.model_fields:
                given = {**known, part: value}
                yield {**FIELDS, name: [given] if name == "lora" else given}


def wrong_parts(model: type[BaseModel], whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return ({**whole, name: value} for value in VALUES for name in model.model_fields)


def settings(given: Mapping[str, Any]) -> Settings:
    texts = {f"FARM_{name.upper()}": text for name, text in given.items() if isinstance(text, str)}
    return Settings.load(texts)


def endpoint(given: Mapping[str, Any]) -> EndpointFile:
    try:
        return EndpointFile.model_validate(given)
    except ValidationError as error:
        raise invalid_input(error, EndpointFile) from None


def refusals(parse: Callable[[Any], Any], objects: Iterator[Any]) -> list[str]:
    """The messages about what is wrong in any of the objects."""
    found = []
    for each in objects:
        try:
            parse(each)
        except InvalidInput as error:
            found += error.message.splitlines()
    return found


@pytest.mark.parametrize(
    ("parse", "objects"),
    [
        (JobRequest.parse, wrong_requests()),
        (JobRequest.parse, ({**FIELDS, name: 1} for name in ("image", "a" * 999, "", "1"))),
        (Envelope.parse, wrong_parts(Envelope, {"input": {}})),
        (
            Envelope.parse,
            ({"input": {}, "policy": policy} for policy in wrong_parts(Policy, {})),
        ),
        (TimeLimits.parse, wrong_parts(TimeLimits, {})),
        (
            ResolvedRequest.parse,
            wrong_parts(ResolvedRequest, resolved(FIELDS).model_dump(mode="json")),
        ),
        (settings, wrong_parts(Settings, {})),
        (
            endpoint,
            wrong_parts(EndpointFile, {"name": "a", "image": "a", "gpu": {}, "timeout_s": 5}),
        ),
    ],
    ids=[
        "request",
        "unknown field",
        "envelope",
        "policy",
        "limits",
        "resolved",
        "settings",
        "endpoint",
    ],
)
def test_no_message_has_the_words_of_pydantic(parse: Callable[[Any], Any], objects: Iterator[Any]):
    messages = refusals(parse, objects)

    assert messages
    foreign = [each for each in messages if PYDANTIC.search(each) or OTHER_REASON in each]
    assert foreign == []


def test_every_message_names_the_field_the_value_and_what_is_allowed():
    incomplete = [
        message
        for message in refusals(JobRequest.parse, wrong_requests())
        if not re.match(r"[\w.]+: (got .+|it is missing); .*allowed: .+", message)
        and ": there is no such field" not in message
        and ": it is missing; allowed" not in message
    ]
    assert incomplete == []


def test_every_message_is_short():
    assert max(map(len, refusals(JobRequest.parse, wrong_requests()))) < 600


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{'a': 1}", "line 1, column 2: a name in double quotes is missing; names "
         "and texts need double quotes"),
        (b'{"a":\n"b", "c": \'d\'}', "line 2, column 11: a value is missing; names and texts need "
         "double quotes"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"\xff\xfd", "it is not UTF-8"),
        (b'{"a": 1', "line 1, column 8: a comma or a closing bracket is missing"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_told_by_its_place(text: bytes, reason: str):
    with pytest.raises((ValueError, RecursionError)) as caught:
        json.loads(text)

    assert why_no_json(caught.value) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{'person1': 'a.wav'}", ", and this is not JSON (line 1, column 2: "),
        ('{"person1": "a.wav"}', ", and this is the text of one; "),
        ("a.wav", "; allowed"),
    ],
)
def test_a_text_in_the_place_of_an_object_is_told_what_is_wrong_with_it(text: str, reason: str):
    with pytest.raises(InvalidInput) as caught:
        JobRequest.parse({**FIELDS, "cond_audio": text})

    assert f"it must be an object{reason}" in caught.value.message


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "null"), (True, "true"), ({"a": None, "b": [False]}, '{"a": null, "b": [false]}')],
)
def test_values_are_shown_as_json_has_them(value: Any, shown: str):
    with pytest.raises(InvalidInput) as caught:
        JobRequest.parse({**FIELDS, "frame_num" if value is True else "prompt": value})

    assert f": got {shown}; " in caught.value.message
