"""Protection against server-side request forgery: connections to public addresses only."""

from __future__ import annotations

import base64
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from operator import methodcaller
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpcore

from farm.net.public import IPAddress, IPNetwork, is_public

LOGGER = logging.getLogger(__name__)

Resolve = Callable[[str, int], Sequence[IPAddress]]
Headers = dict[bytes | str, bytes | str]
Answer = TypeVar("Answer")

ANY_PORT = (range(1, 65_536),)

MAX_HEADER_BYTES = 262_144
"""Bytes of all headers of one connection, informational responses (1xx) included."""

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
TIMEOUTS = {"connect": CONNECT_TIMEOUT_S, "read": READ_TIMEOUT_S, "write": READ_TIMEOUT_S}
"""Limits of a single wait; a deadline bounds the whole request."""

POLL_INTERVAL_S = 1.0
"""How often a waiting request asks whether it is to stop."""

SPEED_WINDOW_S = 20.0

_PORTS = {"http": 80, "https": 443}
_URL_SAFE = "/%:@!$&'()*+,;=~?-._"


def resolve_host(host: str, port: int) -> list[IPAddress]:
    """Every address of `host`, in the system resolver's order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))


def is_own(address: IPAddress) -> bool:
    """Whether an address is one of this machine's, however public: a socket can be bound to it."""
    return _can_bind(address) and not _can_bind(_UNASSIGNED[address.version])


_UNASSIGNED = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
"""Addresses of documents; where they can be bound, any can (net.ipv4.ip_nonlocal_bind)."""


def _can_bind(address: IPAddress) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


class RequestFailed(Exception):
    """Why a request failed, as text to follow the URL, and whether a retry may help."""

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.retryable = retryable


def never_stopped() -> None:
    pass


@dataclass(frozen=True)
class Limits:
    """When a request is given up: at its deadline, if its peer is too slow, or if it is stopped."""

    deadline: float
    """In seconds of `time.monotonic`."""
    min_bytes_per_s: float = 0.0
    speed_window_s: float = SPEED_WINDOW_S
    """Seconds over which the speed of the peer is averaged."""
    raise_if_stopped: Callable[[], None] = never_stopped
    """Called between two blocks, and while a silent peer is waited for."""

    def time_left(self, timeout: float | None) -> float:
        """Seconds until the deadline, `timeout` at most; ReadTimeout if it has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the deadline of the request has passed")
        if timeout is None:
            return left
        return min(left, timeout)

    def poll(
        self,
        wait: Callable[[float], Answer],
        *,
        timeout: float | None,
        pending: type[Exception],
    ) -> Answer:
        """What `wait` returns; it is given a second at a time, and raises `pending` in vain."""
        until = time.monotonic() + self.time_left(timeout)
        while True:
            self.raise_if_stopped()
            left = until - time.monotonic()
            if left <= 0:
                raise httpcore.ReadTimeout("the peer was silent for too long")
            with suppress(pending):
                return wait(min(left, POLL_INTERVAL_S))

    def run(
        self,
        call: Callable[[], Answer],
        *,
        timeout: float | None = None,
        discard: Callable[[Answer], object] = lambda _: None,
    ) -> Answer:
        """What a blocking call returns; it runs in a thread, which is left behind if it is late.

        The system's resolver has no timeout, and a connection cannot be waited for in parts. What a
        late call returns after all is passed to `discard`.
        """
        answer: Future[Answer] = Future()

        def run() -> None:
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)

        def discard_late(late: Future[Answer]) -> None:
            if late.exception() is None:
                discard(late.result())

        Thread(target=run, name="request", daemon=True).start()
        try:
            return self.poll(answer.result, timeout=timeout, pending=TimeoutError)
        except BaseException:
            answer.add_done_callback(discard_late)
            raise


class GuardedBackend(httpcore.NetworkBackend):
    """Connections to allowed addresses only, within limits."""

    def __init__(
        self,
        *,
        allow: Sequence[IPNetwork],
        resolve: Resolve,
        limits: Limits,
        ports: Sequence[range] = ANY_PORT,
    ) -> None:
        self._allow = allow
        self._ports = ports
        self._resolve = resolve
        self._limits = limits
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        if not any(port in allowed for allowed in self._ports):
            raise RequestFailed(f"port {port} is not allowed (FARM_FETCH_PORTS)")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._allowed_addresses(host, port):
            limit = self._limits.time_left(timeout)
            connect = partial(
                self._sockets.connect_tcp, str(address), port, limit, local_address, socket_options
            )
            try:
                stream = self._limits.run(connect, discard=_close)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _LimitedStream(stream, self._limits)
        raise failure

    def _allowed_addresses(self, host: str, port: int) -> Sequence[IPAddress]:
        """All addresses of a host; RequestFailed if any is not allowed.

        One private address among public ones is an attack or a mistake.
        """
        addresses = self._limits.run(lambda: self._resolve(host, port))
        for address in addresses:
            if any(address in network for network in self._allow):
                continue
            if not is_public(address) or is_own(address):
                # Without the address, since callers could map the private network with it.
                raise RequestFailed(
                    f"{host} resolves to a non-public address, which is not allowed"
                )
        return addresses


class _LimitedStream(httpcore.NetworkStream):
    """A stream whose every wait is limited, so that a slow drip of bytes ends as well."""

    def __init__(self, stream: httpcore.NetworkStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._window_began_at = time.monotonic()
        self._window_bytes = 0
        self._header_bytes_left = MAX_HEADER_BYTES
        self._in_body = False

    def begin_body(self) -> None:
        """Ends the limit of the headers, once a response has arrived."""
        self._in_body = True

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        def receive(wait_s: float) -> bytes:
            self._check_speed()
            return self._stream.read(max_bytes, wait_s)

        if self._header_bytes_left <= 0 and not self._in_body:
            raise RequestFailed(f"its headers have more than {MAX_HEADER_BYTES:,} bytes")
        received = self._limits.poll(receive, timeout=timeout, pending=httpcore.ReadTimeout)
        self._header_bytes_left -= len(received)
        self._window_bytes += len(received)
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._limits.time_left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            limit = self._limits.time_left(timeout)
            shake_hands = partial(self._stream.start_tls, ssl_context, server_hostname, limit)
            secured = self._limits.run(shake_hands, discard=_close)
        except BaseException:
            self.close()
            raise
        return _LimitedStream(secured, self._limits)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _check_speed(self) -> None:
        """Raises RequestFailed if the last window was too slow."""
        now = time.monotonic()
        took_s = now - self._window_began_at
        if took_s < self._limits.speed_window_s:
            return
        speed = self._window_bytes / took_s
        if speed < self._limits.min_bytes_per_s:
            allowed = f"at least {self._limits.min_bytes_per_s:,.0f}"
            raise RequestFailed(
                f"it sent {speed:,.0f} bytes a second for {took_s:.0f} s; allowed: {allowed}",
                retryable=True,
            )
        self._window_began_at = now
        self._window_bytes = 0


_close = methodcaller("close")


def request_target(url: str) -> tuple[httpcore.URL, Headers]:
    """The URL to request, and the headers to send; credentials in `url` go to its own host only."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        port = parts.port
    except ValueError as error:
        raise RequestFailed(f"it is not a URL: {error}") from error
    if parts.scheme not in _PORTS or not host:
        raise RequestFailed("only http and https URLs with a host are allowed, redirects included")
    path = quote(parts.path or "/", safe=_URL_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_URL_SAFE)
    target = httpcore.URL(scheme=parts.scheme.encode(), host=host, port=port, target=path.encode())
    headers: Headers = {
        "Host": _host_header(host, port),
        "User-Agent": "infinitetalk-farm",
        # The size of a compressed response says nothing about its size on disk.
        "Accept-Encoding": "identity",
    }
    if parts.username is not None:
        headers["Authorization"] = _basic_auth(parts)
    return target, headers


