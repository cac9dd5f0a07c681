"""How fast a farm is, by the chunk that was committed last."""

from __future__ import annotations

from farm.estimate import Pace
from farm.registry.backend import RegistryBackend
from farm.registry.keys import PACE


def read_pace(backend: RegistryBackend) -> Pace:
    """The pace of the farm; that of the reference card before its first chunk."""
    (text,) = backend.get_all([PACE])
    return Pace.parse(text)
