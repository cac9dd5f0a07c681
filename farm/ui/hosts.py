"""The host names by which browsers reach the page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from farm.net.address import ListenAddress

HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:]+)(:[0-9]*)?")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Hosts:
    """The page's own names, with any port: a tunnel or a container may have another one.

    A foreign name that leads here was made to do so (DNS rebinding).
    """

    def __init__(self, address: ListenAddress, public: Iterable[str]) -> None:
        ip = ip_address(address.host)
        self._names = {address.bracketed, *map(str.lower, public)}
        if ip.is_loopback or ip.is_unspecified:
            self._names.update(LOOPBACK)
        # On all interfaces each address of the machine is a name; none can be made to lead here.
        self._any_address = ip.is_unspecified

    def __contains__(self, host: str) -> bool:
        """Whether a Host header is one of them."""
        match = HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match["name"]
        return name in self._names or (self._any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
