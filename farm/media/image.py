"""Pictures: eight bits of red, green and blue, upright, whatever the file holds."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from farm.errors import InvalidInput

BACKDROP = (255, 255, 255)
"""What shows through where a picture is transparent: white paper."""

BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for a picture that it cannot read, by the way in which it is broken."""

_READERS: dict[str, Callable[[Path], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
}

_ORIENTATION = 0x0112
"""The EXIF tag that says which side of a photograph is up."""


def image_format(head: bytes) -> str | None:
    """JPEG, PNG, WEBP or GIF by the first 12 bytes of a file; None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    signs = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF"}
    return next((name for sign, name in signs.items() if head.startswith(sign)), None)


def open_image(path: Path) -> ImageFile.ImageFile:
    """The picture's header; its pixels are decoded when first asked for. Raises one of BROKEN."""
    # Image.open would warn or refuse by Pillow's own pixel limit, which belongs to the whole process; ours is in probe.
    with path.open("rb") as file:
        kind = image_format(file.read(12))
    if kind is None:
        raise ValueError(f"{path.name} is no picture; wanted one of {', '.join(_READERS)}")
    return _READERS[kind](path)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as shown, after the camera's note on which side is up (EXIF orientation)."""
    width, height = image.size
    return (height, width) if image.getexif().get(_ORIENTATION) in (5, 6, 7, 8) else (width, height)


def read_image(path: Path) -> NDArray[np.uint8]:
    """The picture as uint8 [H, W, 3], upright, transparent parts over BACKDROP, the first frame of an animation.

    Raises InvalidInput if it cannot be decoded.
    """
    try:
        with open_image(path) as image:
            return np.array(_rgb(ImageOps.exif_transpose(image)))
    except BROKEN as error:
        raise InvalidInput(f"{path.name}: this picture cannot be read ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion clips at 255 instead of scaling
        image = Image.fromarray((np.asarray(image, np.float32) / 257).round().astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, (*BACKDROP, 255))
    return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
