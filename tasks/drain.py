"""A worker that is asked to go: its children stop at their next step, and what does not stop in time is broken off."""

from __future__ import annotations

import mmap
import os
import signal
from contextlib import suppress
from typing import Any

from billiard import active_children
from celery.signals import worker_shutting_down

from tasks.celery import settings

LAST_S = 3
"""How long a child may take to let go once it is broken off, and then its worker to say goodbye."""

_asked = mmap.mmap(-1, 1)
"""A byte that the worker shares with the children that it forks: Celery tells only the worker that it shall go."""


def leaving() -> bool:
    """Whether this worker, or the one whose child this process is, is asked to go."""
    return _asked[0] == 1


@worker_shutting_down.connect
def _leave(how: str, **_: object) -> None:
    """The first signal lets the children stop by themselves; the next one, or the end of the grace, breaks them off."""
    if how == "Warm":
        _asked[0] = 1
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, _break_off)
        signal.setitimer(signal.ITIMER_REAL, settings.grace_s)


def _break_off(number: int, frame: Any) -> None:
    """Does what SIGQUIT does, Celery's cold shutdown, and sees to it that this comes to an end."""
    signal.signal(signal.SIGALRM, _kill_children)
    signal.setitimer(signal.ITIMER_REAL, LAST_S)
    cold = signal.getsignal(signal.SIGQUIT)
    if callable(cold):
        cold(number, frame)


def _kill_children(*_: Any) -> None:
    """Ends children that did not let go, for instance because they hang in the device's driver."""
    signal.signal(signal.SIGALRM, _vanish)
    signal.setitimer(signal.ITIMER_REAL, LAST_S)
    for child in active_children():
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


def _vanish(*_: Any) -> None:
    """Ends a worker that cannot say goodbye, for instance because its broker is away and Celery waits for it."""
    os._exit(1)
