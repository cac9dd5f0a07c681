"""Where messages, records and objects are."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from farm.settings.group import SettingsGroup

REDIS = ("redis://", "rediss://")
RABBITMQ = ("amqp://", "amqps://")
"""How the URLs of a broker begin."""


class Servers(SettingsGroup):
    title: ClassVar = "Broker, registry and store"

    broker_url: str | None = Field(
        None,
        repr=False,
        description=(
            "redis://, rediss://, amqp:// or amqps:// URL of the broker (Redis, Valkey or "
            "RabbitMQ), or for clients runpod://ENDPOINT_ID; unset = the broker started by "
            "`farm up`"
        ),
    )
    registry_url: str | None = Field(
        None,
        repr=False,
        description=(
            "redis:// or rediss:// URL of the registry (Redis or Valkey); unset = the broker's, "
            "unless that is RabbitMQ"
        ),
    )
    broker_ca: Path | None = Field(
        None,
        description=(
            "PEM file with the CA certificates of broker and registry; unset = the public CAs"
        ),
    )
    broker_api: str | None = Field(
        None,
        pattern="^https?://",
        repr=False,
        description=(
            "http:// or https:// URL of RabbitMQ's management API, with USER:PASSWORD@; unset = "
            "its alarms, its memory and messages in hand are not known"
        ),
    )
    store_url: str | None = Field(
        None, description="object store: file:///folder or s3://bucket/prefix; unset = {home}/store"
    )
    store_retry_s: float = Field(
        30,
        ge=0,
        description=(
            "seconds for which a failing or unresponsive store is retried before the step fails"
        ),
    )

    @field_validator("broker_url", "registry_url", "broker_api")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        try:
            _ = urlsplit(value or "").port
        # Not chained: the message quotes the port, which for a password with a / is part of it.
        except ValueError:
            raise ValueError(
                "it is no URL; a password has %2F for /, %3F for ? and %23 for #"
            ) from None
        if "ssl_cert_reqs=CERT_" in (value or ""):
            raise ValueError("ssl_cert_reqs is one of required, optional and none, in lower case")
        return value

    @field_validator("registry_url")
    @classmethod
    def _check_registry_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(REDIS):
            scheme, separator, _ = value.partition("://")  # behind it there may be a password
            got = f"{scheme}://" if separator else "no URL"
            raise ValueError(f"{got} is no registry, only Redis and Valkey can be one")
        return value


class S3(SettingsGroup):
    title: ClassVar = "S3"

    s3_endpoint: str = Field(
        "https://s3.amazonaws.com", description="URL of the S3 service behind an s3:// store"
    )
    s3_region: str = Field(
        "us-east-1",
        pattern="^[A-Za-z0-9_-]{1,63}$",
        description="region of the bucket; many services have only this one",
    )
    s3_access_key: str | None = Field(
        None, repr=False, description="access key id for the S3 service"
    )
    s3_secret_key: str | None = Field(
        None, repr=False, description="secret access key for the S3 service; never logged"
    )
    s3_path_style: bool | None = Field(
        None,
        description=(
            "true: bucket in the URL's path, false: in the host name; unset = host name at "
            "Amazon, else path"
        ),
    )
    s3_public_base: str | None = Field(
        None,
        description=(
            "URL under which callers reach the S3 service, used in results; unset = "
            "FARM_S3_ENDPOINT"
        ),
    )
    s3_link_s: int = Field(
        604_800,
        ge=1,
        le=604_800,
        description="lifetime of a result's signed URL in seconds; 1 to 604800, one week",
    )
    s3_ca: Path | None = Field(
        None,
        description="PEM file with the CA certificates of the S3 service; unset = the public CAs",
    )
