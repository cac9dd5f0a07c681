"""The lock of a preset's published weights: the commit of each repository, and its files' content.

The first pull writes it. Later ones take the same commits, and refuse other content, whichever
server offers it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from farm.errors import PipelineLoadFailed
from farm.model.weights.folder import write_atomically
from farm.presets import Preset


@dataclass(frozen=True)
class LockedRepository:
    """A repository as it was first pulled."""

    commit: str
    files: Mapping[str, str]
    """SHA-256 by file."""


def lock_file(root: Path, preset: Preset) -> Path:
    """Where the lock of a preset is kept, beside its weights."""
    return root / f"{preset.name}.lock.json"


def write_lock(file: Path, lock: Mapping[str, LockedRepository]) -> None:
    """Writes the locked repositories, by name, as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {name: asdict(each) for name, each in lock.items()}
    write_atomically(file, json.dumps(record, indent=2) + "\n")


def read_lock(file: Path) -> dict[str, LockedRepository]:
    """The repositories in a file of `write_lock`; none if there is no file."""
    if not file.is_file():
        return {}
    try:
        record = json.loads(file.read_text())
        return {name: LockedRepository(**fields) for name, fields in record.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise PipelineLoadFailed(f"{file} is not a lock of weights: {error}") from error
