"""The files that the page serves: growing and finished videos of the jobs that were viewed last."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from farm.client import Job

MAX_CACHED_JOBS = 50


class VideoCache:
    """One folder per job; beyond `MAX_CACHED_JOBS` the least recently viewed are removed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()

    def update_growing(self, job: Job) -> Path | None:
        """Fetches the segments so far, and returns their playlist; None before the first one."""
        return job.mirror(self._open_folder(job))

    def fetch_finished(self, job: Job) -> Path:
        """The video of a job that has one, fetched the first time."""
        path = self._open_folder(job) / f"talking-{job.id}.mp4"
        return path if path.is_file() else job.save(path)

    def _open_folder(self, job: Job) -> Path:
        """The folder of a job, now the most recently viewed one."""
        folder = self.root / job.id
        with self._lock:
            folder.mkdir(exist_ok=True)
            folder.touch()
            by_age = sorted(self.root.iterdir(), key=lambda path: path.stat().st_mtime)
            for old in by_age[:-MAX_CACHED_JOBS]:
                shutil.rmtree(old, ignore_errors=True)
        return folder
