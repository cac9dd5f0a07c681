"""Any audio becomes the model's input: mono, 16 kHz, one loudness."""

from __future__ import annotations

import wave
from math import ceil

import av
import numpy as np
import pyloudnorm
import pytest
import soundfile
import soxr

from farm.errors import InvalidInput
from farm.media.audio import (
    FILTER_BLOCK,
    decode,
    findings,
    normalise_loudness,
    resample,
    speech,
    write_flac,
    write_wav,
)


def loudness(samples):
    return pyloudnorm.Meter(16_000).integrated_loudness(samples)


def pitch(samples, rate):
    """The strongest frequency, in Hz."""
    return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_comes_back_as_it_was_written(tmp_path, channels):
    samples = np.random.default_rng(0).uniform(-1, 1, (channels, 1000)).astype(np.float32)
    write_wav(tmp_path / "x.wav", samples, 44_100)
    again, rate = decode(tmp_path / "x.wav")
    assert rate == 44_100
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, samples, atol=1 / 32768)


def test_samples_too_loud_for_a_wav_are_clipped(tmp_path):
    write_wav(tmp_path / "x.wav", np.array([2.0, -2.0], np.float32), 16_000)
    assert decode(tmp_path / "x.wav")[0].tolist() == [[32767 / 32768, -1.0]]


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"]
)
def test_every_sample_format_decodes_to_the_same_numbers(tmp_path, subtype):
    soundfile.write(tmp_path / "x.wav", np.full((100, 2), (0.5, -0.25)), 22_050, subtype=subtype)
    samples, rate = decode(tmp_path / "x.wav")
    assert samples.shape == (2, 100)
    assert rate == 22_050
    np.testing.assert_allclose(samples, np.full((100, 2), (0.5, -0.25)).T, atol=0.02)


def test_a_truncated_file_is_read_as_far_as_it_goes(make_wav):
    path = make_wav(1.0, 16_000)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 4000])
    assert decode(path)[0].shape == (1, 4000)


def test_joined_mp3s_decode_to_one_sample_rate(tmp_path):
    # Given a stereo MP3 at 44.1 kHz and a mono one at 22.05 kHz, each a second of 440 Hz, joined
    beat = 2 * np.pi * 440 * np.arange(44_100) / 44_100
    soundfile.write(tmp_path / "first.mp3", np.stack([np.sin(beat)] * 2, axis=1) / 2, 44_100)
    soundfile.write(tmp_path / "second.mp3", np.sin(2 * beat[:22_050]) / 2, 22_050)
    both = (tmp_path / "first.mp3").read_bytes() + (tmp_path / "second.mp3").read_bytes()
    (tmp_path / "both.mp3").write_bytes(both)
    # When the file is decoded, then both seconds have their pitch
    samples, rate = decode(tmp_path / "both.mp3")
    assert samples.shape[1] / rate == pytest.approx(2, abs=0.15)
    for second in np.split(samples[0, : 2 * rate], 2):
        assert pitch(second, rate) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("content", [b"", b"words", b"RIFF\0\0\0\0WAVE"])
def test_a_file_without_audio_is_invalid(tmp_path, content):
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"^x\.wav"):
        decode(tmp_path / "x.wav")


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_speech_is_mono_at_16_khz_with_its_pitch_and_length_kept(make_wav, rate, channels):
    heard = speech(make_wav(1.0, rate, channels))
    assert heard.shape == (16_000,)
    assert heard.dtype == np.float32
    assert pitch(heard, 16_000) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_speech_decoded_in_blocks_equals_speech_decoded_at_once(tmp_path, rate):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3 * rate + 77)).astype(np.float32)
    write_wav(tmp_path / "x.wav", noise, rate)
    whole = soxr.resample(decode(tmp_path / "x.wav")[0].mean(axis=0), rate, 16_000, quality="HQ")
    np.testing.assert_array_equal(
        speech(tmp_path / "x.wav"),
        normalise_loudness(whole[: ceil((3 * rate + 77) * 16_000 / rate)]),
    )


@pytest.mark.parametrize("level", [0.9, 0.05, 0.001])
def test_speech_has_the_same_loudness_whatever_its_level(make_wav, level):
    assert loudness(speech(make_wav(2.0, 16_000, level=level))) == pytest.approx(-23, abs=0.1)


