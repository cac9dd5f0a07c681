"""The farm's settings: one frozen table, read once from the environment and passed in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from farm.errors import FarmUnreachable, InvalidInput
from farm.settings.general import Callers, General
from farm.settings.group import SettingsGroup
from farm.settings.inputs import Inputs
from farm.settings.model import Model
from farm.settings.monitoring import Monitoring
from farm.settings.outputs import Outputs, Webhooks
from farm.settings.runpod import Runpod
from farm.settings.servers import RABBITMQ, REDIS, S3, Servers
from farm.settings.workers import Retention, Workers
from farm.validation import invalid_input

PREFIX = "FARM_"

UNPREFIXED = {
    "RUNPOD_API_KEY": "runpod_api_key",
    "RUNPOD_ENDPOINT_ID": "runpod_endpoint_id",
    "RUNPOD_ENDPOINT_BASE_URL": "runpod_url",
    "S3_ENDPOINT": "s3_endpoint",
    "S3_REGION": "s3_region",
    "S3_ACCESS_KEY": "s3_access_key",
    "S3_SECRET_KEY": "s3_secret_key",
    "S3_PUBLIC_BASE": "s3_public_base",
}
"""Variables without a prefix, as existing deployments set them; FARM_ variables override them."""

BUCKET = "S3_BUCKET"
"""Becomes `store_url` together with both keys, since other programs use it too."""

GROUPS: tuple[type[SettingsGroup], ...] = (
    General,
    Callers,
    Servers,
    S3,
    Model,
    Workers,
    Retention,
    Webhooks,
    Outputs,
    Runpod,
    Monitoring,
    Inputs,
)
"""In the order of the settings page."""


class Settings(  # pydantic takes the fields of the last one first
    Inputs,
    Monitoring,
    Runpod,
    Outputs,
    Webhooks,
    Retention,
    Workers,
    Model,
    S3,
    Servers,
    Callers,
    General,
):
    """Each field is an environment variable: `lease_s` is FARM_LEASE_S."""

    @property
    def weights_folder(self) -> Path:
        if self.weights is None:
            return self.folder / "weights"
        return self.weights.expanduser().resolve()

    @property
    def kokoro_folder(self) -> Path:
        return self.weights_folder / "kokoro"

    @property
    def store_address(self) -> str:
        return self.store_url or (self.folder / "store").as_uri()

    @property
    def broker_address(self) -> str:
        """The broker's URL; FarmUnreachable if none is set and no farm is up in `home`."""
        if self.broker_url:
            return self.broker_url
        if self.broker_url_file.is_file():
            return self.broker_url_file.read_text().strip()
        raise FarmUnreachable(
            f"no farm is up in {self.folder}; start one with `farm up`, or set FARM_BROKER_URL"
        )

    @property
    def registry_address(self) -> str:
        """The registry's URL: the broker's unless another is set.

        InvalidInput if that is RabbitMQ, which keeps no records; FarmUnreachable as
        `broker_address` raises it.
        """
        if self.registry_url:
            return self.registry_url
        if self.broker_address.startswith(RABBITMQ):
            raise InvalidInput(
                "FARM_REGISTRY_URL: it is not set, and RabbitMQ (FARM_BROKER_URL) cannot be the "
                "registry; allowed: redis:// or rediss:// URL of a Redis or Valkey"
            )
        return self.broker_address

    @property
    def has_own_registry(self) -> bool:
        """Whether the registry is elsewhere than the broker."""
        return self.registry_address != self.broker_address

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Settings from FARM_ variables, and those without the prefix.

        Raises InvalidInput for one that is invalid or unknown, by the name under which it was set.
        """
        given = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in environ.items()
            if name.startswith(PREFIX)
        }
        try:
            return cls.model_validate({**_from_unprefixed(environ), **given})
        except ValidationError as error:
            message = invalid_input(error, cls, prefix=PREFIX).message
            raise InvalidInput(_as_set(message, environ)) from error


def _from_unprefixed(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings from variables without a prefix."""
    given = {field: environ[name] for name, field in UNPREFIXED.items() if name in environ}
    if BUCKET in environ and {"s3_access_key", "s3_secret_key"} <= given.keys():
        given["store_url"] = f"s3://{environ[BUCKET]}"
    return given


def _as_set(message: str, environ: Mapping[str, str]) -> str:
    """An error about FARM_X that begins with the variable by which X was set."""
    variable, colon, rest = message.partition(":")
    for name, field in UNPREFIXED.items():
        if variable == PREFIX + field.upper() and name in environ and variable not in environ:
            variable = name
    return variable + colon + rest


__all__ = ["BUCKET", "GROUPS", "PREFIX", "RABBITMQ", "REDIS", "UNPREFIXED", "Settings"]
