"""Which job of the store a request has led to, so that the same request goes on with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from farm.errors import CorruptObject, InvalidInput, VersionSkew
from farm.registry.formats import dump, load
from farm.store import Store, integrity, keys


class Owner(BaseModel):
    """The job of a request, and the serverless job that it was last asked for by."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    job_id: str
    remote_id: str
    digest: str

    @classmethod
    def read(cls, store: Store, fields: Mapping[str, Any]) -> Self | None:
        """The owner of a request; None if there is none.

        Raises InvalidInput if its idempotency key is that of another request.
        """
        key = _key(fields)
        try:
            owner = load(integrity.get_sealed(store, key), cls, name=key)
        except (KeyError, CorruptObject, VersionSkew):  # the job is then made anew
            return None
        if owner.digest != digest(fields):
            raise InvalidInput(
                f"idempotency_key: got {fields['idempotency_key']!r}; job {owner.job_id} was "
                "submitted with it and another request; allowed: the same request, or a new key"
            )
        return owner

    def write(self, store: Store, fields: Mapping[str, Any]) -> None:
        integrity.put_sealed(store, _key(fields), dump(self).encode())


def digest(fields: Mapping[str, Any]) -> str:
    """The same for the same fields in any order."""
    text = json.dumps(fields, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _key(fields: Mapping[str, Any]) -> str:
    named = fields.get("idempotency_key")
    return keys.owner(digest({"idempotency_key": named} if named else fields))
