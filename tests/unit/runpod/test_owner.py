"""Which job a request has led to, on stores of all kinds."""

from __future__ import annotations

import pytest

from farm.errors import InvalidInput
from farm.runpod.owner import Owner, digest
from farm.store import Store, integrity

FIELDS = {"prompt": "x", "base_seed": 1}


def owned(store: Store, fields: dict[str, object]) -> Owner:
    owner = Owner(job_id="job", remote_id="remote", digest=digest(fields))
    owner.write(store, fields)
    return owner


def test_a_request_leads_to_its_job_whatever_the_order_of_its_fields(store: Store) -> None:
    owner = owned(store, FIELDS)
    assert Owner.read(store, {"base_seed": 1, "prompt": "x"}) == owner
    assert Owner.read(store, {**FIELDS, "base_seed": 2}) is None


def test_an_idempotency_key_leads_to_its_job_and_to_no_other(store: Store) -> None:
    keyed = {**FIELDS, "idempotency_key": "k"}
    owner = owned(store, keyed)
    assert Owner.read(store, keyed) == owner
    with pytest.raises(InvalidInput, match="idempotency_key: got 'k'; job job was submitted"):
        Owner.read(store, {**keyed, "prompt": "y"})


def test_an_owner_of_another_version_is_none(store: Store) -> None:
    owned(store, FIELDS)
    (key,) = store.keys("runpod/")
    integrity.put_sealed(store, key, b'{"format": 99, "record": {}}')
    assert Owner.read(store, FIELDS) is None
