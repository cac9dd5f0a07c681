"""Signatures of webhooks, as the Standard Webhooks specification has them: who wrote a text, and when."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
"""Bytes of a key, by the specification."""


def decode_secret(secret: str) -> bytes:
    """The key that a secret spells; ValueError, which does not repeat it, for what is none."""
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:  # no base64
        key = b""
    if not secret.startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(f"a secret is {PREFIX} and {SHORTEST} to {LONGEST} bytes in base64")
    return key


def sign(body: bytes, *, message_id: str, at_s: int, secrets: Sequence[str]) -> dict[str, str]:
    """The headers that prove a text: its id, when it was sent (seconds since 1970), a signature with each secret."""
    signed = b".".join((message_id.encode(), str(at_s).encode(), body))
    proofs = (hmac.digest(decode_secret(secret), signed, hashlib.sha256) for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(proof).decode()}" for proof in proofs),
    }
