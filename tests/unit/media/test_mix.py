"""Two recordings become two tracks for the model and one mix for the video."""

from __future__ import annotations

import av
import numpy as np
import pytest
import soundfile

from farm.errors import InvalidInput
from farm.media.audio import decode, write_wav
from farm.media.mix import aligned_tracks, mix
from tests.unit.media.conftest import tone


@pytest.fixture
def mixed(tmp_path):
    """The mix of two recordings, each (samples [C, n], rate)."""

    def run(first, second, *, in_turn=False, seconds=100.0):
        paths = [tmp_path / "first.wav", tmp_path / "second.wav"]
        for path, (samples, rate) in zip(paths, (first, second), strict=True):
            write_wav(path, samples, rate)
        mix(*paths, tmp_path / "mix.wav", in_turn=in_turn, seconds=seconds)
        return decode(tmp_path / "mix.wav")

    return run


def test_in_parallel_the_shorter_track_is_padded_with_silence():
    first, second = aligned_tracks(np.ones(3), np.full(5, 2.0), in_turn=False)
    assert (first.tolist(), second.tolist()) == ([1, 1, 1, 0, 0], [2] * 5)


def test_in_turn_each_track_is_silent_while_the_other_speaks():
    first, second = aligned_tracks(np.ones(2), np.full(3, 2.0), in_turn=True)
    assert (first.tolist(), second.tolist()) == ([1, 1, 0, 0, 0], [0, 0, 2, 2, 2])


def test_in_parallel_both_are_added_and_the_longer_one_is_kept_whole(mixed):
    low = tone(1.0, 16_000, level=0.25)
    high = tone(1.5, 16_000, level=0.5)
    samples, rate = mixed((low, 16_000), (high, 16_000))
    assert (rate, samples.shape) == (16_000, (1, 24_000))
    wanted = high.copy()
    wanted[:, :16_000] += low
    np.testing.assert_allclose(samples, wanted, atol=1e-4)


def test_a_recording_that_decodes_to_one_long_block_is_added_in_time(tmp_path):
    # given a recording of 1.5 s in one packet, and another of 3 s
    rate = 2_000
    with av.open(tmp_path / "first.m4a", "w") as file:
        stream = file.add_stream("alac", rate=rate, layout="mono")
        quarter = np.full((1, 3_000), 2**29, np.int32)
        frame = av.AudioFrame.from_ndarray(quarter, format="s32p", layout="mono")
        frame.sample_rate = rate
        file.mux([*stream.encode(frame), *stream.encode(None)])
    write_wav(tmp_path / "second.wav", np.full(6_000, 0.5, np.float32), rate)
    # when they are mixed in parallel
    paths = tmp_path / "first.m4a", tmp_path / "second.wav"
    mix(*paths, tmp_path / "mix.wav", in_turn=False, seconds=100)
    # then they are heard together for 1.5 s, and the mix lasts 3 s
    samples, _ = decode(tmp_path / "mix.wav")
    assert samples.tolist() == [[0.75] * 3_000 + [0.5] * 3_000]


def test_in_turn_one_follows_the_other(mixed):
    first = tone(0.5, 16_000, level=0.25)
    second = tone(1.0, 16_000, level=0.5)
    samples, _ = mixed((first, 16_000), (second, 16_000), in_turn=True)
    np.testing.assert_allclose(samples, np.concatenate([first, second], axis=1), atol=1e-4)


def test_two_loud_voices_are_attenuated_and_not_clipped(mixed):
    loud = tone(1.0, 16_000, level=0.9)
    samples, _ = mixed((loud, 16_000), (loud, 16_000))
    assert np.abs(samples).max() == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(samples[0], loud[0])[0, 1] > 0.9999


def test_a_loud_voice_in_turn_keeps_its_level(mixed):
    loud = tone(1.0, 16_000, level=0.9)
    assert np.abs(mixed((loud, 16_000), (loud, 16_000), in_turn=True)[0]).max() == pytest.approx(
        0.9, abs=1e-3
    )


@pytest.mark.parametrize("in_turn", [False, True])
def test_the_higher_rate_and_the_larger_number_of_channels_win(mixed, in_turn):
    # given a mono recording at 16 kHz and a stereo one at 44.1 kHz whose right channel is silent
    mono = tone(1.0, 16_000, level=0.3)
    left = np.pad(tone(1.0, 44_100, level=0.3), ((0, 1), (0, 0)))
    samples, rate = mixed((mono, 16_000), (left, 44_100), in_turn=in_turn)
    # then the mono one is on both channels, with its pitch and length
    assert rate == 44_100
    assert samples.shape == (2, pytest.approx((2 if in_turn else 1) * 44_100, abs=2))
    np.testing.assert_allclose(
        samples[1, 200:43_900], tone(1.0, 44_100, level=0.3)[0, 200:43_900], atol=2e-3
    )


def test_six_channels_are_mixed_down_to_stereo(mixed):
    # given front left, right, centre, low frequencies, and surround left, right in 5.1
    channels = np.zeros((6, 16_000), np.float32)
    channels[2] = tone(1.0, 16_000, level=0.5)
    samples, rate = mixed((channels, 16_000), (tone(0.1, 16_000, level=0.1), 16_000))
    # then the centre is on both sides, 3 dB down
    assert (rate, samples.shape) == (16_000, (2, 16_000))
    wanted = channels[2, 2_000:14_000] * np.sqrt(0.5)
    np.testing.assert_allclose(samples[:, 2_000:14_000], np.stack([wanted] * 2), atol=2e-3)


def test_a_mix_has_at_most_48_khz_and_two_channels(tmp_path):
    # given two FLACs of which a minute would take 630 MB as 8 channels at 655 kHz
    for name in ("first", "second"):
        silence = np.zeros((655_350, 8), np.int16)
        soundfile.write(tmp_path / f"{name}.flac", silence, 655_350)
    paths = tmp_path / "first.flac", tmp_path / "second.flac"
    mix(*paths, tmp_path / "mix.wav", in_turn=True, seconds=10)
    assert (tmp_path / "mix.wav").stat().st_size == 44 + 2 * 48_000 * 2 * 2


@pytest.mark.parametrize(
    ("in_turn", "seconds", "count"), [(False, 0.7, 11_200), (True, 1.2, 19_200), (True, 9, 32_000)]
)
def test_the_mix_ends_with_the_video(mixed, in_turn, seconds, count):
    one = tone(1.0, 16_000), 16_000
    assert mixed(one, one, in_turn=in_turn, seconds=seconds)[0].shape == (1, count)


def test_a_peak_after_the_end_of_the_video_attenuates_nothing(mixed):
    quiet_then_loud = np.concatenate(
        [tone(1.0, 16_000, level=0.2), tone(1.0, 16_000, level=0.9)], axis=1
    )
    samples, _ = mixed((quiet_then_loud, 16_000), (quiet_then_loud, 16_000), seconds=1.0)
    assert np.abs(samples).max() == pytest.approx(0.4, abs=1e-3)


def test_a_recording_without_audio_is_invalid(tmp_path, make_wav):
    (tmp_path / "words.wav").write_bytes(b"words")
    with pytest.raises(InvalidInput, match=r"^words\.wav"):
        mix(make_wav(), tmp_path / "words.wav", tmp_path / "mix.wav", in_turn=False, seconds=1)
