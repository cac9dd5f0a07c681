"""What a chunk takes on an H100, as measured."""

from __future__ import annotations

import pytest

from farm.estimate import chunk_s
from farm.job import JobRequest

ONE = {"person1": "https://example.org/voice.wav"}
TWO = {**ONE, "person2": "https://example.org/voice.wav"}
GIVEN = {"prompt": "x", "cond_video": "https://example.org/face.png", "cond_audio": ONE}


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 40 * 3 * 3.93 + 3.6),
        ({"sample_steps": 8}, 8 * 3 * 3.93 + 3.6),
        ({"sample_text_guide_scale": 1.0}, 40 * 2 * 3.93 + 3.6),
        ({"sample_text_guide_scale": 1.0, "sample_audio_guide_scale": 1.0}, 40 * 3.93 + 3.6),
        ({"size": "infinitetalk-720"}, 40 * 3 * 13.2 + 8.3),
        ({"cond_audio": TWO, "audio_type": "para"}, 40 * 3 * 4.12 + 3.6),
        ({"cond_audio": TWO, "audio_type": "para", "size": "infinitetalk-720"}, 40 * 3 * 13.2 + 8.3),
        ({"frame_num": 41}, (40 * 3 * 3.93 + 3.6) * 41 / 81),
    ],
)
def test_a_chunk_takes_its_passes_and_its_decoding(fields, seconds):
    assert chunk_s(JobRequest.parse({**GIVEN, **fields})) == pytest.approx(seconds)
