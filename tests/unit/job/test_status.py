"""The progress of a job: its stages, events and states."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from farm.job import STAGES, Event, JobStatus, Result, Video


def test_an_event_refuses_unknown_fields():
    with pytest.raises(ValidationError, match="extra"):
        Event.model_validate({"stage": "x", "pct": 1, "job_id": "a", "text": "b"})


def test_percentages_of_the_stages_never_decrease():
    percentages = list(STAGES.values())
    assert percentages == sorted(percentages)
    assert (percentages[0], percentages[-1]) == (0, 100)


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("queued", False),
        ("running", False),
        ("success", True),
        ("error", True),
        ("cancelled", True),
    ],
)
def test_a_job_has_ended_in_a_final_state(state, ended):
    status = JobStatus(
        job_id="a", state=state, stage="x", pct=0, details={}, created_at=0, updated_at=0
    )
    assert status.ended is ended


def test_times_are_datetimes_too():
    status = JobStatus(
        job_id="a", state="queued", stage="x", pct=0, details={}, created_at=0, updated_at=86400.5
    )
    assert status.created == datetime(1970, 1, 1, tzinfo=UTC)
    assert status.updated == datetime(1970, 1, 2, microsecond=500_000, tzinfo=UTC)
    assert status.started is None


# In notebooks


def video(url: str, **fields: str) -> Video:
    return Video(url=url, bytes=3, thumbnail_url="", **fields)


def test_a_local_video_is_shown_by_its_content(tmp_path: Path):
    path = tmp_path / "a film.mp4"
    path.write_bytes(b"abc")
    shown = Result(job_id="a", status="success", video=video(path.as_uri()))._repr_html_()
    assert '<video src="data:video/mp4;base64,YWJj" controls' in shown
    assert f'<a href="{path.as_uri()}">' in shown


def test_a_video_in_the_result_is_shown_as_it_is():
    assert 'src="data:video/mp4;base64,YWJj"' in video("s3://a", base64="YWJj")._repr_html_()


def test_a_file_of_another_kind_is_not_shown(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"abc")
    assert "YWJj" not in video((tmp_path / "secret").as_uri())._repr_html_()


def test_a_result_without_a_video_is_shown_as_text():
    assert Result(job_id="a", status="error")._repr_html_() is None
