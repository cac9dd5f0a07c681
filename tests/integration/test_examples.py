"""Every example becomes a video, in short chunks of two steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest

from farm import Farm, Job
from farm.batch.results import open_results
from farm.batch.rows import rows
from farm.batch.run import Batch, BatchSpec
from farm.job.files import read_payload
from tests.conftest import EXAMPLES
from tests.support.videos import local_path

SHORT = {"sample_steps": 2, "frame_num": 21, "motion_frame": 5, "max_frame_num": 33}
PAYLOADS = [
    "single_image",
    "single_video",
    "two_speakers_para",
    "two_speakers_add",
    "tts_single",
    "tts_multi",
]


@pytest.fixture(scope="module")
def jobs(farm: Farm) -> dict[str, Job]:
    """A job for each example of one video, all submitted at once."""
    return {
        name: farm.submit({**read_payload(EXAMPLES / f"{name}.json"), **SHORT}) for name in PAYLOADS
    }


@pytest.mark.parametrize("name", PAYLOADS)
def test_an_example_becomes_a_video(farm: Farm, jobs: dict[str, Job], name: str) -> None:
    result = jobs[name].result()

    with av.open(str(local_path(result.video.url))) as video:
        frames = sum(1 for _ in video.decode(video.streams.video[0]))
        audio = video.streams.audio[0]
        assert audio.duration * audio.time_base == pytest.approx(frames / 25, abs=0.1)
    mode = farm.context.registry.jobs.request(jobs[name].id).mode
    assert frames == (21 if mode == "clip" else 33)


@pytest.mark.parametrize("name", ["batch.csv", "batch.json"])
def test_an_example_of_a_batch_becomes_its_videos(farm: Farm, tmp_path: Path, name: str) -> None:
    short: list[dict[str, Any]] = [
        {"id": row.id, **row.fields, **SHORT} for row in rows(EXAMPLES / name)
    ]
    (tmp_path / "jobs.json").write_text(json.dumps({"batch": short}))
    spec = BatchSpec(file=tmp_path / "jobs.json", output=tmp_path / "results.csv")

    with open_results(spec.output, batch=spec.id) as results:
        outcomes = list(Batch(farm, spec, results).run())

    assert {each.id: each.status for each in outcomes} == {row["id"]: "success" for row in short}
