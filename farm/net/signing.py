"""Signatures of webhooks by the Standard Webhooks specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
MIN_BYTES = 24
MAX_BYTES = 64
"""Lengths of a key, by the specification."""


def decode_secret(secret: str) -> bytes:
    """The key in a secret; ValueError, which does not repeat it, if it is invalid."""
    text = secret.removeprefix(PREFIX)
    padding = "=" * (-len(text) % 4)
    try:
        key = base64.b64decode(text + padding, validate=True)
    except ValueError:  # not base64
        key = b""
    if not secret.startswith(PREFIX) or not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise ValueError(f"a secret is {PREFIX} and {MIN_BYTES} to {MAX_BYTES} bytes in base64")
    return key


def sign(body: bytes, *, message_id: str, at_s: int, secrets: Sequence[str]) -> dict[str, str]:
    """The headers that authenticate a body.

    They are its id, the time in seconds since 1970, and a signature with each secret.
    """
    signed = b".".join((message_id.encode(), str(at_s).encode(), body))
    signatures = [_signature(signed, secret) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(signatures),
    }


def _signature(signed: bytes, secret: str) -> str:
    digest = hmac.digest(decode_secret(secret), signed, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
