"""HEIC photographs, as telephones write them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageOps

from farm.errors import InvalidInput
from farm.media import decoder
from farm.media.image import open_image, read_image
from farm.media.probe import StillImage, probe
from farm.media.sandbox import sandboxed

RED = (200, 40, 40)
CORNERS = (RED, (40, 160, 60), (50, 70, 190), (220, 200, 60))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image"


def card(width=300, height=200):
    """A picture with a colour in each corner, no two alike."""
    picture = Image.new("RGB", (width, height), (235, 235, 235))
    places = [(x, y) for y in (0, height - 80) for x in (0, width - 80)]
    for place, colour in zip(places, CORNERS, strict=True):
        picture.paste(colour, (*place, place[0] + 80, place[1] + 80))
    return picture


def write(path, image, *, orientation=1, tile_size=128, **options):
    """Writes a photograph, in tiles and with its orientation as a property, as an iPhone does."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with path.open("wb") as file:
        pillow_heif.from_pillow(image).save(
            file, quality=95, chroma=444, tile_size=tile_size, exif=exif.tobytes(), **options
        )


def assert_shows(path, wanted):
    """That all patches of 8 pixels a side have the right colours."""
    pixels = read_image(path).astype(int)
    assert pixels.shape[1::-1] == wanted.size
    got = pixels[4::16, 4::16]
    assert np.abs(got - np.asarray(wanted, int)[4::16, 4::16]).max() <= 4


@pytest.mark.parametrize("tile_size", [0, 128])
def test_all_tiles_are_read(path, tile_size):
    write(path, card(), tile_size=tile_size)
    assert_shows(path, card())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_once(path, orientation):
    write(path, card(), orientation=orientation)
    turned = card()
    turned.getexif()[0x0112] = orientation
    assert_shows(path, ImageOps.exif_transpose(turned))
    assert probe(path, field="field") == StillImage(*read_image(path).shape[1::-1], "HEIF")


def test_the_orientation_of_exif_alone_is_ignored_as_by_viewers(path):
    write(path, card(), orientation=6)
    content = path.read_bytes()
    assert content.count(b"irot\3") == 1
    path.write_bytes(content.replace(b"irot\3", b"irot\0"))
    assert_shows(path, card())


def test_colours_are_those_of_the_profile(path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ")
    image = card()
    image.info["icc_profile"] = exchanged.replace(b"????", b"gXYZ")
    write(path, image)
    assert_shows(path, Image.merge("RGB", [card().getchannel(name) for name in "GRB"]))


def test_colours_of_display_p3_are_those_of_its_numbers(path):
    red = Image.new("RGB", (64, 64), (181, 58, 52))
    write(path, red, color_primaries=12, transfer_characteristic=13)
    assert np.abs(read_image(path)[32, 32].astype(int) - RED).max() <= 4


def test_transparent_parts_show_white_paper(path):
    image = card().convert("RGBA")
    image.paste((0, 0, 0, 0), (120, 0, 180, 200))
    write(path, image)
    pixels = read_image(path)
    assert pixels[100, 150].tolist() == [255] * 3
    assert np.abs(pixels[10, 10].astype(int) - RED).max() <= 4


def test_a_photograph_is_decoded_in_the_sandbox(path, tmp_path):
    write(path, card())
    png = tmp_path / "image.png"
    visual = sandboxed(decoder.read_visual)(path=path, image=png, field="cond_video")
    assert visual.found == StillImage(300, 200, "HEIF")
    assert Image.open(png).size == (300, 200)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_half_a_photograph_is_refused(path, kept):
    write(path, card())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    for read in (read_image, partial(probe, field="field")):
        with pytest.raises(InvalidInput, match="cannot be decoded"):
            read(path)


def test_one_codec_alone_is_decoded_and_in_one_thread(path):
    write(path, card())
    open_image(path)
    assert list(pillow_heif.libheif_info()["decoders"]) == ["libde265"]
    assert pillow_heif.options.DECODE_THREADS == 1
