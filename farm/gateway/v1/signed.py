"""Signed links, with which a player or a browser watches one job without a key."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from farm.gateway.refusal import refuse
from farm.registry import Registry

LINK_S = 86_400
UNTIL = re.compile("[0-9]{1,11}")


@dataclass(frozen=True)
class Signer:
    """Signs and checks links at one moment; the secret is the farm's, so any gateway does."""

    secret: bytes
    now: float

    @classmethod
    def of(cls, registry: Registry) -> Self:
        return cls(registry.keys.link_key(), registry.now())

    def query(self, job_id: str) -> str:
        """What a link to a part of a job ends with."""
        until = str(int(self.now) + LINK_S)
        return "?" + urlencode({"until": until, "signature": self._signature(job_id, until)})

    def check(self, job_id: str, query: Mapping[str, str]) -> None:
        """Raises Refusal 401 for a link that is not the farm's, or has ended."""
        until, given = query.get("until", ""), query.get("signature", "")
        is_due = UNTIL.fullmatch(until) is not None and self.now < int(until)
        expected = self._signature(job_id, until)
        if not (is_due and hmac.compare_digest(expected.encode(), given.encode())):
            allowed = "a link of the job, within a day of the answer that has it"
            raise refuse(401, f"signature: it is wrong, or has ended; allowed: {allowed}")

    def _signature(self, job_id: str, until: str) -> str:
        message = f"{job_id} {until}".encode()
        return hmac.digest(self.secret, message, "sha256").hex()
