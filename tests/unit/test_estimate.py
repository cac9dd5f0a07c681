"""The estimated time of a chunk on an H100, from measurements."""

from __future__ import annotations

import pytest

from farm.estimate import chunk_s
from tests.support.jobs import job_request

TWO = {
    "cond_audio": {
        "person1": "https://example.org/first.wav",
        "person2": "https://example.org/second.wav",
    },
    "audio_type": "para",
}


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 40 * 3 * 3.93 + 3.6),
        ({"sample_steps": 8}, 8 * 3 * 3.93 + 3.6),
        ({"sample_text_guide_scale": 1.0}, 40 * 2 * 3.93 + 3.6),
        (
            {"sample_text_guide_scale": 1.0, "sample_audio_guide_scale": 1.0},
            40 * 3.93 + 3.6,
        ),
        ({"size": "infinitetalk-720"}, 40 * 3 * 13.2 + 8.3),
        (TWO, 40 * 3 * 4.12 + 3.6),
        ({**TWO, "size": "infinitetalk-720"}, 40 * 3 * 13.2 + 8.3),
        ({"frame_num": 41}, (40 * 3 * 3.93 + 3.6) * 41 / 81),
    ],
)
def test_a_chunk_takes_its_model_passes_and_its_decoding(fields, seconds):
    assert chunk_s(job_request(**fields)) == pytest.approx(seconds)
