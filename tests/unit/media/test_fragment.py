"""Fragments of chunks, which a player plays as one video."""

from __future__ import annotations

import av
import numpy as np
import pytest

from farm.errors import FFmpegFailed
from farm.media.aac import PRIMING_SAMPLES, first_packet, packets, write_track
from farm.media.audio import decode, write_wav
from farm.media.fragment import mux_segment
from farm.media.mux import mux
from farm.media.probe import probe
from farm.media.video import encode_video
from tests.support.player import play, serve_folder

HEAD = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-PLAYLIST-TYPE:EVENT\n"


@pytest.fixture
def noise(tmp_path):
    """Noise in the band of a voice, in which every seam is audible, at a rate to be resampled."""
    samples = np.random.default_rng(7).standard_normal(22_050 * 20)
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / 22_050) > 4000] = 0
    path = tmp_path / "noise.wav"
    write_wav(path, (0.1 * np.fft.irfft(spectrum)).astype(np.float32), 22_050)
    return path


@pytest.fixture
def chunks(tmp_path, counting, noise):
    """Makes fragments of chunks with these numbers of frames; the whole audio is in track.aac.

    Each is (init, segment, video file).
    """

    def make(*counts):
        write_track(noise, tmp_path / "track.aac", frames=sum(counts))
        track = list(packets(tmp_path / "track.aac"))
        shown = iter(counting(sum(counts)))
        made = []
        first = 0
        for index, count in enumerate(counts):
            video = tmp_path / f"video-{index}.mp4"
            encode_video(video, [next(shown) for _ in range(count)])
            last = index == len(counts) - 1
            audio = track[first_packet(first) : None if last else first_packet(first + count)]
            made.append((*mux_segment(video, audio, index=index, first=first), video))
            first += count
        return made

    return make


def listed(folder, made):
    """Writes a closed playlist and its fragments to a folder; returns the playlist's name."""
    lines = [HEAD, '#EXT-X-MAP:URI="init.mp4"\n']
    (folder / "init.mp4").write_bytes(made[0][0])
    for index, (_, segment, _) in enumerate(made):
        (folder / f"{index}.m4s").write_bytes(segment)
        lines.append(f"#EXTINF:0.2,\n{index}.m4s\n")
    (folder / "all.m3u8").write_text("".join([*lines, "#EXT-X-ENDLIST\n"]))
    return "all.m3u8"


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def test_fifty_chunks_play_as_one_video(chunks, tmp_path):
    made = chunks(*[5, 4, 7, 1, 3] * 10)
    with serve_folder(tmp_path) as address:
        played = play(f"{address}/{listed(tmp_path, made)}")
    assert played.times == list(range(200))
    assert played.frames == [frame for *_, video in made for frame in frames_of(video)]


def test_the_audio_of_fifty_chunks_is_that_of_one_track(chunks, tmp_path):
    made = chunks(*[5, 4, 7, 1, 3] * 10)
    with serve_folder(tmp_path) as address:
        audio = play(f"{address}/{listed(tmp_path, made)}").audio
    whole, _ = decode(tmp_path / "track.aac")
    np.testing.assert_array_equal(audio, whole[:, PRIMING_SAMPLES:])
    assert 0 <= audio.shape[1] - 200 * 1920 < 1024


def test_the_audio_stays_in_sync_with_the_finished_video(chunks, tmp_path, noise):
    # Given the audio that a player plays of fifty chunks, and that of the finished video
    made = chunks(*[4] * 50)
    with serve_folder(tmp_path) as address:
        audio = play(f"{address}/{listed(tmp_path, made)}").audio[0]
    mux([video for *_, video in made], noise, tmp_path / "out.mp4", frames=200)
    finished, rate = decode(tmp_path / "out.mp4")
    # Then they are in sync at the beginning and at the end, within a fraction of a millisecond
    for second in (0.5, 7.0):
        ours = audio[round(second * 48_000) :][:24_000]
        theirs = np.interp(
            np.arange(24_000) / 48_000 + second, np.arange(finished.shape[1]) / rate, finished[0]
        )
        lags = np.correlate(ours, theirs[100:-100], mode="valid")
        assert lags.argmax() == pytest.approx(100, abs=6)


def test_every_chunk_has_the_same_initialisation_section(chunks):
    assert len({init for init, *_ in chunks(5, 4, 7, 1, 3)}) == 1


def test_fragments_are_numbered_from_one(chunks):
    # ISO 14496-12, 8.8.5: the number follows the box's name, version and flags
    numbers = [segment[segment.index(b"mfhd") + 8 :][:4] for _, segment, _ in chunks(5, 4, 7)]
    assert numbers == [bytes([0, 0, 0, number]) for number in (1, 2, 3)]


def test_the_same_chunk_has_the_same_bytes(chunks):
    assert [made[:2] for made in chunks(5, 4)] == [made[:2] for made in chunks(5, 4)]


def test_the_finished_video_has_all_frames_of_its_segments(chunks, tmp_path, noise):
    # Given fifty segments, each slightly longer than its frames because of its audio
    made = chunks(*[4] * 50)
    parts = []
    for index, (init, segment, _) in enumerate(made):
        parts.append(tmp_path / f"{index}.mp4")
        parts[-1].write_bytes(init + segment)
    # When they are joined, then no frame is missing, and silent segments give the same bytes
    mux(parts, noise, tmp_path / "out.mp4", frames=200)
    mux([video for *_, video in made], noise, tmp_path / "silent.mp4", frames=200)
    assert probe(tmp_path / "out.mp4", field="out").frames == 200
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "silent.mp4").read_bytes()


def test_a_file_without_video_cannot_become_a_segment(tmp_path, noise):
    write_track(noise, tmp_path / "track.aac", frames=5)
    with pytest.raises(
        FFmpegFailed, match=r"noise\.wav: it could not become a segment \(video or audio"
    ):
        mux_segment(noise, list(packets(tmp_path / "track.aac")), index=0, first=0)


def test_a_chunk_without_audio_cannot_become_a_segment(tmp_path, counting):
    encode_video(tmp_path / "video.mp4", counting(5))
    with pytest.raises(FFmpegFailed, match=r"video\.mp4: it could not become a segment"):
        mux_segment(tmp_path / "video.mp4", [], index=0, first=0)
