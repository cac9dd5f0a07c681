"""The input of a serverless job: an order, a request, or a batch, and the limits of its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.errors import InvalidInput, shorten
from farm.runpod.order import FIELD as ORDER
from farm.validation import as_json, json_type

POLICY = "policy"
"""Runpod keeps the envelope's policy to itself, so the input may repeat it."""


class Policy(BaseModel):
    """Runpod's limits of a job, in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    executionTimeout: int | None = Field(None, gt=0)  # noqa: N815  # Runpod's names
    ttl: int | None = Field(None, gt=0)
    lowPriority: bool = False  # noqa: N815

    @property
    def limit_s(self) -> float | None:
        """How long the job may run; None if it does not say."""
        given = [limit for limit in (self.executionTimeout, self.ttl) if limit is not None]
        return min(given) / 1000 if given else None


@dataclass(frozen=True)
class Payload:
    """What a serverless job asks for."""

    kind: Literal["order", "batch", "request"]
    fields: dict[str, Any]
    policy: Policy

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Self:
        """The payload of a job as the SDK passes it on; raises InvalidInput."""
        given = job.get("input")
        if not isinstance(given, dict):
            raise InvalidInput(f"input: got {json_type(given)}; allowed: an object")
        fields = {name: value for name, value in given.items() if name != POLICY}
        if not fields:
            raise InvalidInput("input: it is empty; allowed: a request, or batch with requests")
        policy = _policy(given.get(POLICY, {}))
        if ORDER in fields:
            return cls("order", fields, policy)
        return cls("batch" if "batch" in fields else "request", fields, policy)


def _policy(given: Any) -> Policy:
    try:
        return Policy.model_validate(given)
    except ValidationError as error:
        allowed = "executionTimeout and ttl in whole milliseconds, lowPriority"
        shown = shorten(as_json(given))
        raise InvalidInput(f"{POLICY}: got {shown}; allowed: {allowed}") from error
