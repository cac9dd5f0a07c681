"""The Celery application of chaos workers, with a built-in fault that the variable CHAOS names."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from celery.signals import task_received, task_success

import farm.steps.notify
from farm.engine.attempt import Attempt
from farm.engine.step_context import StepContext, StepFunction
from farm.registry.outputs import StepOutput
from farm.route import Step, StepKind
from farm.store.local import LocalStore
from farm.store.s3 import S3Store
from farm.store.service import ServiceError
from farm.tasks import base
from farm.tasks.celery import settings
from tests.support.holdable_app import app

__all__ = ["app"]

NOTES = settings.folder / "chaos"
"""A file for each fault that struck, and for what is broken now: the process that writes dies."""

SECOND_CHUNK = 1


def first_time(name: str) -> bool:
    """True for the first process that asks."""
    NOTES.mkdir(exist_ok=True)
    try:
        (NOTES / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_on_delivery() -> None:
    """Kills the worker that received a chunk's message, before its child starts; once a job."""

    def received(request: Any, **_: Any) -> None:
        if request.name != "farm.generate":
            return
        job_id, chunk = request.args
        if chunk == SECOND_CHUNK and first_time(job_id):
            die()

    task_received.connect(received, weak=False)


def die_after_commit() -> None:
    """Kills a child once it has committed a chunk, before the next message is sent; once a job."""

    class DyingAttempt(Attempt):
        def run(self) -> Step | None:
            after = super().run()
            if self.step == Step("generate", SECOND_CHUNK) and first_time(self.job_id):
                die()
            return after

    base.Attempt = DyingAttempt  # type: ignore[misc]


def die_after_dispatch() -> None:
    """Kills a child that sent the next message, before its own is acknowledged; once a job."""

    def sent(sender: Any, **_: Any) -> None:
        if sender.name != "farm.generate":
            return
        job_id, chunk = sender.request.args
        if chunk == SECOND_CHUNK and first_time(job_id):
            die()

    task_success.connect(sent, weak=False)


def die_after_webhook() -> None:
    """Kills a child whose webhook call was accepted, before that is committed; once."""
    post = farm.steps.notify.post

    def deadly_post(*args: Any, **options: Any) -> int:
        status = post(*args, **options)
        if status < 300 and first_time("called"):
            die()
        return status

    farm.steps.notify.post = deadly_post


def poison() -> None:
    """Kills every child that generates a job with the prompt `poison`."""
    step_function = base.hooks.step_function

    def deadly_step_function(kind: StepKind) -> StepFunction:
        def run(ctx: StepContext) -> StepOutput:
            if kind == "generate" and ctx.request.prompt == "poison":
                first_time("poison")
                die()
            return step_function(kind)(ctx)

        return run

    base.hooks = replace(base.hooks, step_function=deadly_step_function)


def refuse_every_third_write() -> None:
    writes = 0

    def is_refused() -> bool:
        nonlocal writes
        writes += 1
        return writes % 3 == 0

    _refuse_writes(is_refused)


def read_only() -> None:
    """Refuses writes as long as there is a note of that name; an S3 service is killed instead."""
    _refuse_writes((NOTES / "read_only").exists)


def short_visibility() -> None:
    """Lets messages be delivered again while their tasks run."""
    first_time("visibility")
    transport = {**app.conf.broker_transport_options, "visibility_timeout": 1}
    app.conf.broker_transport_options = transport


def clock_ahead() -> None:
    """Sets the clock of the cpu worker, which runs the reaper, ten minutes ahead."""
    if "cpu" not in sys.argv:
        return
    if "FAKETIME" not in os.environ:
        (package,) = find_spec("libfaketime").submodule_search_locations  # type: ignore[union-attr, misc]
        faked = {
            "LD_PRELOAD": str(Path(package, "vendor/libfaketime/src/libfaketime.so.1")),
            "FAKETIME": "+10m",
            "NO_FAKE_STAT": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **faked})
    first_time("clock")
    ahead_s = time.time() - (NOTES / "clock").stat().st_mtime
    assert ahead_s > 500, "the clock is not ahead"


def _refuse_writes(is_refused: Callable[[], bool]) -> None:
    put = LocalStore._put
    send = S3Store._send

    def refused_by_disk(store: LocalStore, *args: Any) -> None:
        if is_refused():
            first_time("write")
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        put(store, *args)

    def refused_by_service(store: S3Store, *args: Any) -> None:
        if is_refused():
            first_time("write")
            raise ServiceError("InternalError", retryable=True)
        send(store, *args)

    LocalStore._put = refused_by_disk  # type: ignore[method-assign]
    S3Store._send = refused_by_service  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        die_on_delivery,
        die_after_commit,
        die_after_dispatch,
        die_after_webhook,
        poison,
        refuse_every_third_write,
        read_only,
        short_visibility,
        clock_ahead,
    )
}

_chosen = os.environ.get("CHAOS")
if _chosen:
    FAULTS[_chosen]()
