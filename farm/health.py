"""The health files of a worker, and the probe that reads them: `farm health`.

A worker keeps three empty files; only their existence and their times count. Reading them imports
nothing but the standard library and asks no broker, so a probe takes milliseconds, and a broker
that is down ends no worker in the middle of a chunk.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, get_args

FOLDER = Path("run/health")
"""Within FARM_HOME: a folder for each kind of worker."""

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

    def set_ready(self, ready: bool) -> None:
        if ready:
            self.ready.touch()
        else:
            self.ready.unlink(missing_ok=True)


class Health(NamedTuple):
    """The answer of a probe, with a line for people."""

    good: bool
    line: str


def worker_health(folder: Path, probe: Probe) -> Health:
    """Whether the worker of a folder has started, takes work, or lives.

    A worker that has started is `ready` for the first time.
    """
    files = HealthFiles(folder)
    alive_s = _age_s(files.alive)
    if alive_s is None:
        return Health(False, f"{folder}: no worker has started")
    line = f"{folder}: alive {alive_s:.0f} s ago"
    progress_s = _age_s(files.progress)
    if progress_s is not None:
        line += f", progress {progress_s:.0f} s ago"
    if alive_s > ALIVE_S:
        return Health(False, f"{line}; its process has stopped, or hangs")
    if probe != "live" and not files.ready.exists():
        return Health(False, f"{line}; not ready: it loads the model, or is draining")
    return Health(True, line)


def health(environ: Mapping[str, str], probe: Probe) -> Health:
    """The health of the worker of FARM_HEALTH_FOLDER, or else of all those of FARM_HOME.

    Reads the two variables itself, because loading all settings takes longer than a probe may.
    """
    chosen = environ.get("FARM_HEALTH_FOLDER")
    home = Path(environ.get("FARM_HOME") or HOME) / FOLDER
    folders = [Path(chosen)] if chosen else sorted(home.expanduser().glob("*"))
    if not folders:
        return Health(False, f"{home}: no worker has started")
    found = [worker_health(folder.expanduser(), probe) for folder in folders]
    return Health(all(each.good for each in found), "\n".join(each.line for each in found))


def run_probe(probe: Probe) -> None:
    """Prints the health, and exits with 0 or 1."""
    found = health(os.environ, probe)
    sys.stdout.write(f"{found.line}\n")
    raise SystemExit(0 if found.good else 1)


def _age_s(file: Path) -> float | None:
    """Seconds since a file was touched, None if there is none."""
    with suppress(FileNotFoundError):
        return max(0.0, time.time() - file.stat().st_mtime)
    return None
