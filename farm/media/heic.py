"""HEIC photographs, which libheif decodes whole: all tiles of a grid, upright."""

from __future__ import annotations

from pathlib import Path

from PIL.ImageFile import ImageFile


def open_heic(path: Path) -> ImageFile:
    """The header of a HEIC photograph; raises one of Pillow's errors.

    libheif turns and mirrors the image by the file's own properties (irot and imir of ISO/IEC
    23008-12), which the EXIF orientation merely repeats. Of codecs it has HEVC alone.
    """
    # Here, because it takes 27 MB of libraries.
    from pillow_heif import HeifImageFile, options

    options.DECODE_THREADS = 1
    options.THUMBNAILS = False
    options.DEPTH_IMAGES = False
    options.AUX_IMAGES = False
    return HeifImageFile(path)
