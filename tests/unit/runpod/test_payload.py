"""What a serverless job asks for."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from farm.errors import InvalidInput
from farm.runpod.payload import Payload


@pytest.mark.parametrize(
    ("given", "kind"),
    [({"order": {}}, "order"), ({"batch": []}, "batch"), ({"prompt": "x"}, "request")],
)
def test_the_input_says_what_it_is(given: dict[str, Any], kind: str) -> None:
    payload = Payload.of({"id": "a", "input": given})
    assert (payload.kind, payload.fields) == (kind, given)


def test_the_limit_is_the_shorter_one_in_seconds() -> None:
    policy = {"executionTimeout": 60_000, "ttl": 5_500, "lowPriority": True}
    payload = Payload.of({"input": {"prompt": "x", "policy": policy}})
    assert payload.policy.limit_s == 5.5
    assert payload.fields == {"prompt": "x"}
    assert Payload.of({"input": {"prompt": "x"}}).policy.limit_s is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [(None, "got null"), ([], "got array"), ("text", "got string"), ({}, "it is empty"),
     ({"policy": {}}, "it is empty")],
)  # fmt: skip
def test_an_input_that_asks_for_nothing_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"^input: {reason}; allowed: "):
        Payload.of({"id": "a", "input": given})


@pytest.mark.parametrize("policy", [{"ttl": 0}, {"ttl": 1.5}, {"timeout": 1}, None, 7])
def test_a_policy_of_other_fields_or_units_is_refused(policy: Any) -> None:
    with pytest.raises(
        InvalidInput, match=rf"^policy: got {re.escape(json.dumps(policy))}; .*whole milliseconds"
    ):
        Payload.of({"input": {"prompt": "x", "policy": policy}})
