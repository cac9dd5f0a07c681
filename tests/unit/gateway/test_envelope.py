"""Runpod's envelope: what it says about a request, and what contradicts it."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.gateway.envelope import Envelope
from tests.support.jobs import FIELDS


def test_the_envelope_adds_to_the_request():
    envelope = Envelope.parse(
        {"input": FIELDS, "webhook": "https://example.org", "policy": {"lowPriority": True}}
    )

    assert envelope.request == {**FIELDS, "webhook": "https://example.org", "priority": "low"}


def test_a_policy_may_stand_in_the_input():
    policy = {"ttl": 60_000, "executionTimeout": 30_000}

    envelope = Envelope.parse({"input": {**FIELDS, "policy": policy}})

    assert envelope.request == FIELDS
    assert (envelope.policy.limits.ttl_s, envelope.policy.limits.execution_s) == (60, 30)
    assert Envelope.parse({"input": {**FIELDS, "policy": policy}, "policy": policy}) == envelope


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": {**FIELDS, "policy": {}}, "policy": {"ttl": 60_000}}, "input.policy: policy"),
        ({"input": {"webhook": "https://a.org"}, "webhook": "https://b.org"}, "input.webhook: "),
        ({"input": {"priority": "high"}, "policy": {"lowPriority": True}}, "input.priority: "),
        ({"input": {}, "s3Config": {}}, "s3Config: it is not supported and not read"),
        ({"input": {}, "polcy": {}}, "polcy: there is no such field; did you mean policy"),
        ({"input": {}, "policy": {"tll": 1}}, "did you mean policy.ttl"),
        ({"input": {}, "polcy": None}, "polcy: there is no such field"),
        ({"input": {}, "policy": {"ttl": 9_999}}, "policy.ttl: got 9999; "),
        (
            {"input": {}, "policy": {"ttl": 10_000, "executionTimeout": 10_001}},
            "policy.ttl: got 10000; allowed: no less than policy.executionTimeout, 10001",
        ),
        ({"input": {}, "policy": 5}, "policy: got 5; it must be an object; allowed: "),
        ({"input": [1]}, "input: got [1]; it must be an object; allowed: "),
    ],
)
def test_what_contradicts_itself_or_is_unknown_is_refused(fields: dict, message: str):
    with pytest.raises(InvalidInput) as caught:
        _ = Envelope.parse(fields).request

    assert message in caught.value.message


@pytest.mark.parametrize(
    "fields",
    [
        {"input": FIELDS, "s3Config": None, "policy": None, "webhook": None},
        {"input": {**FIELDS, "policy": None}},
        {"input": FIELDS, "policy": {"ttl": None, "executionTimeout": None, "lowPriority": None}},
    ],
)
def test_null_is_as_good_as_a_missing_field(fields: dict):
    assert Envelope.parse(fields) == Envelope.parse({"input": FIELDS})
