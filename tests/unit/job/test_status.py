"""The progress of a job: its stages, events and states."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from farm.job import STAGES, Event, JobStatus


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
