"""One JSON object a line."""

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
    """What the farm's logger and another library's say, while a test runs."""
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


def test_the_time_is_now_in_utc(stream):
    log("tick")
    age = datetime.now(UTC) - datetime.fromisoformat(lines(stream)[0]["ts"])
    assert timedelta(seconds=-0.001) <= age < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("level", "name"),
    [(logging.INFO, "INFO"), (logging.WARNING, "WARN"), (logging.ERROR, "ERROR"), (logging.CRITICAL, "ERROR")],
)
def test_levels_have_the_contracts_names(stream, level, name):
    log("tick", level=level)
    assert lines(stream)[0]["level"] == name


def test_an_event_outside_any_job_has_no_job(stream):
    log("tick")
    assert (lines(stream)[0]["job_id"], lines(stream)[0]["lat_ms"]) == (None, None)


def test_percent_signs_and_line_breaks_stay_on_one_line(stream):
    log("100 %d", reason="first\nsecond")
    assert (lines(stream)[0]["event"], lines(stream)[0]["details"]) == ("100 %d", {"reason": "first\nsecond"})


def test_what_json_does_not_know_is_told_as_text(stream):
    log("saved", path=Path("a.mp4"))
    assert lines(stream)[0]["details"] == {"path": "a.mp4"}


def test_another_librarys_record_is_an_event_of_its_name(stream):
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


def test_every_line_about_a_job_has_its_id(stream):
    with job_context("a"):
        log("tick")
        logging.getLogger("some.library").warning("so it is")
    log("tock")
    assert [line["job_id"] for line in lines(stream)] == ["a", "a", None]


def test_a_job_within_a_job_goes_before_it_and_then_is_over(stream):
    with job_context("a"):
        with job_context("b"):
            log("tick")
        log("tock")
    assert [line["job_id"] for line in lines(stream)] == ["b", "a"]


def test_an_event_that_names_its_job_is_about_that_one(stream):
    with job_context("a"):
        log("tick", job_id="b")
    assert lines(stream)[0]["job_id"] == "b"


def test_a_block_that_fails_is_about_its_job_no_longer(stream):
    with pytest.raises(OSError, match="full"), job_context("a"):
        raise OSError("full")
    log("tick")
    assert lines(stream)[0]["job_id"] is None


def test_a_thread_in_a_copy_of_the_context_is_about_the_job_too(stream):
    with job_context("a"):
        thread = threading.Thread(target=copy_context().run, args=(log, "tick"))
    thread.start()
    thread.join()
    assert lines(stream)[0]["job_id"] == "a"


def last_line(program: str) -> dict[str, Any]:
    """What a program whose logs are set up writes last."""
    words = [sys.executable, "-c", f"from farm.logs import job_context, configure; configure()\n{program}"]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    return json.loads(said.stderr.splitlines()[-1])


def test_a_warning_is_a_line_about_the_job():
    line = last_line("import warnings\nwith job_context('a'): warnings.warn('old')")
    assert (line["event"], line["level"], line["job_id"]) == ("py.warnings", "WARN", "a")
    assert "UserWarning: old" in line["details"]["message"]


def test_the_last_words_of_a_process_are_a_line():
    line = last_line("raise OSError('disk full')")
    assert (line["event"], line["level"], line["details"]["message"]) == ("uncaught", "ERROR", "OSError: disk full")
    assert "Traceback" in line["details"]["traceback"]
