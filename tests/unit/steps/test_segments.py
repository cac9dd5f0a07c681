"""Watching a video grow: whole jobs of the sketch, played through a web server after each chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest

from farm.client import Job
from tests.support.steps import run_step
from farm.engine.context import Context
from farm.route import FIRST, Step, next_step
from farm.job import JobRequest
from farm.media.aac import first_packet
from farm.media.audio import write_wav
from farm.media.speech import speak
from farm.media.video import write_segment
from farm.registry import open_registry
from farm.settings import Settings
from farm.steps import soundtrack
from farm.steps.generate import warm_pipeline
from farm.store import keys
from farm.store.local import LocalStore
from tests.support.player import packets, play, served
from tests.support.tiny_model import chosen

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
class Growing:
    """A farm in this process whose store a web server shows."""

    ctx: Context
    web: str

    def enter(self, job_id: str, face: Path, voice: Path, **fields: Any) -> None:
        for path in (face, voice):
            self.context.store.put(keys.upload(path), path)
        sources = {name: keys.SCHEME + keys.upload(path) for name, path in (("face", face), ("voice", voice))}
        given = {**SMALL, "cond_video": sources["face"], "cond_audio": {"person1": sources["voice"]}, **fields}
        self.context.registry.jobs.add(job_id, JobRequest.parse(given))

    def until(self, job_id: str, last: Step) -> None:
        """Every step up to one."""
        step: Step | None = FIRST
        while step:
            run_step(self.context, job_id, step)
            chunks = (self.context.registry.steps.committed(job_id, "embed") or {}).get("chunks", 1)
            step = None if step == last else next_step(step, chunks=chunks)

    def address(self, job_id: str) -> str:
        """The playlist's, as the web server has it."""
        path = urlsplit(Job(self.context, job_id).playlist() or "").path
        return f"{self.web}/{Path(path).relative_to(self.context.store.root)}"

    def text(self, job_id: str) -> str:
        return self.context.store.get(keys.playlist(job_id)).decode()


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    home = tmp_path_factory.mktemp("home")
    store = LocalStore(home / "goods")
    with chosen(home / "weights") as model, served(store.root) as web:
        yield Growing(Context(Settings(home=home, **model), store, open_registry("memory://")), web)
    warm_pipeline.cache_clear()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of speech, at 22,050 samples a second."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    speak("one two three", path)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of 25 frames each, one dark and one bright."""
    path, noise = tmp_path_factory.mktemp("film") / "film.mp4", np.random.default_rng(3)
    scenes = [noise.integers(low, low + 60, (64, 64, 3)).astype(np.uint8) for low in (0, 190)]
    write_segment(path, [scene for scene in scenes for _ in range(25)])
    return path


def fits(times: list[float], begins: list[int], frames: int) -> None:
    """That frames and sound so far have neither gap nor overlap."""
    assert times == list(range(frames))
    assert begins == [(number - 1) * 1024 for number in range(first_packet(frames))]


def test_it_plays_after_each_chunk_and_to_its_end(farm, portrait, speech):
    farm.enter("grows", portrait, speech)
    for chunk, frames in enumerate([5, 9, 12]):
        farm.until("grows", Step("generate", chunk))
        fits(*packets(farm.net.address("grows"), frames), frames)
        assert farm.text("grows").count("EXTINF") == chunk + 1
        assert ("ENDLIST" in farm.text("grows")) == (chunk == 2)
    played = play(farm.net.address("grows"))
    assert played.times == list(range(12))
    assert 0 <= played.sound.shape[1] - 12 * 1920 < 1024


def test_the_finished_video_shows_what_was_watched(farm, portrait, speech):
    farm.enter("done", portrait, speech)
    farm.until("done", Step("mux"))
    watched = play(farm.net.address("done"))
    video = farm.context.registry.jobs.status("done").result.video.url
    with av.open(urlsplit(video).path) as finished:
        assert [frame.to_ndarray().tobytes() for frame in finished.decode(video=0)] == watched.pictures


def test_it_plays_from_its_folder_without_a_server(farm, portrait, speech):
    farm.enter("path", portrait, speech)
    farm.until("path", Step("generate", 2))
    assert play(urlsplit(Job(farm.context, "path").playlist()).path).times == list(range(12))


def test_a_chunk_that_was_made_twice_is_listed_once_as_the_one_that_counts(farm, portrait, speech):
    # Given a worker that took the second chunk, stored something, and died
    farm.enter("twice", portrait, speech)
    farm.until("twice", Step("generate", 0))
    lost = farm.context.registry.steps.acquire("twice", "generate-0001", lease_s=0, max_attempts=9)
    farm.context.store.put(keys.attempt("twice", "generate-0001", lost.fence, "segment.m4s"), b"half of it")
    # When it is made again
    farm.until("twice", Step("generate", 2))
    names = [line for line in farm.text("twice").splitlines() if line.endswith(".m4s")]
    assert names == [f"generate-000{chunk}/000{fence}/segment.m4s" for chunk, fence in ((0, 1), (1, 2), (2, 1))]
    assert play(farm.net.address("twice")).times == list(range(12))


def test_a_cancelled_job_plays_as_far_as_it_came(farm, portrait, speech):
    farm.enter("stops", portrait, speech)
    farm.until("stops", Step("generate", 1))
    Job(farm.context, "stops").cancel()
    played = play(farm.net.address("stops"))
    assert played.times == list(range(9))
    assert abs(played.sound.shape[1] - 9 * 1920) < 1024


def test_a_clip_is_a_list_of_one(farm, portrait, speech):
    farm.enter("clip", portrait, speech, mode="clip")
    farm.until("clip", Step("generate", 0))
    assert "ENDLIST" in farm.text("clip")
    assert play(farm.net.address("clip")).times == list(range(5))


def test_time_runs_on_over_a_cut(farm, film, tmp_path):
    # Given two scenes, the first of which does not end with a whole chunk
    write_wav(tmp_path / "voice.wav", np.tile(np.float32([0.1, -0.1]), 16_000), 16_000)
    scenes = {"scene_seg": True, "max_frame_num": 50, "frame_num": 21, "motion_frame": 5}
    farm.enter("cut", film, tmp_path / "voice.wav", **scenes)
    facts = Step("embed")
    farm.until("cut", facts)
    assert farm.context.registry.steps.committed("cut", facts.id)["cuts"] == [25]
    # When it is made, then times go on through both
    farm.until("cut", Step("generate", 3))
    assert play(farm.net.address("cut")).times == list(range(50))
    assert "ENDLIST" in farm.text("cut")


def test_segments_of_one_encoder_share_what_a_player_reads_first(farm, portrait, speech):
    farm.enter("shares", portrait, speech)
    farm.until("shares", Step("generate", 2))
    assert [key for key in farm.context.store.keys("jobs/shares/") if key.endswith("init.mp4")] == [
        keys.attempt("shares", "generate-0000", 1, "init.mp4")
    ]
    assert farm.text("shares").count("EXT-X-MAP") == 1


def test_a_chunk_reads_the_piece_of_sound_with_its_seconds(farm, portrait, speech, monkeypatch):
    # Given pieces of two chunks each
    monkeypatch.setattr(soundtrack, "CHUNKS", 2)
    farm.enter("pieces", portrait, speech)
    farm.until("pieces", Step("generate", 2))
    pieces = farm.context.registry.steps.committed("pieces", "embed")["track"]
    assert [Path(key).name for key in pieces] == ["track-0000.aac", "track-0001.aac"]
    # Then every packet of the sound is played once
    assert play(farm.net.address("pieces")).sound.shape[1] == (first_packet(12) - 1) * 1024
