"""A video source is followed at its own frame rate: a chunk is drawn from what is seen when it begins."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from farm.plan import Plan
from farm.steps.generate import source_frame

UNEVEN = [0, *range(400, 1600, 33), *range(1600, 4000, 140), *range(4000, 5000, 10)]


@pytest.mark.parametrize(
    "times",
    [range(0, 5000, 20), range(0, 5000, 40), [n * 1000 // 24 for n in range(120)], UNEVEN],
    ids=["50 fps", "25 fps", "24 fps", "uneven"],
)
def test_a_chunk_begins_with_the_frame_that_is_shown_then(tmp_path, times):
    # given a video of up to 256 frames, each of a grey of its own, shown from its time in milliseconds on
    times = list(times)
    with av.open(tmp_path / "x.mkv", "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for grey, milliseconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), grey % 256, np.uint8), format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    plan = Plan(150, 21, 5, (50,))
    # when a chunk's frame is read, then it is the last one whose time has come by start / 25 s; the last stays
    for chunk in map(plan.chunk, range(plan.chunks)):
        shown = max(index for index, time in enumerate(times) if time <= 1000 * chunk.start / 25)
        assert int(source_frame(tmp_path / "x.mkv", "video", chunk)[8, 8, 0]) == shown % 256
