"""The gateway's server: on loopback only, until there are keys."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING

from farm.client import Farm
from farm.errors import InvalidInput, how_to_install
from farm.gateway.refusal import check_store
from farm.logs import log
from farm.net.address import ListenAddress
from farm.store import Store

if TYPE_CHECKING:
    from farm.gateway.server import GatewayServer


def make_server(farm: Farm, address: ListenAddress, on_ready: Callable[[], None]) -> GatewayServer:
    """A server of the gateway, to be run in the main thread.

    Raises InvalidInput for an address beyond loopback as long as there are no keys, and
    FarmUnreachable if no broker answers.
    """
    _check(farm, address)
    from farm.gateway.app import Gateway
    from farm.gateway.server import GatewayServer

    is_open = ip_address(address.host).is_loopback
    return GatewayServer(Gateway(farm, is_open=is_open), address, on_ready)


def _check(farm: Farm, address: ListenAddress) -> None:
    for package in ("starlette", "uvicorn", "python_multipart"):
        if find_spec(package) is None:
            install = how_to_install("gateway")
            raise InvalidInput(f"gateway: {package} is not installed; {install}")
    if address.is_listening:
        raise InvalidInput(
            f"address: got {address}, where another program listens; allowed: a free port"
        )
    if farm.context.registry.keys.any_created():
        _note_store(farm.context.store)
    elif not ip_address(address.host).is_loopback:
        raise InvalidInput(
            f"address: got {address.host}, which other machines can reach; "
            "allowed: loopback, or create a key (`farm keys create`)"
        )


def _note_store(store: Store) -> None:
    """Logs that holders of keys have /v1 only, if that is so."""
    try:
        check_store(store)
    except InvalidInput as error:
        log("gateway_without_runpod_api", level=logging.WARNING, reason=error.message)
