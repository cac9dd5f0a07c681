"""A file's bytes decide what it is; unusable files are refused with a reason."""

from __future__ import annotations

import struct
import tracemalloc
import wave
import zlib
from io import BytesIO

import av
import numpy as np
import pytest
import soundfile
from av.stream import Disposition
from PIL import Image

from farm.errors import DownloadFailed, InvalidInput
from farm.media.audio import decode
from farm.media.mux import mux
from farm.media.probe import (
    Audio,
    Clip,
    Limits,
    StillImage,
    Unsupported,
    expect_audio,
    expect_visual,
    probe,
)
from farm.media.video import encode_video

NOISE = np.random.default_rng(0).bytes(6000)


@pytest.fixture
def file(tmp_path):
    """Writes bytes to a file without a suffix."""

    def make(content):
        path = tmp_path / "content"
        path.write_bytes(content)
        return path

    return make


def encoded_image(kind, width=64, height=48, **options):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def encoded_audio(container, codec, rate=48_000, layout="stereo", seconds=1.0):
    """Silence in any format that PyAV writes."""
    buffer = BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        samples = np.zeros((stream.layout.nb_channels, round(rate * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.pts = 0
        fitting = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 1024
        )
        for piece in [*fitting.resample(frame), *fitting.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def png(width, height):
    """A PNG that claims this size and holds almost nothing."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_an_image_is_recognised_by_its_bytes(file, kind):
    assert probe(file(encoded_image(kind)), field="cond_video") == StillImage(64, 48, kind)


def test_an_avif_is_an_image(file):
    assert probe(file(encoded_image("AVIF")), field="cond_video") == StillImage(64, 48, "AVIF")


def test_an_image_is_measured_upright(file):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert probe(file(encoded_image("JPEG", exif=exif)), field="cond_video") == StillImage(
        48, 64, "JPEG"
    )


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_the_frames_of_a_video_are_counted(tmp_path, counting, suffix):
    encode_video(tmp_path / f"clip.{suffix}", counting(30))
    assert probe(tmp_path / f"clip.{suffix}", field="cond_video") == Clip(
        64, 48, 25.0, 30, 1.2, None
    )


def test_a_webm_without_a_duration_in_its_header_is_measured(file):
    # Given a browser's recording: WebM written without seeking back, so without a duration
    buffer = BytesIO()
    with av.open(buffer, "w", format="webm", options={"live": "1"}) as out:
        stream = out.add_stream("libvpx", rate=10)
        stream.width = 64
        stream.height = 48
        stream.pix_fmt = "yuv420p"
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    # When it is probed, then its frames are counted
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
def test_audio_is_recognised_by_its_bytes(file, container, codec):
    found = expect_audio(file(encoded_audio(container, codec)), field="cond_audio.person1")
    assert (found.rate, found.channels) == (48_000, 2)
    assert found.seconds == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    "samples", [np.zeros(22_050), np.random.default_rng(0).normal(0, 0.1, 22_050)]
)
def test_vorbis_is_recognised_as_audio(file, samples):
    buffer = BytesIO()
    soundfile.write(buffer, samples, 22_050, format="OGG", subtype="VORBIS")
    found = expect_audio(file(buffer.getvalue()), field="cond_audio.person1")
    assert (found.rate, found.codec) == (22_050, "vorbis")
    assert found.seconds == pytest.approx(1, abs=0.01)


def test_the_audio_of_a_video_is_accepted_as_audio(tmp_path, counting, make_wav):
    encode_video(tmp_path / "silent.mp4", counting(25))
    mux([tmp_path / "silent.mp4"], make_wav(1.0), tmp_path / "clip.mp4", frames=25)
    assert expect_audio(tmp_path / "clip.mp4", field="cond_audio.person1") == Audio(
        44_100, 1, 1.0, "aac"
    )


def test_a_song_with_cover_art_is_audio_and_not_video(file):
    # Given an MP3 whose ID3 tag holds an image
    body = b"\0image/png\0\3\0" + encoded_image("PNG")
    cover = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    size = bytes(len(cover) >> shift & 0x7F for shift in (21, 14, 7, 0))
    music = encoded_audio("mp3", "libmp3lame")
    path = file(b"ID3\3\0\0" + size + cover + music[music.index(b"\xff\xfb") :])
    with av.open(path) as container:
        assert container.streams.video
    # When it is probed, then it is audio
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
        (NOISE, "data of an unknown format"),
        (bytes(5000), "data of an unknown format"),
        (encoded_image("PNG"), "an image"),
    ],
)
def test_a_file_that_is_not_audio_has_the_wrong_type(file, content, holds):
    with pytest.raises(DownloadFailed) as caught:
        expect_audio(file(content), field="cond_audio.person1")
    assert caught.value.message.startswith(
        f"cond_audio.person1: the file holds {holds}, not audio; allowed: wav, mp3"
    )
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("head", "holds"),
    [
        (b"RIFF\0\1\0\0AVI LIST", "an AVI video"),
        (b"FLV\1\5", "an FLV video"),
        (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9", "WMV or WMA"),
        (b"\0\0\1\xbaD", "an MPEG video"),
        ((b"G" + b"\xff" * 187) * 3, "an MPEG transport stream"),
        ((bytes(4) + b"G" + b"\xff" * 187) * 3, "an MPEG transport stream"),
        (b"II*\0\x08\0\0\0", "a TIFF image"),
        (b"MM\0*\0\0\0\x08", "a TIFF image"),
        (b"BM\x36\x10\0\0\0\0\0\0\x36", "a BMP image"),
        (b"#!AMR\n\x3c", "AMR audio"),
        (b".snd\0\0\0\x18", "AU audio"),
        (b"wvpk\0\1\2\3", "WavPack audio"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    ],
)
@pytest.mark.parametrize(
    ("expect", "allowed"), [(expect_audio, "wav, mp3"), (expect_visual, "jpg, png")]
)
def test_media_that_are_not_read_are_named(file, head, holds, expect, allowed):
    with pytest.raises(
        DownloadFailed, match=rf"^field: the farm does not read {holds}; .*; allowed: {allowed}"
    ) as caught:
        expect(file(head + NOISE), field="field")
    assert not caught.value.retryable


def with_sound(path, make_wav, video):
    """An MP4 of a voice of 1 s and of a video track, written by `video(container)`."""
    samples, rate = decode(make_wav(1.0, 48_000))
    with av.open(path, "w") as out:
        packets = video(out)
        stream = out.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = rate
        fitting = av.AudioResampler(format="fltp", frame_size=1024)
        for packet in packets:
            out.mux(packet)
        for piece in [*fitting.resample(frame), *fitting.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path


def track(out, codec, width, height, pix_fmt, count):
    stream = out.add_stream(codec, rate=25)
    stream.width = width
    stream.height = height
    stream.pix_fmt = pix_fmt
    frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
    packets = []
    for number in range(count):
        frame.pts = number
        packets += stream.encode(frame)
    return [*packets, *(stream.encode(None) if count else [])]


@pytest.mark.parametrize(
    ("codec", "width", "height", "pix_fmt", "count"),
    [
        ("libx264", 8, 8, "yuv420p", 5),
        ("libx264", 64, 48, "yuv420p", 0),
        ("qtrle", 64, 48, "rgb24", 5),
        ("libx264", 1600, 64, "yuv420p", 1),
    ],
    ids=["too small", "no frame", "a codec that is not read", "too wide"],
)
def test_a_voice_is_taken_whatever_video_lies_beside_it(
    tmp_path, make_wav, codec, width, height, pix_fmt, count
):
    path = with_sound(
        tmp_path / ("x.mov" if codec == "qtrle" else "x.mkv"),
        make_wav,
        lambda out: track(out, codec, width, height, pix_fmt, count),
    )
    found = expect_audio(path, field="cond_audio.person1")
    assert (found.codec, found.seconds) == ("aac", pytest.approx(1, abs=0.05))
    with pytest.raises(InvalidInput, match=r"^cond_video: "):
        expect_visual(path, field="cond_video")


def test_a_face_is_taken_whatever_audio_lies_beside_it(tmp_path, make_wav):
    path = with_sound(
        tmp_path / "x.mov", make_wav, lambda out: track(out, "libx264", 64, 48, "yuv420p", 5)
    )
    limits = Limits(max_seconds=0.5)
    assert expect_visual(path, field="cond_video", limits=limits).frames == 5
    with pytest.raises(InvalidInput, match=r"^cond_audio.person1: got 1 s"):
        expect_audio(path, field="cond_audio.person1", limits=limits)


def test_of_two_voices_the_one_flagged_as_default_is_taken(tmp_path):
    with av.open(tmp_path / "x.mka", "w", format="matroska") as out:
        streams = [out.add_stream("pcm_s16le", rate=rate) for rate in (16_000, 24_000)]
        streams[0].disposition = Disposition(0)
        streams[1].disposition = Disposition.default
        for number, stream in enumerate(streams, start=1):
            samples = np.full((1, 2 * 1000), 1000 * number, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            frame.sample_rate = stream.rate
            out.mux([*stream.encode(frame), *stream.encode(None)])
    assert expect_audio(tmp_path / "x.mka", field="cond_audio.person1").rate == 24_000
    samples, _ = decode(tmp_path / "x.mka")
    assert samples[0, 0] == pytest.approx(2000 / 32768)


@pytest.mark.parametrize("expect", [expect_audio, probe])
def test_an_audio_codec_that_nobody_records_with_is_refused_by_name(file, expect):
    path = file(encoded_audio("matroska", "wavpack"))
    with pytest.raises(
        InvalidInput, match=r"^field: the codec of its audio is wavpack; allowed: aac"
    ):
        expect(path, field="field")
    with pytest.raises(InvalidInput, match=r"^content: the codec of its audio is wavpack"):
        decode(path)


def test_a_video_without_audio_is_refused_as_audio(tmp_path, counting):
    encode_video(tmp_path / "mute.mp4", counting(5))
    with pytest.raises(DownloadFailed, match=r"holds a video without audio, not audio"):
        expect_audio(tmp_path / "mute.mp4", field="cond_audio.person1")


def test_audio_instead_of_a_face_has_the_wrong_type(make_wav):
    with pytest.raises(
        DownloadFailed,
        match=r"^cond_video: the file holds audio, not an image or a video; allowed: jpg",
    ):
        expect_visual(make_wav(), field="cond_video")


def test_a_playlist_disguised_by_binary_bytes_is_never_opened(file):
    hidden = b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n\xff\xfe\x00"
    assert probe(file(hidden), field="cond_audio.person1") == Unsupported(
        "data of an unknown format"
    )


@pytest.mark.parametrize("expect", [expect_audio, expect_visual])
def test_an_empty_file_is_invalid_and_only_fitting_formats_are_named(file, expect):
    with pytest.raises(InvalidInput, match=r"^field: the file is empty") as caught:
        expect(file(b""), field="field")
    assert ("png" in caught.value.message, "mp3" in caught.value.message) == (
        expect is expect_visual,
        expect is expect_audio,
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_image_is_broken(file, kind, share):
    whole = encoded_image(kind)
    with pytest.raises(InvalidInput, match=r"^cond_video: the image is broken"):
        probe(file(whole[: int(len(whole) * share)]), field="cond_video")


def test_an_image_with_damaged_pixels_is_broken(file):
    whole = encoded_image("PNG")
    with pytest.raises(InvalidInput, match=r"^cond_video: the image is broken"):
        probe(file(whole[:500] + bytes(50) + whole[550:]), field="cond_video")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (40_000, 40_000, "40000 x 40000 pixels, 1,600 megapixels; allowed: 64 megapixels"),
        (16_384, 16_384, "16384 x 16384 pixels, 268 megapixels; allowed: 64 megapixels"),
        (20_000, 100, "20000 x 100 pixels; allowed: 16 to 16384"),
        (15, 64, "15 x 64 pixels; allowed: 16 to 16384"),
        (3000, 300, "3000 x 300 pixels; allowed: one side up to 8 times the other"),
        (16, 16_384, "16 x 16384 pixels; allowed: one side up to 8 times the other"),
    ],
)
def test_an_image_beyond_the_limits_is_refused_by_its_header_alone(file, width, height, message):
    path = file(png(width, height))
    tracemalloc.start()
    with pytest.raises(InvalidInput, match=f"^cond_video: got {message}"):
        probe(path, field="cond_video")
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_an_image_of_the_minimum_size_is_accepted(file):
    assert probe(file(encoded_image("PNG", 16, 16)), field="cond_video") == StillImage(
        16, 16, "PNG"
    )


def test_a_video_beyond_the_limits_is_refused(tmp_path, counting):
    encode_video(tmp_path / "clip.mp4", counting(30))
    with pytest.raises(InvalidInput, match=r"64 x 48 pixels.*allowed: 0.001 megapixels"):
        probe(tmp_path / "clip.mp4", field="cond_video", limits=Limits(max_pixels=1000))
    with pytest.raises(InvalidInput, match=r"got 1 s; allowed: 1 s"):
        probe(tmp_path / "clip.mp4", field="cond_video", limits=Limits(max_seconds=1.0))


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_video_whose_header_hides_its_size_is_refused_by_what_is_allowed(
    tmp_path, monkeypatch, codec
):
    path = tmp_path / "clip.mkv"
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, width=64, height=48)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        frame = av.VideoFrame(64, 48, stream.pix_fmt)
        out.mux([*stream.encode(frame), *stream.encode(None)])
    monkeypatch.setattr("farm.media.container.MAX_PIXELS", 1000)
    with pytest.raises(InvalidInput, match=r"cond_video: a frame cannot be .* 0.001 megapixels"):
        expect_visual(path, field="cond_video")


def test_audio_beyond_the_limits_is_refused(make_wav):
    with pytest.raises(InvalidInput, match=r"^cond_audio.person1: got 3 s; allowed: 2 s"):
        expect_audio(make_wav(3.0), field="cond_audio.person1", limits=Limits(max_seconds=2.0))


@pytest.mark.parametrize("rate", [1, 3_999, 768_001])
def test_a_sample_rate_beyond_the_limits_is_refused(make_wav, rate):
    path = make_wav(0.5 if rate > 1 else 14_000, rate=rate)
    with pytest.raises(
        InvalidInput,
        match=f"^cond_audio.person1: got a sample rate of {rate:,} Hz; allowed: 4,000 to 768,000",
    ):
        expect_audio(path, field="cond_audio.person1")


def test_more_than_64_channels_are_refused(make_wav):
    with pytest.raises(
        InvalidInput, match=r"^cond_audio\.person1: got 65 channels; allowed: 1 to 64"
    ):
        expect_audio(make_wav(0.1, channels=65), field="cond_audio.person1")


@pytest.mark.parametrize(("rate", "channels"), [(4_000, 1), (768_000, 64)])
def test_rates_and_channels_at_the_limits_are_accepted(make_wav, rate, channels):
    path = make_wav(0.1, rate=rate, channels=channels)
    found = expect_audio(path, field="cond_audio.person1")
    assert (found.rate, found.channels) == (rate, channels)


def test_the_sound_of_a_face_may_have_any_rate(tmp_path, counting, make_wav):
    encode_video(tmp_path / "mute.mp4", counting(5))
    mux([tmp_path / "mute.mp4"], make_wav(0.2, rate=7_350), tmp_path / "face.mp4", frames=5)
    assert expect_visual(tmp_path / "face.mp4", field="cond_video").frames == 5


def test_a_wav_with_a_header_and_no_samples_is_invalid(tmp_path):
    with wave.open(str(tmp_path / "empty.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
    with pytest.raises(InvalidInput, match=r"has no audio: no sample"):
        expect_audio(tmp_path / "empty.wav", field="cond_audio.person1")


@pytest.mark.parametrize("claim", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_with_a_wrong_size_in_its_header_is_read_as_far_as_it_goes(make_wav, claim):
    # Given half a second of samples after a header that claims another size
    path = make_wav(0.5, 16_000)
    whole = path.read_bytes()
    at = whole.index(b"data") + 4
    path.write_bytes(whole[:at] + struct.pack("<I", claim) + whole[at + 4 :])
    # When it is probed and decoded, then all samples are found
    assert expect_audio(path, field="cond_audio.person1") == Audio(16_000, 1, 0.5, "pcm_s16le")
    assert decode(path)[0].shape == (1, 8000)


@pytest.mark.parametrize("container", ["mp3", "flac", "ogg", "ipod", "wav"])
def test_a_known_header_followed_by_noise_is_broken_and_not_unsupported(file, container):
    codec = {"mp3": "libmp3lame", "ogg": "libopus", "ipod": "aac", "wav": "pcm_s16le"}.get(
        container, container
    )
    with pytest.raises(InvalidInput, match=r"^cond_audio.person1: the file"):
        expect_audio(file(encoded_audio(container, codec)[:16] + NOISE), field="cond_audio.person1")


def test_a_video_cut_before_its_index_is_broken(tmp_path, counting):
    encode_video(tmp_path / "clip.mp4", counting(30))
    whole = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match=r"^cond_video: the file is broken"):
        probe(tmp_path / "clip.mp4", field="cond_video")
