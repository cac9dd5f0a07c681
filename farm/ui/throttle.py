"""The throttle of failed logins."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

MAX_FAILURES = 10
"""Failed logins that an address may have at once."""
RECOVERY_S = 30.0
"""After this time it may have one more."""
MAX_ADDRESSES = 10_000
"""Addresses that are remembered; then the one that tried longest ago is forgotten."""


class LoginThrottle:
    """A token bucket per address, from which a failed login takes a token.

    What is kept of a bucket is the time at which it will be full (generic cell rate algorithm).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, address: str) -> float:
        """Takes a token; if there is none, returns the seconds until there is one, else 0."""
        now = self._clock()
        client = _client(address)
        # Put last: a dictionary keeps the order in which its keys were added.
        full_at = self._full_at[client] = max(self._full_at.pop(client, now), now)
        if len(self._full_at) > MAX_ADDRESSES:
            del self._full_at[next(iter(self._full_at))]
        wait_s = full_at - now - (MAX_FAILURES - 1) * RECOVERY_S
        if wait_s > 0:
            return wait_s
        self._full_at[client] += RECOVERY_S
        return 0.0

    def put_back(self, address: str) -> None:
        """Returns the token of a login that did not fail."""
        client = _client(address)
        if client in self._full_at:
            self._full_at[client] -= RECOVERY_S


def _client(address: str) -> str:
    """The address, or of IPv6 its /64 network, which one customer of a provider has."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        return str(int(ip) >> 64)
    return address
