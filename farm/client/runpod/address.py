"""Which endpoint a farm's URL names: `runpod://ENDPOINT_ID?execution_s=1800&ttl_s=7200`."""

from __future__ import annotations

from typing import Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.errors import InvalidInput
from farm.validation import invalid_input

SCHEME = "runpod://"
MIN_EXECUTION_S = 5
MIN_TTL_S = 10
"""The shortest limits that Runpod accepts."""


class EndpointAddress(BaseModel):
    """An endpoint, and the limits of jobs that are submitted to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str = Field(
        pattern="^[A-Za-z0-9_-]{1,64}$", description="runpod://ENDPOINT_ID with A-Z a-z 0-9 _ -"
    )
    execution_s: int | None = Field(
        None, ge=MIN_EXECUTION_S, description="longest run in seconds, 5 or more"
    )
    ttl_s: int | None = Field(
        None, ge=MIN_TTL_S, description="longest wait and run together in seconds, 10 or more"
    )

    @classmethod
    def parse(cls, url: str) -> Self:
        """The address in a URL; InvalidInput for anything else."""
        parts = urlsplit(url)
        if parts.path.strip("/") or parts.fragment:
            raise InvalidInput(f"endpoint: got {url!r}; allowed: {SCHEME}ENDPOINT_ID")
        try:
            return cls.model_validate({**dict(parse_qsl(parts.query)), "endpoint": parts.netloc})
        except ValidationError as error:
            raise invalid_input(error, cls) from error
