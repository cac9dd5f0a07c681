"""The compare-and-set core: records read, changed by a rule and written back atomically."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from farm.registry.backend import Effects, RegistryBackend

CACHE_SIZE = 64
"""Texts that a process keeps from its last reads and writes."""


class Record(Protocol):
    @property
    def text(self) -> str: ...


AnyRecord = TypeVar("AnyRecord", bound=Record)


def no_effects(_: object) -> Effects:
    return ()


class RecordStore:
    """Texts of a backend by key, with a small cache of what was seen last."""

    def __init__(self, backend: RegistryBackend) -> None:
        self.backend = backend
        self._cache: dict[str, str | None] = {}

    def read(self, *keys: str) -> list[str | None]:
        """The texts as they are now."""
        texts = self.backend.get_all(keys)
        self._store_in_cache(dict(zip(keys, texts, strict=True)))
        return texts

    def cached(self, key: str) -> str | None:
        """A text as it was seen last; None if it is not cached."""
        return self._cache.get(key)

    def clear_cache(self) -> None:
        self._cache.clear()

    def change(
        self,
        key: str,
        *,
        parse: Callable[[str | None], AnyRecord],
        rule: Callable[[AnyRecord], AnyRecord | None],
        effects: Callable[[AnyRecord], Effects] = no_effects,
    ) -> AnyRecord | None:
        """The changed record, written together with its effects; None if the rule refuses.

        Optimistic: it starts from the cached text. A failed compare-and-set returns the current
        value, so no read is needed. A refusal counts only for a record that was just read.
        """
        old = self._cache.get(key)
        fresh = False
        while True:
            new = rule(parse(old))
            if new is None and fresh:
                return None
            if new is None:
                (found,) = self.read(key)
            else:
                text = new.text
                found = self.backend.compare_and_set(key, old, text, effects(new))
                if found == old:
                    self._store_in_cache({key: text})
                    return new
            old = found
            fresh = True

    def _store_in_cache(self, texts: Mapping[str, str | None]) -> None:
        """Clearing a full cache costs one read for each text that is needed again."""
        if len(self._cache) > CACHE_SIZE:
            self._cache.clear()
        self._cache.update(texts)
