"""The farm's Celery application with a fault built in, which CHAOS in the environment names."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery.signals import task_success, worker_process_init

import tasks.delivery
from farm.store.local import LocalStore
from tasks import app, settings

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


def die_when_made() -> None:
    """After a chunk was made current, before its message is given up and the next one sent; once a job."""
    perform = tasks.delivery.perform

    def deadly(place: Any, job_id: str, step: Any, **how: Any) -> Any:
        after = perform(place, job_id, step, **how)
        if step.station == "generate" and step.chunk == 1 and once(job_id):
            die()
        return after

    tasks.delivery.perform = deadly


def die_when_sent() -> None:
    """After the next message was sent, before the own one is given up; once a job."""

    def sent(sender: Any, **_: Any) -> None:
        if sender.name == "farm.generate" and sender.request.args[1] == 1 and once(sender.request.args[0]):
            die()

    task_success.connect(sent, weak=False)


def poison() -> None:
    """A job whose prompt says so kills every worker that makes its first chunk."""

    def swallow(**_: Any) -> None:
        import farm.steps.generate as station

        generate = station.generate

        def deadly(work: Any) -> Any:
            if "poison" in work.request.prompt:
                once("poison")
                die()
            return generate(work)

        station.generate = deadly

    worker_process_init.connect(swallow, weak=False)


def refuse_every_third_write() -> None:
    count = 0

    def broken(_part: Path) -> bool:
        nonlocal count
        count += 1
        return count % 3 == 0

    _break_writes(broken)


def read_only() -> None:
    """As long as there is a note of that name."""
    _break_writes(lambda _part: (NOTES / "read_only").exists())


def short_sight() -> None:
    """Messages are handed out again while their tasks run."""
    once("sight")
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": 1}


def _break_writes(broken: Callable[[Path], bool]) -> None:
    write = LocalStore._write

    def fragile(source: Path | bytes, part: Path, path: Path) -> None:
        if broken(part):
            once("write")
            part.unlink(missing_ok=True)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        write(source, part, path)

    LocalStore._write = staticmethod(fragile)


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (die_when_made, die_when_sent, poison, refuse_every_third_write, read_only, short_sight)
}

if wanted := os.environ.get("CHAOS"):
    FAULTS[wanted]()
