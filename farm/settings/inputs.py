"""Limits of what a job may bring, and of what is fetched for it."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from farm.settings.group import COMMA_SEPARATED, SettingsGroup


def _check_ports(value: str) -> str:
    is_written_so = re.fullmatch(r"\d{1,5}(-\d{1,5})?", value)
    if not is_written_so or not _port_range(value):
        raise ValueError("it is no port, and no range of ports such as 8000-8999")
    return value


def _port_range(text: str) -> range:
    """The ports from the first to the last one of `8000-8999`, or the one of `80`."""
    first, _, last = text.partition("-")
    return range(max(1, int(first)), min(65_535, int(last or first)) + 1)


Ports = Annotated[str, AfterValidator(_check_ports)]


class Inputs(SettingsGroup):
    title: ClassVar = "Input limits"

    decode_timeout_s: float = Field(
        120,
        gt=0,
        description="seconds that the decoding of one file may take before its job fails",
    )
    decode_memory_mb: int = Field(
        4000,
        ge=500,
        description="megabytes of address space that the decoding of one file may take",
    )
    max_visual_bytes: int = Field(200_000_000, ge=1, description="largest image or video in bytes")
    max_audio_bytes: int = Field(50_000_000, ge=1, description="largest audio file in bytes")
    max_audio_s: float = Field(
        3600, gt=0, description="longest recording or synthesised speech in seconds"
    )
    max_tts_characters: int = Field(
        20_000, ge=1, le=100_000, description="longest text to speak in characters; 1 to 100000"
    )
    max_tts_turns: int = Field(500, ge=2, description="most turns in a text to speak")
    tts_timeout_s: float = Field(
        300, gt=0, description="time limit of synthesising the speech of one job in seconds"
    )
    tts_memory_mb: int = Field(
        8000,
        ge=500,
        description="megabytes of address space that synthesising the speech of one job may take",
    )
    max_request_bytes: int = Field(
        262_144,
        ge=1,
        description="largest request in bytes, as JSON without the files that it contains",
    )
    fetch_timeout_s: float = Field(60, gt=0, description="time limit of one download in seconds")
    fetch_min_bytes_per_s: float = Field(
        50_000,
        ge=0,
        description="lowest speed of a download in bytes per second; a slower one fails; 0 = any",
    )
    fetch_speed_window_s: float = Field(
        20, gt=0, description="seconds over which the speed of a download is averaged"
    )
    fetch_allow: Annotated[tuple[IPv4Network | IPv6Network, ...], COMMA_SEPARATED] = Field(
        (),
        description=(
            "private networks that URLs may point into, comma-separated, for example 10.1.0.0/16"
        ),
    )
    fetch_ports: Annotated[tuple[Ports, ...], COMMA_SEPARATED] = Field(
        ("80", "443", "1024-65535"),
        description=(
            "ports and ranges of ports that URLs may point to, comma-separated, for example "
            "80,443,8000-8999"
        ),
    )

    @property
    def fetch_port_ranges(self) -> tuple[range, ...]:
        return tuple(map(_port_range, self.fetch_ports))
