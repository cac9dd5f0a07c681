"""Where work is done: the settings, the store and the registry that a step, a client or a transport is handed."""

from __future__ import annotations

from dataclasses import dataclass

from farm.registry import Registry, open_registry
from farm.settings import Settings
from farm.store import Store, open_store


@dataclass(frozen=True)
class Place:
    settings: Settings
    store: Store
    registry: Registry


def open_place(settings: Settings) -> Place:
    """The place that the settings name; nothing is contacted yet."""
    return Place(settings, open_store(settings.store_address, settings), open_registry(settings.broker_address))
