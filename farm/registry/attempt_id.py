"""The id of an attempt: its fencing token and a random part, for example `0001-7f3a9c0e5b2d4a61`.

The token orders the attempts at a step. The random part tells two attempts with the same token
apart: a broker that fails over to a replica may have lost a lease, and issues its token again.
"""

from __future__ import annotations

import secrets

RANDOM_BYTES = 8

NO_ATTEMPT = "0000"
"""Before the first one."""


def random_part() -> str:
    """Digits that cannot be guessed, in hexadecimal."""
    return secrets.token_hex(RANDOM_BYTES)


def make_attempt_id(fence: int, random: str) -> str:
    return f"{fence:04d}-{random}"


def fence_of(attempt_id: str) -> int:
    """The fencing token of an attempt."""
    return int(attempt_id.partition("-")[0])
