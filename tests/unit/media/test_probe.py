"""The bytes decide what a file is, and what cannot be used is refused in words."""

from __future__ import annotations

import struct
import time
import tracemalloc
import wave
import zlib
from io import BytesIO

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from farm.errors import DownloadFailed, InvalidInput
from farm.media.audio import decode
from farm.media.mux import mux
from farm.media.probe import Audio, Clip, Limits, StillImage, Unsupported, expect_audio, expect_visual, probe
from farm.media.video import write_segment

NOISE = np.random.default_rng(0).bytes(6000)


@pytest.fixture
def file(tmp_path):
    """A file of these bytes, whose name says nothing."""

    def make(content):
        path = tmp_path / "goods"
        path.write_bytes(content)
        return path

    return make


def picture(kind, width=64, height=48, **options):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def sound(container, codec, rate=48_000, layout="stereo", seconds=1.0):
    """One second of silence in any format that PyAV writes."""
    buffer = BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        samples = np.zeros((stream.layout.nb_channels, round(rate * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        fitting = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 1024
        )
        for piece in [*fitting.resample(frame), *fitting.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def png(width, height):
    """A PNG that claims this size and holds nearly nothing."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_picture_is_known_by_its_bytes(file, kind):
    assert probe(file(picture(kind)), field="cond_video") == StillImage(64, 48, kind)


def test_a_picture_is_measured_upright(file):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert probe(file(picture("JPEG", exif=exif)), field="cond_video") == StillImage(48, 64, "JPEG")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_video_is_counted_frame_by_frame(tmp_path, counting, suffix):
    write_segment(tmp_path / f"clip.{suffix}", counting(30))
    assert probe(tmp_path / f"clip.{suffix}", field="cond_video") == Clip(64, 48, 25.0, 30, 1.2, None)


def test_a_webm_without_a_length_in_its_header_is_measured_all_the_same(file):
    # Given what a browser records: WebM written without seeking back, so that no duration is noted
    buffer = BytesIO()
    with av.open(buffer, "w", format="webm", options={"live": "1"}) as out:
        stream = out.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    # When it is probed, then its frames were counted
    found = expect_visual(file(buffer.getvalue()), field="cond_video")
    assert isinstance(found, Clip)
    assert found.frames == 20
    assert found.seconds == pytest.approx(2, abs=0.11)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp3", "libmp3lame"),
        ("flac", "flac"),
        ("ogg", "libopus"),
        ("ipod", "aac"),
        ("adts", "aac"),
        ("webm", "libopus"),
        ("wav", "pcm_s24le"),
        ("wav", "pcm_u8"),
        ("wav", "pcm_f32le"),
        ("aiff", "pcm_s16be"),
    ],
)
def test_sound_is_known_by_its_bytes(file, container, codec):
    found = expect_audio(file(sound(container, codec)), field="cond_audio.person1")
    assert (found.rate, found.channels) == (48_000, 2)
    assert found.seconds == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("samples", [np.zeros(22_050), np.random.default_rng(0).normal(0, 0.1, 22_050)])
def test_vorbis_is_sound_too(file, samples):
    buffer = BytesIO()
    soundfile.write(buffer, samples, 22_050, format="OGG", subtype="VORBIS")
    found = expect_audio(file(buffer.getvalue()), field="cond_audio.person1")
    assert (found.rate, found.codec) == (22_050, "vorbis")
    assert found.seconds == pytest.approx(1, abs=0.01)


def test_the_sound_of_a_video_will_do_as_sound(tmp_path, counting, make_wav):
    write_segment(tmp_path / "pictures.mp4", counting(25))
    mux([tmp_path / "pictures.mp4"], make_wav(1.0), tmp_path / "clip.mp4", frames=25)
    assert expect_audio(tmp_path / "clip.mp4", field="cond_audio.person1") == Audio(44_100, 1, 1.0, "aac")


def test_a_song_with_a_cover_is_sound_not_a_video(file):
    # Given an MP3 whose ID3 tag holds a picture
    body = b"\0image/png\0\3\0" + picture("PNG")
    cover = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    size = bytes(len(cover) >> shift & 0x7F for shift in (21, 14, 7, 0))
    music = sound("mp3", "libmp3lame")
    path = file(b"ID3\3\0\0" + size + cover + music[music.index(b"\xff\xfb") :])
    with av.open(path) as container:
        assert container.streams.video
    # When it is probed, then it is what one hears
    assert isinstance(probe(path, field="cond_audio.person1"), Audio)


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        (b"just some words\n", "text"),
        (b'{"error": "no such key"}', "text"),
        ("Grüße".encode() * 2000, "text"),
        ("words".encode("utf-16"), "text"),
        (b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n", "text"),
        (b"\n<!DOCTYPE html><title>404</title>", "a web page"),
        (b"%PDF-1.7\n\xff\xff", "a PDF document"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (NOISE, "bytes of no kind that the farm knows"),
        (bytes(5000), "bytes of no kind that the farm knows"),
        (picture("PNG"), "a picture"),
    ],
)
def test_something_else_instead_of_sound_is_the_wrong_type(file, content, holds):
    with pytest.raises(DownloadFailed) as caught:
        expect_audio(file(content), field="cond_audio.person1")
    assert caught.value.message.startswith(f"cond_audio.person1: the file holds {holds}, not sound; allowed: wav, mp3")
    assert not caught.value.retryable


def test_a_video_without_sound_is_no_voice(tmp_path, counting):
    write_segment(tmp_path / "mute.mp4", counting(5))
    with pytest.raises(DownloadFailed, match=r"holds a video without sound, not sound"):
        expect_audio(tmp_path / "mute.mp4", field="cond_audio.person1")


def test_sound_instead_of_a_face_is_the_wrong_type(make_wav):
    with pytest.raises(
        DownloadFailed, match=r"^cond_video: the file holds sound, not a picture or a video; allowed: jpg"
    ):
        expect_visual(make_wav(), field="cond_video")


def test_a_playlist_is_never_opened_even_if_it_hides_behind_binary_bytes(file):
    hidden = b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n\xff\xfe\x00"
    assert probe(file(hidden), field="cond_audio.person1") == Unsupported("bytes of no kind that the farm knows")


@pytest.mark.parametrize("expect", [expect_audio, expect_visual])
def test_an_empty_file_is_invalid(file, expect):
    with pytest.raises(InvalidInput, match=r"^field: the file is empty"):
        expect(file(b""), field="field")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_picture_is_broken(file, kind, share):
    whole = picture(kind)
    with pytest.raises(InvalidInput, match=r"^cond_video: the picture is broken"):
        probe(file(whole[: int(len(whole) * share)]), field="cond_video")


def test_a_picture_with_damaged_pixels_is_broken(file):
    whole = picture("PNG")
    with pytest.raises(InvalidInput, match=r"^cond_video: the picture is broken"):
        probe(file(whole[:500] + bytes(50) + whole[550:]), field="cond_video")


@pytest.mark.parametrize(
    ("width", "height", "says"),
    [
        (40_000, 40_000, "40000 x 40000 pixels, 1,600 million; allowed: 64 million"),
        (16_384, 16_384, "16384 x 16384 pixels, 268 million; allowed: 64 million"),
        (20_000, 100, "20000 x 100 pixels; allowed: 16 to 16384"),
        (15, 64, "15 x 64 pixels; allowed: 16 to 16384"),
    ],
)
def test_a_picture_beyond_the_limits_is_refused_by_its_header_alone(file, width, height, says):
    path = file(png(width, height))
    tracemalloc.start()
    begun = time.monotonic()
    with pytest.raises(InvalidInput, match=f"^cond_video: the picture is {says}"):
        probe(path, field="cond_video")
    assert time.monotonic() - begun < 0.2
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_a_picture_of_the_smallest_size_is_taken(file):
    assert probe(file(picture("PNG", 16, 16)), field="cond_video") == StillImage(16, 16, "PNG")


def test_a_video_beyond_the_limits_is_refused(tmp_path, counting):
    write_segment(tmp_path / "clip.mp4", counting(30))
    with pytest.raises(InvalidInput, match=r"64 x 48 pixels.*allowed: 0.001 million"):
        probe(tmp_path / "clip.mp4", field="cond_video", limits=Limits(max_pixels=1000))
    with pytest.raises(InvalidInput, match=r"lasts 1 s; allowed: 1 s"):
        probe(tmp_path / "clip.mp4", field="cond_video", limits=Limits(max_seconds=1.0))


def test_sound_beyond_the_limits_is_refused(make_wav):
    with pytest.raises(InvalidInput, match=r"^cond_audio.person1: lasts 3 s; allowed: 2 s"):
        expect_audio(make_wav(3.0), field="cond_audio.person1", limits=Limits(max_seconds=2.0))


def test_a_wav_with_a_header_and_no_samples_is_invalid(tmp_path):
    with wave.open(str(tmp_path / "empty.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
    with pytest.raises(InvalidInput, match=r"holds no sound: not one sample"):
        expect_audio(tmp_path / "empty.wav", field="cond_audio.person1")


@pytest.mark.parametrize("claim", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_that_lies_about_its_size_is_read_as_far_as_it_goes(make_wav, claim):
    # Given half a second of samples behind a header that claims something else
    path = make_wav(0.5, 16_000)
    whole = path.read_bytes()
    at = whole.index(b"data") + 4
    path.write_bytes(whole[:at] + struct.pack("<I", claim) + whole[at + 4 :])
    # When it is probed and decoded, then all of them are there
    assert expect_audio(path, field="cond_audio.person1") == Audio(16_000, 1, 0.5, "pcm_s16le")
    assert decode(path)[0].shape == (1, 8000)


@pytest.mark.parametrize("container", ["mp3", "flac", "ogg", "ipod", "wav"])
def test_a_known_beginning_and_then_noise_is_broken_not_foreign(file, container):
    codec = {"mp3": "libmp3lame", "ogg": "libopus", "ipod": "aac", "wav": "pcm_s16le"}.get(container, container)
    with pytest.raises(InvalidInput, match=r"^cond_audio.person1: the file"):
        expect_audio(file(sound(container, codec)[:16] + NOISE), field="cond_audio.person1")


def test_a_video_cut_before_its_index_is_broken(tmp_path, counting):
    write_segment(tmp_path / "clip.mp4", counting(30))
    whole = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match=r"^cond_video: the file is broken"):
        probe(tmp_path / "clip.mp4", field="cond_video")