def stereo(path, left, right):
    write_wav(path, np.stack([left, right]).astype(np.float32), 16_000)
    return path


SINE = 0.5 * np.sin(np.arange(16_000) / 10)
BUZZ = 0.05 * np.sign(np.sin(np.arange(16_000) / 37))


def test_of_opposite_channels_the_louder_one_is_heard(tmp_path):
    path = stereo(tmp_path / "x.wav", BUZZ - 0.9 * SINE, SINE + BUZZ)
    found = findings(path)
    assert (found.opposite_channels, found.louder_channel) == (True, 1)
    assert np.corrcoef(speech(path), SINE)[0, 1] > 0.98


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (SINE, SINE),
        (SINE, 0 * SINE),
        (SINE, BUZZ),
        (0 * SINE, 0 * SINE),
        (SINE, np.cos(np.arange(16_000) / 10)),
    ],
    ids=["the same", "one silent", "unlike", "both silent", "a quarter off"],
)
def test_other_channels_are_heard_together(tmp_path, left, right):
    path = stereo(tmp_path / "x.wav", left, right)
    assert not findings(path).opposite_channels


@pytest.mark.parametrize(
    ("samples", "is_silent"),
    [
        (np.zeros(16_000), True),
        (np.full(16_000, 0.5), True),
        (np.random.default_rng(0).integers(-1, 2, 16_000) / 65_536, True),
        (SINE / 1000, False),
    ],
    ids=["zeros", "a constant", "dither", "quiet"],
)
def test_silence_is_noticed(tmp_path, samples, is_silent):
    soundfile.write(tmp_path / "x.wav", samples, 16_000, subtype="FLOAT")
    assert findings(tmp_path / "x.wav").is_silent is is_silent


def test_samples_that_are_no_finite_numbers_are_silent_and_noticed(tmp_path):
    samples = SINE.copy()
    samples[[100, 200, 300]] = np.nan, np.inf, 1e300
    soundfile.write(tmp_path / "x.wav", samples, 16_000, subtype="DOUBLE")
    heard, _ = decode(tmp_path / "x.wav")
    assert heard[0, [100, 200, 300]].tolist() == [0, 0, 0]
    np.testing.assert_allclose(heard[0, 301:], SINE[301:], atol=1e-6)
    assert findings(tmp_path / "x.wav").lost_samples == 3
    assert np.isfinite(speech(tmp_path / "x.wav")).all()


def flac(path, samples, layout):
    """Writes [C, n] at 16 kHz with the positions of its channels."""
    with av.open(path, "w") as out:
        stream = out.add_stream("flac", rate=16_000, layout=layout, options={"strict": "-2"})
        packed = np.ascontiguousarray((samples.T * 32_767).astype(np.int16)).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate = 16_000
        fitting = av.AudioResampler(format="s16", frame_size=4096)
        for piece in [*fitting.resample(frame), *fitting.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path


HALF = np.sqrt(0.5)


@pytest.mark.parametrize(
    ("layout", "left", "right"),
    [
        ("3.0", [1, 0, HALF], [0, 1, HALF]),
        ("quad", [1, 0, HALF, 0], [0, 1, 0, HALF]),
        ("5.0", [1, 0, HALF, HALF, 0], [0, 1, HALF, 0, HALF]),
        ("5.1", [1, 0, HALF, 0, HALF, 0], [0, 1, HALF, 0, 0, HALF]),
        ("7.1", [1, 0, HALF, 0, HALF, 0, HALF, 0], [0, 1, HALF, 0, 0, HALF, 0, HALF]),
    ],
)
def test_more_channels_are_mixed_down_by_their_positions(tmp_path, layout, left, right):
    # Given channels that are told apart by their pitch
    beats = np.arange(1, len(left) + 1)[:, None] * np.arange(16_000) / 50
    channels = 0.1 * np.sin(beats)
    wanted = [left @ channels, right @ channels]
    # When they are decoded, then left and right hold the standard shares
    samples, rate = decode(flac(tmp_path / "x.flac", channels, layout))
    assert rate == 16_000
    np.testing.assert_allclose(samples, wanted, atol=2e-4)


@pytest.mark.parametrize("channels", [3, 6, 16, 63])
def test_channels_without_positions_are_heard_on_both_sides(tmp_path, channels):
    samples = np.zeros((channels, 16_000), np.float32)
    samples[2] = SINE
    write_wav(tmp_path / "x.wav", samples, 16_000)
    mixed, _ = decode(tmp_path / "x.wav")
    assert len(mixed) == 2
    for side in mixed:
        assert np.corrcoef(side, SINE)[0, 1] > 0.99


def test_a_mixdown_is_attenuated_instead_of_clipped(tmp_path):
    samples = np.tile(SINE.astype(np.float32), (6, 1)) * 1.9
    write_wav(tmp_path / "x.wav", samples, 16_000)
    mixed, _ = decode(tmp_path / "x.wav")
    assert np.abs(mixed).max() == pytest.approx(1, abs=1e-4)
    assert np.corrcoef(mixed[0], SINE)[0, 1] > 0.9999


@pytest.mark.parametrize("rate", [88_200, 96_000, 192_000, 655_350])
def test_high_sample_rates_become_48_khz(tmp_path, rate):
    beat = 2 * np.pi * 440 * np.arange(rate) / rate
    soundfile.write(tmp_path / "x.wav", 0.5 * np.sin(beat), rate)
    samples, new_rate = decode(tmp_path / "x.wav")
    assert new_rate == 48_000
    assert samples.shape == (1, pytest.approx(48_000, abs=1))
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples.shape[1]) / 48_000)
    np.testing.assert_allclose(samples[0, 200:-200], wanted[200:-200], atol=1e-3)


