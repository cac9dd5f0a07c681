"""Signatures, verified by the specification's own library."""

from __future__ import annotations

import base64
import time

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from farm.net.signing import decode_secret, origin, receiver_secret, sign
from tests.support.receiver import SECRET

OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = '{"job_id": "a", "prompt": "ü"}'.encode()


def signed(*secrets: str, at_s: int | None = None) -> dict[str, str]:
    return sign(BODY, message_id="msg_a", at_s=at_s or int(time.time()), secrets=secrets)


def test_the_specifications_example_is_reproduced():
    # From the reference implementations' tests, github.com/standard-webhooks
    headers = sign(
        b'{"test": 2432232314}',
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at_s=1614265330,
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_specifications_library_accepts_a_signature():
    assert Webhook(SECRET).verify(BODY, signed(SECRET)) == {"job_id": "a", "prompt": "ü"}


@pytest.mark.parametrize("known", [SECRET, OTHER])
def test_while_a_secret_is_rotated_both_verify(known):
    assert Webhook(known).verify(BODY, signed(OTHER, SECRET))


@pytest.mark.parametrize(
    ("body", "message_id", "later_s"),
    [(BODY + b" ", "msg_a", 0), (BODY, "msg_b", 0), (BODY, "msg_a", 60)],
    ids=["body", "id", "time"],
)
def test_a_modified_message_is_rejected(body, message_id, later_s):
    at_s = int(time.time()) - 60
    changed = {"webhook-id": message_id, "webhook-timestamp": str(at_s + later_s)}
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(SECRET).verify(body, {**signed(SECRET, at_s=at_s), **changed})


def test_a_signature_with_another_secret_is_rejected():
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(SECRET).verify(BODY, signed(OTHER))


@pytest.mark.parametrize("count", [24, 25, 26, 64])
def test_a_secret_is_decoded_with_and_without_padding(count):
    key = bytes(range(count))
    secret = "whsec_" + base64.b64encode(key).decode()
    assert decode_secret(secret) == decode_secret(secret.rstrip("=")) == key


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_!!!!" + "A" * 40,
        "whsec_ü" + "A" * 40,
    ],
)
def test_an_invalid_secret_is_refused_without_being_repeated(secret):
    with pytest.raises(ValueError, match=r"^a secret is whsec_ and 24 to 64 bytes in base64$"):
        decode_secret(secret)


# The secret of a receiver


@pytest.mark.parametrize("secret", [SECRET, OTHER, "whsec_" + base64.b64encode(bytes(64)).decode()])
def test_a_receivers_secret_is_derived_by_hkdf_over_its_origin(secret):
    hkdf = HKDF(
        SHA256(), length=32, salt=None, info=b"infinitetalk-farm webhook https://example.org"
    )
    expected = hkdf.derive(decode_secret(secret))
    assert decode_secret(receiver_secret(secret, "https://example.org/done?token=a")) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https://example.org:8443",
        "https://example.com",
        "https://hooks.example.org",
    ],
)
def test_each_origin_has_a_secret_of_its_own(url):
    others = {receiver_secret(SECRET, other) for other in ("https://example.net", "https://a.org")}
    assert receiver_secret(SECRET, url) not in {*others, SECRET, receiver_secret(OTHER, url)}
    assert Webhook(receiver_secret(SECRET, url)).verify(BODY, signed(receiver_secret(SECRET, url)))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTPS://Example.ORG:443/a?b=c", "https://example.org"),
        ("https://example.org:8443/", "https://example.org:8443"),
        ("https://bücher.example/", "https://xn--bcher-kva.example"),
        ("https://[2001:DB8::1]/", "https://[2001:db8::1]"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_all_spellings_of_an_origin_are_one(url, expected):
    assert origin(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "example.org",
        "http://example.org",
        "https://",
        "https://example.org:0",
        "https://example.org:99999",
        f"https://{'a' * 64}.org",
    ],
)
def test_other_urls_have_no_origin(url):
    with pytest.raises(ValueError, match=r"."):
        origin(url)
