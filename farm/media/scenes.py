"""Scene cuts of a video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path

import av
from av import VideoFrame

from farm.errors import InvalidInput
from farm.media.container import decode_frames, open_media, video_stream
from farm.plan import FPS

_WIDTH = 256
"""Width in pixels at which cuts are detected, as in PySceneDetect's own downscaling."""


def cuts(path: Path, *, frames: int) -> list[int]:
    """First frames of new scenes among a video's first `frames` at 25 fps; ascending, without 0.

    A scene changes where a frame differs from the one before it much more than its neighbours do;
    fades and camera movements are not cuts. Raises InvalidInput if the video cannot be decoded.
    """
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(min_scene_len=0)
    found: list[int] = []
    height = 0
    try:
        for index, frame in _frames_at_25_fps(path):
            if index >= frames:
                break
            # The first frame's shape: a detector compares pixels of one size only.
            height = height or round(_WIDTH * frame.height / frame.width) or 1
            pixels = frame.reformat(_WIDTH, height, "bgr24", threads=1).to_ndarray()
            timecode = FrameTimecode(index, float(FPS))
            found += [cut.frame_num for cut in detector.process_frame(timecode, pixels)]
    except av.FFmpegError as error:
        raise InvalidInput(f"{path.name}: the video cannot be decoded ({error})") from error
    return found


def _frames_at_25_fps(path: Path) -> Iterator[tuple[int, VideoFrame]]:
    """The frames of a video that are visible at 25 fps, each with the first index that shows it.

    They are the frames that `read_frame` returns.
    """
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None or stream.time_base is None:
            return
        start = stream.start_time or 0
        frames_per_tick = Fraction(stream.time_base) * FPS
        pending: tuple[int, VideoFrame] | None = None
        for frame in decode_frames(container, stream):
            if frame.pts is None:
                continue
            index = max(0, ceil((frame.pts - start - Fraction(1, 2)) * frames_per_tick))
            # A frame is visible unless a later one has the same index.
            if pending and index > pending[0]:
                yield pending
            pending = (index, frame)
        if pending:
            yield pending
