"""The farm's Celery application with a fault built in, which CHAOS in the environment names."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from celery.signals import task_received, task_success, worker_process_init

import tasks.base
from farm.store.local import LocalStore
from farm.store.s3 import S3Store
from farm.store.service import ServiceError
from tasks.celery import app, settings

__all__ = ["app"]

NOTES = settings.folder / "chaos"
"""Who was hit already, and what is broken just now: files, because whoever writes here dies."""


def once(name: str) -> bool:
    """True for the first who asks."""
    NOTES.mkdir(exist_ok=True)
    try:
        (NOTES / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_hand() -> None:
    """The worker that was handed the message of a chunk, before its child begins; once a job."""

    def received(request: Any, **_: Any) -> None:
        if request.name == "farm.generate" and request.args[1] == 1 and once(request.args[0]):
            die()

    task_received.connect(received, weak=False)


def die_when_made() -> None:
    """After a chunk was made current, before its message is given up and the next one sent; once a job."""
    run_step = tasks.base.run_step

    def deadly(ctx: Any, job_id: str, step: Any, **how: Any) -> Any:
        after = run_step(ctx, job_id, step, **how)
        if step.kind == "generate" and step.chunk == 1 and once(job_id):
            die()
        return after

    tasks.base.run_step = deadly


def die_when_sent() -> None:
    """After the next message was sent, before the own one is given up; once a job."""

    def sent(sender: Any, **_: Any) -> None:
        if sender.name == "farm.generate" and sender.request.args[1] == 1 and once(sender.request.args[0]):
            die()

    task_success.connect(sent, weak=False)


def die_when_called() -> None:
    """After a webhook's receiver has said that it took the call, before that is written down; once."""

    def swallow(**_: Any) -> None:
        import farm.steps.notify as kind

        post = kind.post

        def deadly(*what: Any, **how: Any) -> int:
            status = post(*what, **how)
            if status < 300 and once("called"):
                die()
            return status

        kind.post = deadly

    worker_process_init.connect(swallow, weak=False)


def poison() -> None:
    """A job whose prompt says so kills every worker that makes its first chunk."""

    def swallow(**_: Any) -> None:
        import farm.steps.generate as kind

        generate = kind.generate

        def deadly(work: Any) -> Any:
            if "poison" in work.request.prompt:
                once("poison")
                die()
            return generate(work)

        kind.generate = deadly

    worker_process_init.connect(swallow, weak=False)


def refuse_every_third_write() -> None:
    count = 0

    def broken() -> bool:
        nonlocal count
        count += 1
        return count % 3 == 0

    _break_writes(broken)


def read_only() -> None:
    """As long as there is a note of that name; a service of S3 is simply ended."""
    _break_writes((NOTES / "read_only").exists)


def short_sight() -> None:
    """Messages are handed out again while their tasks run."""
    once("sight")
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": 1}


def clock_ahead() -> None:
    """The clock of the cpu worker and of its children is ten minutes ahead, of which beat sends its messages."""
    if "cpu" not in sys.argv:
        return
    if "FAKETIME" not in os.environ:
        library = Path(
            *(find_spec("libfaketime").submodule_search_locations), "vendor/libfaketime/src/libfaketime.so.1"
        )
        faked = {"LD_PRELOAD": str(library), "FAKETIME": "+10m", "NO_FAKE_STAT": "1", "DONT_FAKE_MONOTONIC": "1"}
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **faked})
    once("clock")
    assert time.time() - (NOTES / "clock").stat().st_mtime > 500, "the clock is not ahead"


def _break_writes(broken: Callable[[], bool]) -> None:
    put, send = LocalStore._put, S3Store._send

    def refused_by_disk(store: LocalStore, *what: Any) -> None:
        if broken():
            once("write")
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        put(store, *what)

    def refused_by_service(store: S3Store, *what: Any) -> None:
        if broken():
            once("write")
            raise ServiceError("InternalError", retryable=True)
        send(store, *what)

    LocalStore._put = refused_by_disk  # type: ignore[method-assign]
    S3Store._send = refused_by_service  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        die_in_hand,
        die_when_made,
        die_when_sent,
        die_when_called,
        poison,
        refuse_every_third_write,
        read_only,
        short_sight,
        clock_ahead,
    )
}

if wanted := os.environ.get("CHAOS"):
    FAULTS[wanted]()
