"""Structured logs: JSON Lines, one event a line, with the id of the job that it belongs to.

Within `job_context` every line carries the job's id, including those of other libraries.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

LOGGER = logging.getLogger("farm")
NOISY_LOGGERS = ("celery.worker.strategy", "celery.app.trace")
"""Loggers that repeat our own events."""
LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}
"""The contract's names of levels where they differ from Python's."""

JOB: ContextVar[str | None] = ContextVar("job_id", default=None)
"""The current job. A thread sees it only if it is started in a copy of the context."""


@contextmanager
def job_context(job_id: str | None) -> Iterator[None]:
    """Adds the id of a job to every line that is logged within the block."""
    before = JOB.set(job_id)
    try:
        yield
    finally:
        JOB.reset(before)


def log(
    event: str,
    *,
    job_id: str | None = None,
    level: int = logging.INFO,
    lat_ms: int | None = None,
    exc_info: BaseException | None = None,
    **details: Any,
) -> None:
    """Logs one event of a job, by default the current one; names in `details` carry their unit."""
    fields = {"job_id": job_id, "details": details, "lat_ms": lat_ms}
    LOGGER.log(level, event, exc_info=exc_info, extra={"farm": fields})


def configure(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Writes every log record, warning and uncaught exception of this process to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    exc_info = (kind, error, traceback)
    logging.getLogger("uncaught").critical("%s: %s", kind.__name__, error, exc_info=exc_info)


_ENCODER = json.JSONEncoder(default=str)  # json.dumps would make one for each line


class JsonLines(logging.Formatter):
    """One object a line: ts, level, job_id, event, details, lat_ms.

    For a record of another library the event is the name of its logger.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "farm", None)
        event = record.msg
        if fields is None:
            fields = {"job_id": None, "details": {"message": record.getMessage()}, "lat_ms": None}
            event = record.name
        if record.exc_info:
            fields["details"]["traceback"] = self.formatException(record.exc_info)
        time = datetime.fromtimestamp(record.created, UTC)
        line = {
            "ts": time.isoformat(timespec="milliseconds"),
            "level": LEVELS.get(record.levelname, record.levelname),
            "job_id": fields["job_id"] or JOB.get(),
            "event": event,
            "details": fields["details"],
            "lat_ms": fields["lat_ms"],
        }
        return _ENCODER.encode(line)
