"""Errors, and what is left of them when they are passed on as JSON."""

from __future__ import annotations

import pytest

from farm.errors import (
    FarmError,
    FarmUnreachable,
    InvalidInput,
    all_mistakes,
    error_from_code,
    one_line,
)


@pytest.mark.parametrize("kind", FarmError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_an_error_survives_a_round_trip_through_its_description(kind):
    can_help = kind.retries > 0 or kind.retry_later
    description = kind("the reason").describe(at_stage="embed")
    back = error_from_code(
        description["code"], description["message"], retryable=description["retryable"]
    )
    assert (type(back), back.message, back.retryable) == (kind, "the reason", can_help)


def test_every_error_has_its_own_code():
    codes = [kind.code for kind in (FarmError, *FarmError.__subclasses__())]
    assert len(set(codes)) == len(codes)


def test_a_description_names_the_cause():
    try:
        try:
            raise OSError("disk full")
        except OSError as cause:
            raise InvalidInput("no room") from cause
    except InvalidInput as error:
        description = error.describe(at_stage="mux")
    assert (description["cause_class"], description["cause_message"], description["at_stage"]) == (
        "OSError",
        "disk full",
        "mux",
    )


def test_an_unknown_code_becomes_a_plain_error():
    assert type(error_from_code("E_FUTURE", "news", retryable=True)) is FarmError


# Several mistakes


def refuse(message: str) -> None:
    raise InvalidInput(message)


def checked(*messages: str, end: FarmError | None = None) -> int:
    with all_mistakes() as check:
        for message in messages:
            check(refuse, message)
        found: int = check(len, "abc")
        if end:
            raise end
    return found


def test_mistakes_are_raised_together():
    with pytest.raises(InvalidInput) as caught:
        checked("a: wrong", "b: wrong", end=InvalidInput("c: wrong"))
    assert caught.value.message == "a: wrong\nb: wrong\nc: wrong"
    assert one_line(caught.value.message) == "a: wrong | b: wrong | c: wrong"


def test_of_one_field_the_first_mistake_is_named():
    with pytest.raises(InvalidInput, match=r"^a: wrong\nb: wrong$"):
        checked("a: wrong", "a: no: good", "b: wrong", end=InvalidInput("a: bad"))


def test_without_a_mistake_a_check_returns_what_it_found():
    assert checked() == 3


def test_without_a_mistake_another_error_is_raised_as_it_is():
    with pytest.raises(FarmUnreachable, match=r"^down$"):
        checked(end=FarmUnreachable("down"))


def test_a_mistake_goes_before_another_error():
    with pytest.raises(InvalidInput, match=r"^a: wrong$"):
        checked("a: wrong", end=FarmUnreachable("down"))
