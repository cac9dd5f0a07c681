"""The jobs that this machine has submitted to endpoints, in a file in FARM_HOME.

Runpod lists no jobs, knows no idempotency keys and forgets a result after half an hour.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from farm.errors import InvalidInput
from farm.job import JobStatus
from farm.settings import Settings

TABLE = """
CREATE TABLE IF NOT EXISTS submissions_1 (
    endpoint TEXT, job_id TEXT, caller TEXT, created_at REAL, key TEXT, digest TEXT, ended TEXT,
    PRIMARY KEY (endpoint, job_id));
CREATE INDEX IF NOT EXISTS keys_1 ON submissions_1 (endpoint, caller, key);
CREATE INDEX IF NOT EXISTS times_1 ON submissions_1 (endpoint, created_at);
"""
COLUMNS = "job_id, caller, created_at, key, digest, ended"
LOCK_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Submission:
    job_id: str
    caller: str
    created_at: float
    """Seconds since 1970."""
    key: str | None = None
    """The idempotency key, and the digest of its request."""
    digest: str = ""
    ended: str | None = None

    @property
    def final_status(self) -> JobStatus | None:
        """How the job ended; None if that is not known yet, or was written by another version."""
        with suppress(ValidationError):
            return JobStatus.model_validate_json(self.ended) if self.ended else None
        return None


class Submissions:
    """Those to one endpoint."""

    def __init__(self, settings: Settings, endpoint: str) -> None:
        self._settings = settings
        self._endpoint = endpoint

    @property
    def path(self) -> Path:
        return self._settings.folder / "runpod" / "submissions.sqlite"

    def check_writable(self) -> None:
        """Raises InvalidInput if a job could not be recorded, before there is one."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")

    def add(self, submission: Submission) -> None:
        """Records a job, and removes those that ended longer ago than FARM_KEEP_JOBS_S."""
        values = (self._endpoint, *vars(submission).values())
        with self._open() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO submissions_1 (endpoint, {COLUMNS}) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            if self._settings.keep_jobs_s is not None:
                oldest = time.time() - self._settings.keep_jobs_s
                connection.execute("DELETE FROM submissions_1 WHERE created_at < ?", [oldest])

    def end(self, status: JobStatus) -> None:
        """Records how a job ended, if it is one of them."""
        if self.path.is_file():
            with self._open() as connection:
                connection.execute(
                    "UPDATE submissions_1 SET ended = ? WHERE endpoint = ? AND job_id = ?",
                    [status.model_dump_json(), self._endpoint, status.job_id],
                )

    def find(self, job_id: str) -> Submission | None:
        return next(self._select("job_id = ?", job_id), None)

    def of_key(self, caller: str, key: str) -> Submission | None:
        """The first job that a caller submitted with an idempotency key."""
        return next(self._select("caller = ? AND key = ? ORDER BY created_at", caller, key), None)

    def newest(self, *, caller: str | None, since: float) -> Iterator[Submission]:
        """Those of one caller, or of all, the newest first."""
        if caller is None:
            return self._select("created_at >= ? ORDER BY created_at DESC", since)
        return self._select(
            "created_at >= ? AND caller = ? ORDER BY created_at DESC", since, caller
        )

    def _select(self, condition: str, *values: str | float) -> Iterator[Submission]:
        if not self.path.is_file():
            return iter(())
        with self._open() as connection:
            found = connection.execute(
                f"SELECT {COLUMNS} FROM submissions_1 "  # noqa: S608  # all from this file
                f"WHERE endpoint = ? AND {condition}",
                [self._endpoint, *values],
            ).fetchall()
        return (Submission(*columns) for columns in found)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection with one transaction, which is committed unless the block raises.

        Raises InvalidInput if the file cannot be used.
        """
        try:
            self._settings.make_folder()
            self.path.parent.mkdir(exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S)) as connection:
                connection.executescript(TABLE)
                with connection:
                    yield connection
        except (OSError, sqlite3.Error) as error:
            raise InvalidInput(
                f"FARM_HOME: {self.path} cannot be used ({error}); allowed: a writable folder"
            ) from error
