"""Settings, store and registry, handed to whatever runs."""

from __future__ import annotations

from dataclasses import dataclass

from farm.registry import Registry, open_registry
from farm.settings import Settings
from farm.store import Store, open_store


@dataclass(frozen=True)
class Context:
    settings: Settings
    store: Store
    registry: Registry


def open_context(settings: Settings) -> Context:
    """The context that the settings describe; nothing is contacted yet."""
    return Context(
        settings,
        open_store(settings.store_address, settings),
        open_registry(settings.broker_address),
    )
