"""A whole job, through the real steps and a tiny model, whose broker is lost before each step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from farm.client import Job
from farm.engine.context import Context
from farm.registry import open_registry
from farm.route import steps_of_job
from farm.settings import Settings
from farm.steps.generate import unload_pipeline
from farm.store import keys, open_store
from tests.support.jobs import TWO_CHUNKS, job_request
from tests.support.recovery import (
    enter,
    lose_broker,
    recover_all,
)
from tests.support.steps import run_step
from tests.support.tiny_model import TINY_PRESET, use_tiny_preset


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    home = tmp_path_factory.mktemp("home")
    with use_tiny_preset(home / "weights") as model:
        settings = Settings(home=home).model_copy(update=model)
        yield Context(settings, open_store((home / "store").as_uri()), open_registry("memory://"))
    unload_pipeline()


def frames_of_video(ctx: Context, face: Path, voice: Path, *, lossy: bool) -> list[bytes]:
    """The frames of a job's video; if `lossy`, the broker loses everything before each step."""
    for path in (face, voice):
        ctx.store.put(keys.upload(path), path)
    job_id = "lossy" if lossy else "whole"
    request = job_request(
        model=TINY_PRESET.name,
        cond_video=keys.SCHEME + keys.upload(face),
        cond_audio={"person1": keys.SCHEME + keys.upload(voice)},
        **TWO_CHUNKS,
    )
    enter(ctx, job_id, request)
    for step in steps_of_job(2):
        if lossy:
            ctx = lose_broker(ctx)
            resumed = {each.job_id: each.step for each in recover_all(ctx)}
            assert resumed[job_id] == step
        run_step(ctx, job_id, step)
    path = Job(ctx, job_id).save(ctx.settings.folder / f"{job_id}.mp4")
    with av.open(str(path)) as video:
        return [frame.to_ndarray().tobytes() for frame in video.decode(video=0)]


def test_a_video_is_the_same_though_the_broker_lost_everything_before_each_step(
    whole, portrait, voice
):
    expected = frames_of_video(whole, portrait, voice, lossy=False)
    assert frames_of_video(whole, portrait, voice, lossy=True) == expected
    assert len(expected) == 8
