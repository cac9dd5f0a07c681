"""Which model a job is for, and what becomes of one that no worker serves."""

from __future__ import annotations

import pytest

from farm.client.models import accept
from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.settings import Settings
from tests.support.jobs import FIELDS

SERVED = ["infinitetalk-480", "flashtalk"]


def accepted(served=SERVED, **fields):
    settings = Settings(unserved_models=fields.pop("unserved_models", "refuse"))
    return accept(JobRequest.parse({**FIELDS, **fields}), served, settings)


def test_a_job_that_names_no_model_is_for_the_farms_default():
    assert accepted().model == "infinitetalk-480"
    assert accepted(["flashtalk"]).sample_steps == 4


def test_a_job_may_name_any_model_that_is_served():
    assert accepted(model="flashtalk").model == "flashtalk"


def test_a_model_that_no_worker_serves_is_refused_with_those_that_are_served():
    with pytest.raises(
        InvalidInput, match=r"model: got 'miniature'; .* farm: infinitetalk-480, flashtalk$"
    ):
        accepted(model="miniature")


def test_a_misspelt_model_is_refused_with_the_nearest():
    with pytest.raises(InvalidInput, match=r"got 'flashtak'.*did you mean flashtalk"):
        accepted(model="flashtak")


def test_a_job_may_wait_for_a_worker_that_serves_its_model():
    assert accepted(model="miniature", unserved_models="wait").model == "miniature"


def test_a_model_that_does_not_exist_cannot_be_waited_for():
    with pytest.raises(InvalidInput, match="got 'flashtak'"):
        accepted(model="flashtak", unserved_models="wait")
