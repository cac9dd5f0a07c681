"""Keys of the gateway: each belongs to a caller and says what that one may have.

A key is shown once, when it is created; the registry has its SHA-256. That needs no salt and no
slow hash, because a key is random and too long to guess.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from hashlib import sha256
from math import inf
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from farm.caller import CallerName
from farm.errors import InvalidInput, shorten
from farm.job import Priority
from farm.registry.formats import dump, load
from farm.registry.keys import API_KEYS, LINK_KEY, api_key_key
from farm.registry.records import RecordStore

PREFIX = "itf_"
"""By which scanners of repositories recognise a key."""

KEY_BYTES = 32
ID_CHARACTERS = 12
"""Of the digest: what a key is called by in lists."""

MAX_KEYS = 10_000
USED_S = 60.0
"""The last use of a key is as exact as this, so that not every request writes it."""


class ApiKey(BaseModel):
    """What the registry knows of a key; None = as the settings say for every caller."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    digest: str = Field(pattern="^[0-9a-f]{64}$")
    caller: CallerName
    created_at: float
    rate_per_minute: int | None = None
    max_live_jobs: int | None = None
    max_gpu_s_per_day: float | None = None
    highest_priority: Priority = "high"

    @property
    def id(self) -> str:
        """What it is called by: no secret."""
        return self.digest[:ID_CHARACTERS]


class KnownKey(NamedTuple):
    """A key in a list."""

    key: ApiKey
    used_at: float | None
    """The time of its last use; None before the first."""


class KeyRegistry:
    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._backend = records.backend

    def create(
        self,
        caller: str,
        *,
        rate_per_minute: int | None = None,
        max_live_jobs: int | None = None,
        max_gpu_s_per_day: float | None = None,
        highest_priority: Priority = "high",
    ) -> tuple[str, ApiKey]:
        """A new secret, which is kept nowhere, and its record."""
        secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        key = ApiKey(
            digest=_digest(secret),
            caller=caller,
            created_at=self._backend.now(),
            rate_per_minute=rate_per_minute,
            max_live_jobs=max_live_jobs,
            max_gpu_s_per_day=max_gpu_s_per_day,
            highest_priority=highest_priority,
        )
        self._backend.compare_and_set(api_key_key(key.digest), None, dump(key))
        self._backend.add_member(API_KEYS, key.digest, 0)
        return secret, key

    def find(self, secret: str) -> ApiKey | None:
        """The key with a secret; None for one that is wrong or revoked, after the same time."""
        digest = _digest(secret)
        (text,) = self._backend.get_all([api_key_key(digest)])
        if text is None:
            return None
        key = load(text, ApiKey, name="a key of the gateway")
        return key if hmac.compare_digest(key.digest, digest) else None

    def mark_used(self, key: ApiKey) -> None:
        """Records the time of a key's use."""
        self._backend.add_member(API_KEYS, key.digest, self._backend.now())

    def any_created(self) -> bool:
        """Whether there has ever been a key: revoking the last one opens nothing."""
        return self._backend.size(API_KEYS) > 0

    def link_key(self) -> bytes:
        """What the gateways sign links with; drawn once, by the first that needs it."""
        self._backend.compare_and_set(LINK_KEY, None, secrets.token_hex(KEY_BYTES))
        (secret,) = self._backend.get_all([LINK_KEY])
        return bytes.fromhex(secret or "")

    def all(self) -> list[KnownKey]:
        """All keys, the oldest first."""
        return sorted(self._read(), key=lambda known: known.key.created_at)

    def revoke(self, key_id: str) -> ApiKey:
        """Removes a key by its id; InvalidInput if there is none."""
        for known in self._read():
            if known.key.id == key_id:
                self._backend.delete(api_key_key(known.key.digest))
                return known.key
        raise InvalidInput(
            f"key_id: got {shorten(repr(key_id))}; there is no such key (`farm keys list`)"
        )

    def _read(self) -> Iterator[KnownKey]:
        found = self._backend.members_between(API_KEYS, -1, inf, MAX_KEYS)
        texts = self._backend.get_all([api_key_key(digest) for digest, _ in found])
        for (_, used_at), text in zip(found, texts, strict=True):
            if text is not None:
                key = load(text, ApiKey, name="a key of the gateway")
                yield KnownKey(key, used_at or None)


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