def _host_header(host: bytes, port: int | None) -> str:
    name = host.decode()
    if ":" in name:
        name = f"[{name}]"
    if port is None:
        return name
    return f"{name}:{port}"


def _basic_auth(parts: SplitResult) -> str:
    user = unquote(parts.username or "")
    password = unquote(parts.password or "")
    credentials = base64.b64encode(f"{user}:{password}".encode())
    return "Basic " + credentials.decode()


def header(response: httpcore.Response, name: bytes) -> str:
    """A header of a response, in UTF-8 or, as HTTP once had it, Latin-1; empty if it is absent."""
    values = (value for key, value in response.headers if key.lower() == name)
    value = next(values, b"")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def begin_body(response: httpcore.Response) -> None:
    """Lets the body of a response have more bytes than its headers may."""
    response.extensions["network_stream"].begin_body()


def redact_url(url: str) -> str:
    """`url` for messages, without credentials and query (a signed URL is a credential too).

    Control characters, which a terminal would obey, are quoted.
    """
    bare = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = bare.partition("//")
    host, slash, path = rest.partition("/")
    url = f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"[:200]
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: f"%{ord(match[0]):02X}", url)


def as_request_failed(error: BaseException, url: str, timeout_s: float) -> RequestFailed | None:
    """`error` as RequestFailed; None if it is not an error of the request, but a full disk, say.

    Whether a connection was refused, reset or timed out is logged, and not said to strangers: with
    that they could scan the ports of other machines.
    """
    if isinstance(error, RequestFailed):
        return error
    if isinstance(error, socket.gaierror):
        return RequestFailed("no such host", retryable=error.errno != socket.EAI_NONAME)
    if isinstance(error, httpcore.LocalProtocolError):
        return RequestFailed(f"it is not a URL that HTTP can request ({error})")
    failures = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.RemoteProtocolError)
    if not isinstance(error, failures):
        return None
    LOGGER.info("%s: %s: %s", redact_url(url), type(error).__name__, error)
    # httpcore drops the cause of its errors, but keeps it among their arguments.
    if any(isinstance(arg, ssl.SSLCertVerificationError) for arg in error.args):
        return RequestFailed("its certificate is not trusted")
    limits = (
        f"{CONNECT_TIMEOUT_S:g} s to connect, "
        f"{READ_TIMEOUT_S:g} s between two bytes, "
        f"{timeout_s:g} s in total"
    )
    return RequestFailed(f"the server did not respond, or not in time ({limits})", retryable=True)
