"""Statuses that another version has written: reported by name, listed, and ended."""

from __future__ import annotations

import json

import pytest

from farm.errors import VersionSkew
from farm.job import Event
from farm.registry import Registry, open_registry
from farm.registry.formats import dump
from farm.registry.keys import job_key
from farm.registry.status_record import parse_status, queued
from tests.support.formats import text_of
from tests.support.jobs import REQUEST

STATUS = json.loads(dump(queued("a", 1)))["record"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read by this version (it is not JSON)"),
        ("[]", "cannot be read by this version (it must be an object)"),
        (text_of({"job_id": "a"}), "cannot be read by this version (state: it is missing)"),
        (text_of({**STATUS, "newer": 1}), "(newer: there is no such field)"),
        (text_of({**STATUS, "state": "resting"}), "(state: it must be 'queued', "),
        (text_of(STATUS, format=2), "is in format 2, and this version reads 1;"),
        (text_of(STATUS, format=0), "is in format 0, and this version reads 1;"),
        (json.dumps(STATUS), "is in no format, and this version reads 1;"),
    ],
    ids=[
        "no JSON",
        "no object",
        "a field is missing",
        "an unknown field",
        "an unknown value",
        "a newer format",
        "an older format",
        "before formats",
    ],
)
def test_the_error_for_an_unreadable_status_names_its_job(text, reason):
    with pytest.raises(VersionSkew) as caught:
        parse_status("a", text)
    message = caught.value.message
    assert message.startswith("job a: its status ")
    assert reason in message
    assert message.endswith("before an upgrade that changes the format, let all jobs end")


@pytest.fixture(params=["{}", text_of({**STATUS, "newer": 1}), text_of(STATUS, format=2)])
def skewed(request) -> Registry:
    """A registry with the job `a`, whose status another version has written."""
    registry = open_registry("memory://")
    registry.entries.add("a", REQUEST)
    registry.backend.texts[job_key("a")] = request.param
    return registry


def test_a_job_with_an_unreadable_status_cannot_be_read_and_does_not_go_on(skewed):
    event = Event(stage="validation_ok", pct=2, job_id="a", details={})
    for access in (
        lambda: skewed.jobs.status("a"),
        lambda: skewed.jobs.report(event),
        lambda: skewed.snapshot("a", ["mux"]),
        lambda: next(skewed.jobs.events("a")),
    ):
        with pytest.raises(VersionSkew, match="job a: its status"):
            access()


def test_a_job_with_an_unreadable_status_is_listed_with_the_reason(skewed):
    skewed.entries.add("b", REQUEST)
    listed = {status.job_id: status for status in skewed.jobs.newest()}
    assert (listed["b"].state, listed["a"].stage) == ("queued", "unreadable")
    assert listed["a"].details["code"] == "E_VERSION_SKEW"
    assert listed["a"].details["message"].startswith("job a: its status ")


def test_a_job_with_an_unreadable_status_can_be_ended(skewed):
    assert skewed.jobs.fail("a", VersionSkew("job a: too new"), at_stage="mux")
    status = skewed.jobs.status("a")
    assert (status.state, status.result.error.message) == ("error", "job a: too new")


def test_a_video_of_another_version_is_not_lost_to_an_error():
    registry = open_registry("memory://")
    registry.entries.add("a", REQUEST)
    text = text_of({**STATUS, "state": "success", "newer": 1}, format=2)
    registry.backend.texts[job_key("a")] = text
    assert not registry.jobs.fail("a", VersionSkew("too new"), at_stage="mux")
    assert registry.jobs.is_over("a")
    assert registry.jobs.end_text("a") == text
