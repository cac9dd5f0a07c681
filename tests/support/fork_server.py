"""Workers forked from a process that has imported the model's libraries, once for all tests.

A worker that is started afresh imports them for eight seconds of a core, and tests start a hundred.
In production only the children of gpu workers import them, after the fork. A forked worker differs
in two things: /proc has the command line and the environment of the server, and what was registered
with `atexit` is not called.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from farm.local.process import PR_SET_PDEATHSIG

FORK_SERVER = get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["tests.support.imported"])


class ForkedWorker:
    """A running worker, with those methods of `subprocess.Popen` that supervisors call."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked worker", timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork_worker(command: Sequence[str], *, log: Path, environ: Mapping[str, str]) -> ForkedWorker:
    """Starts the Celery worker of a command, as `farm.local.process.spawn` does."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = FORK_SERVER.Process(target=_work, args=(list(command), log, dict(environ)))
    process.start()
    return ForkedWorker(process)


def _work(command: list[str], log: Path, environ: dict[str, str]) -> None:
    """Runs `python -P -m farm.tasks ...` in this process, which the server has forked."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(os.devnull) as null, log.open("ab") as output:
        for file, number in ((null, 0), (output, 1), (output, 2)):
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(environ)
    tempfile.tempdir = None  # TMPDIR may be another now
    sys.orig_argv = command
    sys.argv = command[command.index("farm.tasks") :]
    from farm.tasks.__main__ import main

    main()
