"""Flower, Celery's page of messages and workers: open on loopback, behind a password elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from os import devnull

from farm.net.address import Address, check_page
from farm.settings import Settings

COLUMNS = "name,args,state,received,started,runtime,worker"
"""What its list of messages shows, in this order."""


def check_flower(address: Address, settings: Settings) -> None:
    """Refuses a Flower that is not installed, that strangers could look into, or whose port is taken; InvalidInput."""
    check_page(address, settings.flower_auth, field="flower", package="flower", extra="monitor")


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
