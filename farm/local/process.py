"""Child processes that never outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent dies, however it dies."""


def spawn(
    command: Sequence[str], *, log: Path, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own, so that Ctrl-C reaches us alone and we decide about the rest."""
    log.parent.mkdir(parents=True, exist_ok=True)
    end_with_us = _end_with(os.getpid()) if sys.platform == "linux" else None
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,
            preexec_fn=end_with_us,
        )


def stop(children: Sequence[subprocess.Popen[bytes]], *, grace_s: float) -> None:
    """Asks children to finish what they have in hand, waits, then ends whatever is left of their groups."""
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
    """The last lines that a child wrote."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.is_file() else ""


def _end_with(parent: int):  # type: ignore[no-untyped-def]  # what preexec_fn takes
    libc = ctypes.CDLL(None)

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died while we were being started
            os.kill(os.getpid(), signal.SIGTERM)

    return arrange
