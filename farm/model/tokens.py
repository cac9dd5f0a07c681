"""The ranks that share one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RankGroup:
    """The ranks that share a pass, as one of them sees it."""

    rank: int = 0
    size: int = 1
    handle: Any = None
    """Torch's process group."""


ALONE = RankGroup()
