"""The outcome of a scenario, counted from the workers' logs and the videos."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from farm import Job
from farm.media.container import decode_frames, open_media, video_stream


@dataclass(frozen=True)
class Outcome:
    """One line of the table."""

    scenario: str
    submitted: int
    finished: int
    ended_otherwise: int
    lost: int
    """Jobs that never ended, or not as they must."""
    different: int
    """Videos whose frames are not those of an undisturbed run."""
    committed_twice: int
    """Steps that were committed more than once."""
    redone: int
    """Further attempts at chunks."""
    recovered_s: float
    """The longest time from a fault to the next commit."""
    garbage: int
    """What `farm gc` would still remove after it has run."""
    left: int
    """Processes that outlived the farm."""

    @property
    def good(self) -> bool:
        failures = self.lost + self.different + self.committed_twice + self.garbage + self.left
        return failures == 0


class WorkerLogs:
    """The log entries of all workers of a home folder, by time."""

    def __init__(self, home: Path, names: str = "?pu.log") -> None:
        entries = []
        for log in (home / "logs").glob(names):
            for line in log.read_text(errors="replace").splitlines():
                entry = _parse(line)
                if entry and "event" in entry:
                    entries.append(entry)
        self.entries: list[dict[str, Any]] = sorted(entries, key=lambda entry: str(entry["ts"]))

    def times(self, event: str, *, job_id: str | None = None, kind: str = "") -> list[float]:
        """When an event happened, in seconds since 1970: of one job, to steps of one kind."""
        return [
            _seconds(entry)
            for entry in self.entries
            if entry["event"] == event
            and job_id in (None, entry["job_id"])
            and entry["details"].get("step_id", "").startswith(kind)
        ]

    def counts(self, event: str) -> Counter[tuple[str, str]]:
        """How often an event happened, by job and step."""
        found = (entry for entry in self.entries if entry["event"] == event)
        return Counter((entry["job_id"], entry["details"]["step_id"]) for entry in found)

    def committed_twice(self) -> int:
        return sum(times > 1 for times in self.counts("step_committed").values())

    def redone(self) -> int:
        attempts = [
            times
            for (_, step_id), times in self.counts("step_started").items()
            if step_id.startswith("generate")
        ]
        return sum(attempts) - len(attempts)

    def recovered_s(self, faults: list[float]) -> float:
        commits = self.times("step_committed")
        waits = [0.0]
        for fault in faults:
            later = [time for time in commits if time > fault]
            if later:
                waits.append(min(later) - fault)
        return max(waits)


def digest_of_frames(job: Job) -> str:
    """A digest of every decoded frame of a finished job's video."""
    digest = hashlib.sha256()
    with TemporaryDirectory() as folder:
        path = job.save(Path(folder, "video.mp4"))
        with open_media(path) as media:
            for frame in decode_frames(media, video_stream(media)):
                digest.update(frame.to_ndarray(format="rgb24").tobytes())
    return digest.hexdigest()


def _parse(line: str) -> dict[str, Any] | None:
    """An entry; None for a line that is no entry, or that a full disk or a kill has cut off."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return None


def _seconds(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["ts"]).timestamp()
