"""A worker makes videos of the models that it serves, and leaves other jobs alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.engine.step_context import Declined
from farm.route import Step
from farm.settings import Settings
from farm.steps.embed import embed
from farm.steps.generate import generate
from farm.steps.served import check_served
from tests.support.harness import open_harness
from tests.support.jobs import job_request
from tests.support.steps import step_context


@pytest.fixture
def ctx(tmp_path, portrait, voice):
    ctx = open_harness(tmp_path, portrait, voice).ctx
    return step_context(
        ctx, Step("embed"), scratch=tmp_path, request=job_request(model="flashtalk")
    )


@pytest.mark.parametrize("step", [embed, generate])
def test_a_job_for_another_model_is_left_to_other_workers(ctx, step):
    with pytest.raises(Declined, match="for the model flashtalk, this worker serves miniature"):
        step(ctx)


def test_a_job_for_any_of_the_models_is_taken(ctx):
    settings = Settings(home=ctx.settings.home, presets="miniature, flashtalk")
    check_served(replace(ctx, settings=settings))
