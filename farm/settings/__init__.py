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
from farm.settings.sources import BUCKET, PREFIX, UNPREFIXED, Given, given_settings, with_origins
from farm.settings.workers import Retention, Workers
from farm.validation import invalid_input

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

    def with_broker(self, url: str) -> Self:
        """The settings of the farm at a broker's URL.

        If that can be the registry, it is: another one here is that of another farm.
        """
        update: dict[str, object] = {"broker_url": url}
        if url.startswith(REDIS):
            update["registry_url"] = None
        return self.model_copy(update=update)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Settings from FARM_ variables, those without the prefix, and `farm.toml`.

        Raises InvalidInput for one that is invalid or unknown, by the name under which it was set.
        """
        given = cls.given(environ)
        try:
            return cls.model_validate({field: each.value for field, each in given.items()})
        except ValidationError as error:
            message = invalid_input(error, cls, prefix=PREFIX).message
            raise InvalidInput(with_origins(message, given)) from error

    @classmethod
    def given(cls, environ: Mapping[str, str]) -> dict[str, Given]:
        """What is set, and by what; InvalidInput for a `farm.toml` that cannot be read."""
        return given_settings(environ, cls.model_fields["home"].default)


__all__ = ["BUCKET", "GROUPS", "PREFIX", "RABBITMQ", "REDIS", "UNPREFIXED", "Settings"]
