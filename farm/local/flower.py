"""Flower, Celery's web page of tasks and workers, with a password."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from os import devnull
from pathlib import Path

from farm.local.broker import write_private
from farm.local.worker import celery_command
from farm.net.address import ListenAddress, check_page
from farm.settings import Settings

COLUMNS = "name,args,state,received,started,runtime,worker"
"""The columns of its list of tasks, in this order."""


def check_flower(address: ListenAddress, settings: Settings) -> None:
    """Raises InvalidInput if Flower is not installed, not protected, or its port is taken."""
    check_page(address, settings.flower_auth, field="flower", package="flower", extra="monitor")


def flower_auth(settings: Settings) -> str:
    """USER:PASSWORD of Flower: the operator's, or a random one that is kept in the home.

    On loopback too: Flower answers to any Host, so a website whose name is made to resolve to
    127.0.0.1 (DNS rebinding) could read it with a visitor's browser.
    """
    if settings.flower_auth:
        return settings.flower_auth
    file = auth_file(settings)
    if not file.is_file():
        write_private(file, f"farm:{secrets.token_urlsafe(16)}\n")
    return file.read_text().strip()


def auth_file(settings: Settings) -> Path:
    """Where USER:PASSWORD of Flower is kept unless the operator sets it."""
    return settings.folder / "run" / "flower"


def flower_command(address: ListenAddress) -> list[str]:
    """Flower's command line, without secrets: every user of the machine can read it.

    The broker's URL and the password are in its environment.
    """
    return [
        *(*celery_command(), "flower"),
        *(f"--address={address.host}", f"--port={address.port}"),
        # By default it runs any flowerconfig.py in the working folder.
        f"--conf={devnull}",
    ]


def flower_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for Flower; `environ` may override all of ours but the password."""
    ours = {"FLOWER_TASKS_COLUMNS": COLUMNS}
    if settings.broker_api:
        ours["FLOWER_BROKER_API"] = f"{_flowers_api(settings.broker_api)}/api/"
        if settings.broker_ca:  # Flower has no option for it
            ours["SSL_CERT_FILE"] = str(settings.broker_ca.expanduser())
    auth = {"FLOWER_BASIC_AUTH": settings.flower_auth} if settings.flower_auth else {}
    return {**ours, **environ, **auth}


def _flowers_api(url: str) -> str:
    """The URL of RabbitMQ's API for Flower, which does not decode a login in it.

    Without a login it uses that of the broker's URL.
    """
    scheme, _, rest = url.rstrip("/").partition("://")
    login, _, host = rest.rpartition("@")
    return f"{scheme}://{host}" if "%" in login else f"{scheme}://{rest}"
