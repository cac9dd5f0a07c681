"""The guard between the farm and the web: connections to public addresses alone, and why one came to nothing."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpcore

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[Address]]
Headers = dict[bytes | str, bytes | str]

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
TIMEOUTS = {"connect": CONNECT_TIMEOUT_S, "read": READ_TIMEOUT_S, "write": READ_TIMEOUT_S}
"""Of a single wait; a deadline bounds the whole."""

_PORTS = {"http": 80, "https": 443}
_URL_SAFE = "/%:@!$&'()*+,;=~?-._"

_GLOBAL_UNICAST = ip_network("2000::/3")
"""All the public IPv6 there is (RFC 4291, 2.4); forms that carry an IPv4 address, mapped or NAT64, lie outside it."""

_NOT_FOR_US = (
    ip_network("2002::/16"),  # 6to4: carries any IPv4 address, a private one too (RFC 3056)
    ip_network("192.88.99.0/24"),  # relays of 6to4 (RFC 7526)
    ip_network("168.63.129.16/32"),  # a cloud host's own agent, at a public address (Azure)
)


def resolve_host(host: str, port: int) -> list[Address]:
    """Every address that the system's resolver knows for `host`, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))


def is_public(address: Address) -> bool:
    """Whether `address` belongs to the open internet: global, one host, and no other address in disguise."""
    if any(address in network for network in _NOT_FOR_US):
        return False
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class RequestFailed(Exception):
    """Why a request came to nothing, in words that go behind the address, and whether another try may help."""

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.retryable = retryable


class GuardedBackend(httpcore.NetworkBackend):
    """Connections to allowed addresses only, all of which end at one deadline (in `time.monotonic` seconds)."""

    def __init__(self, *, allow: Sequence[Network], resolve: Resolve, deadline: float) -> None:
        self._allow = allow
        self._resolve = resolve
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._checked(host, port):
            try:
                limit = _time_left(self._deadline, timeout)
                stream = self._sockets.connect_tcp(str(address), port, limit, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream, self._deadline)
        raise failure

    def _checked(self, host: str, port: int) -> Sequence[Address]:
        """All or nothing: a name with one private address among public ones is an attack, or a mistake."""
        addresses = self._resolve(host, port)
        for address in addresses:
            if not is_public(address) and not any(address in network for network in self._allow):
                # The address itself stays unsaid: the answer would map the private network for whoever asks.
                raise RequestFailed(f"{host} is not at a public address, and the farm goes nowhere else")
        return addresses


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every wait is cut at the deadline, so that a slow drip of bytes ends as well."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _time_left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _time_left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = _time_left(self._deadline, timeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, limit), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _time_left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time for the whole of it is over")
    return left if timeout is None else min(left, timeout)


def request_target(url: str) -> tuple[httpcore.URL, Headers]:
    """Where to connect and which headers to send; a name and password in `url` go to its own host only."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError as error:
        raise RequestFailed(f"not an address: {error}") from error
    if parts.scheme not in _PORTS or not host:
        raise RequestFailed(f"only http and https addresses with a host are fetched, not {redact_url(url)}")
    path = quote(parts.path or "/", safe=_URL_SAFE) + ("?" + quote(parts.query, safe=_URL_SAFE) if parts.query else "")
    target = httpcore.URL(scheme=parts.scheme.encode(), host=host, port=port, target=path.encode())
    headers: Headers = {"Host": _host(host, port), "User-Agent": "infinitetalk-farm"}
    # No compressed answer: its size on the wire says nothing about its size on our disk.
    headers["Accept-Encoding"] = "identity"
    if parts.username is not None:
        headers["Authorization"] = _basic(parts)
    return target, headers


def _host(host: bytes, port: int | None) -> str:
    name = f"[{host.decode()}]" if b":" in host else host.decode()
    return name if port is None else f"{name}:{port}"


def _basic(parts: SplitResult) -> str:
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def header(response: httpcore.Response, name: bytes) -> str:
    """A header of an answer; empty if it has none of that name."""
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def redact_url(url: str) -> str:
    """`url` as a message may carry it: no name, no password, no query (a signed address is a password too)."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = bare.partition("//")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"[:200]


def as_request_failed(error: BaseException, timeout_s: float) -> RequestFailed | None:
    """`error` in words; None for what is not the network's doing, a full disk for one."""
    if isinstance(error, RequestFailed):
        return error
    if isinstance(error, httpcore.TimeoutException):
        limits = f"{CONNECT_TIMEOUT_S:g} s to connect, {READ_TIMEOUT_S:g} s between two bytes, {timeout_s:g} s in all"
        return RequestFailed(f"took too long (limits: {limits})", retryable=True)
    if isinstance(error, socket.gaierror):
        return RequestFailed("no such host", retryable=error.errno != socket.EAI_NONAME)
    if isinstance(error, httpcore.NetworkError | httpcore.RemoteProtocolError):
        # httpcore drops the cause of its errors, but keeps it among their arguments.
        untrusted = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in error.args)
        return RequestFailed(f"the connection failed ({error})", retryable=not untrusted)
    if isinstance(error, httpcore.LocalProtocolError):
        return RequestFailed(f"not an address that HTTP can ask for ({error})")
    return None
