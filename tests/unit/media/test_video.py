"""Frames read by their time, and segments that can be joined."""

from __future__ import annotations

import subprocess
from fractions import Fraction

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from farm.errors import FFmpegFailed, InvalidInput
from farm.media.probe import probe
from farm.media.video import ENCODER, encode_video, read_frame, write_thumbnail


def number(pixels):
    """The number that a counting frame shows."""
    return int(np.packbits(pixels[24, 4::8, 0] > 127)[0])


@pytest.fixture
def uneven(tmp_path, counting):
    """A video whose five frames are shown at 0, 0.1, 0.2, 1.0 and 3.0 s."""
    with av.open(tmp_path / "uneven.mkv", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = 64
        stream.height = 48
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, milliseconds in zip(counting(5), (0, 100, 200, 1000, 3000), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = milliseconds
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return tmp_path / "uneven.mkv"


def test_a_still_scene_of_theora_is_read(tmp_path, counting):
    """Its frames are empty packets."""
    encode_video(tmp_path / "still.mp4", counting(1) * 50)
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    options = ["-loglevel", "error", "-i", "still.mp4", "-c:v", "libtheora", "-q:v", "10"]
    subprocess.run([ffmpeg, *options, "still.ogv"], cwd=tmp_path, check=True)
    with av.open(tmp_path / "still.ogv") as container:
        assert not all(packet.size for packet in container.demux() if packet.pts is not None)
    assert number(read_frame(tmp_path / "still.ogv", 1.5)) == 0
    assert probe(tmp_path / "still.ogv", field="film").seconds == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("index", [0, 1, 24, 25, 26, 60, 80])
def test_every_frame_is_found_by_its_time(tmp_path, counting, suffix, index):
    encode_video(tmp_path / f"x.{suffix}", counting(81))
    assert number(read_frame(tmp_path / f"x.{suffix}", index / 25)) == index


@pytest.mark.parametrize(
    ("seconds", "index"), [(0.039, 0), (0.041, 1), (0.999, 24), (3.3, 80), (1e6, 80), (-1, 0)]
)
def test_between_two_frames_the_earlier_one_is_read_and_past_the_end_the_last(
    tmp_path, counting, seconds, index
):
    encode_video(tmp_path / "x.mp4", counting(81))
    assert number(read_frame(tmp_path / "x.mp4", seconds)) == index


@pytest.mark.parametrize(
    ("seconds", "index"), [(0, 0), (0.15, 1), (0.9, 2), (1.0, 3), (2.99, 3), (3.0, 4), (9, 4)]
)
def test_a_variable_frame_rate_is_read_by_timestamps(uneven, seconds, index):
    assert number(read_frame(uneven, seconds)) == index


def test_b_frames_are_found_by_their_time(tmp_path, counting):
    # Given a video with B-frames and open groups of pictures
    with av.open(tmp_path / "x.mp4", "w") as out:
        stream = out.add_stream(
            "libx264", rate=25, options={"x264-params": "bframes=3:open-gop=1:keyint=12:crf=10"}
        )
        stream.width = 64
        stream.height = 48
        stream.pix_fmt = "yuv420p"
        for pixels in counting(60):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    # When each frame is read by its time, then each is itself
    assert [number(read_frame(tmp_path / "x.mp4", index / 25)) for index in range(60)] == list(
        range(60)
    )


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_rotated_video_is_read_upright(tmp_path, turns):
    # Given a video, red in its upper left quarter, with a display rotation
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:24, :32] = (255, 0, 0)
    stored = np.ascontiguousarray(np.rot90(upright, -turns))
    with av.open(tmp_path / "x.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width = stored.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(turns * 90)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        out.mux(stream.encode(None))
    # When a frame is read, then the red is at the upper left
    seen = read_frame(tmp_path / "x.mp4", 0)
    assert seen.shape == upright.shape
    assert seen[12, 16, 0] > 200
    assert seen[36, 48, 0] < 50
    assert seen[12, 48, 0] < 50
    assert seen[36, 16, 0] < 50


@pytest.mark.parametrize("content", [b"", b"words", b"\0\0\0\x20ftypisom" + bytes(100)])
def test_a_file_that_is_not_a_video_is_invalid(tmp_path, content):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"^x\.mp4"):
        read_frame(tmp_path / "x.mp4", 0)


@pytest.mark.parametrize(
    "colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120), (255, 255, 255), (0, 0, 0)]
)
def test_colours_survive_being_written_and_read(tmp_path, colour):
    encode_video(tmp_path / "x.mp4", [np.full((64, 64, 3), colour, np.uint8)])
    error = read_frame(tmp_path / "x.mp4", 0)[8:-8, 8:-8].astype(int) - colour
    assert np.abs(error).max() <= 2


def test_a_segment_has_the_promised_format(tmp_path, counting):
    assert encode_video(tmp_path / "x.mp4", counting(60)) == 60
    with av.open(tmp_path / "x.mp4") as container:
        (stream,) = container.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt, stream.average_rate, stream.frames) == (
            "h264",
            "yuv420p",
            25,
            60,
        )
        assert (context.colorspace, context.color_range, context.color_primaries) == (1, 1, 1)
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 25, 50]
    assert all(packet.pts == packet.dts for packet in packets)
    assert packets[0].pts == 0


def test_the_same_frames_make_the_same_bytes(tmp_path):
    frames = list(np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8))
    for name in "ab":
        encode_video(tmp_path / f"{name}.mp4", frames)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_an_older_processor_makes_the_same_bytes(tmp_path, monkeypatch):
    # Given a moving image, so that the encoder weighs how later frames depend on earlier ones
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    frames = [np.roll(noise, shift, axis=1) for shift in range(9)]
    encode_video(tmp_path / "a.mp4", frames)
    monkeypatch.setitem(ENCODER, "x264-params", ENCODER["x264-params"] + ":asm=SSE2")
    encode_video(tmp_path / "b.mp4", frames)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_frames_are_taken_one_by_one(tmp_path, counting):
    # Given a source that counts its frames in memory
    alive = set()
    most = 0

    class Pixels(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def source():
        nonlocal most
        for pixels in counting(200):
            fresh = pixels.copy().view(Pixels)
            alive.add(id(fresh))
            most = max(most, len(alive))
            yield fresh
            del fresh

    # When they are written, then only a few of them were in memory at any time
    encode_video(tmp_path / "x.mp4", source())
    assert most < 10


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "at least one frame"),
        ([np.zeros((48, 63, 3), np.uint8)], "63x48; yuv420p needs even sides"),
        ([np.zeros((48, 64), np.uint8)], r"uint8 \[48, 64\]; wanted uint8 \[48, 64, 3\]"),
        ([np.zeros((48, 64, 3), np.float32)], "float32"),
        (
            [np.zeros((48, 64, 3), np.uint8), np.zeros((48, 32, 3), np.uint8)],
            r"frame 1 is uint8 \[48, 32, 3\]",
        ),
    ],
)
def test_invalid_frames_are_refused_with_a_reason(tmp_path, frames, message):
    with pytest.raises(FFmpegFailed, match=message) as caught:
        encode_video(tmp_path / "x.mp4", frames)
    assert not caught.value.retryable


def test_a_thumbnail_is_a_jpeg_of_the_frame(tmp_path):
    write_thumbnail(tmp_path / "x.jpg", np.full((48, 64, 3), (200, 100, 50), np.uint8))
    with Image.open(tmp_path / "x.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))
        assert np.abs(np.asarray(image).astype(int) - (200, 100, 50)).max() <= 3
