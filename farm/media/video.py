"""Video: single frames read by time, H.264 encoding, thumbnails."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av import VideoFrame, VideoStream
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image

from farm.errors import FFmpegFailed, InvalidInput
from farm.media.container import decode_frames, open_media, video_stream
from farm.media.frame import Pixels, fitted, upright, upright_size
from farm.plan import FPS

ENCODER = {
    "preset": "veryfast",
    # A group of pictures lasts one second and restarts with each segment, so that HLS can cut.
    "g": str(FPS),
    "keyint_min": str(FPS),
    "sc_threshold": "0",
    # Without B-frames decoding order is display order: every segment starts at time zero.
    "bf": "0",
    # x264's output depends on its number of threads; a chunk must have the same bytes everywhere.
    "threads": "4",
    # Its macroblock tree in assembly differs between processors, and in one of about 5,000 small
    # encodes between two runs.
    "x264-params": "cpu-independent=1",
}


def read_frame(path: Path, seconds: float) -> Pixels:
    """The frame shown at one instant; as `frames_at`."""
    return next(frames_at(path, [seconds]))


def frames_at(path: Path, seconds: Sequence[float]) -> Iterator[Pixels]:
    """The frames shown at ascending instants, as uint8 [H, W, 3], `upright`, in one pass.

    Past the end there is one more, the last frame: for the first such instant, and no further. All
    have the size of the video's first frame. Raises InvalidInput if none can be decoded.
    """
    try:
        with open_media(path) as container:
            stream = video_stream(container)
            if stream is None:
                raise InvalidInput(f"{path.name}: it has no video")
            frames = decode_frames(container, stream)
            first = next(frames, None)
            if first is None:
                raise InvalidInput(f"{path.name}: it has no frame that can be decoded")
            aspect = stream.sample_aspect_ratio or Fraction(1)
            size = upright_size(first, aspect)
            for frame in _shown_at(stream, chain([first], frames), seconds):
                yield fitted(upright(frame, aspect), *size)
    except av.FFmpegError as error:
        raise InvalidInput(f"{path.name}: the video cannot be decoded ({error})") from error


def encode_video(path: Path, frames: Iterable[Pixels], *, crf: int = 18) -> int:
    """Writes H.264 (yuv420p, BT.709) at 25 fps without audio; returns the number of frames.

    The suffix chooses the container. The same frames yield the same bytes. Frames are uint8
    [H, W, 3] with even H and W, all of one size; they are taken one by one, so a generator keeps
    memory flat. Raises FFmpegFailed otherwise, or if there is none.
    """
    pending = iter(frames)
    first = next(pending, None)
    if first is None:
        message = f"{path.name}: a video needs at least one frame, got none"
        raise FFmpegFailed(message, retryable=False)
    count = 0
    try:
        with av.open(path, "w", options={"fflags": "+bitexact"}) as container:
            stream = _add_stream(container, first, crf)
            for count, pixels in enumerate(chain([first], pending), start=1):
                container.mux(stream.encode(_video_frame(pixels, first, count - 1)))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        message = f"{path.name}: frame {count} could not be encoded ({error})"
        raise FFmpegFailed(message) from error
    return count


def write_thumbnail(path: Path, frame: Pixels) -> None:
    """Writes the frame, uint8 [H, W, 3], as a JPEG."""
    Image.fromarray(frame).save(path, "JPEG", quality=90)


def _shown_at(
    stream: VideoStream, frames: Iterable[VideoFrame], seconds: Sequence[float]
) -> Iterator[VideoFrame]:
    """For each instant the last frame at or before it, by timestamps, so any frame rate works."""
    start = stream.start_time or 0
    targets = deque(start + round(each / (stream.time_base or 1)) for each in seconds)
    last = None
    for frame in frames:
        while targets and last and frame.pts is not None and frame.pts > targets[0]:
            targets.popleft()
            yield last
        if not targets:
            return
        last = frame
    if last:
        yield last


def _add_stream(container: OutputContainer, first: Pixels, crf: int) -> VideoStream:
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        message = f"a frame is {width}x{height}; yuv420p needs even sides"
        raise FFmpegFailed(message, retryable=False)
    stream = container.add_stream("libx264", rate=FPS, options=ENCODER | {"crf": str(crf)})
    stream.width = width
    stream.height = height
    stream.pix_fmt = "yuv420p"
    # Without these tags each player would guess the colours from the image's height.
    context = stream.codec_context
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    return stream


def _video_frame(pixels: Pixels, first: Pixels, index: int) -> VideoFrame:
    is_rgb = pixels.shape[2:] == (3,) and pixels.dtype == np.uint8
    if not is_rgb or pixels.shape != first.shape:
        got = f"{pixels.dtype} {[*pixels.shape]}"
        wanted = f"uint8 {[*first.shape[:2], 3]}"
        raise FFmpegFailed(f"frame {index} is {got}; wanted {wanted}", retryable=False)
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame = rgb.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    frame.pts = index
    frame.time_base = Fraction(1, FPS)
    return frame
