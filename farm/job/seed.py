"""The seed of a video, where the request leaves it to the farm."""

from __future__ import annotations

import secrets
from hashlib import sha256

from farm.job.resolved import ResolvedRequest

RANDOM = -1
"""In a request: drawn at submission, so that every attempt uses the same."""


def with_seed(request: ResolvedRequest) -> ResolvedRequest:
    """The request with a seed; with an idempotency key the same one whenever it is submitted."""
    if request.base_seed != RANDOM:
        return request
    drawn = draw_seed(request.idempotency_key or secrets.token_hex())
    return request.model_copy(update={"base_seed": drawn})


def draw_seed(key: str) -> int:
    """32 random bits, always the same for one key."""
    return int.from_bytes(sha256(key.encode()).digest()[:4])
