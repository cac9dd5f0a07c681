"""Watching a video while it is generated: whole jobs of a tiny model, played after each chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
import pytest

from farm.client import Job
from farm.engine.advance import chunk_count
from farm.engine.context import Context
from farm.media.aac import first_packet
from farm.media.audio import write_wav
from farm.media.speech import speak
from farm.media.video import encode_video
from farm.registry import open_registry
from farm.route import DOWNLOAD, EMBED, MUX, Step, next_step
from farm.settings import Settings
from farm.steps import chunk_objects, soundtrack
from farm.steps.generate import unload_pipeline
from farm.store import keys
from farm.store.local import LocalStore
from tests.support.attempts import FIRST, attempt, foreseeable
from tests.support.jobs import job_request
from tests.support.player import packets, play, serve_folder
from tests.support.steps import acquire, run_step
from tests.support.tiny_model import TINY_PRESET, use_tiny_preset

SMALL = {
    "prompt": "a friendly person talks",
    "mode": "streaming",
    "frame_num": 5,
    "motion_frame": 1,
    "max_frame_num": 12,
    "sample_steps": 1,
    "sample_text_guide_scale": 1.0,
    "sample_audio_guide_scale": 1.0,
}
"""Chunks of 5, 4 and 3 frames."""


@dataclass
class Harness:
    """A context whose store is served by a web server."""

    ctx: Context
    server: str

    def enter(self, job_id: str, face: Path, voice: Path, **fields: object) -> None:
        for path in (face, voice):
            self.ctx.store.put(keys.upload(path), path)
        sources = {
            "cond_video": keys.SCHEME + keys.upload(face),
            "cond_audio": {"person1": keys.SCHEME + keys.upload(voice)},
        }
        request = job_request(**{"model": TINY_PRESET.name, **SMALL, **sources, **fields})
        self.ctx.registry.entries.add(job_id, request)

    def run_until(self, job_id: str, last: Step) -> None:
        """Runs every step up to one."""
        step: Step | None = DOWNLOAD
        while step is not None:
            run_step(self.ctx, job_id, step)
            if step == last:
                return
            step = next_step(step, chunks=chunk_count(self.ctx, job_id))

    def url(self, job_id: str) -> str:
        """The playlist on the web server."""
        path = urlsplit(Job(self.ctx, job_id).playlist() or "").path
        return f"{self.server}/{Path(path).relative_to(self.ctx.store.root)}"

    def text(self, job_id: str) -> str:
        return self.ctx.store.get(keys.playlist(job_id)).decode()


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    home = tmp_path_factory.mktemp("home")
    store = LocalStore(home / "store")
    with use_tiny_preset(home / "weights") as model, serve_folder(store.root) as server:
        settings = Settings(home=home, **model)
        yield Harness(Context(settings, store, open_registry("memory://")), server)
    unload_pipeline()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of speech, at 22,050 samples a second."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    speak("one two three", path)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of 25 frames each, one dark and one bright."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    noise = np.random.default_rng(3)
    scenes = [noise.integers(low, low + 60, (64, 64, 3)).astype(np.uint8) for low in (0, 190)]
    encode_video(path, [scene for scene in scenes for _ in range(25)])
    return path


# Playing


def test_a_playlist_plays_after_each_chunk_without_gap_or_overlap(farm, portrait, speech):
    farm.enter("grows", portrait, speech)
    for chunk, frames in enumerate([5, 9, 12]):
        farm.run_until("grows", Step("generate", chunk))
        times, begins = packets(farm.url("grows"), frames)
        assert times == list(range(frames))
        assert begins == [(number - 1) * 1024 for number in range(first_packet(frames))]
        assert farm.text("grows").count("EXTINF") == chunk + 1
        assert ("ENDLIST" in farm.text("grows")) == (chunk == 2)
    played = play(farm.url("grows"))
    assert played.times == list(range(12))
    assert 0 <= played.audio.shape[1] - 12 * 1920 < 1024


def test_the_finished_video_shows_the_frames_of_the_playlist(farm, portrait, speech):
    farm.enter("done", portrait, speech)
    farm.run_until("done", MUX)
    played = play(farm.url("done"))
    video = farm.ctx.registry.jobs.status("done").result.video.url
    with av.open(urlsplit(video).path) as finished:
        frames = [frame.to_ndarray().tobytes() for frame in finished.decode(video=0)]
    assert frames == played.frames


def test_a_playlist_plays_from_its_folder_without_a_server(farm, portrait, speech):
    farm.enter("path", portrait, speech)
    farm.run_until("path", Step("generate", 2))
    path = urlsplit(Job(farm.ctx, "path").playlist()).path
    assert play(path).times == list(range(12))


def test_the_playlist_of_a_cancelled_job_plays_its_committed_chunks(farm, portrait, speech):
    farm.enter("stops", portrait, speech)
    farm.run_until("stops", Step("generate", 1))
    Job(farm.ctx, "stops").cancel()
    played = play(farm.url("stops"))
    assert played.times == list(range(9))
    assert abs(played.audio.shape[1] - 9 * 1920) < 1024


def test_the_playlist_of_a_clip_has_one_segment(farm, portrait, speech):
    farm.enter("clip", portrait, speech, mode="clip")
    farm.run_until("clip", Step("generate", 0))
    assert "ENDLIST" in farm.text("clip")
    assert play(farm.url("clip")).times == list(range(5))


def test_time_continues_across_a_cut(farm, film, tmp_path):
    # Given two scenes, the first of which does not end with a whole chunk
    voice = tmp_path / "voice.wav"
    write_wav(voice, np.tile(np.float32([0.1, -0.1]), 16_000), 16_000)
    scenes = {"scene_seg": True, "max_frame_num": 50, "frame_num": 21, "motion_frame": 5}
    farm.enter("cut", film, voice, **scenes)
    farm.run_until("cut", EMBED)
    assert farm.ctx.registry.steps.committed("cut", EMBED.id).output.cuts == (25,)
    # When it is generated
    farm.run_until("cut", Step("generate", 3))
    # Then times continue through both
    assert play(farm.url("cut")).times == list(range(50))
    assert "ENDLIST" in farm.text("cut")


# What is stored


def test_of_two_attempts_at_a_chunk_the_committed_one_is_listed(farm, portrait, speech):
    # Given a worker that began the second chunk, stored something, and died
    farm.enter("twice", portrait, speech)
    farm.run_until("twice", Step("generate", 0))
    lost = acquire(farm.ctx.registry, "generate-0001", job_id="twice", lease_s=0)
    key = keys.attempt("twice", "generate-0001", lost.attempt_id, "segment.m4s")
    farm.ctx.store.put(key, b"half of it")
    # When it is generated again
    farm.run_until("twice", Step("generate", 2))
    # Then the playlist lists that attempt
    text = foreseeable(farm.text("twice"))
    listed = [line for line in text.splitlines() if line.endswith(".m4s")]
    attempts = ((0, 1), (1, 2), (2, 1))
    assert listed == [
        f"generate-000{chunk}/{attempt(fence)}/segment.m4s" for chunk, fence in attempts
    ]
    assert play(farm.url("twice")).times == list(range(12))


def test_segments_of_one_encoder_share_their_initialisation_section(farm, portrait, speech):
    farm.enter("shares", portrait, speech)
    farm.run_until("shares", Step("generate", 2))
    stored = [key for key in farm.ctx.store.keys("jobs/shares/") if key.endswith("init.mp4")]
    first = keys.attempt("shares", "generate-0000", FIRST, "init.mp4")
    assert [foreseeable(key) for key in stored] == [first]
    assert farm.text("shares").count("EXT-X-MAP") == 1


def test_a_chunk_reads_the_piece_of_audio_that_holds_its_packets(
    farm, portrait, speech, monkeypatch
):
    # Given pieces of two chunks each
    for module in (chunk_objects, soundtrack):
        monkeypatch.setattr(module, "CHUNKS_PER_TRACK", 2)
    farm.enter("pieces", portrait, speech)
    farm.run_until("pieces", Step("generate", 2))
    pieces = farm.ctx.registry.steps.committed("pieces", "embed").output.aac_keys
    assert [Path(key).name for key in pieces] == ["track-0000.aac", "track-0001.aac"]
    # Then every packet of the audio is played once
    assert play(farm.url("pieces")).audio.shape[1] == (first_packet(12) - 1) * 1024
