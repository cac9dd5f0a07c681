"""Metrics, Flower and the page."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from farm.net.address import ListenAddress
from farm.settings.group import COMMA_SEPARATED, SettingsGroup

MAX_METRICS_PORT = 65_533
"""`farm up` gives the next ports to its two workers."""

HostName = Annotated[str, Field(pattern="^[A-Za-z0-9.-]{1,253}$")]


class Monitoring(SettingsGroup):
    title: ClassVar = "Monitoring and web pages"

    metrics_address: str | None = Field(
        None,
        pattern=r"^((([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}|\[[0-9A-Fa-f:]+\]):)?[0-9]{1,5}$",
        description=(
            "PORT or HOST:PORT of a process's Prometheus endpoint, 127.0.0.1 without a host; "
            "unset = none"
        ),
    )
    flower_auth: str | None = Field(
        None,
        repr=False,
        description=(
            "USER:PASSWORD of each login of Flower, comma-separated; required for listening beyond "
            "loopback; unset = one in {home}/run/flower"
        ),
    )
    ui_auth: str | None = Field(
        None,
        repr=False,
        description=(
            "USER:PASSWORD of each login of `farm ui`, comma-separated, a user being the caller of "
            "the login's jobs; required for listening beyond loopback"
        ),
    )
    ui_hosts: Annotated[tuple[HostName, ...], COMMA_SEPARATED] = Field(
        (),
        description=(
            "host names by which `farm ui` is reached through a proxy, without ports, "
            "comma-separated, for example farm.example.com"
        ),
    )
    ui_trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], COMMA_SEPARATED] = Field(
        (),
        description=(
            "addresses of proxies whose X-Forwarded-For `farm ui` believes, comma-separated; "
            "logins are throttled by the client's address"
        ),
    )
    ui_upload_bytes: int = Field(
        2_000_000_000,
        ge=1,
        description=(
            "largest total size in bytes of the uploads that `farm ui` keeps; the oldest are "
            "deleted to make room"
        ),
    )

    gateway_upload_bytes: int = Field(
        1_000_000_000,
        ge=1,
        description=(
            "largest total size in bytes of the files that `farm gateway` receives at once, on its "
            "disk; one caller's take at most half of it"
        ),
    )

    @field_validator("metrics_address")
    @classmethod
    def _check_metrics_port(cls, value: str | None) -> str | None:
        if value is None:
            return None
        port = int(value.rpartition(":")[2])
        if not 0 < port <= MAX_METRICS_PORT:
            raise ValueError(f"the port is not one of 1 to {MAX_METRICS_PORT}")
        return value

    @property
    def metrics_listen_address(self) -> ListenAddress | None:
        """Where this process serves metrics; None if it serves none."""
        if self.metrics_address is None:
            return None
        host, _, port = self.metrics_address.rpartition(":")
        return ListenAddress(host.strip("[]") or "127.0.0.1", int(port))
