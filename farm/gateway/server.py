"""uvicorn with limits for slow clients, which ends all waits when it is told to stop."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from farm.gateway.app import Gateway
from farm.gateway.body import Limits
from farm.gateway.refusal import refuse
from farm.net.address import ListenAddress

MAX_HEADER_BYTES = 32_768
MAX_CONNECTIONS = 4_096
KEEP_ALIVE_S = 30
STOP_S = 10
"""For running requests, after those that wait were answered."""


class GatewayServer(uvicorn.Server):
    def __init__(
        self, gateway: Gateway, address: ListenAddress, on_ready: Callable[[], None]
    ) -> None:
        self._gateway = gateway
        self._on_ready = on_ready
        protocol: Any = partial(BoundedProtocol, limits=gateway.limits)
        config = uvicorn.Config(
            gateway.app,
            host=address.host,
            port=address.port,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            backlog=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answers those who wait with what there is, so that they can ask another gateway."""
        self._gateway.watch.close()
        super().handle_exit(sig, frame)


class BoundedProtocol(H11Protocol):
    """Closes connections whose next request has not got all of its headers in time.

    Nor does a body come for longer than that once its request is answered, nor does a client take
    longer than `write_s` to read on.
    """

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_unread = self.conn.our_state is h11.DONE  # a body that goes on after the response
        if is_unread or self.conn.their_state is h11.IDLE:
            self._await_headers()
        else:
            self._end_wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        rest, _ = self.conn.trailing_data
        if rest and self.conn.their_state is h11.IDLE:  # a part of the next request came before
            self._await_headers()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request with the contract's error, as everything is."""
        allowed = f"HTTP/1.1, with headers of at most {MAX_HEADER_BYTES:,} bytes"
        body = json.dumps(refuse(400, f"request: it is not readable; allowed: {allowed}").body)
        headers = [("Content-Type", "application/json"), ("Connection", "close")]
        events = (
            h11.Response(status_code=400, headers=headers, reason="Bad Request"),
            h11.Data(data=body.encode()),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self._stalled or self._abort_after(self._limits.write_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self._abort_after(self._limits.header_s)

    def _end_wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort_after(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self.transport.abort)
