"""The logs that `farm up` keeps in its home, as one sequence of lines."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class LogLine:
    """A line of a process; without `fields` it is no JSON, as those of the broker."""

    process: str
    text: str
    fields: dict[str, Any]

    @classmethod
    def parse(cls, process: str, text: str) -> Self:
        try:
            fields = json.loads(text)
        except ValueError:
            fields = None
        return cls(process, text, fields if isinstance(fields, dict) else {})

    @property
    def time(self) -> str:
        return str(self.fields.get("ts", ""))

    def is_of(self, job_id: str) -> bool:
        """Whether it belongs to a job with an id that begins like this."""
        return str(self.fields.get("job_id") or "").startswith(job_id)

    def __str__(self) -> str:
        """In words: time, process, job, event and details."""
        if "event" not in self.fields:
            return f"{self.process:6}  {self.text}"
        details = self.fields.get("details") or {}
        shown = " ".join(f"{name}={value}" for name, value in details.items())
        level = self.fields.get("level", "INFO")
        parts = [
            self.time[11:19],
            f"{self.process:6}",
            f"{(self.fields.get('job_id') or '-')[:8]:8}",
            *([] if level == "INFO" else [level]),
            self.fields["event"],
            shown,
        ]
        return "  ".join(filter(None, parts))


class LogFiles:
    """The logs of a home; each read goes on where the last one ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "logs"
        self._read_to: dict[Path, int] = {}

    def read(self, job_id: str = "", limit: int | None = None) -> list[LogLine]:
        """The last lines since the last read, at most `limit`, in the order of their times.

        Only those of jobs whose id begins like `job_id`. A line without a time of its own stands
        behind the one before it.
        """
        found = [
            each
            for file in sorted(self.folder.glob("*.log"))
            for each in self._new(file, job_id, limit)
        ]
        found.sort(key=itemgetter(0))
        lines = [line for _, line in found]
        return lines if limit is None else lines[-limit:]

    def _new(self, file: Path, job_id: str, limit: int | None) -> Iterable[tuple[str, LogLine]]:
        """The complete lines of a file that were not read yet, each with a time."""
        kept: deque[tuple[str, LogLine]] = deque(maxlen=limit)
        begin = self._read_to.get(file, 0)
        with file.open("rb") as lines:
            lines.seek(begin if begin <= file.stat().st_size else 0)  # it was cut: rotated
            at = ""
            for text in lines:
                if not text.endswith(b"\n"):
                    break
                begin = lines.tell()
                line = LogLine.parse(file.stem, text.decode(errors="replace").rstrip("\n"))
                at = line.time or at
                if line.text.strip() and line.is_of(job_id):
                    kept.append((at, line))
            self._read_to[file] = begin
        return kept
