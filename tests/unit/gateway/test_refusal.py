"""What is answered in place of a result."""

import pytest

from farm.errors import FarmUnreachable, InvalidInput, QuotaExceeded
from farm.gateway.refusal import refusal_of, refuse
from tests.support.gateway import Client


@pytest.mark.parametrize(
    ("message", "field", "value", "allowed"),
    [
        ("size: got 'huge'; allowed: small, large", "size", "'huge'", "small, large"),
        (
            "sample_steps: got 0; should be 1 or more; allowed: 1 to 9",
            "sample_steps",
            "0",
            "1 to 9",
        ),
        ("prompt: it is missing; allowed: a text", "prompt", None, "a text"),
        ("body: allowed: 9 bytes", "body", None, "9 bytes"),
        ("prompt: got 'a; allowed: b'; it is long", "prompt", "'a; allowed: b'", None),
        ("tts_audio.text: got 'it\\'s'; allowed: c", "tts_audio.text", "'it\\'s'", "c"),
        ("promt: there is no such field; did you mean prompt?", "promt", None, None),
    ],
)
def test_a_mistake_names_field_value_and_what_is_allowed(
    message: str, field: str, value: str | None, allowed: str | None
):
    error = refuse(400, message).body["error"]

    assert error["message"] == message
    assert error["mistakes"] == [
        {"message": message, "field": field, "value": value, "allowed": allowed}
    ]


def test_each_line_of_a_message_is_a_mistake():
    error = refuse(400, "prompt: it is missing\nsize: got 1; allowed: a text").body["error"]

    assert [each["field"] for each in error["mistakes"]] == ["prompt", "size"]


def test_an_error_that_is_about_no_field_has_no_mistakes():
    refusal = refusal_of(QuotaExceeded("this key allows 9 requests a minute; try again later"))

    assert refusal.body["error"]["mistakes"] == []


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidInput("a"), 400, {}),
        (QuotaExceeded("a", retry_after_s=1.2), 429, {"Retry-After": "2"}),
        (FarmUnreachable("redis://secret"), 503, {"Retry-After": "5"}),
    ],
)
def test_an_error_has_its_status(error: Exception, status: int, headers: dict[str, str]):
    refusal = refusal_of(error)

    assert (refusal.status, refusal.headers) == (status, headers)
    assert "secret" not in str(refusal.body)


def test_an_unknown_path_and_a_wrong_method_are_named(client: Client):
    lost = client.send("GET", "/v3/any/run")
    wrong = client.send("PUT", "/v2/any/run")

    assert (lost.status, lost.field) == (404, "path")
    assert wrong.status == 405
    assert wrong.message == "method: got 'PUT'; allowed: POST"


def test_a_wrong_method_is_told_all_that_its_path_has(client: Client):
    refused = client.send("PUT", f"/v1/jobs/{'0' * 32}")

    assert refused.status == 405
    assert refused.headers["Allow"] == "DELETE, GET, HEAD"
    assert refused.message == "method: got 'PUT'; allowed: DELETE, GET, HEAD"