def test_silence_stays_silence(make_wav):
    assert not speech(make_wav(1.0, 16_000, level=0.0)).any()


@pytest.mark.parametrize("count", [1, 6399])
def test_audio_too_short_to_have_a_loudness_stays_unchanged(count):
    samples = np.full(count, 0.5, np.float32)
    np.testing.assert_array_equal(normalise_loudness(samples), samples)


def test_a_long_recording_is_as_loud_as_pyloudnorm_measures(tmp_path):
    # Given a recording longer than a filter block, with a louder end
    samples = (
        np.random.default_rng(0).uniform(-0.1, 0.1, FILTER_BLOCK + 16_000 * 5).astype(np.float32)
    )
    samples[FILTER_BLOCK - 8_000 :] *= 4
    meant = 10 ** (
        (-23 - pyloudnorm.Meter(16_000, block_size=0.4).integrated_loudness(samples)) / 20
    )
    np.testing.assert_array_equal(normalise_loudness(samples), samples * np.float32(meant))


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_resampling_is_that_of_librosa(rate: int) -> None:
    import librosa

    samples = np.random.default_rng(0).standard_normal(rate).astype(np.float32)
    expected = librosa.resample(samples, orig_sr=rate, target_sr=16_000)
    assert np.abs(resample(samples, rate, 16_000) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("count", "rate", "expected"), [(44_101, 44_100, 16_001), (1, 48_000, 1), (3, 8000, 6)]
)
def test_resampling_rounds_the_length_up(count, rate, expected):
    assert resample(np.zeros(count, np.float32), rate, 16_000).shape == (expected,)


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_keeps_24_bits_of_every_sample(tmp_path, channels):
    samples = np.random.default_rng(0).uniform(-1, 1, (channels, 70_000)).astype(np.float32)
    blocks = [(samples[:, :50_000], 44_100), (samples[:, 50_000:], 44_100)]
    write_flac(tmp_path / "x.flac", blocks)
    decoded, rate = decode(tmp_path / "x.flac")
    assert rate == 44_100
    assert decoded.shape == samples.shape
    assert np.abs(decoded - samples).max() <= 2**-23


def test_what_is_too_loud_for_flac_clips(tmp_path):
    write_flac(tmp_path / "x.flac", [(np.array([[-3, 0, 3]], np.float32), 8_000)])
    np.testing.assert_allclose(decode(tmp_path / "x.flac")[0], [[-1, 0, 1]], atol=1e-6)


def test_a_wav_is_sixteen_bits_interleaved(tmp_path):
    write_wav(tmp_path / "x.wav", np.array([[0.5, 0.25], [-0.5, -0.25]], np.float32), 8000)
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        assert np.frombuffer(file.readframes(9), "<i2").tolist() == [16384, -16384, 8192, -8192]
