"""Files that the page serves: what is made so far of the jobs that are looked at, and finished videos."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from farm.client import Job

MOST_JOBS = 50


class Shelf:
    """A folder for each job, for the `MOST_JOBS` that were looked at last."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._one_by_one = threading.Lock()

    def growing(self, job: Job) -> Path | None:
        """The playlist of what is made so far; None while there is nothing."""
        return job.mirror(self._folder(job))

    def finished(self, job: Job) -> Path:
        """The video of a job that has one."""
        path = self._folder(job) / f"talking-{job.id}.mp4"
        return path if path.is_file() else job.save(path)

    def _folder(self, job: Job) -> Path:
        folder = self.root / job.id
        with self._one_by_one:
            folder.mkdir(exist_ok=True)
            folder.touch()
            for left in sorted(self.root.iterdir(), key=lambda path: path.stat().st_mtime)[
                :-MOST_JOBS
            ]:
                shutil.rmtree(left, ignore_errors=True)
        return folder
