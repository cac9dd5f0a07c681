"""A decoded frame as it is shown: progressive, upright, with square pixels, in BT.709, on white."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from av import VideoFrame
from av.filter import Graph
from av.video.reformatter import Colorspace, Interpolation
from numpy.typing import NDArray
from PIL import Image

from farm.errors import InvalidInput
from farm.media.container import MAX_PIXELS
from farm.media.hdr import is_beyond_bt709, to_bt709
from farm.media.image import BACKGROUND

Pixels = NDArray[np.uint8]

_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Without these flags the conversion to RGB is two levels too dark."""

_UNSPECIFIED = 2
"""Of AVColorSpace: the video does not say which matrix made its YUV."""

_HD_LINES = 720
"""From this height on players take an untagged video for BT.709, below for BT.601."""

_ROTATIONS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
"""Display matrices by quarter turns anticlockwise."""

_FORMATS = {
    (False, False): "rgb24",
    (True, False): "rgba",
    (False, True): "rgb48le",
    (True, True): "rgba64le",
}
"""By whether a frame has alpha, and is beyond BT.709."""


def upright(frame: VideoFrame, sample_aspect_ratio: Fraction = Fraction(1)) -> Pixels:
    """The frame as it is shown, uint8 [H, W, 3].

    It is deinterlaced if flagged so, turned and mirrored by its display matrix (quarter turns
    only), with square pixels, in BT.709 and on white. `sample_aspect_ratio` is that of its
    stream. Raises InvalidInput beyond MAX_PIXELS.
    """
    progressive = _deinterlaced(frame) if frame.interlaced_frame else frame
    width, height = _square(frame, sample_aspect_ratio)
    if width * height > MAX_PIXELS:
        allowed = f"{MAX_PIXELS / 1e6:g} megapixels"
        raise InvalidInput(f"a frame is shown as {width} x {height} pixels; allowed: {allowed}")
    pixels = _rgb(progressive, width, height)
    is_turned, is_mirrored, is_upside_down = _turn(frame)
    if is_turned:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: -1 if is_upside_down else 1, :: -1 if is_mirrored else 1])


def upright_size(frame: VideoFrame, sample_aspect_ratio: Fraction = Fraction(1)) -> tuple[int, int]:
    """Width and height of the frame as shown."""
    width, height = _square(frame, sample_aspect_ratio)
    is_turned, _, _ = _turn(frame)
    return (height, width) if is_turned else (width, height)


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """[H, W, 3] resized to cover width x height and cropped at the centre."""
    old_height, old_width = pixels.shape[:2]
    if (old_width, old_height) == (width, height):
        return pixels
    scale = max(width / old_width, height / old_height)
    left = (old_width - width / scale) / 2
    top = (old_height - height / scale) / 2
    box = (left, top, old_width - left, old_height - top)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, box)
    return np.asarray(resized)


def _square(frame: VideoFrame, sample_aspect_ratio: Fraction) -> tuple[int, int]:
    """Width and height of the frame in square pixels; as in browsers, neither shrinks."""
    if sample_aspect_ratio >= 1:
        return round(frame.width * sample_aspect_ratio), frame.height
    return frame.width, round(frame.height / sample_aspect_ratio)


def _turn(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """Whether rows become columns, and whether left and right, top and bottom are then exchanged.

    The display matrix takes (x, y) to (a x + c y, b x + d y), y downwards.
    """
    a, b, c, d = _display_matrix(frame)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    matrix: Any
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that PyAV does not know lies beside it
        return _ROTATIONS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return _ROTATIONS[0]
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4")[:5].tolist()
    return a, b, c, d


def _deinterlaced(frame: VideoFrame) -> VideoFrame:
    """The frame's first field, its missing lines interpolated along edges."""
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base or Fraction(1, 25)),
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
    graph.link_nodes(source, graph.add("estdif", mode="frame"), graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    graph.push(None)
    return graph.vpull()


def _rgb(frame: VideoFrame, width: int, height: int) -> Pixels:
    """The frame in BT.709 and on white, [height, width, 3]."""
    is_untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    has_alpha = any(component.is_alpha for component in frame.format.components)
    curve = frame.color_trc
    primaries = frame.color_primaries
    is_wide = is_beyond_bt709(curve=curve, primaries=primaries)
    pixels: Any = frame.reformat(
        width,
        height,
        _FORMATS[has_alpha, is_wide],
        src_colorspace=Colorspace.ITU709 if is_untagged_hd else None,
        interpolation=_EXACT,
        threads=1,
    ).to_ndarray()
    colours: Pixels = pixels[..., :3]
    if is_wide:
        colours = to_bt709(pixels[..., :3], curve=curve, primaries=primaries)
    if not has_alpha:
        return colours
    alpha = pixels[..., 3] >> 8 if is_wide else pixels[..., 3]
    return _on_white(np.ascontiguousarray(colours), np.ascontiguousarray(alpha, np.uint8))


def _on_white(colours: Pixels, alpha: Pixels) -> Pixels:
    """[H, W, 3] with the opacity [H, W] over BACKGROUND."""
    image = Image.fromarray(colours)
    background = Image.new("RGB", image.size, BACKGROUND)
    return np.asarray(Image.composite(image, background, Image.fromarray(alpha)))
