"""Still images as upright 8 bit sRGB, whatever their file holds."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageCms, ImageFile, PngImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from farm.errors import InvalidInput
from farm.media import exif
from farm.media.hdr import is_beyond_bt709, to_bt709
from farm.media.heic import open_heic

BACKGROUND = (255, 255, 255)
"""White, behind transparent pixels."""

DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    RuntimeError,
    struct.error,
    Image.DecompressionBombError,
)
"""Exceptions that Pillow raises for an image that it cannot decode, depending on the damage."""

# A PNG may hold a workflow or an edit history: megabytes of text, compressed to little.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# One image gains nothing from a thread for each core of the machine.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class _JpegFile(JpegImageFile):
    """A JPEG whose resolution is not looked for, because odd EXIF makes that fail."""

    def _read_dpi_from_exif(self) -> None:
        pass


def _open_png(path: Path) -> PngImageFile:
    """A PNG; one with damaged text or other chunks that no pixel needs is read without those."""
    try:
        return PngImageFile(path)
    except SyntaxError:
        return PngImageFile(BytesIO(_without_damaged_chunks(path.read_bytes())))


_READERS: dict[str, Callable[[Path], ImageFile.ImageFile]] = {
    "JPEG": _JpegFile,
    "PNG": _open_png,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "AVIF": AvifImageFile,
    "HEIC": open_heic,
}

_MAGIC_BYTES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

HEAD_BYTES = 4096
"""Bytes from the beginning of a file that decide what it is."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright; 1 and unknown ones are."""

_QUARTER_TURNED = (5, 6, 7, 8)
"""EXIF orientations whose width and height are swapped."""

_JPEG_END = b"\xff\xd9"

_GREY_16_TO_8 = 65_535 / 255


def image_format(head: bytes) -> str | None:
    """A key of _READERS, by the first HEAD_BYTES of a file; None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS | _AVIF_BRANDS:
        return "AVIF" if _brands(head) & _AVIF_BRANDS else "HEIC"
    formats = (name for magic, name in _MAGIC_BYTES.items() if head.startswith(magic))
    return next(formats, None)


def open_image(path: Path) -> ImageFile.ImageFile:
    """The image's header; `decoded` has its pixels. Raises one of DECODE_ERRORS."""
    # Image.open would warn or refuse by Pillow's process-wide pixel limit; ours is in probe.
    with path.open("rb") as file:
        kind = image_format(file.read(HEAD_BYTES))
    if kind is None:
        raise ValueError(f"{path.name} is not an image; allowed: {', '.join(_READERS)}")
    return _READERS[kind](path)


def decoded(image: ImageFile.ImageFile, path: Path) -> ImageFile.ImageFile:
    """The image that was opened at `path`, its pixels decoded. Raises one of DECODE_ERRORS."""
    try:
        image.load()
    except OSError:
        completed = _with_end_marker(path) if image.format == "JPEG" else None
        if completed is None:
            raise
        return completed
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as shown, by the EXIF orientation."""
    width, height = image.size
    if _orientation(image) in _QUARTER_TURNED:
        return height, width
    return width, height


def read_image(path: Path) -> NDArray[np.uint8]:
    """The image as uint8 [H, W, 3] in sRGB, upright, on white; an animation's first frame.

    Raises InvalidInput if it cannot be decoded.
    """
    try:
        with open_image(path) as opened:
            image = decoded(opened, path)
            pixels = _over_white(image)
            method = _TRANSPOSE.get(_orientation(image))
            return np.array(pixels if method is None else pixels.transpose(method))
    except DECODE_ERRORS as error:
        raise InvalidInput(f"{path.name}: the image cannot be decoded ({error})") from error


def _brands(head: bytes) -> set[bytes]:
    """The major and the compatible brands of an ISO media file (ISO 14496-12, 4.3)."""
    end = int.from_bytes(head[:4], "big")
    box = head[8:end]
    return {box[start : start + 4] for start in range(0, len(box), 4) if start != 4}


def _without_damaged_chunks(png: bytes) -> bytes:
    """A PNG without ancillary chunks of a wrong checksum (PNG specification, 5.3 and 5.4)."""
    kept = [png[:8]]
    start = 8
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        chunk = png[start:end]
        is_ancillary = chunk[4:5].islower()
        if not is_ancillary or crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]:
            kept.append(chunk)
        start = end
    return b"".join(kept)


def _with_end_marker(path: Path) -> JpegImageFile | None:
    """A JPEG that lacks no more than its end marker; None if pixels are missing.

    Missing pixels would be made of whatever bytes follow.
    """
    content = path.read_bytes()
    if content.endswith(b"\xff"):  # what follows would be a marker
        content += b"\0"
    completed = _JpegFile(BytesIO(content + _JPEG_END))
    for bits in (b"\x55", b"\xaa"):
        continued = _JpegFile(BytesIO(content + 1024 * bits + _JPEG_END))
        if continued.tobytes() != completed.tobytes():
            return None
    return completed


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, if there is none or the EXIF is too damaged to tell."""
    if image.format == "HEIF":
        return 1
    tagged = exif.orientation(image.info.get("exif", b""))
    if tagged is not None:
        return tagged
    with suppress(*DECODE_ERRORS, TypeError, KeyError):  # from XMP, too
        return int(image.getexif().get(exif.ORIENTATION, 1))
    return 1


def _over_white(image: Image.Image) -> Image.Image:
    colours = _srgb(_without_alpha(image), image.info)
    alpha = _alpha(image)
    if alpha is None:
        return colours
    return Image.composite(colours, Image.new("RGB", image.size, BACKGROUND), alpha)


def _without_alpha(image: Image.Image) -> Image.Image:
    """The image in the mode L, RGB or CMYK."""
    if image.mode.startswith("I"):  # 16 bit grey; Pillow's conversion clips instead of scaling
        grey = np.asarray(image, np.float32) / _GREY_16_TO_8
        return Image.fromarray(grey.round().astype(np.uint8))
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    if image.mode == "CMYK":
        return image
    # A palette's transparency is lost with a warning unless it becomes a channel first.
    return image.convert("RGBA" if image.has_transparency_data else "RGB").convert("RGB")


def _alpha(image: Image.Image) -> Image.Image | None:
    """The opacity, of the mode L; None if the image has no transparency."""
    if not image.has_transparency_data:
        return None
    if image.mode.startswith("I"):
        is_opaque = np.asarray(image) != image.info["transparency"]
        return Image.fromarray(is_opaque.astype(np.uint8) * np.uint8(255))
    return image.convert("RGBA").getchannel("A")


def _srgb(image: Image.Image, info: Mapping[str | tuple[int, int], Any]) -> Image.Image:
    """An image of the mode L, RGB or CMYK in sRGB.

    By its ICC profile if that is usable, else by the numbers of a HEIC photograph.
    """
    profile = info.get("icc_profile")
    if profile:
        with suppress(ImageCms.PyCMSError):
            converted = ImageCms.profileToProfile(
                image, BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted:
                return converted
    rgb = image.convert("RGB")
    nclx = info.get("nclx_profile") or {}
    curve = nclx.get("transfer_characteristics", 0)
    primaries = nclx.get("color_primaries", 0)
    if not is_beyond_bt709(curve=curve, primaries=primaries):
        return rgb
    pixels = np.asarray(rgb, np.uint16) << np.uint16(8)
    return Image.fromarray(to_bt709(pixels, curve=curve, primaries=primaries))
