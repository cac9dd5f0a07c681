"""Settings, store and registry, passed to all code that needs them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from farm.registry import Registry, farm_registry
from farm.registry.backend import KeepTrying, give_up
from farm.settings import Settings
from farm.store import Store, open_store


@dataclass(frozen=True)
class Context:
    settings: Settings
    store: Store
    registry: Registry


def open_context(settings: Settings, *, keep_trying: KeepTrying = give_up) -> Context:
    """The context that the settings describe; nothing is contacted yet.

    Calls to the registry wait for a broker that is down for as long as `keep_trying` returns True.
    """
    store = open_own_store(settings)
    return Context(settings, store, farm_registry(settings, keep_trying=keep_trying))


def open_own_store(settings: Settings) -> Store:
    """The store that the settings describe.

    One in the home folder keeps what it holds from other users of the machine.
    """
    if settings.store_url is None:
        with suppress(OSError):  # the store says so once it is used
            settings.make_folder()
    return open_store(settings.store_address, settings)
