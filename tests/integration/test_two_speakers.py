"""Two speakers through a real farm: together, and in turn."""

from __future__ import annotations

from typing import Any

import av
import pytest

from farm import Farm
from farm.job.files import read_payload
from tests.conftest import EXAMPLES
from tests.integration.conftest import SMALL
from tests.support.videos import local_path

QUESTION_S = 1.92
ANSWER_S = 2.88


@pytest.mark.parametrize(
    ("example", "seconds"),
    [("two_speakers_para", ANSWER_S), ("two_speakers_add", QUESTION_S + ANSWER_S)],
)
def test_two_speakers_become_one_video_with_both_voices(
    farm: Farm, example: str, seconds: float
) -> None:
    payload = read_payload(EXAMPLES / f"{example}.json")
    fields: dict[str, Any] = {**SMALL, "frame_num": 73, **payload, "sample_steps": 1}
    job = farm.submit(fields)

    result = job.result()

    embedded = farm.context.registry.steps.committed(job.id, "embed").output
    assert len(embedded.embedding_prefixes) == 2
    assert result.warnings == ()
    with av.open(str(local_path(result.video.url))) as video:
        picture = video.streams.video[0]
        frames = sum(1 for _ in video.decode(picture))
        assert frames == embedded.frames
        assert video.streams.audio[0].rate == 22_050
        assert picture.width > picture.height
    assert abs(frames / 25 - seconds) <= 1 / 25
