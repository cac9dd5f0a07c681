"""The health files of a worker, and the probe that reads them: `farm health`.

A worker keeps three empty files; only their existence and their times count. Reading them imports
nothing but the standard library and asks no broker, so a probe takes milliseconds, and a broker
that is down ends no worker in the middle of a chunk.

The folder of a worker is named after its kind and, beside others of that kind, a number: `gpu`,
`gpu-2`. A lock, which ends with the worker's process, says that it is taken.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple, get_args

FOLDER = Path("run/health")
"""Within FARM_HOME: a folder for each machine, with one for each of its workers."""

HOME = "~/.infinitetalk-farm"
"""FARM_HOME unless it is set."""

ALIVE_S = 30.0
"""A worker that has not touched `alive` for longer is stopped or hangs; it does so every second."""

Probe = Literal["startup", "ready", "live"]
PROBES: tuple[Probe, ...] = get_args(Probe)


class HealthFiles(NamedTuple):  # a dataclass would take a fifth of the probe's time to import
    """`ready`, `alive` and `progress` in the folder of one worker."""

    folder: Path

    @property
    def ready(self) -> Path:
        """Exists while the worker takes work: the model is loaded, and it is not draining."""
        return self.folder / "ready"

    @property
    def alive(self) -> Path:
        """Touched by the worker's own process, whatever its children do."""
        return self.folder / "alive"

    @property
    def progress(self) -> Path:
        """Touched at each denoise step."""
        return self.folder / "progress"

    def begin(self) -> None:
        """Creates the folder, and removes what an earlier worker has left there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.ready, self.alive, self.progress):
            file.unlink(missing_ok=True)

    def take(self) -> int | None:
        """The locked file by which this process has the folder; None if another one has it."""
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the folder was removed meanwhile
                lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    # Not flock, which a child keeps that outlives its worker.
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(lock)
                    return None
                if os.path.samestat(os.fstat(lock), path.stat()):
                    return lock
                os.close(lock)

    def remove(self) -> None:
        """Removes the folder of a worker that has ended."""
        for file in self.folder.iterdir():
            file.unlink(missing_ok=True)
        self.folder.rmdir()

    def set_ready(self, ready: bool) -> None:
        if ready:
            self.ready.touch()
        else:
            self.ready.unlink(missing_ok=True)


class Health(NamedTuple):
    """The answer of a probe, with a line for people."""

    good: bool | None
    """None if it is not clear which worker is meant."""
    line: str


def folder_of_machine(home: Path) -> Path:
    """Where the workers of this machine, or container, have their folders."""
    return home.expanduser() / FOLDER / os.uname().nodename


def claim_files(home: Path, kind: str) -> HealthFiles:
    """The files of a worker that starts, in the first folder of its kind that none has.

    Removes what killed workers have left.
    """
    machine = folder_of_machine(home)
    for number in count(1):
        files = HealthFiles(machine / (kind if number == 1 else f"{kind}-{number}"))
        if files.take() is not None:  # never closed: the lock is held until this process ends
            break
    for folder in machine.iterdir():
        other = HealthFiles(folder)
        if folder != files.folder and (lock := other.take()) is not None:
            other.remove()
            os.close(lock)
    return files


def worker_health(folder: Path, probe: Probe) -> Health:
    """Whether the worker of a folder has started, takes work, or lives.

    A worker that has started is `ready` for the first time.
    """
    files = HealthFiles(folder)
    alive_s = _age_s(files.alive)
    if alive_s is None:
        return Health(False, f"{folder}: no worker has started")
    line = f"{folder.name}: alive {alive_s:.0f} s ago"
    progress_s = _age_s(files.progress)
    if progress_s is not None:
        line += f", progress {progress_s:.0f} s ago"
    if alive_s > ALIVE_S:
        return Health(False, f"{line}; its process has stopped, or hangs")
    if probe != "live" and not files.ready.exists():
        return Health(False, f"{line}; not ready: it loads the model, or is draining")
    return Health(True, line)


def health(environ: Mapping[str, str], probe: Probe, worker: str | None = None) -> Health:
    """The health of a worker of this machine; unless it is named, of that of FARM_HEALTH_FOLDER, or
    else of the only one that FARM_HOME has.

    Reads the two variables itself, because loading all settings takes longer than a probe may.
    """
    machine = folder_of_machine(Path(environ.get("FARM_HOME") or HOME))
    chosen = environ.get("FARM_HEALTH_FOLDER")
    if worker is not None:
        return worker_health(machine / worker, probe)
    if chosen:
        return worker_health(Path(chosen).expanduser(), probe)
    folders = sorted(machine.glob("*"))
    if not folders:
        return Health(False, f"{machine}: no worker has started")
    found = [worker_health(folder, probe) for folder in folders]
    if len(found) == 1:
        return found[0]
    names = " or ".join(f"`farm health {folder.name}`" for folder in folders)
    return Health(None, "\n".join([*(each.line for each in found), f"Which one? {names}"]))


def parse_probe(words: Sequence[str]) -> tuple[Probe, str | None] | None:
    """The probe and the worker of the command line of `farm`; None if it is not `farm health`, or
    has anything else in it.
    """
    if words[:1] != ["health"]:
        return None
    names = [word for word in words[1:] if not word.startswith("-")]
    probes = [probe for probe in PROBES if f"--{probe}" in words]
    if max(len(names), len(probes)) > 1 or len(words) != 1 + len(names) + len(probes):
        return None
    return next(iter(probes), "ready"), next(iter(names), None)


def run_probe(probe: Probe, worker: str | None = None) -> None:
    """Prints the health, and exits with 0, 1, or 2 if it is not clear which worker is meant."""
    found = health(os.environ, probe, worker)
    sys.stdout.write(f"{found.line}\n")
    raise SystemExit(2 if found.good is None else not found.good)


def _age_s(file: Path) -> float | None:
    """Seconds since a file was touched, None if there is none."""
    with suppress(FileNotFoundError):
        return max(0.0, time.time() - file.stat().st_mtime)
    return None
