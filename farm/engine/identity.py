"""Which farm a store and a broker belong to: both hold the same id, or they are not one farm's."""

from __future__ import annotations

import secrets
import time

from pydantic import BaseModel, ValidationError

from farm.engine.context import Context
from farm.errors import FarmError, InvalidInput
from farm.registry.identity import Identity
from farm.store import Store, keys

WRITE_TIMEOUT_S = 60.0
"""How long a process may take to write a new id to the store, besides the store's own retries.
After that another one takes over.
"""

POLL_INTERVAL_S = 0.2


class FarmFile(BaseModel):
    """The identity in the store. It has no format: every version compares it."""

    id: str


def check_identity(ctx: Context) -> str:
    """The id that store and broker share; it is entered where it is missing.

    The broker decides who enters a new one. Raises InvalidInput if they belong to two farms.
    """
    while True:
        # The registry first: what is no longer pending was written to the store before.
        entered = ctx.registry.identity.read()
        stored = stored_id(ctx.store)
        if entered is None or _is_abandoned(ctx, entered):
            _enter(ctx, entered, stored)
        elif entered.id == stored:
            if entered.pending_until is not None:
                ctx.registry.identity.replace(entered, Identity(stored))
            return stored
        elif entered.pending_until is not None:
            time.sleep(POLL_INTERVAL_S)
        else:
            raise mismatch(ctx.settings.name, entered.id, stored)


def stored_id(store: Store) -> str | None:
    """The id in the store; None until it is entered."""
    try:
        return FarmFile.model_validate_json(store.get(keys.FARM)).id
    except KeyError:
        return None
    except ValidationError:
        raise InvalidInput(
            f"FARM_STORE_URL: {keys.FARM} in that store is no farm's; allowed: a folder or prefix "
            "of its own"
        ) from None


def mismatch(name: str, entered: str, stored: str | None) -> InvalidInput:
    """The error for a store and a broker of two farms."""
    owner = f"farm {stored}" if stored else "no farm yet"
    return InvalidInput(
        f"FARM_STORE_URL, FARM_BROKER_URL, FARM_NAME: the store is that of {owner}, but {name!r} "
        f"at the broker is farm {entered}; allowed: store and broker of one farm, or another name"
    )


def _is_abandoned(ctx: Context, entered: Identity) -> bool:
    return entered.pending_until is not None and entered.pending_until < ctx.registry.now()


def _enter(ctx: Context, entered: Identity | None, stored: str | None) -> None:
    """Enters the store's id, or a new one in both, unless another process was faster."""
    if stored is not None:
        ctx.registry.identity.replace(entered, Identity(stored))
        return
    timeout_s = WRITE_TIMEOUT_S + ctx.settings.store_retry_s
    new = Identity(secrets.token_hex(8), pending_until=ctx.registry.now() + timeout_s)
    if not ctx.registry.identity.replace(entered, new):
        return
    try:
        ctx.store.put(keys.FARM, FarmFile(id=new.id).model_dump_json().encode())
    except FarmError:
        ctx.registry.identity.replace(new, Identity(new.id, pending_until=0.0))
        raise
