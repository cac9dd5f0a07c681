"""A Docker engine for tests: one of their own, which ends with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from farm.local.process import die_with_parent, stop
from tests.support.programs import installed_program
from tests.support.waiting import wait_for

DOCKER = "/usr/bin/docker"
"""Debian's, of the engine's own version."""

MEMORY_BYTES = 16 * 2**30
"""Images in memory build in half the time, if so much of it is free."""


@dataclass(frozen=True)
class Engine:
    """A running engine, by its socket."""

    socket: Path

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "1"}

    def run(self, *words: str, environ: Mapping[str, str] | None = None, check: bool = True) -> str:
        """What a docker command prints, errors too; AssertionError if it fails."""
        done = subprocess.run(
            [DOCKER, *words],
            env={**self.environ, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stdout[-4000:]}"
        return done.stdout

    def has_image(self, name: str) -> bool:
        return bool(self.run("images", "--quiet", name).strip())


@contextmanager
def open_engine() -> Iterator[Engine]:
    """An engine until the block ends; skips the test where none can be had, but never in CI."""
    dockerd = installed_program("dockerd")
    folder = Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp"))
    data = _data_folder(folder)
    engine = Engine(folder / "docker.sock")
    command = [
        dockerd,
        f"--data-root={data}",
        f"--exec-root={folder / 'exec'}",
        f"--pidfile={folder / 'pid'}",
        f"--host=unix://{engine.socket}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, preexec_fn=die_with_parent(15), start_new_session=True
        )
    try:
        wait_for(lambda: process.poll() is not None or _answers(engine))
        assert process.poll() is None, (folder / "log").read_text()[-3000:]
        yield engine
    finally:
        stop([process], grace_s=30)
        for path in (data, folder):
            shutil.rmtree(path, ignore_errors=True)


def _answers(engine: Engine) -> bool:
    with suppress(AssertionError):
        engine.run("version")
        return True
    return False


def _data_folder(folder: Path) -> Path:
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > MEMORY_BYTES:
        return Path(tempfile.mkdtemp(prefix="engine-", dir=shared))
    return folder / "data"
