"""Segments and audio become one MP4 as the contract promises."""

from __future__ import annotations

import errno

import av
import numpy as np
import pytest

from farm.errors import FFmpegFailed, system_errno
from farm.media.audio import decode, write_wav
from farm.media.ffmpeg import audio_input, run_ffmpeg
from farm.media.mux import mux, verify_video
from farm.media.probe import probe
from farm.media.video import encode_video
from tests.conftest import EXAMPLES


@pytest.fixture
def segments(tmp_path, counting):
    """Segments with these numbers of frames, numbered throughout; the suffix is the format."""

    def make(*counts, suffix="mp4"):
        frames = iter(counting(sum(counts)))
        paths = []
        for index, count in enumerate(counts):
            paths.append(tmp_path / f"chunk {index} o'clock.{suffix}")
            encode_video(paths[-1], [next(frames) for _ in range(count)])
        return paths

    return make


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.mp4"


def decoded_frames(path):
    """Every decoded frame's time in frames, and its bytes."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        return [
            (float(frame.pts * stream.time_base * 25), frame.to_ndarray().tobytes())
            for frame in container.decode(stream)
        ]


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
def test_segments_are_joined_frame_by_frame_without_a_seam(segments, make_wav, out, suffix):
    parts = segments(33, 24, 1, 7, suffix=suffix)
    mux(parts, make_wav(3.0), out, frames=65)
    joined = decoded_frames(out)
    assert [time for time, _ in joined] == pytest.approx(range(65))
    assert [image for _, image in joined] == [
        image for part in parts for _, image in decoded_frames(part)
    ]


def test_a_single_segment_is_enough(segments, make_wav, out):
    mux(segments(1), make_wav(1.0), out, frames=1)
    assert probe(out, field="out").frames == 1


@pytest.mark.parametrize(
    ("rate", "channels", "kept"),
    [
        (16_000, 1, (16_000, 1)),
        (22_050, 1, (22_050, 1)),
        (44_100, 2, (44_100, 2)),
        (48_000, 6, (48_000, 2)),
        (48_000, 16, (48_000, 2)),
        (96_000, 2, (48_000, 2)),
        (7000, 1, (8000, 1)),
    ],
)
def test_audio_keeps_its_rate_and_channels_up_to_48_khz_and_stereo(
    segments, make_wav, out, rate, channels, kept
):
    mux(segments(50), make_wav(2.0, rate, channels), out, frames=50)
    audio = probe(out, field="out").audio
    assert (audio.rate, audio.channels, audio.codec) == (*kept, "aac")


@pytest.mark.parametrize("seconds", [0.1, 1.98, 2.0, 2.02, 5.0])
def test_audio_is_as_long_as_the_video_whatever_its_length_was(segments, make_wav, out, seconds):
    mux(segments(50), make_wav(seconds), out, frames=50)
    assert probe(out, field="out").audio.seconds == pytest.approx(2, abs=0.04)


def test_audio_is_the_original_from_its_first_sample(segments, tmp_path, out):
    # Given a click in the middle of silence
    samples = np.zeros(88_200, np.float32)
    samples[44_100:44_110] = 0.9
    write_wav(tmp_path / "click.wav", samples, 44_100)
    # When it is muxed, then it is heard at the same time, within a millisecond
    mux(segments(50), tmp_path / "click.wav", out, frames=50)
    heard, rate = decode(out)
    assert np.abs(heard[0]).argmax() / rate == pytest.approx(1.0, abs=0.001)


def test_speech_is_not_distorted_anywhere(segments, out):
    speech = EXAMPLES / "answer.wav"
    mux(segments(72), speech, out, frames=72)
    spoken = decode(speech)[0][0]
    heard = decode(out)[0][0][: len(spoken)]
    blocks = np.array_split(np.stack([spoken, heard - spoken]), 144, axis=1)  # of 20 ms
    powers = np.array([np.square(block).mean(axis=1) for block in blocks])
    signal, noise = powers[powers[:, 0] > 1e-5].T
    assert 10 * np.log10((noise / signal).max()) < -15


def test_audio_with_a_late_first_timestamp_is_not_shifted(segments, make_wav, out, tmp_path):
    # Given a recording whose first sample has the timestamp 0.5 s
    samples, rate = decode(make_wav(1.0, 48_000))
    with av.open(tmp_path / "late.mkv", "w") as file:
        stream = file.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (samples * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = rate
        frame.pts = rate // 2
        file.mux(stream.encode(frame))
    # When it is muxed, then it is heard from the beginning, as by the audio encoder
    mux(segments(25), tmp_path / "late.mkv", out, frames=25)
    assert np.abs(decode(out)[0][0, 2000:8000]).max() > 0.2


def test_the_index_comes_first_and_both_streams_are_there(segments, make_wav, out):
    mux(segments(30), make_wav(1.2), out, frames=30)
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(out) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]


def test_the_same_parts_make_the_same_bytes_over_an_older_file(segments, make_wav, out):
    parts = segments(30)
    audio = make_wav(1.2)
    mux(parts, audio, out, frames=30)
    first = out.read_bytes()
    mux(parts, audio, out, frames=30)
    assert out.read_bytes() == first


def encode_to(path):
    encode_video(path, [np.zeros((32, 48, 3), np.uint8)])


def convert_to(path):
    command = audio_input(1, 16_000, 1.0).output(str(path), format="wav")
    run_ffmpeg(command, [(np.zeros((1, 16_000), np.float32), 16_000)], task="write the audio")


@pytest.mark.parametrize("write", [encode_to, convert_to])
def test_a_full_disk_is_the_cause_of_a_failure(tmp_path, write):
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    with pytest.raises(FFmpegFailed) as caught:
        write(tmp_path / "full.mp4")
    assert system_errno(caught.value) == errno.ENOSPC


def test_only_the_video_is_left_behind(segments, make_wav, out, tmp_path):
    parts = segments(10, 10)
    audio = make_wav(1.0)
    mux(parts, audio, out, frames=20)
    assert set(tmp_path.iterdir()) == {*parts, audio, out}


def test_an_error_carries_ffmpegs_last_lines(make_wav, out, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"nonsense" * 100)
    with pytest.raises(FFmpegFailed, match=r"(?s)could not join.*Invalid data"):
        mux([tmp_path / "broken.mp4"], make_wav(1.0), out, frames=25)


def test_a_missing_frame_is_detected(segments, make_wav, out):
    with pytest.raises(FFmpegFailed, match=r"frames: 49, wanted 50"):
        mux(segments(49), make_wav(2.0), out, frames=50)


def test_a_video_without_audio_is_detected(segments):
    (silent,) = segments(25)
    with pytest.raises(
        FFmpegFailed, match=r"audio: None, wanted aac.*audio seconds: 0.000, wanted 1.000"
    ):
        verify_video(silent, frames=25)


def test_an_index_after_the_data_is_detected(segments):
    (segment,) = segments(25)
    with pytest.raises(FFmpegFailed, match=r"index before data: False, wanted True"):
        verify_video(segment, frames=25)


def test_audio_that_ends_early_is_detected(segments, make_wav, out, tmp_path):
    # Given a valid video, copied without the last part of its audio
    mux(segments(50), make_wav(2.0), out, frames=50)
    with (
        av.open(out) as source,
        av.open(tmp_path / "short.mp4", "w", options={"movflags": "faststart"}) as short,
    ):
        copies = {stream: short.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None and (
                packet.stream.type == "video" or packet.pts * packet.time_base < 1
            ):
                packet.stream = copies[packet.stream]
                short.mux(packet)
    # When it is verified, then only that is wrong
    with pytest.raises(
        FFmpegFailed, match=r"not as requested: audio seconds: 1\.\d+, wanted 2\.000$"
    ):
        verify_video(tmp_path / "short.mp4", frames=50)


def test_a_file_that_is_not_a_video_is_detected(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nonsense" * 10)
    with pytest.raises(FFmpegFailed, match=r"cannot be read back"):
        verify_video(tmp_path / "x.mp4", frames=1)
