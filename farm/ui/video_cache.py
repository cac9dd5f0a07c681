"""The files that the page serves: growing and finished videos of the jobs that were viewed last."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from farm.client import Job
from farm.ui.history import write_zip

MAX_CACHED_JOBS = 50
MAX_THUMBNAILS = 2000
MAX_ARCHIVES = 5


class VideoCache:
    """One folder per job, besides thumbnails and archives; of each kind the last used are kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.jobs = root / "jobs"
        self.thumbnails = root / "thumbnails"
        self.archives = root / "archives"
        for folder in (self.jobs, self.thumbnails, self.archives):
            folder.mkdir(exist_ok=True)
        self._lock = threading.RLock()

    def update_growing(self, job: Job) -> Path | None:
        """Fetches the segments so far, and returns their playlist; None before the first one."""
        return job.mirror(self._open_folder(job))

    def fetch_finished(self, job: Job) -> Path:
        """The video of a job that has one, fetched the first time."""
        path = self._open_folder(job) / f"talking-{job.id}.mp4"
        return path if path.is_file() else job.save(path)

    def fetch_thumbnail(self, job: Job) -> Path | None:
        """The thumbnail of a job that has one, fetched the first time."""
        path = self.thumbnails / f"{job.id}.jpg"
        if path.is_file():
            return path
        self._trim(self.thumbnails, MAX_THUMBNAILS)
        fetched = job.save_thumbnail(self.root / secrets.token_hex(16))
        return fetched and fetched.replace(path)

    def archive(self, jobs: Iterable[Job]) -> Path:
        """The videos of jobs that have one, in one file."""
        self._trim(self.archives, MAX_ARCHIVES)
        folder = self.archives / secrets.token_hex(16)
        folder.mkdir()
        return write_zip(folder / "talking-videos.zip", map(self.fetch_finished, jobs))

    def delete(self, job_id: str) -> None:
        """Deletes what is kept of a known job, and the archives, which may contain it."""
        (self.thumbnails / f"{job_id}.jpg").unlink(missing_ok=True)
        for folder in (self.jobs / job_id, *self.archives.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)

    def _open_folder(self, job: Job) -> Path:
        """The folder of a job, now the most recently viewed one."""
        folder = self.jobs / job.id
        with self._lock:
            folder.mkdir(exist_ok=True)
            folder.touch()
            self._trim(self.jobs, MAX_CACHED_JOBS)
        return folder

    def _trim(self, folder: Path, most: int) -> None:
        with self._lock:
            by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for old in by_age[:-most]:
                if old.is_dir():
                    shutil.rmtree(old, ignore_errors=True)
                else:
                    old.unlink(missing_ok=True)
