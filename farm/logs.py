"""What the farm says about itself: one JSON object a line, one action a line, always with the job it belongs to.

Whoever begins to work on a job says so once (`about`); from then on every line has its id, that of another library too.
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
NOISY_LOGGERS = ("celery.worker.strategy", "celery.app.trace", "celery.beat")
"""Loggers that repeat what our own events say, and every round of the reaper."""
LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}

JOB: ContextVar[str | None] = ContextVar("job_id", default=None)
"""The job that is worked on. A thread knows it only if it is started in a copy of the context."""


@contextmanager
def job_context(job_id: str) -> Iterator[None]:
    """Gives every line that is written in the block the id of a job."""
    before = JOB.set(job_id)
    try:
        yield
    finally:
        JOB.reset(before)


def log(
    event: str, *, job_id: str | None = None, level: int = logging.INFO, lat_ms: int | None = None, **details: Any
) -> None:
    """Writes one event; numbers in `details` carry their unit in their name. Without a job, it is the one worked on."""
    LOGGER.log(level, event, extra={"farm": {"job_id": job_id, "details": details, "lat_ms": lat_ms}})


def configure(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Sends every log record, warning and last exception of this process to `stream` as JSON Lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_last_words
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _log_last_words(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger("uncaught").critical("%s: %s", kind.__name__, error, exc_info=(kind, error, traceback))


class JsonLines(logging.Formatter):
    """{"ts", "level", "job_id", "event", "details", "lat_ms"}; another library's record is an event of its name."""

    def format(self, record: logging.LogRecord) -> str:
        ours = getattr(record, "farm", None)
        fields = ours or {"job_id": None, "details": {"message": record.getMessage()}, "lat_ms": None}
        if record.exc_info:
            fields["details"]["traceback"] = self.formatException(record.exc_info)
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": LEVELS.get(record.levelname, record.levelname),
            "job_id": fields["job_id"] or JOB.get(),
            "event": record.msg if ours else record.name,
            "details": fields["details"],
            "lat_ms": fields["lat_ms"],
        }
        return json.dumps(line, default=str)
