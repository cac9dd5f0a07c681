"""The estimated GPU seconds of a chunk: those of one H100, as measured (docs/lab-log.md)."""

from __future__ import annotations

from farm.job import JobRequest

PASS_S = {
    ("infinitetalk-480", 1): 3.93,
    ("infinitetalk-480", 2): 4.12,
    ("infinitetalk-720", 1): 13.2,
}
"""Seconds of one pass of the model over 81 frames, by size and speakers."""

DECODE_S = {"infinitetalk-480": 3.6, "infinitetalk-720": 8.3}
MEASURED_FRAMES = 81


def chunk_s(request: JobRequest) -> float:
    """Seconds that each chunk of a job takes on one H100."""
    pass_s = PASS_S.get((request.size, request.speakers), PASS_S[request.size, 1])
    share = request.frame_num / MEASURED_FRAMES
    sampling_s = request.sample_steps * _passes(request) * pass_s
    return share * (sampling_s + DECODE_S[request.size])


def _passes(request: JobRequest) -> int:
    """Passes of the model in each denoise step: guidance by text and by audio adds one each."""
    if request.sample_text_guide_scale != 1:
        return 3
    if request.sample_audio_guide_scale != 1:
        return 2
    return 1
