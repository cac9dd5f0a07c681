"""Which farm a registry belongs to: an id that its store has too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from farm.registry.backend import RegistryBackend
from farm.registry.keys import IDENTITY


@dataclass(frozen=True)
class Identity:
    """The id of a farm, in the registry. Its text has no format: every version compares it."""

    id: str
    pending_until: float | None = None
    """Until when a process that found none in the store may take to write it there."""

    @classmethod
    def parse(cls, text: str) -> Self:
        farm_id, _, until = text.partition(" ")
        return cls(farm_id, float(until) if until else None)

    @property
    def text(self) -> str:
        return self.id if self.pending_until is None else f"{self.id} {self.pending_until}"


class IdentityRegistry:
    def __init__(self, backend: RegistryBackend) -> None:
        self._backend = backend

    def read(self) -> Identity | None:
        """The identity; None until it is entered."""
        (text,) = self._backend.get_all([IDENTITY])
        return None if text is None else Identity.parse(text)

    def replace(self, old: Identity | None, new: Identity) -> bool:
        """Enters an identity if `old` is still the one there."""
        text = None if old is None else old.text
        return self._backend.compare_and_set(IDENTITY, text, new.text) == text
