"""The health files of a worker (farm/health.py), and its end after FARM_IDLE_EXIT_S without work.

A thread of the worker keeps them, so they need no broker; a process that is stopped, or that hangs
in its interpreter's lock, stops touching `alive`. The worker that downloads for a cpu worker keeps
none of its own: that worker replaces it when it dies.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from functools import cache
from math import inf
from typing import Any

from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down
from celery.worker import state

from farm.health import HealthFiles, claim_files
from farm.logs import log
from farm.tasks.celery import settings
from farm.tasks.drain import draining
from farm.tasks.kind import worker_kind
from farm.tasks.metrics import PIPE
from farm.tasks.warm_up import is_loading, is_warm, set_warm

INTERVAL_S = 1.0

DOWNLOADING = "downloading"
"""The file that the worker which downloads for a cpu worker touches while it does."""

_busy_at = [inf]
"""When this worker last had a step to run, or became ready; infinite before."""


@cache
def files() -> HealthFiles:
    """Those of this worker, or of the one that it downloads for; first called before any fork."""
    if settings.health_folder is not None:
        return HealthFiles(settings.health_folder.expanduser())
    return claim_files(settings.folder, worker_kind())


def progressed() -> None:
    """Called at each denoise step, in the process that runs it: it has loaded the model."""
    set_warm()
    with suppress(OSError):  # a probe that misses it is no reason to lose a chunk
        files().progress.touch()


@worker_init.connect
def _start(**_: Any) -> None:
    if PIPE not in os.environ:
        files().begin()
    threading.Thread(target=_keep_forever, name="health", daemon=True).start()


@worker_ready.connect
def _begin(**_: Any) -> None:
    _busy_at[0] = time.monotonic()


@worker_shutdown.connect
def _remove(**_: Any) -> None:
    if settings.health_folder is None:
        with suppress(OSError):
            files().remove()


@worker_shutting_down.connect
def _end(**_: Any) -> None:
    with suppress(OSError):
        files().set_ready(False)


def _keep_forever() -> None:
    pause = threading.Event()
    while True:
        with suppress(OSError):  # of a full disk, for instance: the worker goes on
            _keep_for_downloads() if PIPE in os.environ else _keep()
        pause.wait(INTERVAL_S)


def _keep() -> None:
    """Touches the files of this worker, and ends it if it has been idle for long enough."""
    files().alive.touch()
    started = _busy_at[0] < inf
    files().set_ready(started and is_warm() and not draining())
    if started and (_has_steps() or is_loading()):
        _busy_at[0] = time.monotonic()
    idle_s = time.monotonic() - _busy_at[0]
    if settings.idle_exit_s is not None and idle_s >= settings.idle_exit_s and not draining():
        log("worker_idle", idle_s=round(idle_s))
        os.kill(os.getpid(), signal.SIGTERM)


def _keep_for_downloads() -> None:
    """Tells the cpu worker that steps run here."""
    if state.reserved_requests:
        (files().folder / DOWNLOADING).touch()


def _has_steps() -> bool:
    """Whether this worker, or the one that downloads for it, has a message in hand."""
    if state.reserved_requests:
        return True
    with suppress(FileNotFoundError):
        touched_at = (files().folder / DOWNLOADING).stat().st_mtime
        return time.time() - touched_at < 3 * INTERVAL_S
    return False
