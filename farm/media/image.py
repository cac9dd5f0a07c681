"""Still images as upright 8 bit RGB, whatever their file holds."""

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

BACKGROUND = (255, 255, 255)
"""White, behind transparent pixels."""

DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)
"""Exceptions that Pillow raises for an image that it cannot decode, depending on the damage."""

_READERS: dict[str, Callable[[Path], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
}

_MAGIC_BYTES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}

_ORIENTATION = 0x0112
"""The EXIF tag of a photograph's orientation."""

_QUARTER_TURNED = (5, 6, 7, 8)
"""EXIF orientations whose width and height are swapped."""

_GREY_16_TO_8 = 65_535 / 255


def image_format(head: bytes) -> str | None:
    """JPEG, PNG, WEBP or GIF by the first 12 bytes of a file; None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    formats = (name for magic, name in _MAGIC_BYTES.items() if head.startswith(magic))
    return next(formats, None)


def open_image(path: Path) -> ImageFile.ImageFile:
    """The image's header; pixels are decoded on first use. Raises one of DECODE_ERRORS."""
    # Image.open would warn or refuse by Pillow's process-wide pixel limit; ours is in probe.
    with path.open("rb") as file:
        kind = image_format(file.read(12))
    if kind is None:
        raise ValueError(f"{path.name} is not an image; allowed: {', '.join(_READERS)}")
    return _READERS[kind](path)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as shown, by the EXIF orientation."""
    width, height = image.size
    if image.getexif().get(_ORIENTATION) in _QUARTER_TURNED:
        return height, width
    return width, height


def read_image(path: Path) -> NDArray[np.uint8]:
    """The image as uint8 [H, W, 3], upright, on a white background; an animation's first frame.

    Raises InvalidInput if it cannot be decoded.
    """
    try:
        with open_image(path) as image:
            return np.array(_rgb(ImageOps.exif_transpose(image)))
    except DECODE_ERRORS as error:
        raise InvalidInput(f"{path.name}: the image cannot be decoded ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bit grey; Pillow's conversion clips instead of scaling
        grey = np.asarray(image, np.float32) / _GREY_16_TO_8
        image = Image.fromarray(grey.round().astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    background = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
