"""Flower, Celery's page of messages and workers: open on loopback, behind a password elsewhere."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from os import devnull
from typing import Self

from farm.errors import InvalidInput
from farm.settings import Settings

COLUMNS = "name,args,state,received,started,runtime,worker"
"""What its list of messages shows, in this order."""


@dataclass(frozen=True)
class Address:
    """Where Flower listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ADDRESS:PORT says, for example 127.0.0.1:5555 or [::1]:5555; InvalidInput for anything else."""
        host, _, port = text.rpartition(":")
        try:
            address = cls(str(ip_address(re.sub(r"^\[(.+)\]$", r"\1", host))), int(port))
        except ValueError:
            address = cls("", 0)
        if not 0 < address.port < 65536:
            raise InvalidInput(f"flower: got {text!r}; allowed: ADDRESS:PORT, for example 127.0.0.1:5555")
        return address

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def listens(self) -> bool:
        """Whether somebody answers there."""
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def check_flower(address: Address, settings: Settings) -> None:
    """Refuses a Flower that is not installed, that strangers could look into, or whose port is taken; InvalidInput."""
    if find_spec("flower") is None:
        raise InvalidInput("flower: it is not installed; pip install infinitetalk-farm[monitor]")
    auth = settings.flower_auth
    if auth is None and not ip_address(address.host).is_loopback:
        raise InvalidInput(
            f"flower: got {address.host}, which others reach; allowed: loopback, or set FARM_FLOWER_AUTH"
        )
    # Flower parts credentials at commas, and compares ASCII alone.
    if auth is not None and not (auth.isascii() and re.fullmatch(r"[^:,\s]+:[^,\s]+", auth)):
        raise InvalidInput("FARM_FLOWER_AUTH: allowed: USER:PASSWORD in ASCII, without blanks and commas")
    if address.listens:
        raise InvalidInput(
            f"flower: got {address.host}:{address.port}, where another program listens; allowed: a free port"
        )


def flower_command(address: Address) -> list[str]:
    """Flower's command line, which anybody may read: the broker's URL and the password are in its environment."""
    return [
        *(sys.executable, "-m", "celery", "-A", "tasks", "flower"),
        *(f"--address={address.host}", f"--port={address.port}"),
        # Else it runs whatever flowerconfig.py lies in the working folder.
        f"--conf={devnull}",
    ]


def flower_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for Flower; what it says of Flower's other options stands."""
    auth = {"FLOWER_BASIC_AUTH": settings.flower_auth} if settings.flower_auth else {}
    return {"FLOWER_TASKS_COLUMNS": COLUMNS, **environ, **auth}
