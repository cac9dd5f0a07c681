"""Images of every kind are read as 8 bit RGB."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from farm.errors import InvalidInput
from farm.media.image import image_format, read_image


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image"


def corner(path):
    """The upper left pixel as read."""
    return tuple(int(value) for value in read_image(path)[0, 0])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "GIF", "AVIF"])
def test_a_plain_picture_is_read_whatever_its_kind(path, kind):
    Image.new("RGB", (40, 30), (204, 102, 51)).save(path, kind)
    pixels = read_image(path)
    assert pixels.shape == (30, 40, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - (204, 102, 51)).max() <= 3


def test_transparent_parts_show_white_paper(path):
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(path, "PNG")
    assert corner(path) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_transparent_parts_of_other_kinds_show_white_paper(path, kind):
    image = Image.new("RGBA", (40, 30), (200, 40, 40, 0))
    image.paste((200, 40, 40, 255), (0, 0, 20, 30))
    image.save(path, kind, lossless=True)
    pixels = read_image(path).astype(int)
    assert np.abs(pixels[15, 5] - (200, 40, 40)).max() <= 3
    assert np.abs(pixels[15, 35] - 255).max() <= 3


def test_a_transparent_grey_of_sixteen_bits_shows_white_paper(path):
    grey = np.full((20, 20), 257 * 100, np.uint16)
    grey[:, 10:] += 1
    Image.fromarray(grey).save(path, "PNG", transparency=257 * 100)
    pixels = read_image(path)
    assert pixels[0, 0].tolist() == [255] * 3
    assert pixels[0, 19].tolist() == [100] * 3


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


@pytest.mark.parametrize("kind", ["PNG", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright_for_every_orientation(path, kind, orientation):
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
    Image.fromarray(np.ascontiguousarray(turned)).save(path, kind, exif=exif, subsampling="4:4:4")
    # When it is read, then it is upright
    np.testing.assert_allclose(read_image(path), upright, atol=0 if kind == "PNG" else 60)


def odd_exif(kind, content):
    """EXIF with orientation 6 and an odd resolution, by its TIFF type and value."""
    count = len(content) // {2: 1, 10: 8}[kind]
    entries = [(0x0112, 3, 1, 6), (0x011A, kind, count, 50), (0x0128, 3, 1, 2)]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0\3\0" + packed + bytes(4) + content


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("type_", "content"),
    [(2, b"seventy\0"), (2, b"7"), (10, struct.pack("<ii", -1, 0))],
    ids=["text", "a letter", "-1/0"],
)
def test_an_odd_exif_entry_does_not_keep_a_photograph_from_being_upright(
    path, kind, type_, content
):
    stored = Image.new("RGB", (48, 32), (200, 40, 40))
    stored.paste((40, 160, 60), (24, 0, 48, 32))
    stored.save(path, kind, exif=odd_exif(type_, content))
    pixels = read_image(path).astype(int)
    assert pixels.shape == (48, 32, 3)
    assert np.abs(pixels[4, 16] - (200, 40, 40)).max() <= 12
    assert np.abs(pixels[44, 16] - (40, 160, 60)).max() <= 12


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exchanged_profile():
    """A profile whose red is sRGB's green and the other way round."""
    profile = srgb_profile()
    return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_colours_are_those_of_the_profile(path, kind):
    image = Image.new("RGB", (40, 30), (200, 40, 60))
    image.save(path, kind, icc_profile=exchanged_profile(), quality=95)
    pixels = read_image(path)[15, 20].astype(int)
    assert np.abs(pixels - (40, 200, 60)).max() <= 4


def test_a_profile_does_not_touch_the_transparency(path):
    image = Image.new("RGBA", (20, 20), (200, 40, 60, 128))
    image.save(path, "PNG", icc_profile=exchanged_profile())
    assert corner(path) == pytest.approx((147, 227, 157), abs=2)


def test_a_profile_colours_a_palette(path):
    image = Image.new("P", (20, 20), 0)
    image.putpalette([200, 40, 60])
    image.save(path, "PNG", icc_profile=exchanged_profile())
    assert corner(path) == pytest.approx((40, 200, 60), abs=2)


@pytest.mark.parametrize("profile", [b"no profile", srgb_profile()[:200]])
@pytest.mark.parametrize(("mode", "colour"), [("RGB", (200, 40, 60)), ("L", 77)])
def test_an_unusable_profile_is_ignored(path, profile, mode, colour):
    Image.new(mode, (20, 20), colour).save(path, "PNG", icc_profile=profile)
    assert corner(path) == (colour if mode == "RGB" else (77, 77, 77))


