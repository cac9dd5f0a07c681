"""The format of stored records: what a version of it promises to other versions of the farm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.engine.journal import Submission
from farm.job import Event, JobStatus, TimeLimits
from farm.job.request import MAX_FRAMES
from farm.presets import MINIATURE
from farm.registry.accounts import Account
from farm.registry.api_keys import ApiKey
from farm.registry.batches import Batch
from farm.registry.formats import FORMAT, dump, load
from farm.registry.spending import Spending
from farm.registry.step_record import StepRecord
from farm.registry.webhooks import CallsRecord
from farm.runpod.owner import Owner
from tests.support.formats import REQUIRED, defaults_of
from tests.support.jobs import REQUEST, job_request

PROMISED = Path(__file__).with_name(f"format_{FORMAT}.json")
"""The default of every stored field. Until the first release it is written anew after a change:
`python -m tests.unit.registry.test_formats`.
"""

RECORDS = (
    *(Submission, JobStatus, Event, StepRecord, CallsRecord, Account),
    *(Spending, Owner, ApiKey, TimeLimits, Batch),
)


def test_a_default_that_changes_takes_the_next_format():
    promised = json.loads(PROMISED.read_text())
    now = defaults_of(*RECORDS)
    assert {name: now.get(name, "no such field") for name in promised} == promised


def test_a_new_field_has_a_default():
    promised = json.loads(PROMISED.read_text())
    now = defaults_of(*RECORDS)
    assert [name for name in now.keys() - promised.keys() if now[name] == REQUIRED] == []


def test_only_what_is_set_is_stored():
    stored = json.loads(dump(job_request(sample_steps=REQUEST.sample_steps, sample_shift=3)))
    assert stored["format"] == FORMAT
    assert stored["record"] == {
        "prompt": REQUEST.prompt,
        "cond_video": REQUEST.cond_video,
        "cond_audio": {"person1": REQUEST.cond_audio.person1},
        "model": "miniature",
        **vars(MINIATURE.defaults),
        "mode": "streaming",
        "max_frame_num": MAX_FRAMES,
        "sample_shift": 3.0,
    }


@pytest.mark.parametrize("request_", [REQUEST, job_request(lora=[{"name": "a"}], bbox=None)])
def test_a_record_is_read_as_it_was_written(request_):
    submission = Submission(caller="local", request=request_, submitted_at=1.5)
    assert load(dump(submission), Submission, name="request.json") == submission


if __name__ == "__main__":
    text = json.dumps(defaults_of(*RECORDS), indent=2)
    PROMISED.write_text(text + "\n")
