"""How fast a farm is, by the chunks that were committed last."""

from __future__ import annotations

from collections.abc import Iterable

from farm.estimate import Pace
from farm.registry.backend import RegistryBackend
from farm.registry.keys import PACE, pace_key


def read_pace(backend: RegistryBackend) -> Pace:
    """That of the last chunk, for sums over jobs of any model; that of the reference card before
    the first one.
    """
    (text,) = backend.get_all([PACE])
    return Pace.parse(text)


def read_paces(backend: RegistryBackend, models: Iterable[str]) -> dict[str, Pace]:
    """That of each model, by its own last chunk."""
    names = list(models)
    texts = backend.get_all([pace_key(name) for name in names])
    return {name: Pace.parse(text) for name, text in zip(names, texts, strict=True)}
