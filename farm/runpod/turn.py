"""One GPU for the jobs of a worker, which takes two so that no second is lost between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

POLL_INTERVAL_S = 0.1
"""How soon a job that waits for its turn notices that it was stopped."""


@dataclass(frozen=True)
class GpuTurn:
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def wait(self, raise_if_stopped: Callable[[], None]) -> Iterator[None]:
        """The GPU for the block, once it is free; raises what the check raises meanwhile."""
        while not self._lock.acquire(timeout=POLL_INTERVAL_S):
            raise_if_stopped()
        try:
            yield
        finally:
            self._lock.release()
