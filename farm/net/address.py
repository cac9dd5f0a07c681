"""Addresses that web pages listen on; beyond loopback they need a password."""

from __future__ import annotations

import re
import socket
from importlib.util import find_spec
from ipaddress import ip_address
from typing import NamedTuple, Self

from farm.errors import InvalidInput, how_to_install

# Flower splits credentials at commas, and compares ASCII only; all pages follow the same rule.
LOGIN = r"[^:,\s]+:[^,\s]+"
LOGINS = re.compile(rf"{LOGIN}(,{LOGIN})*")


class ListenAddress(NamedTuple):
    """A network interface's IP address, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, field: str) -> Self:
        """The address in ADDRESS:PORT, such as 127.0.0.1:5555 or [::1]:5555.

        Raises InvalidInput, which names `field`.
        """
        host, _, port = text.rpartition(":")
        try:
            ip = ip_address(re.sub(r"^\[(.+)\]$", r"\1", host))
            address = cls(str(ip), int(port))
        except ValueError:
            address = cls("", 0)
        if not 0 < address.port < 65536:
            allowed = "ADDRESS:PORT, for example 127.0.0.1:8000"
            raise InvalidInput(f"{field}: got {text!r}; allowed: {allowed}")
        return address

    def __str__(self) -> str:
        return f"{self.bracketed}:{self.port}"

    @property
    def bracketed(self) -> str:
        """The host as written in a URL: IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def url(self) -> str:
        return f"http://{self}"

    @property
    def is_listening(self) -> bool:
        """Whether a program accepts connections there."""
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def check_page(
    address: ListenAddress, auth: str | None, *, field: str, package: str, extra: str
) -> None:
    """Raises InvalidInput if a page cannot or must not be served at an address.

    Its package must be installed, an address beyond loopback needs a password, and the port must
    be free. `auth` is user:password, or several with commas between them, which no error repeats.
    """
    if find_spec(package) is None:
        raise InvalidInput(f"{field}: {package} is not installed; {how_to_install(extra)}")
    variable = f"FARM_{field.upper()}_AUTH"
    if auth is None and not ip_address(address.host).is_loopback:
        allowed = f"allowed: loopback, or set {variable}"
        raise InvalidInput(
            f"{field}: got {address.host}, which other machines can reach; {allowed}"
        )
    if auth is not None and not (auth.isascii() and LOGINS.fullmatch(auth)):
        raise InvalidInput(
            f"{variable}: allowed: USER:PASSWORD, comma-separated, in ASCII and without spaces"
        )
    if address.is_listening:
        raise InvalidInput(
            f"{field}: got {address}, where another program listens; allowed: a free port"
        )
