"""Where a video goes from one scene to the next."""

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
"""Pixels across that are enough to see a cut, as in PySceneDetect's own downscaling."""


def cuts(path: Path, *, frames: int) -> list[int]:
    """Which of a video's first `frames` frames, at 25 a second, is the first of a new scene; rising, without 0.

    A scene changes where a picture differs from the one before it far more than its neighbours do; fades and camera
    movements are no changes. Raises InvalidInput if the video cannot be read.
    """
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(min_scene_len=0)
    found: list[int] = []
    try:
        for index, frame in _shown(path):
            if index >= frames:
                break
            pixels = frame.reformat(_WIDTH, round(_WIDTH * frame.height / frame.width) or 1, "bgr24").to_ndarray()
            found += [cut.frame_num for cut in detector.process_frame(FrameTimecode(index, float(FPS)), pixels)]
    except av.FFmpegError as error:
        raise InvalidInput(f"{path.name}: this video cannot be read ({error})") from error
    return found


def _shown(path: Path) -> Iterator[tuple[int, VideoFrame]]:
    """Every frame that a video at 25 fps has time to show (as `read_frame` finds them), with where it shows first."""
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None or stream.time_base is None:
            return
        stream.thread_type = "AUTO"
        start, tick = stream.start_time or 0, Fraction(stream.time_base) * FPS
        waiting: tuple[int, VideoFrame] | None = None
        for frame in decode_frames(container, stream):
            if frame.pts is None:
                continue
            index = max(0, ceil((frame.pts - start - Fraction(1, 2)) * tick))
            if waiting and index > waiting[0]:
                yield waiting
            waiting = index, frame
        if waiting:
            yield waiting
