"""Signatures of webhooks by the Standard Webhooks specification, with a secret per receiver."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

PREFIX = "whsec_"
MIN_BYTES = 24
MAX_BYTES = 64
"""Lengths of a key, by the specification."""

_INFO = b"infinitetalk-farm webhook "
"""What a receiver's key is for, with the origin behind it: the info of RFC 5869."""


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


def origin(url: str) -> str:
    """The origin of an https URL, however that is spelled (RFC 6454, 6.1).

    It is `https://` with the host, and with a port other than 443. ValueError for any other URL.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode().lower()
    if parts.scheme != "https" or not host or parts.port == 0:
        raise ValueError("only https URLs with a host have a receiver")
    bracketed = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, 443) else f":{parts.port}"
    return f"https://{bracketed}{port}"


def receiver_secret(secret: str, url: str) -> str:
    """The secret of the receiver at a URL, which says nothing about those of others.

    Derived from the farm's secret over the URL's origin, by HKDF with SHA-256 (RFC 5869) without a
    salt; its one block of output is the key.
    """
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), decode_secret(secret), "sha256")
    expanded = hmac.digest(extracted, _INFO + origin(url).encode() + b"\x01", "sha256")
    return PREFIX + base64.b64encode(expanded).decode()


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
