"""Which addresses are on the open internet, and URLs that name one that is not."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

_GLOBAL_UNICAST = ip_network("2000::/3")
"""All public IPv6 (RFC 4291, 2.4); addresses that embed IPv4, mapped or NAT64, are outside it."""

_SPECIAL_PURPOSE = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols; Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # IETF protocols, among them Teredo, which embeds IPv4
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: embeds any IPv4 address, also a private one
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
"""IANA's special-purpose registries (RFC 6890 and its updates, as of 2026) and multicast; of IPv6
what is global unicast. Python's own tables depend on its version: 3.11 calls 192.0.0.192 global.
"""

_HOST = re.compile("[A-Za-z0-9._:%~-]+")
"""Of names and addresses, IPv6 with its zone."""

_CLOUD_SERVICES = (ip_network("168.63.129.16/32"),)
"""Services of clouds to their machines at public addresses: Azure's host agent."""


def is_public(address: IPAddress) -> bool:
    """Whether `address` is a global unicast address that embeds no other address."""
    if any(address in network for network in (*_SPECIAL_PURPOSE, *_CLOUD_SERVICES)):
        return False
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def url_host(url: str) -> str | None:
    """The host of a URL as it is looked up, in ASCII; None for a URL that has none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is read now only
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        return None
    return host if _HOST.fullmatch(host) else None


def private_host(url: str, allowed: Sequence[IPNetwork] = ()) -> str | None:
    """The host of a URL if it is a private address, however it is spelt, or names this machine.

    Other names are resolved by the worker that connects to them, which checks each address.
    """
    host = url_host(url)
    if host is None:
        return None
    address = literal_address(host)
    if address is None:
        name = host.rstrip(".").lower()
        return host if name == "localhost" or name.endswith(".localhost") else None
    if is_public(address) or any(address in network for network in allowed):
        return None
    return host


def literal_address(host: str) -> IPAddress | None:
    """The address that a host is, also as `127.1`, `0x7f000001` and the like; None for a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
