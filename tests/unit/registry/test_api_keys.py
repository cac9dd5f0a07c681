"""Keys of the gateway: shown once, kept as hashes, found by their secret until they are revoked."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.registry import Registry
from farm.registry.api_keys import PREFIX, USED_S
from farm.registry.keys import api_key_key


def test_a_key_is_found_by_its_secret_alone(registry: Registry):
    secret, key = registry.keys.create("anna", rate_per_minute=60)

    assert secret.startswith(PREFIX)
    assert len(secret) == len(PREFIX) + 43, "32 random bytes"
    assert registry.keys.find(secret) == key
    for wrong in ("", PREFIX, secret[:-1], secret + "x", key.digest, key.id, "\udcff"):
        assert registry.keys.find(wrong) is None


def test_the_registry_does_not_keep_the_secret(registry: Registry):
    secret, key = registry.keys.create("anna")

    (text,) = registry.backend.get_all([api_key_key(key.digest)])

    assert text is not None
    assert secret.removeprefix(PREFIX) not in text
    assert secret not in repr(registry.keys.all())


def test_a_revoked_key_is_not_found_and_the_others_of_its_caller_are(registry: Registry):
    old, old_key = registry.keys.create("anna")
    new, new_key = registry.keys.create("anna")

    registry.keys.revoke(old_key.id)

    assert registry.keys.find(old) is None
    assert registry.keys.find(new) == new_key
    assert [known.key for known in registry.keys.all()] == [new_key]


def test_an_unknown_key_cannot_be_revoked(registry: Registry):
    with pytest.raises(InvalidInput, match=r"^key_id: got 'anna'; there is no such key"):
        registry.keys.revoke("anna")


def test_a_list_says_when_a_key_was_used_last(registry: Registry):
    _, key = registry.keys.create("anna")
    assert [known.used_at for known in registry.keys.all()] == [None]

    registry.keys.mark_used(key)

    (known,) = registry.keys.all()
    assert known.used_at == pytest.approx(registry.now(), abs=USED_S)


def test_the_use_of_a_revoked_key_does_not_bring_it_back(registry: Registry):
    _, key = registry.keys.create("anna")
    registry.keys.revoke(key.id)

    registry.keys.mark_used(key)

    assert registry.keys.all() == []


def test_that_there_was_a_key_stays_known(registry: Registry):
    assert not registry.keys.any_created()
    _, key = registry.keys.create("anna")

    registry.keys.revoke(key.id)

    assert registry.keys.any_created()
