"""Child processes that never outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o077
"""The umask of processes whose files only their owner may read."""

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process receives when its parent dies, for whatever reason."""


def spawn(
    command: Sequence[str], *, log: Path, environ: Mapping[str, str], umask: int = -1
) -> subprocess.Popen[bytes]:
    """Starts a command with its output appended to `log`.

    It has its own session, so Ctrl-C reaches the parent only, which then decides about the rest.
    `umask` is that of its files; -1 = this process's.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,
            umask=umask,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )


def stop(children: Sequence[subprocess.Popen[bytes]], *, grace_s: float) -> None:
    """Sends children SIGTERM, waits `grace_s` for each, then kills what is left of their groups."""
    for child in children:
        child.terminate()
    try:
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(grace_s)
    finally:
        for child in children:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log; empty if there is none."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` with which a child receives a signal when its parent dies; Linux only."""
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    # Loaded here: between fork and exec a child of a process with threads must not load libraries.
    libc = ctypes.CDLL(None)

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # It died before prctl took effect.
            os.kill(os.getpid(), number)

    return arrange
