"""The worker that downloads: a process of every cpu worker, which starts, drains and ends with it.

Its pool is threads, because a download waits for its server most of the time: slow ones hold no
child of the cpu worker. It is a Celery worker of its own, which the cpu worker supervises.
"""

import logging
import os
import signal
import subprocess
import sys
from typing import Any

from celery.signals import heartbeat_sent, worker_init, worker_shutdown, worker_shutting_down

from farm.local.process import die_with_parent
from farm.local.worker import worker_command
from farm.logs import log
from farm.tasks import health, metrics
from farm.tasks.celery import app, settings
from farm.tasks.drain import draining

_started: list[subprocess.Popen[bytes]] = []
"""The running one, once this process has started it."""


@worker_init.connect
def _start(**_: Any) -> None:
    """Before any child is forked: it would keep a pipe open whose end `Popen` waits for."""
    if "cpu" in app.amqp.queues.consume_from and settings.download_concurrency:
        _started[:] = [_spawn()]


@heartbeat_sent.connect
def _replace_dead(**_: Any) -> None:
    """By the thread that also forks children, so not at the same time; every 2 s."""
    for worker in _started:
        if worker.poll() is not None and not draining():
            log("downloads_worker_died", level=logging.ERROR, status=worker.returncode)
            _started[:] = [_spawn()]


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Passes on each signal to shut down, a second one too."""
    for worker in _started:
        worker.terminate()


@worker_shutdown.connect
def _stop(**_: Any) -> None:
    for worker in _started:
        if not draining():  # shut down by remote control
            worker.terminate()
        worker.wait()
    _started.clear()


def _spawn() -> subprocess.Popen[bytes]:
    """Its output goes where this process's goes."""
    pipe = metrics.pipe()
    environ = {
        **os.environ,
        metrics.PIPE: "".join(map(str, pipe)),
        "FARM_HEALTH_FOLDER": str(health.files().folder),
    }
    return subprocess.Popen(  # noqa: S603
        worker_command("downloads", settings, application=_application()),
        env=environ,
        pass_fds=pipe,
        start_new_session=True,  # Ctrl-C reaches the cpu worker only
        preexec_fn=die_with_parent(signal.SIGKILL),
    )


def _application() -> str:
    """The module of the tasks, as the command line of this worker names it."""
    return sys.argv[sys.argv.index("-A") + 1] if "-A" in sys.argv else "farm.tasks"
