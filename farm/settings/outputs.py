"""Where results and the news of them may go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from farm.net.signing import decode_secret
from farm.settings.group import COMMA_SEPARATED, SettingsGroup


def _check_secret(value: str) -> str:
    decode_secret(value)
    return value


Secret = Annotated[str, AfterValidator(_check_secret)]
Delay = Annotated[float, Field(gt=0)]
BucketName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


class Webhooks(SettingsGroup):
    title: ClassVar = "Webhooks"

    webhook_secret: Annotated[tuple[Secret, ...], COMMA_SEPARATED] = Field(
        (),
        repr=False,
        description=(
            "secret of webhooks, whsec_..., from which that of each receiver is derived (`farm "
            "webhook-secret`); old,new during rotation; unset = webhooks are disabled"
        ),
    )
    webhook_timeout_s: float = Field(
        10, gt=0, description="time limit of one webhook call in seconds"
    )
    webhook_calls_per_minute: int = Field(
        300,
        ge=1,
        description=(
            "most webhook calls of the whole farm to one host in a minute; further ones are delayed"
        ),
    )
    webhook_retry_delays_s: Annotated[tuple[Delay, ...], COMMA_SEPARATED] = Field(
        (5, 30, 120, 600, 3600, 10_800, 28_800, 43_200),
        description=(
            "seconds before each retry of a failed webhook call, comma-separated; then the "
            "farm gives up"
        ),
    )
    webhook_ca: Path | None = Field(
        None,
        description=(
            "PEM file with the CA certificates of webhook receivers; unset = the public CAs"
        ),
    )


class Outputs(SettingsGroup):
    title: ClassVar = "Output"

    output_buckets: Annotated[tuple[BucketName, ...], COMMA_SEPARATED] = Field(
        (),
        description=(
            "buckets of the S3 service to which jobs may have results copied, comma-separated"
        ),
    )
    output_folder: Path | None = Field(
        None,
        description=(
            "folder on every cpu worker to which jobs may have results copied; unset = none"
        ),
    )
    output_inline_bytes: int = Field(
        1_000_000,
        ge=0,
        description="largest video in bytes that a result may contain as base64; 0 = none",
    )
