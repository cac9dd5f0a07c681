"""A chunk starts from the frame that its source shows at that instant, whatever its frame rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from farm.media.video import frames_at, read_frame
from farm.plan import Plan

UNEVEN = [0, *range(400, 1600, 33), *range(1600, 4000, 140), *range(4000, 5000, 10)]


def write_greys(path: Path, times_ms: list[int]) -> None:
    """A video whose frames have a grey each, shown from the given times on."""
    with av.open(path, "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width = 16
        stream.height = 16
        stream.pix_fmt = "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for grey, time_ms in enumerate(times_ms):
            pixels = np.full((16, 16, 3), grey % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = time_ms
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(
    "times_ms",
    [range(0, 5000, 20), range(0, 5000, 40), [n * 1000 // 24 for n in range(120)], UNEVEN],
    ids=["50 fps", "25 fps", "24 fps", "uneven"],
)
def test_a_chunk_starts_from_the_last_frame_shown_at_its_start(tmp_path, times_ms):
    path = tmp_path / "x.mkv"
    write_greys(path, list(times_ms))
    plan = Plan(150, 21, 5, (50,))
    starts = [plan.chunk(index).start / 25 for index in range(plan.chunks)]
    frames = list(frames_at(path, starts))
    assert len(frames) == plan.chunks
    for start_s, frame in zip(starts, frames, strict=True):
        shown = max(number for number, time_ms in enumerate(times_ms) if time_ms <= 1000 * start_s)
        assert int(frame[8, 8, 0]) == shown % 256
        np.testing.assert_array_equal(read_frame(path, start_s), frame)


def test_past_the_end_of_a_video_there_is_its_last_frame_once(tmp_path):
    write_greys(tmp_path / "x.mkv", [0, 100, 200])
    frames = frames_at(tmp_path / "x.mkv", [0.0, 0.12, 1.0, 2.0])
    assert [int(frame[8, 8, 0]) for frame in frames] == [0, 1, 2]
