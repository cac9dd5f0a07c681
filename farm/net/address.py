"""Where a page listens, and who may reach it: this machine, and others behind a password alone."""

from __future__ import annotations

import re
import socket
from importlib.util import find_spec
from ipaddress import ip_address
from typing import NamedTuple, Self

from farm.errors import InvalidInput

# Flower parts credentials at commas, and compares ASCII alone; one rule for all pages.
USER_PASSWORD = re.compile(r"[^:,\s]+:[^,\s]+")


class Address(NamedTuple):
    """An interface's address and a port of it."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, field: str) -> Self:
        """What ADDRESS:PORT says, for example 127.0.0.1:5555 or [::1]:5555; else InvalidInput, which names `of`."""
        host, _, port = text.rpartition(":")
        try:
            address = cls(str(ip_address(re.sub(r"^\[(.+)\]$", r"\1", host))), int(port))
        except ValueError:
            address = cls("", 0)
        if not 0 < address.port < 65536:
            raise InvalidInput(f"{field}: got {text!r}; allowed: ADDRESS:PORT, for example 127.0.0.1:8000")
        return address

    def __str__(self) -> str:
        return f"{self.bracketed}:{self.port}"

    @property
    def bracketed(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def url(self) -> str:
        return f"http://{self}"

    @property
    def is_listening(self) -> bool:
        """Whether somebody answers there."""
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def check_page(address: Address, auth: str | None, *, field: str, package: str, extra: str) -> None:
    """Refuses a page whose package is not installed, that strangers could look into, or whose port is taken.

    `auth` is user:password, of which the error tells nothing. Raises InvalidInput.
    """
    if find_spec(package) is None:
        raise InvalidInput(f"{field}: {package} is not installed; pip install infinitetalk-farm[{extra}]")
    variable = f"FARM_{field.upper()}_AUTH"
    if auth is None and not ip_address(address.host).is_loopback:
        raise InvalidInput(f"{field}: got {address.host}, which others reach; allowed: loopback, or set {variable}")
    if auth is not None and not (auth.isascii() and USER_PASSWORD.fullmatch(auth)):
        raise InvalidInput(f"{variable}: allowed: USER:PASSWORD in ASCII, without blanks and commas")
    if address.is_listening:
        raise InvalidInput(f"{field}: got {address}, where another program listens; allowed: a free port")
