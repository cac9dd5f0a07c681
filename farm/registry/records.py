"""The compare-and-set core: records read, changed by rules and written back atomically."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from farm.registry.backend import Effects, RegistryBackend, Swap

CACHE_SIZE = 256
"""Texts that a process keeps from its last reads and writes."""


class Record(Protocol):
    @property
    def text(self) -> str: ...


AnyRecord = TypeVar("AnyRecord", bound=Record)


def no_effects(_: object) -> Effects:
    return ()


@dataclass(frozen=True)
class Change(Generic[AnyRecord]):
    """How a record changes, and what is written with it."""

    key: str
    parse: Callable[[str | None], AnyRecord]
    rule: Callable[[AnyRecord], AnyRecord | None]
    """The changed record; None if it refuses."""
    effects: Callable[[AnyRecord], Effects] = no_effects


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

    def last_seen(self, key: str) -> str | None:
        """A text as it was seen last; it is read if it is not cached."""
        return self._cache.get(key) or self.read(key)[0]

    def clear_cache(self) -> None:
        self._cache.clear()

    def change(self, change: Change[AnyRecord]) -> AnyRecord | None:
        """The changed record, written together with its effects; None if the rule refuses."""
        return self.change_all(change).get(change.key)

    def change_all(
        self, *required: Change[Any], optional: Sequence[Change[Any]] = ()
    ) -> dict[str, Any]:
        """The changed records by their keys, written at once with their effects; none if a rule
        refuses, and the rules behind it are not asked. An optional one that does is left out.

        Optimistic: it starts from the cached texts. Failed swaps return the current ones, so no
        read is needed. A refusal counts only for a record that was just read.
        """
        changes = (*required, *optional)
        texts = {change.key: self._cache.get(change.key) for change in changes}
        fresh: set[str] = set()
        while True:
            changed = {}
            doubted = []
            for each in changes:
                record = each.rule(each.parse(texts[each.key]))
                if record is not None:
                    changed[each.key] = record
                elif each.key not in fresh:
                    doubted.append(each.key)
                elif each in required:
                    return {}
            if doubted:
                found = dict(zip(doubted, self.read(*doubted), strict=True))
            else:
                found = self._swap(changes, texts, changed)
                if not found:
                    return changed
            texts |= found
            fresh |= found.keys()

    def _swap(
        self,
        changes: Sequence[Change[Any]],
        texts: Mapping[str, str | None],
        changed: Mapping[str, Record],
    ) -> dict[str, str | None]:
        """Writes the changed records with their effects; returns the current texts if `texts` are
        others, and nothing was written.
        """
        new = {key: record.text for key, record in changed.items()}
        swaps = [Swap(key, texts[key], text) for key, text in new.items()]
        effects = [
            effect
            for each in changes
            if each.key in changed
            for effect in each.effects(changed[each.key])
        ]
        answers = self.backend.swap(swaps, effects)
        if answers is None:
            self._store_in_cache(new)
            return {}
        found = dict(zip(new, answers, strict=True))
        self._store_in_cache(found)
        return found

    def _store_in_cache(self, texts: Mapping[str, str | None]) -> None:
        """Clearing a full cache costs one read for each text that is needed again."""
        if len(self._cache) > CACHE_SIZE:
            self._cache.clear()
        self._cache.update(texts)
