"""A connection to a service on the loopback that can be cut, spoilt or wrapped in TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress

BLOCK = 1 << 16


class Wire:
    """Listens on `port` and carries every connection on to `target`, another port of the loopback."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self._target, self._tls = target, tls
        self._limit = {"up": 0, "down": 0}
        self.cuts = 0
        """How many connections are still to be cut."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self, times: int, *, up: int = 0, down: int = 0) -> None:
        """The next connections end once that many bytes went up to the service, or down from it."""
        self._limit, self.cuts = {"up": up, "down": down}, times

    def close(self) -> None:
        """Ends it; calls are refused from now on."""
        with suppress(OSError):  # closed before
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread that waits in accept would keep the port open
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        try:
            near = self._tls.wrap_socket(client, server_side=True) if self._tls else client
        except OSError:  # whoever called does not trust us
            client.close()
            return
        far = socket.create_connection(("127.0.0.1", self._target))
        ways = [(near, far, "up"), (far, near, "down")]
        threads = [threading.Thread(target=self._pump, args=way, daemon=True) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        inline_video = 0
        with suppress(OSError):
            while block := source.recv(BLOCK):
                inline_video += len(block)
                if self.cuts and 0 < self._limit[way] < inline_video:
                    self.cuts -= 1
                    break
                sink.sendall(block)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
