"""Two speakers on their way from the request to what the model is handed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from tests.support.steps import run_step
from farm.engine.context import Context
from farm.route import FIRST, Step
from farm.errors import InvalidInput
from farm.job import JobRequest
from farm.media.audio import decode, write_wav
from farm.registry import open_registry
from farm.settings import Settings
from farm.steps import features
from farm.steps.generate import boxes
from farm.store import keys, open_store
from tests.support.tiny_model import chosen

EMBED = Step("embed")
LEFT, RIGHT = [0, 0, 250, 512], [260, 0, 512, 512]


def voiced(seconds: float, rate: int, pitch: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


class Supervisor:
    """A place in memory with a face, and a job that goes as far as its embeddings."""

    def __init__(self, folder: Path, model: dict[str, Any], portrait: Path) -> None:
        self.folder, self.jobs = folder, 0
        settings = Settings(home=folder, **model)
        self.context = Context(settings, open_store("memory://"), open_registry("memory://"))
        self.face = self.upload(portrait)

    def upload(self, path: Path) -> str:
        key = keys.upload(path)
        self.context.store.put(key, path)
        return keys.SCHEME + key

    def sound(self, samples: np.ndarray, rate: int) -> str:
        path = self.folder / "sound.wav"
        write_wav(path, samples, rate)
        return self.upload(path)

    def made(self, *steps: Step, **fields: Any) -> dict[str, Any]:
        """The goods of the last of the steps."""
        self.jobs += 1
        job = f"job{self.jobs}"
        request = {"prompt": "they talk", "cond_video": self.face, "frame_num": 21, "motion_frame": 5}
        self.context.registry.jobs.add(job, JobRequest.parse({**request, **fields}))
        for step in steps:
            run_step(self.context, job, step)
        return self.context.registry.steps.committed(job, steps[-1].id)

    def heard(self, key: str) -> tuple[np.ndarray, int]:
        path = self.folder / "heard.wav"
        path.write_bytes(self.context.store.get(key))
        return decode(path)

    def forget_what_is_shared(self) -> None:
        for key in [*self.context.store.keys("shared/")]:
            self.context.store.delete(key)

    def embedding(self, folder: str) -> Any:
        pieces = self.context.store.keys(f"{folder}/")
        return torch.cat([load(self.context.store.get(key))["features"] for key in pieces])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with chosen(tmp_path_factory.mktemp("weights")) as model:
        yield model


@pytest.fixture
def supervisor(tmp_path: Path, model: dict[str, Any], portrait: Path) -> Supervisor:
    return Supervisor(tmp_path, model, portrait)


@pytest.fixture
def talk(supervisor: Supervisor) -> dict[str, Any]:
    """Two sounds: 0.8 s mono at 16 kHz, and 1.2 s stereo at 32 kHz."""
    first = supervisor.sound(voiced(0.8, 16_000, 200), 16_000)
    second = supervisor.sound(np.stack([voiced(1.2, 32_000, 330)] * 2), 32_000)
    return {"cond_audio": {"person1": first, "person2": second}, "mode": "streaming"}


def test_together_the_video_lasts_as_long_as_the_longer_one(supervisor, talk):
    output = supervisor.made(FIRST, EMBED, **talk, audio_type="para")
    assert (output["frames"], output["rows"], len(output["embeddings"])) == (30, 30, 2)
    samples, rate = supervisor.heard(output["sound"])
    assert (rate, samples.shape) == (32_000, (2, pytest.approx(1.2 * 32_000, abs=2)))


def test_in_turn_the_video_lasts_as_long_as_both(supervisor, talk):
    output = supervisor.made(FIRST, EMBED, **talk, audio_type="add")
    assert (output["frames"], output["rows"], len(output["embeddings"])) == (50, 50, 2)
    samples, rate = supervisor.heard(output["sound"])
    assert (rate, samples.shape) == (32_000, (2, pytest.approx(2.0 * 32_000, abs=2)))


def test_speakers_keep_their_order(supervisor, talk):
    # given the same two sounds, and the speakers swapped
    swapped = {"person1": talk["cond_audio"]["person2"], "person2": talk["cond_audio"]["person1"]}
    one = supervisor.made(FIRST, EMBED, **talk, audio_type="para")["embeddings"]
    other = supervisor.made(FIRST, EMBED, **{**talk, "cond_audio": swapped}, audio_type="para")["embeddings"]
    # then so are their embeddings, which are those of two different voices
    assert one == other[::-1]
    assert one[0] != one[1]


def test_who_waits_in_turn_is_heard_as_silence(supervisor, talk):
    output = supervisor.made(FIRST, EMBED, **talk, audio_type="add")
    first, second = (supervisor.embedding(key) for key in output["embeddings"])
    # then the second voice's rows change when it begins, and the first one's when it ends: row 20 of 50
    assert np.ptp(second[2:16].numpy(), axis=0).max() < np.ptp(second[16:24].numpy(), axis=0).max()
    assert np.ptp(first[24:].numpy(), axis=0).max() < np.ptp(first[16:24].numpy(), axis=0).max()


def test_what_is_shorter_than_a_chunk_is_padded_for_both(supervisor):
    first, second = (supervisor.sound(voiced(seconds, 16_000, 200), 16_000) for seconds in (0.2, 0.4))
    output = supervisor.made(FIRST, EMBED, cond_audio={"person1": first, "person2": second}, audio_type="para")
    assert (output["frames"], output["rows"], output["chunks"]) == (10, 21, 1)
    assert {supervisor.embedding(key).shape[0] for key in output["embeddings"]} == {21}


def test_a_sound_that_is_too_short_is_named_by_its_speaker(supervisor, talk):
    sounds = {**talk["cond_audio"], "person2": supervisor.sound(voiced(0.02, 16_000, 200), 16_000)}
    with pytest.raises(InvalidInput, match=r"^cond_audio\.person2: it lasts 0\.020 s"):
        supervisor.made(FIRST, EMBED, cond_audio=sounds, audio_type="para")


def test_turns_are_spoken_by_two_voices_that_wait_for_each_other(supervisor):
    words = {"text": "(s1) one two three (s2) four five (s1) six", "human2_voice": "en-gb"}
    sounds = supervisor.made(FIRST, tts_audio=words)["sounds"]
    output = supervisor.made(FIRST, EMBED, tts_audio=words, mode="streaming")
    # then the video's sound is the two tracks in one, of which one at a time is silent
    tracks = np.concatenate([supervisor.heard(key)[0] for key in sounds])
    samples, rate = supervisor.heard(output["sound"])
    assert not (tracks != 0).all(axis=0).any()
    np.testing.assert_allclose(samples[0], tracks.sum(0)[: samples.shape[1]], atol=1e-4)
    assert output["frames"] == int(tracks.shape[1] / rate * 25)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ([260, 0, 513, 512], "bbox.person2: got [260, 0, 513, 512]; allowed: x up to 512, y up to 512"),
        ([260, 0, 512, 512.5], "bbox.person2: got [260, 0, 512, 512.5]; allowed: x up to 512, y up to 512"),
    ],
)
def test_a_box_outside_the_picture_is_refused_with_the_pictures_size(supervisor, talk, box, size):
    with pytest.raises(InvalidInput) as caught:
        supervisor.made(FIRST, **talk, audio_type="para", bbox={"person1": LEFT, "person2": box})
    assert caught.value.message.startswith(size)


def test_one_speakers_box_is_said_to_change_nothing(supervisor, talk):
    sound = {"person1": talk["cond_audio"]["person1"]}
    assert supervisor.made(FIRST, EMBED, cond_audio=sound)["warnings"] == []
    (warning,) = supervisor.made(FIRST, EMBED, cond_audio=sound, bbox=LEFT)["warnings"]
    assert warning.startswith("bbox changes nothing")


def test_boxes_turn_from_x_and_y_to_rows_and_columns_and_out_to_whole_pixels():
    given = {"person1": [1.5, 2, 30.2, 40], "person2": [50, 0.1, 60, 70.9]}
    sounds = {"person1": "a", "person2": "b"}
    request = JobRequest.parse(
        {"prompt": "x", "cond_video": "y", "cond_audio": sounds, "audio_type": "para", "bbox": given}
    )
    assert boxes(request) == [(2, 1, 40, 31), (0, 50, 71, 60)]


CHUNK = Step("generate", 0)
TINY = {"mode": "clip", "frame_num": 5, "motion_frame": 1, "sample_steps": 1, "audio_type": "para"}


def test_the_model_is_told_whose_voice_is_whose_and_where_both_are(supervisor, talk):
    # given the same job four times: as it is, with the voices swapped, with the places swapped, and without places
    first, second = talk["cond_audio"].values()
    tiny, places = {**talk, **TINY}, {"person1": LEFT, "person2": RIGHT}
    jobs = [
        tiny | {"bbox": places},
        tiny | {"bbox": places, "cond_audio": {"person1": second, "person2": first}},
        tiny | {"bbox": {"person1": RIGHT, "person2": LEFT}},
        tiny,
    ]
    # then each makes another video
    segments = [supervisor.made(FIRST, EMBED, CHUNK, **job)["segment"] for job in jobs]
    assert len({supervisor.context.store.get(key) for key in segments}) == 4


def test_where_the_rows_are_cut_makes_no_difference_to_the_video(supervisor, talk, monkeypatch):
    # Given a video of chunks of which each hears several pieces of a few rows
    several = {**talk, **TINY, "mode": "streaming"}
    steps = FIRST, EMBED, CHUNK, Step("generate", 1)
    whole = supervisor.made(*steps, **several)["segment"]
    supervisor.forget_what_is_shared()
    monkeypatch.setattr(features, "PIECE", 4)
    assert supervisor.context.store.get(supervisor.made(*steps, **several)["segment"]) == supervisor.context.store.get(whole)
    assert len([*supervisor.context.store.keys("shared/voice/")]) == 2 * 8