def test_a_profile_of_other_colours_than_the_images_is_ignored(path):
    Image.new("L", (20, 20), 77).save(path, "PNG", icc_profile=srgb_profile())
    assert corner(path) == (77, 77, 77)


def cmyk_profile():
    """A profile that shows every ink as grey, of the lightness 50 where there is only cyan."""
    identity = bytes(range(256))
    lightness = [128 if cyan and not other else 255 for cyan in (0, 1) for other in range(8)]
    table = b"".join(bytes([value, 128, 128]) for value in lightness)
    matrix = struct.pack(">9i", *(65536 * (index % 4 == 0) for index in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * identity + table + 3 * identity
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    size = 128 + 4 + 24 + len(lut) + len(white)
    header = struct.pack(">I4xI4s4s4s", size, 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    tags = struct.pack(">I4sII4sII", 2, b"A2B0", 156, len(lut), b"wtpt", 156 + len(lut), len(white))
    return header + tags + lut + white


def test_cmyk_has_the_colours_of_its_profile(path):
    image = Image.new("CMYK", (20, 20), (255, 0, 0, 0))
    image.save(path, "JPEG", icc_profile=cmyk_profile(), quality=95)
    assert corner(path) == pytest.approx((119, 119, 119), abs=3)
    image.save(path, "JPEG", quality=95)
    assert corner(path) == pytest.approx((0, 255, 255), abs=3)


@pytest.mark.parametrize("keyword", ["workflow", "XML:com.adobe.xmp"])
def test_a_png_with_much_compressed_text_is_read(path, keyword):
    text = PngInfo()
    text.add_itxt(keyword, "words " * 500_000, zip=True)
    text.add_text("prompt", "words " * 500_000, zip=True)
    Image.new("RGB", (20, 20), (200, 100, 50)).save(path, "PNG", pnginfo=text)
    assert path.stat().st_size < 100_000
    assert corner(path) == (200, 100, 50)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
GREY = Image.new("RGB", (640, 480), (128, 128, 128))


@pytest.mark.parametrize("image", [NOISE, GREY], ids=["noise", "grey"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(path, image, progressive, lost):
    image.save(path, "JPEG", progressive=progressive)
    whole = read_image(path)
    path.write_bytes(path.read_bytes()[:-lost])
    np.testing.assert_array_equal(read_image(path), whole)


@pytest.mark.parametrize("image", [NOISE, GREY], ids=["noise", "grey"])
@pytest.mark.parametrize("lost", [4, 5, 6, 7, 8, 100, 600])
def test_a_jpeg_that_lacks_pixels_is_invalid(path, image, lost):
    image.save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(InvalidInput, match="truncated"):
        read_image(path)


def ftyp(*brands):
    content = brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I4s", 8 + len(content), b"ftyp") + content + bytes(8) + b"meta"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (ftyp(b"avif", b"avif", b"mif1"), "AVIF"),
        (ftyp(b"mif1", b"mif1", b"avif"), "AVIF"),
        (ftyp(b"heic", b"mif1", b"heic"), "HEIC"),
        (ftyp(b"mif1", b"mif1", b"heix"), "HEIC"),
        (ftyp(b"isom", b"isom", b"avc1"), None),
        (ftyp(b"qt  ", b"qt  ", b"mif1"), None),
    ],
)
def test_heic_and_avif_are_told_by_their_brands(head, kind):
    assert image_format(head) == kind


@pytest.mark.parametrize("before_pixels", [True, False])
def test_a_png_whose_text_is_damaged_is_read(path, before_pixels):
    text = PngInfo()
    text.add(b"tEXt", b"Comment\0words", after_idat=not before_pixels)
    Image.new("RGB", (20, 20), (204, 102, 51)).save(path, "PNG", pnginfo=text)
    path.write_bytes(path.read_bytes().replace(b"words", b"sword"))
    assert corner(path) == (204, 102, 51)


def test_a_png_whose_pixels_are_damaged_is_invalid(path):
    Image.new("RGB", (20, 20), (204, 102, 51)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 255
    path.write_bytes(content)
    with pytest.raises(InvalidInput):
        read_image(path)


def test_a_tag_that_points_beyond_the_exif_does_not_hide_the_orientation(path):
    make = struct.pack(">HHII", 0x010F, 2, 2**31, 8)
    orientation = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    block = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + make + orientation + bytes(4)
    Image.new("RGB", (40, 30)).save(path, "JPEG", exif=block)
    assert read_image(path).shape == (40, 30, 3)


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
