"""The estimated GPU seconds of a chunk: those of one H100, from what its preset says."""

from __future__ import annotations

from farm.job import ResolvedRequest


def chunk_s(request: ResolvedRequest) -> float:
    """Seconds that each chunk of a job takes on one H100."""
    cost = request.preset.costs[request.size]
    pass_s = cost.pass_s[request.speakers]
    sampling_s = request.sample_steps * _passes(request) * pass_s
    return request.frame_num / cost.frame_num * (sampling_s + cost.decode_s)


def _passes(request: ResolvedRequest) -> int:
    """Passes of the model in each denoise step: guidance by text and by audio adds one each."""
    if request.sample_text_guide_scale != 1:
        return 3
    if request.sample_audio_guide_scale != 1:
        return 2
    return 1
