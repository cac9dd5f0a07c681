"""Runpod's envelope: the contract's request, and what is said about it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, ValidationError

from farm.errors import InvalidInput
from farm.job import TimeLimits
from farm.job.contract import Contract
from farm.validation import invalid_input

WEEK_MS = 7 * 86_400_000


class Policy(Contract):
    """Limits of one job, in milliseconds."""

    executionTimeout: int | None = Field(  # noqa: N815  # Runpod's name
        default=None,
        ge=5_000,
        le=WEEK_MS,
        description="milliseconds from the job's start to its end, 5000 to 604800000",
    )
    ttl: int | None = Field(
        default=None,
        ge=10_000,
        le=WEEK_MS,
        description="milliseconds from the job's submission to its end, 10000 to 604800000",
    )
    lowPriority: bool = Field(  # noqa: N815  # Runpod's name
        default=False, description="true: priority low"
    )

    def check(self) -> None:
        """Raises InvalidInput if the limit of running could never be reached."""
        if self.ttl and self.executionTimeout and self.ttl < self.executionTimeout:
            raise InvalidInput(
                f"policy.ttl: got {self.ttl}; allowed: no less than policy.executionTimeout, "
                f"{self.executionTimeout}"
            )

    @property
    def limits(self) -> TimeLimits:
        return TimeLimits(ttl_s=_seconds(self.ttl), execution_s=_seconds(self.executionTimeout))


class Envelope(Contract):
    """The body of /run and /runsync."""

    input: dict[str, Any] = Field(description="an object with the fields of the job contract")
    policy: Policy = Field(
        default=Policy(),
        description='{"executionTimeout": 5000 to 604800000 ms, "ttl": 10000 to 604800000 ms, '
        '"lowPriority": true or false}',
    )
    webhook: str | None = Field(
        default=None,
        description="https URL that is called with the result, as the contract's webhook",
    )
    s3Config: None = Field(  # noqa: N815  # Runpod's name
        default=None,
        description="null: results are in the farm's own store, and a key of yours would pass "
        "through other hands; name a bucket in output_config",
    )

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Self:
        """The envelope in an object; InvalidInput."""
        fields = _with_inner_policy(_given(fields, cls))
        if "s3Config" in fields:
            raise InvalidInput(
                "s3Config: it is not supported and not read; allowed: "
                f"{cls.model_fields['s3Config'].description}"
            )
        try:
            envelope = cls.model_validate(fields)
        except ValidationError as error:
            raise invalid_input(error, cls) from None
        envelope.policy.check()
        return envelope

    @property
    def is_batch(self) -> bool:
        return "batch" in self.input

    @property
    def batch(self) -> dict[str, Any]:
        """The contract's batch; InvalidInput for a webhook, which its items have."""
        if self.webhook is not None:
            raise InvalidInput("webhook: a batch has none; allowed: webhook in each of its items")
        return self.input

    @property
    def request(self) -> dict[str, Any]:
        """The contract's fields; InvalidInput for those that are said twice, and differently."""
        fields = self.with_policy(self.input)
        return fields if self.webhook is None else _with(fields, "webhook", self.webhook, "webhook")

    def with_policy(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a request with what the policy says of them."""
        if not self.policy.lowPriority:
            return fields
        return _with(fields, "priority", "low", "policy.lowPriority")


def _given(fields: dict[str, Any], model: type[Contract]) -> dict[str, Any]:
    """The fields without nulls, which say as little as missing ones. Unknown ones stay."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None or name not in model.model_fields
    }


def _with_inner_policy(fields: dict[str, Any]) -> dict[str, Any]:
    """The policy may stand in the input, as our handler on Runpod reads it: Runpod keeps the
    envelope's to itself, and its asyncio client sends none.
    """
    given = fields.get("input")
    if isinstance(given, dict) and "policy" in given:
        inner = {name: value for name, value in given.items() if name != "policy"}
        policy = given["policy"]
        if policy is not None and fields.get("policy", policy) != policy:
            raise InvalidInput("input.policy: policy says otherwise; allowed: one of both")
        fields = _given({"policy": policy, **fields, "input": inner}, Envelope)
    if isinstance(fields.get("policy"), dict):
        fields = {**fields, "policy": _given(fields["policy"], Policy)}
    return fields


def _with(fields: dict[str, Any], name: str, value: str, given_as: str) -> dict[str, Any]:
    if fields.get(name, value) != value:
        raise InvalidInput(f"input.{name}: {given_as} says otherwise; allowed: one of both")
    return {**fields, name: value}


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
