"""Calls that race each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def race(call: Callable[[], Any], runners: int = 8) -> list[Any]:
    """The answers of a call to many threads that make it at the same moment."""
    start = threading.Barrier(runners)
    answers: list[Any] = []

    def run() -> None:
        start.wait()
        answers.append(call())

    threads = [threading.Thread(target=run) for _ in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
