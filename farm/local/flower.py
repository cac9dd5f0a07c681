"""Flower, Celery's web page of tasks and workers: without a password on loopback only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from os import devnull

from farm.net.address import ListenAddress, check_page
from farm.settings import Settings

COLUMNS = "name,args,state,received,started,runtime,worker"
"""The columns of its list of tasks, in this order."""


def check_flower(address: ListenAddress, settings: Settings) -> None:
    """Raises InvalidInput if Flower is not installed, not protected, or its port is taken."""
    check_page(address, settings.flower_auth, field="flower", package="flower", extra="monitor")


def flower_command(address: ListenAddress) -> list[str]:
    """Flower's command line, without secrets: every user of the machine can read it.

    The broker's URL and the password are in its environment.
    """
    return [
        *(sys.executable, "-m", "celery", "-A", "tasks", "flower"),
        *(f"--address={address.host}", f"--port={address.port}"),
        # By default it runs any flowerconfig.py in the working folder.
        f"--conf={devnull}",
    ]


def flower_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for Flower; `environ` may override our columns only."""
    auth = {"FLOWER_BASIC_AUTH": settings.flower_auth} if settings.flower_auth else {}
    return {"FLOWER_TASKS_COLUMNS": COLUMNS, **environ, **auth}
