"""Two speakers through the real farm: together, and in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from farm import Farm
from farm.job.files import read_payload
from tests.integration.conftest import SMALL
from tests.integration.test_farm import local

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION_S, ANSWER_S = 1.92, 2.88


@pytest.mark.parametrize(
    ("example", "seconds"), [("two_speakers_para", ANSWER_S), ("two_speakers_add", QUESTION_S + ANSWER_S)]
)
def test_two_who_talk_become_one_video_with_both_voices(farm: Farm, example: str, seconds: float) -> None:
    small: dict[str, Any] = {**SMALL, "frame_num": 73}
    job = farm.submit({**small, **read_payload(EXAMPLES / f"{example}.json"), "sample_steps": 1})

    result = job.result(timeout_s=120)

    facts = farm.context.registry.steps.committed(job.id, "embed")
    assert len(facts["embeddings"]) == 2
    assert result.warnings == ()
    with av.open(str(local(result.video.url))) as video:
        picture, sound = video.streams.video[0], video.streams.audio[0]
        frames = sum(1 for _ in video.decode(picture))
        assert (frames, sound.rate) == (facts["frames"], 22_050)
        assert picture.width > picture.height
    assert abs(frames / 25 - seconds) <= 1 / 25
