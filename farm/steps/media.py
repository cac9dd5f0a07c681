"""Checks of a job's files, at submission and again in the step `download`; and their warnings."""

from __future__ import annotations

from collections.abc import Iterator

from farm.errors import invalid
from farm.job import ResolvedRequest
from farm.media.decoder import Recording, Visual
from farm.media.probe import Clip, StillImage
from farm.presets import Buckets, cropped_share, nearest_bucket

MIN_BOX = 16
"""Pixels of the video on each side of a speaker's box: one token of the model."""

MAX_CROPPED_SHARE = 0.25
"""The share of a picture that may be cropped away without a warning."""

BREAK_S = 0.5
BREAK_SHARE = 0.05
"""Seconds, and share of its length, by which a file may be shorter than its header announces."""


def check_visual(request: ResolvedRequest, found: StillImage | Clip) -> None:
    """Raises InvalidInput for what a request cannot ask of this image or video."""
    invalid(_visual_mistakes(request, found))


def _visual_mistakes(request: ResolvedRequest, found: StillImage | Clip) -> Iterator[str]:
    if isinstance(found, Clip) and not request.preset.takes_videos:
        yield (
            f"cond_video: got a video; the model {request.model} was trained with still images; "
            "allowed: an image"
        )
    for got, (_, _, right, bottom) in _boxes(request):
        if right > found.width or bottom > found.height:
            yield (
                f"{got}; allowed: x up to {found.width}, y up to {found.height}, "
                "the size of cond_video"
            )
    if request.scene_seg and isinstance(found, StillImage):
        yield "scene_seg: got True, but cond_video is an image; allowed: true with a video"


def visual_warnings(visual: Visual, buckets: Buckets) -> list[str]:
    """What is lost of an image or video, for the job's result."""
    found = visual.found
    warnings = []
    if isinstance(found, Clip):
        warnings += _break_warnings(found.seconds, visual.announced_s, "cond_video")
    share = cropped_share(found.height, found.width, buckets)
    if share > MAX_CROPPED_SHARE:
        height, width = nearest_bucket(found.height, found.width, buckets)
        warnings.append(
            f"cond_video: {share:.0%} of the picture is cropped away, as the video is "
            f"{width} x {height} and the source {found.width} x {found.height} pixels; "
            "the middle remains"
        )
    return warnings


def recording_warnings(recording: Recording, *, field: str) -> list[str]:
    """What is lost of a recording, for the job's result."""
    warnings = _break_warnings(recording.found.seconds, recording.announced_s, field)
    findings = recording.findings
    if findings.is_silent:
        warnings.append(
            f"{field}: it is silent (below -90 dB); the mouth may not move as in speech"
        )
    if findings.opposite_channels:
        warnings.append(
            f"{field}: its channels cancel each other out; the model hears only channel "
            f"{findings.louder_channel + 1}"
        )
    if findings.lost_samples:
        warnings.append(
            f"{field}: {findings.lost_samples:,} samples are no numbers; they are silent"
        )
    return warnings


def _break_warnings(seconds: float, announced: float | None, field: str) -> list[str]:
    if announced is None or announced - seconds < max(BREAK_S, BREAK_SHARE * announced):
        return []
    return [
        f"{field}: the file breaks off after {seconds:.2f} s, but its header announces "
        f"{announced:.2f} s; its upload may be incomplete"
    ]


def check_boxes_in_video(
    request: ResolvedRequest, found: StillImage | Clip, buckets: Buckets
) -> None:
    """Raises InvalidInput for a box of which the video shows less than a token of the model."""
    invalid(_hidden_boxes(request, found, buckets))


def _hidden_boxes(
    request: ResolvedRequest, found: StillImage | Clip, buckets: Buckets
) -> Iterator[str]:
    height, width = nearest_bucket(found.height, found.width, buckets)
    scale = max(height / found.height, width / found.width)
    for got, (left, top, right, bottom) in _boxes(request):
        shown_width = _shown(left, right, found.width, width, scale)
        shown_height = _shown(top, bottom, found.height, height, scale)
        if min(shown_width, shown_height) < MIN_BOX:
            yield (
                f"{got}, of which the video shows {shown_width} x {shown_height} pixels; "
                f"allowed: {MIN_BOX} x {MIN_BOX} or more; boxes are in pixels of cond_video, "
                f"which has {found.width} x {found.height}, and not shares of it"
            )


def _shown(low: float, high: float, side: int, video_side: int, scale: float) -> int:
    """Pixels that the video shows of a range of a side, which is scaled and cropped centrally."""
    cropped = (scale * side - video_side) / 2
    begin = max(0.0, low * scale - cropped)
    end = min(float(video_side), high * scale - cropped)
    return max(0, round(end - begin))


def _boxes(request: ResolvedRequest) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """How an error names each box of a request, and the box."""
    boxes = request.bbox.model_dump(exclude_none=True) if request.bbox else {}
    for person, box in boxes.items():
        yield f"bbox.{person}: got [{', '.join(f'{each:g}' for each in box)}]", box
