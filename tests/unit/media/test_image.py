"""Images of every kind are read as 8 bit RGB."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from farm.errors import InvalidInput
from farm.media.image import read_image


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image"


def corner(path):
    """The upper left pixel as read."""
    return tuple(int(value) for value in read_image(path)[0, 0])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "GIF"])
def test_a_plain_picture_is_read_whatever_its_kind(path, kind):
    Image.new("RGB", (40, 30), (204, 102, 51)).save(path, kind)
    pixels = read_image(path)
    assert pixels.shape == (30, 40, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - (204, 102, 51)).max() <= 3


def test_transparent_parts_show_white_paper(path):
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(path, "PNG")
    assert corner(path) == (255, 255, 255)


def test_half_transparent_parts_let_half_the_paper_through(path):
    Image.new("RGBA", (20, 20), (255, 0, 0, 128)).save(path, "PNG")
    assert corner(path) == (255, 127, 127)


def test_grey_with_alpha_is_laid_over_paper_too(path):
    Image.new("LA", (20, 20), (0, 128)).save(path, "PNG")
    assert corner(path) == (127, 127, 127)


def test_a_palette_with_a_transparent_colour_is_laid_over_paper(path):
    image = Image.new("P", (20, 20), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(path, "PNG", transparency=0)
    assert corner(path) == (255, 255, 255)
    assert tuple(read_image(path)[0, 1]) == (200, 100, 50)


@pytest.mark.parametrize(("grey", "shown"), [(0, 0), (65535, 255), (32896, 128), (257, 1)])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(path, grey, shown):
    Image.fromarray(np.full((20, 20), grey, np.uint16)).save(path, "PNG")
    assert corner(path) == (shown, shown, shown)


@pytest.mark.parametrize(("mode", "colour", "shown"), [("L", 77, 77), ("1", 1, 255)])
def test_grey_and_black_and_white_become_rgb(path, mode, colour, shown):
    Image.new(mode, (20, 20), colour).save(path, "PNG")
    assert corner(path) == (shown, shown, shown)


def test_cmyk_becomes_rgb(path):
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(path, "JPEG")
    red, green, blue = corner(path)
    assert red > 250
    assert green < 5
    assert blue < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright_for_every_orientation(path, orientation):
    # Given an image whose upper left quarter is red, stored as a camera in this orientation would
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = (255, 0, 0)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(path, "PNG", exif=exif)
    # When it is read, then it is upright
    np.testing.assert_array_equal(read_image(path), upright)


def test_an_animation_is_read_as_its_first_frame(path):
    first = Image.new("RGB", (20, 20), (255, 0, 0))
    second = Image.new("RGB", (20, 20), (0, 0, 255))
    first.save(path, "GIF", save_all=True, append_images=[second])
    assert corner(path) == (255, 0, 0)


@pytest.mark.parametrize("content", [b"", b"words", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(20)])
def test_a_file_that_is_not_an_image_is_invalid(path, content):
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"^image: the image cannot be decoded"):
        read_image(path)
