"""Free ports of the loopback."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def free_port() -> int:
    (port,) = free_ports(1)
    return port


def adjacent_free_ports(count: int) -> int:
    """The first of several free ports in a row."""
    for first in range(20_000, 60_000, 7):
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise AssertionError("all ports are taken")


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
