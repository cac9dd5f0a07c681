"""Structured logs: one JSON object a line."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farm.logs import JsonLines, job_context, log

FIELDS = ["ts", "level", "job_id", "event", "details", "lat_ms"]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The log lines of the farm and of another library during a test."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger("farm"), logging.getLogger("some.library")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield stream
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_a_line_with_the_contracts_fields(stream):
    log("chunk_made", job_id="a", lat_ms=12, chunk=3)
    line = lines(stream)[0]
    assert list(line) == FIELDS
    assert (line["level"], line["job_id"], line["event"]) == ("INFO", "a", "chunk_made")
    assert (line["details"], line["lat_ms"]) == ({"chunk": 3}, 12)


def test_the_time_is_in_utc(stream):
    log("tick")
    age = datetime.now(UTC) - datetime.fromisoformat(lines(stream)[0]["ts"])
    assert timedelta(seconds=-0.001) <= age < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARN"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "ERROR"),
    ],
)
def test_levels_have_the_contracts_names(stream, level, name):
    log("tick", level=level)
    assert lines(stream)[0]["level"] == name


def test_an_event_outside_any_job_has_no_job(stream):
    log("tick")
    assert (lines(stream)[0]["job_id"], lines(stream)[0]["lat_ms"]) == (None, None)


def test_percent_signs_and_line_breaks_stay_on_one_line(stream):
    log("100 %d", reason="first\nsecond")
    assert (lines(stream)[0]["event"], lines(stream)[0]["details"]) == (
        "100 %d",
        {"reason": "first\nsecond"},
    )


def test_a_value_that_json_cannot_represent_is_logged_as_text(stream):
    log("saved", path=Path("a.mp4"))
    assert lines(stream)[0]["details"] == {"path": "a.mp4"}


def test_another_librarys_record_is_an_event_named_after_its_logger(stream):
    logging.getLogger("some.library").warning("%d messages lost", 3)
    line = lines(stream)[0]
    assert list(line) == FIELDS
    assert (line["event"], line["level"], line["job_id"]) == ("some.library", "WARN", None)
    assert line["details"] == {"message": "3 messages lost"}


def test_an_exception_comes_with_its_traceback_on_one_line(stream):
    try:
        raise OSError("disk full")
    except OSError:
        logging.getLogger("some.library").exception("could not save")
    assert len(lines(stream)) == 1
    assert lines(stream)[0]["details"]["message"] == "could not save"
    assert "OSError: disk full" in lines(stream)[0]["details"]["traceback"]


def test_every_line_within_a_job_context_has_the_jobs_id(stream):
    with job_context("a"):
        log("tick")
        logging.getLogger("some.library").warning("so it is")
    log("tock")
    assert [line["job_id"] for line in lines(stream)] == ["a", "a", None]


def test_an_inner_job_context_ends_before_the_outer_one(stream):
    with job_context("a"):
        with job_context("b"):
            log("tick")
        log("tock")
    assert [line["job_id"] for line in lines(stream)] == ["b", "a"]


def test_an_explicit_job_id_overrides_the_context(stream):
    with job_context("a"):
        log("tick", job_id="b")
    assert lines(stream)[0]["job_id"] == "b"


def test_a_job_context_ends_when_its_block_fails(stream):
    with pytest.raises(OSError, match="full"), job_context("a"):
        raise OSError("full")
    log("tick")
    assert lines(stream)[0]["job_id"] is None


def test_a_thread_in_a_copy_of_the_context_keeps_the_job(stream):
    with job_context("a"):
        thread = threading.Thread(target=copy_context().run, args=(log, "tick"))
    thread.start()
    thread.join()
    assert lines(stream)[0]["job_id"] == "a"


def last_line(program: str) -> dict[str, Any]:
    """The last line that a program with configured logs writes."""
    command = [
        sys.executable,
        "-c",
        f"from farm.logs import job_context, configure; configure()\n{program}",
    ]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(completed.stderr.splitlines()[-1])


def test_a_warning_is_logged_with_the_jobs_id():
    line = last_line("import warnings\nwith job_context('a'): warnings.warn('old')")
    assert (line["event"], line["level"], line["job_id"]) == ("py.warnings", "WARN", "a")
    assert "UserWarning: old" in line["details"]["message"]


def test_an_uncaught_exception_is_logged():
    line = last_line("raise OSError('disk full')")
    assert (line["event"], line["level"], line["details"]["message"]) == (
        "uncaught",
        "ERROR",
        "OSError: disk full",
    )
    assert "Traceback" in line["details"]["traceback"]
