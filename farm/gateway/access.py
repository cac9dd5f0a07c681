"""Who sends a request, by its key."""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers

from farm.client import Farm
from farm.errors import InvalidInput, QuotaExceeded
from farm.gateway.refusal import Refusal, check_store, refuse, retry_after
from farm.job import PRIORITIES, Priority
from farm.net.throttle import Throttle
from farm.registry.accounts import Quota
from farm.registry.api_keys import USED_S, ApiKey

MAX_KEY = 200
"""Characters."""


@dataclass(frozen=True)
class Tenant:
    """A caller of the gateway, and what its key allows."""

    farm: Farm
    """Bound to the caller."""
    highest_priority: Priority = "high"

    @property
    def caller(self) -> str:
        return self.farm.caller

    def with_files(self, folder: Path) -> Tenant:
        """The tenant of a request that may name the files in a folder."""
        farm = copy(self.farm)
        farm.local_files = folder
        return replace(self, farm=farm)

    def with_priority(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a request, whose priority is normal, or the highest that the key allows.

        Raises InvalidInput for a higher one.
        """
        allowed = PRIORITIES[PRIORITIES.index(self.highest_priority) :]
        priority = fields.get("priority", "normal" if "normal" in allowed else "low")
        if priority in PRIORITIES and priority not in allowed:  # the contract refuses others
            raise InvalidInput(
                f"priority: got {priority!r}; this key allows {' or '.join(allowed)}"
            )
        return {**fields, "priority": priority}


class Access:
    """Finds the tenant of a request. `is_open`: loopback only, where no key is needed until the
    first one is created.
    """

    def __init__(self, farm: Farm, *, is_open: bool) -> None:
        self._farm = farm
        self._keys = farm.context.registry.keys
        self._is_open = is_open
        self._rates = Throttle()
        self._used_at: dict[str, float] = {}

    def tenant(self, headers: Headers, needs_urls: bool = False) -> Tenant:
        """Raises Refusal: 401 without a valid key, 429 for too many requests, 503 for a key whose
        holder needs the URLs of the store, and cannot read them.
        """
        key = self._keys.find(_secret(headers))
        if key is not None:
            self._count(key)
            if needs_urls:
                self._check_store()
            return Tenant(self._bound(key), key.highest_priority)
        if self._is_open and not self._keys.any_created():
            _check_local(headers)
            return Tenant(self._farm.as_caller(self._farm.caller))
        raise refuse(
            401,
            "Authorization: the key is missing, wrong or revoked; allowed: a key of this gateway",
            {"WWW-Authenticate": "Bearer"},
        )

    def _check_store(self) -> None:
        try:
            check_store(self._farm.context.store)
        except InvalidInput as error:
            raise Refusal(503, error) from None

    def _bound(self, key: ApiKey) -> Farm:
        quota = Quota.of(self._farm.context.settings)
        own = {
            "live_jobs": key.max_live_jobs,
            "gpu_s_per_day": key.max_gpu_s_per_day,
        }
        given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        return self._farm.as_caller(
            key.caller, Quota(**{**vars(quota), **given, "own": frozenset(given)})
        )

    def _count(self, key: ApiKey) -> None:
        """Notes the use of a key; raises Refusal if its rate is exceeded."""
        now = time.monotonic()
        if now - self._used_at.get(key.digest, -USED_S) >= USED_S:
            self._used_at[key.digest] = now
            self._keys.mark_used(key)
        rate = key.rate_per_minute
        if rate is None:
            return
        wait_s = self._rates.take(key.digest, burst=rate, interval_s=60 / rate)
        if wait_s:
            error = QuotaExceeded(f"this key allows {rate:,} requests a minute; try again later")
            raise Refusal(429, error, retry_after(wait_s))


def _secret(headers: Headers) -> str:
    """The key in Authorization: Runpod's examples send it with `Bearer` or bare."""
    given = headers.get("authorization", "").strip()
    scheme, _, rest = given.partition(" ")
    secret = rest.strip() if scheme.lower() == "bearer" else given
    return secret if len(secret) <= MAX_KEY else ""


def _check_local(headers: Headers) -> None:
    """Refuses what a web page may send through the browser of this machine's user.

    What is of the same origin is of the gateway itself: a video that the user has opened.
    """
    site = headers.get("sec-fetch-site", "none")
    if "origin" in headers or site not in ("none", "same-origin"):
        raise refuse(403, "Origin: without a key the gateway answers no web pages")
    host = headers.get("host", "")
    if not _is_loopback(host):
        raise refuse(421, f"Host: got {host[:80]!r}; without a key allowed: loopback")


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
