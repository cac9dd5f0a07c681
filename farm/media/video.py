"""Moving pictures: single frames read by their time, segments written for joining, a thumbnail."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av import VideoFrame, VideoStream
from av.container import InputContainer, OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from numpy.typing import NDArray
from PIL import Image

from farm.errors import FFmpegFailed, InvalidInput
from farm.media.container import decode_frames, open_media, video_stream
from farm.plan import FPS

Pixels = NDArray[np.uint8]

ENCODER = {
    "preset": "veryfast",
    # A group of pictures lasts one second and starts anew with each segment, or HLS could not cut there.
    "g": str(FPS),
    "keyint_min": str(FPS),
    "sc_threshold": "0",
    # Without frames that refer to later ones, decoding order is showing order: every segment starts at time zero.
    "bf": "0",
    # x264's result depends on how many threads it has; the same chunk made elsewhere shall have the same bytes.
    "threads": "4",
    # Its macroblock tree in assembly differs between processors, and in one of some 5,000 small encodes from itself.
    "x264-params": "cpu-independent=1",
}

_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Without these the conversion to RGB is two steps too dark."""


def read_frame(path: Path, seconds: float) -> Pixels:
    """The frame shown at `seconds` from the first one, as uint8 [H, W, 3], upright; past the end the last one.

    Raises InvalidInput if no frame of the file can be decoded.
    """
    try:
        with open_media(path) as container:
            frame = _shown_at(container, seconds)
            return upright(frame) if frame else _no_frame(path)
    except av.FFmpegError as error:
        raise InvalidInput(f"{path.name}: this video cannot be read ({error})") from error


def upright(frame: VideoFrame) -> Pixels:
    """The frame's pixels, uint8 [H, W, 3], turned as the camera's display matrix says (quarter turns only)."""
    picture = frame.reformat(format="rgb24", interpolation=_EXACT).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90) % 4))


def write_segment(path: Path, frames: Iterable[Pixels], *, crf: int = 18) -> int:
    """How many frames were written: H.264 (yuv420p, BT.709), 25 fps, no sound, in the format that the suffix names.

    The same frames make the same bytes. Frames are uint8 [H, W, 3] with even H and W, all of one size; they are taken
    one by one, so a generator keeps memory flat. Raises FFmpegFailed otherwise, or if there is none.
    """
    pending = iter(frames)
    first = next(pending, None)
    if first is None:
        raise FFmpegFailed(f"{path.name}: a segment needs at least one frame, got none", retryable=False)
    count = 0
    try:
        with av.open(path, "w", options={"fflags": "+bitexact"}) as container:
            stream = _encoder(container, first, crf)
            for count, pixels in enumerate(chain([first], pending), start=1):
                container.mux(stream.encode(_coded(pixels, first, count - 1)))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise FFmpegFailed(f"{path.name}: frame {count} could not be encoded ({error})") from error
    return count


def write_thumbnail(path: Path, frame: Pixels) -> None:
    """The frame, uint8 [H, W, 3], as a JPEG."""
    Image.fromarray(frame).save(path, "JPEG", quality=90)


def _no_frame(path: Path) -> Pixels:
    raise InvalidInput(f"{path.name}: holds no frame that can be decoded")


def _shown_at(container: InputContainer, seconds: float) -> VideoFrame | None:
    """The last frame at or before `seconds`, by the frames' own times, so that an uneven frame rate does no harm."""
    stream = video_stream(container)
    if stream is None or stream.time_base is None:
        return None
    stream.thread_type = "AUTO"
    start = stream.start_time or 0
    target = start + round(seconds / stream.time_base)
    frame = _last_until(container, stream, target) if _seek(container, stream, target) else None
    if frame is None or (frame.pts is not None and frame.pts > target):
        # No index, or an open group of pictures, whose key frame is shown after frames that come behind it.
        _seek(container, stream, start)
        frame = _last_until(container, stream, target)
    return frame


def _seek(container: InputContainer, stream: VideoStream, target: int) -> bool:
    try:
        container.seek(target, stream=stream)
    except av.FFmpegError:
        return False
    return True


def _last_until(container: InputContainer, stream: VideoStream, target: int) -> VideoFrame | None:
    """The last frame whose time is not above `target`; the first one if all are."""
    last = None
    for frame in decode_frames(container, stream):
        if last and frame.pts is not None and frame.pts > target:
            break
        last = frame
    return last


def _encoder(container: OutputContainer, first: Pixels, crf: int) -> VideoStream:
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise FFmpegFailed(f"a frame is {width}x{height}; yuv420p needs even sides", retryable=False)
    stream = container.add_stream("libx264", rate=FPS, options=ENCODER | {"crf": str(crf)})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    # Said aloud, or each player would guess the colours by the picture's height.
    context = stream.codec_context
    context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _coded(pixels: Pixels, first: Pixels, index: int) -> VideoFrame:
    if pixels.shape != first.shape or pixels.shape[2:] != (3,) or pixels.dtype != np.uint8:
        wanted = f"uint8 {[*first.shape[:2], 3]}"
        raise FFmpegFailed(f"frame {index} is {pixels.dtype} {[*pixels.shape]}; wanted {wanted}", retryable=False)
    picture = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
    frame.pts, frame.time_base = index, Fraction(1, FPS)
    return frame
