"""Throttles: of requests by name, and of failed logins by address."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

MAX_FAILURES = 10
"""Failed logins that an address may have at once."""
RECOVERY_S = 30.0
"""After this time it may have one more."""
MAX_NAMES = 10_000
"""Names that are remembered; then the one that was seen longest ago is forgotten."""


class Throttle:
    """A token bucket for each name.

    What is kept of a bucket is the time at which it will be full (generic cell rate algorithm).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, name: str, *, burst: int, interval_s: float) -> float:
        """Takes a token; if there is none, returns the seconds until there is one, else 0.

        A bucket holds `burst` tokens, and gets a new one each `interval_s`.
        """
        now = self._clock()
        # Put last: a dictionary keeps the order in which its keys were added.
        full_at = self._full_at[name] = max(self._full_at.pop(name, now), now)
        if len(self._full_at) > MAX_NAMES:
            del self._full_at[next(iter(self._full_at))]
        wait_s = full_at - now - (burst - 1) * interval_s
        if wait_s > 0:
            return wait_s
        self._full_at[name] += interval_s
        return 0.0

    def put_back(self, name: str, *, interval_s: float) -> None:
        """Returns a token."""
        if name in self._full_at:
            self._full_at[name] -= interval_s


class LoginThrottle:
    """A token bucket for each address, from which a failed login takes a token."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Throttle(clock)

    def take(self, address: str) -> float:
        """Takes a token; if there is none, returns the seconds until there is one, else 0."""
        return self._buckets.take(_client(address), burst=MAX_FAILURES, interval_s=RECOVERY_S)

    def put_back(self, address: str) -> None:
        """Returns the token of a login that did not fail."""
        self._buckets.put_back(_client(address), interval_s=RECOVERY_S)


def _client(address: str) -> str:
    """The address, or of IPv6 its /64 network, which one customer of a provider has."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        return str(int(ip) >> 64)
    return address
