"""Progress of a serverless job: what is new, now and then, with a counter.

The SDK sends each update from a thread of its own, so they overtake each other; the one with the
highest counter is the newest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVERY_S = 2.0
"""Between two updates; each is a request to Runpod over a new connection."""

Shown = dict[str, Any]


@contextmanager
def reported(
    newest: Callable[[], Shown | None], send: Callable[[Shown], None], *, every_s: float = EVERY_S
) -> Iterator[None]:
    """Sends `newest`, if it has changed, every few seconds as long as the block runs."""
    finished = threading.Event()

    def run() -> None:
        counter = 0
        last: Shown | None = None
        while not finished.wait(every_s):
            current = newest()
            if current is not None and current != last:
                counter += 1
                last = current
                send({**current, "counter": counter})

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
