"""A frame is read as players show it, whatever its video says about shape and colour."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from farm.errors import InvalidInput
from farm.media.frame import upright
from farm.media.probe import expect_visual
from farm.media.scenes import cuts
from farm.media.video import read_frame

PATCHES = [(200, 40, 40), (40, 160, 60), (50, 70, 190), (220, 200, 60), (210, 160, 130), (128,) * 3]
"""Colours whose light is below the knee of the tone mapping."""


def card(width=64, height=48):
    """Red, green, blue and yellow quarters; uint8 [height, width, 3]."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = PATCHES[0]
    pixels[: height // 2, width // 2 :] = PATCHES[1]
    pixels[height // 2 :, : width // 2] = PATCHES[2]
    pixels[height // 2 :, width // 2 :] = PATCHES[3]
    return pixels


def corners(pixels):
    """The names of the quarters' colours, row by row."""
    height, width = pixels.shape[:2]
    names = ["red", "green", "blue", "yellow"]
    return [
        names[int(np.abs(np.array(PATCHES[:4]) - pixels[y, x]).sum(1).argmin())]
        for y in (height // 4, height * 3 // 4)
        for x in (width // 4, width * 3 // 4)
    ]


def film(path, frames, codec="libx264", pix_fmt="yuv420p", prepare=None, **options):
    """Writes frames, [H, W, 3 or 4] or av.VideoFrame; `prepare` is called with the stream."""
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, options={"crf": "8"} | options)
        frames = [
            each if isinstance(each, av.VideoFrame) else av.VideoFrame.from_ndarray(each, layout)
            for each in frames
            for layout in ["rgb24" if getattr(each, "shape", (0, 0, 3))[2] == 3 else "rgba"]
        ]
        stream.width = frames[0].width
        stream.height = frames[0].height
        stream.pix_fmt = pix_fmt
        if prepare:
            prepare(stream)
        for number, frame in enumerate(frames):
            frame.pts = number
            frame.time_base = Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize(("hflip", "vflip"), [(True, False), (False, True)])
def test_a_mirrored_video_is_shown_mirrored_and_upright(tmp_path, turns, hflip, vflip):
    path = film(
        tmp_path / "x.mp4",
        [card()],
        prepare=lambda stream: stream.set_display_rotation(90 * turns, hflip=hflip, vflip=vflip),
    )
    shown = np.rot90(card(), turns)
    shown = shown[:, ::-1] if hflip else shown[::-1]
    assert corners(read_frame(path, 0)) == corners(shown)
    found = expect_visual(path, field="cond_video")
    assert (found.height, found.width) == shown.shape[:2]


class WithUnknownSideData:
    """A frame that also has side data of a kind that PyAV does not know."""

    def __init__(self, frame):
        self.frame = frame

    def __getattr__(self, name):
        return getattr(self.frame, name)

    @property
    def side_data(self):
        raise ValueError("49 is not a valid Type")


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_frame_is_upright_whatever_other_side_data_it_has(tmp_path, turns):
    path = film(
        tmp_path / "x.mp4",
        [card()],
        prepare=lambda stream: stream.set_display_rotation(90 * turns),
    )
    with av.open(path) as container:
        (frame,) = container.decode(video=0)
        seen = upright(WithUnknownSideData(frame))
    assert corners(seen) == corners(np.rot90(card(), turns))


def test_a_frame_whose_pixels_are_too_wide_is_refused(tmp_path):
    frame = av.VideoFrame(64, 48, "rgb24")
    with pytest.raises(InvalidInput, match=r"640000000 x 48 pixels; allowed: 64 megapixels"):
        upright(frame, Fraction(10_000_000))


@pytest.mark.parametrize(
    ("aspect", "size"),
    [("4/3", (85, 48)), ("64/45", (91, 48)), ("2/1", (128, 48)), ("1/2", (64, 96))],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pixels_become_square(tmp_path, aspect, size, suffix):
    def stretch(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)

    path = film(tmp_path / f"x.{suffix}", [card()], prepare=stretch)
    found = expect_visual(path, field="cond_video")
    pixels = read_frame(path, 0)
    assert (found.width, found.height) == pytest.approx(size, abs=1)
    assert pixels.shape[:2] == (found.height, found.width)
    assert corners(pixels) == corners(card())


@pytest.mark.parametrize(("height", "matrix"), [(720, "ITU709"), (718, "ITU601")])
def test_an_untagged_video_is_of_bt709_from_720_lines_on(tmp_path, height, matrix):
    rgb = av.VideoFrame.from_ndarray(card(1280, height), format="rgb24")
    frame = rgb.reformat(format="yuv444p", dst_colorspace=Colorspace[matrix])
    frame.colorspace = 2
    pixels = read_frame(film(tmp_path / "x.mp4", [frame], pix_fmt="yuv444p"), 0)
    assert np.abs(pixels[100, 100].astype(int) - PATCHES[0]).max() <= 2


def wide_film(path, signal, curve, primaries=ColorPrimaries.BT2020):
    """Writes colours [K, 3], RGB in [0, 1], as patches of 64 pixels in BT.2020 YUV of 10 bits."""
    red, green, blue = np.repeat(np.repeat(signal[None], 64, 0), 64, 1).transpose(2, 0, 1)
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = (
        64 + 876 * luma,
        512 + 896 * (blue - luma) / 1.8814,
        512 + 896 * (red - luma) / 1.4746,
    )
    frame = av.VideoFrame(luma.shape[1], luma.shape[0], "yuv444p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
        rows[:, : plane.width] = values.round()
        plane.update(rows.tobytes())

    def tag(tagged):
        tagged.color_range = ColorRange.MPEG
        tagged.colorspace = 9
        tagged.color_primaries = primaries
        tagged.color_trc = curve

    tag(frame)
    return film(
        path,
        [frame],
        "ffv1",
        "yuv444p10le",
        lambda stream: tag(stream.codec_context),
    )


def in_bt2020(colours):
    """The linear light of colours (R, G, B) as shown by an ordinary screen, in BT.2020."""
    to_bt2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    return (np.array(colours) / 255) ** 2.4 @ np.transpose(to_bt2020)


def pq(nits):
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(nits):
    """For the nominal screen of 1000 nits, so with its inverse gamma of 1.2."""
    luminance = nits @ [0.2627, 0.6780, 0.0593] / 1000
    scene = nits / 1000 * luminance[:, None] ** (1 / 1.2 - 1)
    low = np.sqrt(3 * scene)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, low, high)


def shown(path, count):
    """The colours of a wide film's patches, [count, 3]."""
    return read_frame(path, 0)[32, 32 : 64 * count : 64].astype(int)


@pytest.mark.parametrize(
    ("curve", "encode"),
    [
        (ColorTrc.BT2020_10, lambda light: light ** (1 / 2.4)),
        (ColorTrc.SMPTE2084, lambda light: pq(203 * light)),
        (ColorTrc.ARIB_STD_B67, lambda light: hlg(203 * light)),
    ],
    ids=["BT.2020", "PQ", "HLG"],
)
def test_wide_colours_look_the_same_in_bt709(tmp_path, curve, encode):
    path = wide_film(tmp_path / "x.mkv", encode(in_bt2020(PATCHES)), curve)
    assert np.abs(shown(path, len(PATCHES)) - PATCHES).max() <= 2


@pytest.mark.parametrize(
    ("curve", "encode"),
    [(ColorTrc.SMPTE2084, pq), (ColorTrc.ARIB_STD_B67, hlg)],
    ids=["PQ", "HLG"],
)
def test_paper_is_white_and_highlights_are_brighter(tmp_path, curve, encode):
    nits = np.repeat([[100.0], [165.0], [203.0], [300.0], [1000.0]], 3, axis=1)
    path = wide_film(tmp_path / "x.mkv", encode(nits), curve, ColorPrimaries.UNSPECIFIED)
    grey, light, paper, bright, brightest = shown(path, 5)[:, 0]
    assert grey == pytest.approx(190, abs=2)
    assert light == pytest.approx(234, abs=2)
    assert 240 <= paper < bright < brightest <= 255


def interlaced(path, *, flagged):
    """A video of a bar that moves between the fields of each frame."""

    def frame(number):
        pixels = np.full((96, 128, 3), 40, np.uint8)
        for field in (0, 1):
            left = 16 * number + 8 * field
            pixels[field::2, left : left + 24] = 220
        return pixels

    return film(
        path,
        [frame(number) for number in range(5)],
        flags="+ildct+ilme" if flagged else "-ildct",
        **{"x264-params": f"tff={int(flagged)}"},
    )


def combing(pixels):
    grey = pixels.mean(axis=2)
    return np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).max()


def test_an_interlaced_video_is_not_combed(tmp_path):
    assert combing(read_frame(interlaced(tmp_path / "plain.mp4", flagged=False), 0.08)) > 100
    pixels = read_frame(interlaced(tmp_path / "flagged.mp4", flagged=True), 0.08)
    assert combing(pixels) < 10
    assert pixels[48, 44].mean() > 200
    assert pixels.shape == (96, 128, 3)


def tag_alpha(stream):
    stream.metadata["alpha_mode"] = "1"


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "options", "prepare"),
    [
        ("webm", "libvpx-vp9", "yuva420p", {}, tag_alpha),
        ("mov", "prores_ks", "yuva444p10le", {"profile": "4444"}, None),
    ],
)
def test_transparent_parts_of_a_video_are_white(tmp_path, suffix, codec, pix_fmt, options, prepare):
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[:, :32, 3] = 255
    path = film(tmp_path / f"x.{suffix}", [pixels] * 4, codec, pix_fmt, prepare, **options)
    for seconds in (0, 0.12):
        frame = read_frame(path, seconds).astype(int)
        assert np.abs(frame[24, 8] - (255, 0, 0)).max() <= 3
        assert np.abs(frame[24, 56] - 255).max() <= 3


def packets_of(frames, codec, pix_fmt="yuv420p"):
    """Frames of one size as packets of their own encoder."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = frames[0].shape[:2]
    encoder.pix_fmt = pix_fmt
    encoder.time_base = Fraction(1, 25)
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = number
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def shape_shifter(path, codec, *films, pix_fmt="yuv420p"):
    """Writes films, lists of frames of one size each, one after the other into one stream."""
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width = films[0][0].shape[:2]
        stream.pix_fmt = pix_fmt
        packets = [packet for frames in films for packet in packets_of(frames, codec, pix_fmt)]
        for number, packet in enumerate(packets):
            packet.pts = number
            packet.dts = number
            packet.time_base = Fraction(1, 25)
            packet.stream = stream
            out.mux(packet)
    return path


def test_frames_keep_the_first_ones_size_when_a_video_changes_its_shape(tmp_path):
    # Given a phone that is turned, and whose network then becomes slow
    turned = np.full((64, 48, 3), 235, np.uint8)
    turned[8:-8, 8:-8] = 20
    parts = [[card()] * 5, [turned] * 5, [card(32, 24)] * 5]
    path = shape_shifter(tmp_path / "x.webm", "libvpx", *parts)
    # When its frames are read, then they have one size and their content its shape
    assert [read_frame(path, seconds).shape for seconds in (0, 0.3, 0.5)] == [(48, 64, 3)] * 3
    assert corners(read_frame(path, 0.5)) == corners(card())
    middle = read_frame(path, 0.3)
    assert middle[24, 4].mean() > 200
    assert middle[24, 16].mean() < 60
    assert middle[1, 32].mean() < 60
    # and its cuts are still found
    assert cuts(path, frames=100) == [5, 10]


def test_a_later_frame_beyond_the_limit_is_refused(tmp_path):
    huge = np.zeros((8200, 8200, 3), np.uint8)
    path = shape_shifter(tmp_path / "x.mkv", "mjpeg", [card()] * 3, [huge], pix_fmt="yuvj420p")
    assert read_frame(path, 0.04).shape == (48, 64, 3)
    for read in (lambda: read_frame(path, 0.12), lambda: cuts(path, frames=10)):
        with pytest.raises(InvalidInput, match=r"^x\.mkv: .*at most 64 megapixels"):
            read()


def two_tracks(path, default, **streams):
    """A film whose tracks show one grey each; the one at the index `default` is flagged."""
    with av.open(path, "w") as out:
        tracks = []
        for grey, count in streams.values():
            stream = out.add_stream("mjpeg" if count == 1 else "libx264", rate=25)
            stream.width = 64
            stream.height = 48
            stream.pix_fmt = "yuvj420p" if count == 1 else "yuv420p"
            stream.disposition = Disposition.default if len(tracks) == default else Disposition(0)
            tracks.append((stream, grey, count))
        for stream, grey, count in tracks:
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), "rgb24")
                frame.pts = number
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_track_flagged_as_default_is_read(tmp_path, suffix):
    path = two_tracks(tmp_path / f"x.{suffix}", 1, commentary=(40, 5), film=(200, 5))
    assert read_frame(path, 0).mean() == pytest.approx(200, abs=3)


@pytest.mark.parametrize(("suffix", "default"), [("mkv", 1), ("mp4", 1), ("mp4", 0)])
def test_a_cover_is_no_film(tmp_path, suffix, default):
    path = two_tracks(tmp_path / f"x.{suffix}", default, cover=(40, 1), film=(200, 5))
    assert read_frame(path, 0).mean() == pytest.approx(200, abs=3)


@pytest.mark.parametrize("codec", ["qtrle", "png"])
def test_a_codec_that_nobody_films_with_is_refused_by_name(tmp_path, codec):
    path = film(tmp_path / "x.mov", [card()], codec, "rgb24")
    with pytest.raises(InvalidInput, match=rf"^x\.mov: the codec of its video is {codec}; allowed"):
        read_frame(path, 0)
    with pytest.raises(InvalidInput, match=rf"^cond_video: the codec of its video is {codec}"):
        expect_visual(path, field="cond_video")
