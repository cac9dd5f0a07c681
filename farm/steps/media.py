"""Checks of a job's files, at submission and again in the step `download`."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.media.audio import audio_blocks
from farm.media.probe import Audio, Clip, StillImage, expect_audio
from farm.plan import SPEECH_RATE, frame_count

PRECISE_BELOW_S = 1.0
"""Shorter audio is decoded, because its packets may hold more than its samples."""


def check_visual(request: JobRequest, found: StillImage | Clip) -> None:
    """Raises InvalidInput for what a request cannot ask of this image or video."""
    _check_boxes(request, found)
    if request.scene_seg and isinstance(found, StillImage):
        raise InvalidInput(
            "scene_seg: got True, but cond_video is an image; allowed: true with a video"
        )


def check_recording(path: Path, *, field: str) -> Audio:
    """The audio at `path`.

    Raises as `expect_audio` does, and InvalidInput if it is too short for one frame of video.
    """
    found = expect_audio(path, field=field)
    if found.seconds < PRECISE_BELOW_S:
        seconds = sum(block.shape[1] / rate for block, rate in audio_blocks(path))
        if frame_count(ceil(seconds * SPEECH_RATE)) < 1:
            raise InvalidInput(f"{field}: it lasts {seconds:.3f} s; allowed: 0.04 s or more")
    return found


def _check_boxes(request: JobRequest, found: StillImage | Clip) -> None:
    if request.bbox is None:
        return
    boxes = request.bbox.model_dump(exclude_none=True)
    for person, (left, top, right, bottom) in boxes.items():
        if right > found.width or bottom > found.height:
            raise InvalidInput(
                f"bbox.{person}: got [{left:g}, {top:g}, {right:g}, {bottom:g}]; "
                f"allowed: x up to {found.width}, y up to {found.height}, the size of cond_video"
            )
