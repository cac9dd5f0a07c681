"""Bytes from outside: over HTTP, past a guard that keeps private networks private, or carried in the request itself."""

from __future__ import annotations

import base64
import binascii
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urljoin, urlsplit

import httpcore

from farm.errors import DownloadFailed, InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[Address]]

MAX_REDIRECTS = 3
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0

_REDIRECTS = {301, 302, 303, 307, 308}
_PORTS = {"http": 80, "https": 443}
_URL_SAFE = "/%:@!$&'()*+,;=~?-._"

_GLOBAL_UNICAST = ip_network("2000::/3")
"""All the public IPv6 there is (RFC 4291, 2.4); forms that carry an IPv4 address, mapped or NAT64, lie outside it."""

_NOT_FOR_US = (
    ip_network("2002::/16"),  # 6to4: carries any IPv4 address, a private one too (RFC 3056)
    ip_network("192.88.99.0/24"),  # relays of 6to4 (RFC 7526)
    ip_network("168.63.129.16/32"),  # a cloud host's own agent, at a public address (Azure)
)


def fetch(
    url: str,
    path: Path,
    *,
    field: str,
    max_bytes: int,
    timeout_s: float,
    allow: Sequence[Network] = (),
    resolve: Resolve | None = None,
) -> None:
    """The body that `url` answers with, at `path`; after an error there is no file.

    Only http and https, at most 3 redirects, and only to public addresses or those in `allow`: the address that was
    checked is the one connected to, so a name cannot change its mind in between. Proxies of the environment are not
    used. `timeout_s` bounds the whole of it, `max_bytes` the body.

    Raises DownloadFailed, which names `field` and the address without its query and password. It is retryable after a
    timeout, a failed connection, 429 and 5xx.
    """
    backend = GuardedBackend(allow=allow, resolve=resolve or addresses_of, deadline=time.monotonic() + timeout_s)
    try:
        with httpcore.ConnectionPool(network_backend=backend) as pool, path.open("wb") as file:
            _follow(pool, url, file, max_bytes)
    except BaseException as error:
        path.unlink(missing_ok=True)
        failure = _failure(error, timeout_s)
        if failure is None:
            raise
        message = f"{field}: {_shown(url)}: {failure}"
        raise DownloadFailed(message, retryable=failure.retryable) from (None if error is failure else error)


def inline(text: str, *, field: str, max_bytes: int) -> bytes:
    """The bytes that a data URI or plain base64 carries; InvalidInput if `text` is neither, or carries too many."""
    head, comma, body = text.partition(",") if text[:5].lower() == "data:" else ("", "", text)
    if head and not comma:
        raise InvalidInput(f"{field}: a data URI needs a comma before its data, got {text[:40]!r}")
    is_base64 = not head or head.lower().endswith(";base64")
    content = _from_base64(unquote(body), field) if is_base64 else unquote_to_bytes(body)
    if len(content) > max_bytes:
        raise InvalidInput(f"{field}: carries {len(content):,} bytes; allowed: {max_bytes:,}")
    return content


def addresses_of(host: str, port: int) -> list[Address]:
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


class _Failure(Exception):
    """Why a fetch ended, in words that go behind the address, and whether another try may help."""

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
                raise _Failure(f"{host} is not at a public address, and the farm fetches from nowhere else")
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
        raise httpcore.ReadTimeout("the time for the whole download is over")
    return left if timeout is None else min(left, timeout)


def _follow(pool: httpcore.ConnectionPool, url: str, file: BinaryIO, max_bytes: int) -> None:
    """The body behind `url` and its redirects, each of which passes the guard like the first."""
    timeouts = {"connect": CONNECT_TIMEOUT_S, "read": READ_TIMEOUT_S, "write": READ_TIMEOUT_S}
    for _ in range(MAX_REDIRECTS + 1):
        target, headers = _request(url)
        with pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts}) as response:
            if response.status not in _REDIRECTS:
                return _save(response, file, max_bytes)
            url = urljoin(url, _header(response, b"location"))
    raise _Failure(f"more than {MAX_REDIRECTS} redirects, the last of them to {_shown(url)}")


def _request(url: str) -> tuple[httpcore.URL, dict[bytes | str, bytes | str]]:
    """Where to connect and which headers to send; a name and password in `url` go to its own host only."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError as error:
        raise _Failure(f"not an address: {error}") from error
    if parts.scheme not in _PORTS or not host:
        raise _Failure(f"only http and https addresses with a host are fetched, not {_shown(url)}")
    path = quote(parts.path or "/", safe=_URL_SAFE) + ("?" + quote(parts.query, safe=_URL_SAFE) if parts.query else "")
    target = httpcore.URL(scheme=parts.scheme.encode(), host=host, port=port, target=path.encode())
    headers: dict[bytes | str, bytes | str] = {"Host": _host(host, port), "User-Agent": "infinitetalk-farm"}
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


def _save(response: httpcore.Response, file: BinaryIO, max_bytes: int) -> None:
    if response.status != 200:
        raise _Failure(f"answered {response.status}", retryable=response.status == 429 or response.status >= 500)
    encoding = _header(response, b"content-encoding") or "identity"
    if encoding != "identity":
        raise _Failure(f"answered with Content-Encoding {encoding!r}; wanted the plain file")
    announced = _header(response, b"content-length")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _Failure(f"holds {int(announced):,} bytes; allowed: {max_bytes:,}")
    size = 0
    for part in response.iter_stream():
        size += len(part)
        if size > max_bytes:
            raise _Failure(f"holds more than the allowed {max_bytes:,} bytes")
        file.write(part)


def _header(response: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def _shown(url: str) -> str:
    """`url` as a message may carry it: no name, no password, no query (a signed address is a password too)."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = bare.partition("//")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"[:200]


def _failure(error: BaseException, timeout_s: float) -> _Failure | None:
    """`error` in words; None for what is not the network's doing, a full disk for one."""
    if isinstance(error, _Failure):
        return error
    if isinstance(error, httpcore.TimeoutException):
        limits = f"{CONNECT_TIMEOUT_S:g} s to connect, {READ_TIMEOUT_S:g} s between two bytes, {timeout_s:g} s in all"
        return _Failure(f"took too long (limits: {limits})", retryable=True)
    if isinstance(error, socket.gaierror):
        return _Failure("no such host", retryable=error.errno != socket.EAI_NONAME)
    if isinstance(error, httpcore.NetworkError | httpcore.RemoteProtocolError):
        # httpcore drops the cause of its errors, but keeps it among their arguments.
        untrusted = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in error.args)
        return _Failure(f"the connection failed ({error})", retryable=not untrusted)
    if isinstance(error, httpcore.LocalProtocolError):
        return _Failure(f"not an address that HTTP can ask for ({error})")
    return None


def _from_base64(text: str, field: str) -> bytes:
    compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidInput(f"{field}: wanted a data URI or base64, got {text[:40]!r} ({error})") from error
