"""What the sandbox may do with a file from a stranger: tell what it holds, and write it anew.

Each function takes the `field` that errors name, and a file that is called so; it raises
InvalidInput or DownloadFailed.
"""

from __future__ import annotations

from math import ceil, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic.dataclasses import dataclass

from farm.errors import InvalidInput
from farm.media import scenes
from farm.media.audio import Findings, audio_blocks, findings, write_flac
from farm.media.header import announced_seconds
from farm.media.image import read_image
from farm.media.probe import Audio, Clip, Limits, StillImage, expect_audio, expect_visual
from farm.media.video import frames_at
from farm.plan import SPEECH_RATE, frame_count

MAX_PIXELS = 16_000_000
"""Larger images and frames are stored smaller; the model makes fewer than a million."""

PRECISE_BELOW_S = 1.0
"""Shorter audio is decoded, because its packets may hold more than its samples."""


@dataclass(frozen=True)
class Visual:
    """What a source holds, and what was written of it."""

    found: StillImage | Clip
    announced_s: float | None = None
    """The length of a video by its header, if that says one."""
    scale: float = 1.0
    """Pixels of the PNG of an image for each pixel of the source, along a side."""


@dataclass(frozen=True)
class Recording:
    """What a recording holds."""

    found: Audio
    announced_s: float | None
    """Its length by its header, if that says one."""
    findings: Findings


@dataclass(frozen=True)
class Frames:
    """How many frames were written, and their scale."""

    count: int
    scale: float


def describe_visual(path: Path, *, field: str) -> StillImage | Clip:
    """What the image or video at `path` holds."""
    return expect_visual(path, field=field)


def describe_audio(path: Path, *, max_seconds: float, field: str) -> Audio:
    """What the recording at `path` holds; InvalidInput if it is too short for a frame of video."""
    found = expect_audio(path, field=field, limits=Limits(max_seconds=max_seconds))
    _check_length(path, found, field)
    return found


def read_visual(path: Path, image: Path, *, field: str) -> Visual:
    """What the image or video at `path` holds; an image is written to `image` as an upright PNG."""
    found = expect_visual(path, field=field)
    if isinstance(found, Clip):
        return Visual(found, announced_seconds(path, found))
    return Visual(found, scale=_write_png(read_image(path), image))


def read_audio(path: Path, flac: Path, *, max_seconds: float, field: str) -> Recording:
    """Writes the audio of any file to `flac`, with 24 bits."""
    found = describe_audio(path, max_seconds=max_seconds, field=field)
    write_flac(flac, audio_blocks(path))
    return Recording(found, announced_seconds(path, found), findings(path))


def read_frames(path: Path, folder: Path, *, seconds: list[float], field: str) -> Frames:
    """Writes the frames of a video shown at ascending instants: 00000.png and so on.

    The last one also serves for all later instants: past the video's end there is one more.
    """
    scale = 1.0
    count = 0
    for count, frame in enumerate(frames_at(path, seconds), start=1):
        scale = _write_png(frame, folder / frame_name(count - 1))
    return Frames(count, scale)


def find_cuts(path: Path, *, frames: int, field: str) -> list[int]:
    """The first frames of new scenes among a video's first `frames` at 25 fps."""
    return scenes.cuts(path, frames=frames)


def frame_name(index: int) -> str:
    return f"{index:05d}.png"


def _check_length(path: Path, found: Audio, field: str) -> None:
    if found.seconds >= PRECISE_BELOW_S:
        return
    seconds = sum(block.shape[1] / rate for block, rate in audio_blocks(path))
    if frame_count(ceil(seconds * SPEECH_RATE)) < 1:
        raise InvalidInput(f"{field}: it lasts {seconds:.3f} s; allowed: 0.04 s or more")


def _write_png(pixels: NDArray[np.uint8], path: Path) -> float:
    """Writes pixels [H, W, 3], at most MAX_PIXELS of them; returns the scale along a side."""
    image = Image.fromarray(pixels)
    scale = min(1.0, sqrt(MAX_PIXELS / (image.width * image.height)))
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    image.save(path, "PNG", compress_level=1)
    return scale
