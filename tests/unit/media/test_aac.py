"""The soundtrack of a growing video: one stream, split between packets."""

from __future__ import annotations

from itertools import pairwise

import av
import numpy as np
import pytest

from farm.errors import InvalidInput
from farm.media.aac import PRIMING_SAMPLES, first_packet, packets, split_track, write_track
from farm.media.audio import decode, write_wav


def heard(path):
    """The audio after its priming, [C, n]."""
    samples, rate = decode(path)
    assert rate == 48_000
    return samples[:, PRIMING_SAMPLES:]


@pytest.mark.parametrize("seconds", [0.02, 2.0, 7.0])
def test_the_track_is_as_long_as_the_video_to_within_a_packet(make_wav, tmp_path, seconds):
    write_track(make_wav(seconds), tmp_path / "track.aac", frames=50)
    assert 0 <= heard(tmp_path / "track.aac").shape[1] - 50 * 1920 < 1024


@pytest.mark.parametrize(("channels", "kept"), [(1, 1), (2, 2), (6, 2)])
def test_the_track_is_mono_or_stereo(make_wav, tmp_path, channels, kept):
    write_track(make_wav(1.0, 22_050, channels), tmp_path / "track.aac", frames=25)
    with av.open(str(tmp_path / "track.aac")) as track:
        assert (track.streams.audio[0].channels, track.streams.audio[0].rate) == (kept, 48_000)


def test_audio_keeps_its_timing(tmp_path):
    samples = np.zeros(44_100, np.float32)
    samples[22_050:22_060] = 0.9
    write_wav(tmp_path / "click.wav", samples, 44_100)
    write_track(tmp_path / "click.wav", tmp_path / "track.aac", frames=25)
    assert np.abs(heard(tmp_path / "track.aac")[0]).argmax() / 48_000 == pytest.approx(
        0.5, abs=0.001
    )


def test_the_same_audio_makes_the_same_bytes(make_wav, tmp_path):
    for name in ("one", "two"):
        write_track(make_wav(1.0), tmp_path / name, frames=25)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_without_audio_is_refused(tmp_path):
    write_wav(tmp_path / "empty.wav", np.zeros((1, 0), np.float32), 16_000)
    with pytest.raises(InvalidInput, match="it has no audio"):
        write_track(tmp_path / "empty.wav", tmp_path / "track.aac", frames=25)


def test_packets_joined_are_the_whole_track(make_wav, tmp_path):
    write_track(make_wav(2.0), tmp_path / "track.aac", frames=50)
    assert b"".join(packets(tmp_path / "track.aac")) == (tmp_path / "track.aac").read_bytes()


def test_every_frame_has_its_own_first_packet_which_never_precedes_it():
    firsts = [first_packet(frame) for frame in range(10_000)]
    assert firsts[0] == 0
    assert all(later > earlier for earlier, later in pairwise(firsts))
    # A packet is heard 1024 samples before its position in the stream, since the first one primes.
    late = [(number - 1) * 1024 - frame * 1920 for frame, number in enumerate(firsts) if frame]
    assert (min(late), max(late)) == (0, 896)


@pytest.mark.parametrize("frames", [1, 7, 8, 50])
def test_a_track_ends_with_the_packets_of_the_last_frame(make_wav, tmp_path, frames):
    write_track(make_wav(3.0), tmp_path / "track.aac", frames=frames)
    assert len(list(packets(tmp_path / "track.aac"))) == first_packet(frames)


def test_a_track_is_split_where_frames_begin(make_wav, tmp_path):
    write_track(make_wav(2.0), tmp_path / "track.aac", frames=50)
    whole = list(packets(tmp_path / "track.aac"))
    pieces = list(split_track(tmp_path / "track.aac", [0, 17, 18, 40]))
    firsts = [0, first_packet(17), first_packet(18), first_packet(40), len(whole)]
    assert pieces == [b"".join(whole[start:end]) for start, end in pairwise(firsts)]
