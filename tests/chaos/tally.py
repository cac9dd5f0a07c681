"""What became of the jobs of a scenario, counted from the workers' logs and the videos."""

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
class Tally:
    """One line of the table."""

    scenario: str
    submitted: int
    finished: int
    ended_otherwise: int
    lost: int
    """Jobs that never ended."""
    different: int
    """Videos whose frames are not those of an unbroken run."""
    made_twice: int
    """Products that were made current more than once."""
    redone: int
    """Chunks begun again."""
    recovered_s: float
    """The longest time from a fault to the next product."""
    orphans: int
    """What `farm gc` would still remove after it has run."""
    left: int
    """Processes that outlived the farm."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.different or self.made_twice or self.orphans or self.left)


class Logbook:
    """What the workers of a home wrote, by time."""

    def __init__(self, home: Path) -> None:
        lines = [
            line for log in (home / "logs").glob("?pu.log") for line in log.read_text(errors="replace").splitlines()
        ]
        entries = [entry for line in lines if (entry := _whole(line))]
        self.entries: list[dict[str, Any]] = sorted(entries, key=lambda entry: str(entry["ts"]))

    def times(self, event: str) -> list[float]:
        """When something happened, in seconds since 1970."""
        return [_seconds(entry) for entry in self.entries if entry["event"] == event]

    def step_ids(self, event: str) -> Counter[tuple[str, str]]:
        """How often it happened to each product of each job."""
        ours = (entry for entry in self.entries if entry["event"] == event)
        return Counter((entry["job_id"], entry["details"]["product"]) for entry in ours)

    def made_twice(self) -> int:
        return sum(times > 1 for times in self.step_ids("step_made").values())

    def redone(self) -> int:
        chunks = {what: times for what, times in self.step_ids("step_started").items() if "generate" in what[1]}
        return sum(chunks.values()) - len(chunks)

    def recovered_s(self, faults: list[float]) -> float:
        made = self.times("step_made")
        waits = [min((at for at in made if at > fault), default=fault) - fault for fault in faults]
        return max(waits, default=0.0)


def pictures(job: Job) -> str:
    """A digest of every decoded frame of a finished job's video."""
    seen = hashlib.sha256()
    with TemporaryDirectory() as folder, open_media(job.save(Path(folder, "video.mp4"))) as media:
        for frame in decode_frames(media, video_stream(media)):
            seen.update(frame.to_ndarray(format="rgb24").tobytes())
    return seen.hexdigest()


def _whole(line: str) -> dict[str, Any] | None:
    """An entry; None where a full disk, or who died, has cut it off."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return None


def _seconds(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["ts"]).timestamp()
