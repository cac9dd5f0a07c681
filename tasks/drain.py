"""Draining: a worker that shuts down lets its children stop at their next safe point.

What does not stop within FARM_GRACE_S is interrupted, then killed.
"""

from __future__ import annotations

import atexit
import mmap
import os
import signal
from contextlib import suppress
from typing import Any

from billiard import active_children
from celery.signals import worker_shutting_down

from farm.tasks.celery import settings

LAST_S = 3
"""Seconds for an interrupted child to clean up, and then for its worker to shut down."""

_draining = mmap.mmap(-1, 1)
"""A byte that the worker shares with its children: Celery tells only the worker to shut down."""


def draining() -> bool:
    """Whether this worker, or the one whose child this process is, is draining."""
    return _draining[0] == 1


@worker_shutting_down.connect
def _begin(how: str, **_: object) -> None:
    """The first signal drains; the next one, or the end of the grace period, interrupts."""
    if how == "Warm":
        _draining[0] = 1
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, settings.grace_s)
        # An exiting interpreter forgets its handlers, and a signal without one would kill it.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


def _interrupt(number: int, frame: Any) -> None:
    """Does what SIGQUIT does, Celery's cold shutdown, with an end to it."""
    signal.signal(signal.SIGALRM, _kill_children)
    signal.setitimer(signal.ITIMER_REAL, LAST_S)
    cold_shutdown = signal.getsignal(signal.SIGQUIT)
    if callable(cold_shutdown):
        cold_shutdown(number, frame)


def _kill_children(*_: Any) -> None:
    """Kills children that did not stop, for instance because they hang in the device's driver."""
    signal.signal(signal.SIGALRM, _exit)
    signal.setitimer(signal.ITIMER_REAL, LAST_S)
    for child in active_children():
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


def _exit(*_: Any) -> None:
    """Ends a worker that cannot shut down, for instance because Celery waits for a broker that is
    down.
    """
    os._exit(1)
