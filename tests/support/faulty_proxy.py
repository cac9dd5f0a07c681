"""A TCP proxy before a service on the loopback, which can cut connections or wrap them in TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Literal

Direction = Literal["up", "down"]

BLOCK_BYTES = 1 << 16


class FaultyProxy:
    """Listens on `port` and forwards every connection to `target`, another port of the loopback."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._limits: dict[Direction, int] = {"up": 0, "down": 0}
        self.cuts = 0
        """How many connections are still to be cut."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self, times: int, *, up: int = 0, down: int = 0) -> None:
        """Cuts the next connections after so many bytes up to the service, or down from it."""
        self._limits = {"up": up, "down": down}
        self.cuts = times

    def close(self) -> None:
        """Refuses all connections from now on."""
        with suppress(OSError):  # it is closed already
            # Without this the thread that waits in accept would keep the port open.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        near = client
        if self._tls:
            try:
                near = self._tls.wrap_socket(client, server_side=True)
            except OSError:  # the client does not trust the certificate
                client.close()
                return
        far = socket.create_connection(("127.0.0.1", self._target))
        upwards = threading.Thread(target=self._copy, args=(near, far, "up"), daemon=True)
        downwards = threading.Thread(target=self._copy, args=(far, near, "down"), daemon=True)
        upwards.start()
        downwards.start()
        upwards.join()
        downwards.join()
        near.close()
        far.close()

    def _copy(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        copied = 0
        with suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                copied += len(block)
                if self.cuts and 0 < self._limits[direction] < copied:
                    self.cuts -= 1
                    break
                sink.sendall(block)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
