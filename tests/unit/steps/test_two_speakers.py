"""Two speakers from the request to what the model is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load

from farm.engine.context import Context
from farm.errors import InvalidInput
from farm.media.audio import decode, write_wav
from farm.model.audio import SPAN_ROWS
from farm.plan import Plan, audio_rows
from farm.registry import open_registry
from farm.route import DOWNLOAD, EMBED, Step
from farm.settings import Settings
from farm.steps import chunk_objects, features
from farm.steps.generate import boxes
from farm.store import integrity, keys, open_store
from tests.support.jobs import job_request
from tests.support.steps import run_step
from tests.support.tiny_model import use_tiny_preset

CHUNK = Step("generate", 0)
LEFT = [0, 0, 250, 512]
RIGHT = [260, 0, 512, 512]

Samples = NDArray[np.float32]


def tone(seconds: float, rate: int, pitch: float) -> Samples:
    times = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * times)).astype(np.float32)


class Harness:
    """A context in memory with an uploaded face, in which jobs run as far as a test wants."""

    def __init__(self, folder: Path, model: dict[str, Any], portrait: Path) -> None:
        self.folder = folder
        self.jobs = 0
        settings = Settings(home=folder, **model)
        self.ctx = Context(settings, open_store("memory://"), open_registry("memory://"))
        self.face = self.upload(portrait)

    def upload(self, path: Path) -> str:
        key = keys.upload(path)
        self.ctx.store.put(key, path)
        return keys.SCHEME + key

    def upload_audio(self, samples: Samples, rate: int) -> str:
        path = self.folder / "audio.wav"
        write_wav(path, samples, rate)
        return self.upload(path)

    def run(self, *steps: Step, **fields: Any) -> Any:
        """Runs steps of a new job; the output of the last one."""
        self.jobs += 1
        job_id = f"job{self.jobs}"
        model = self.ctx.settings.presets[0]
        defaults = {
            "model": model,
            "cond_video": self.face,
            "frame_num": 21,
            "motion_frame": 5,
        }
        self.ctx.registry.entries.add(job_id, job_request(**{**defaults, **fields}))
        for step in steps:
            run_step(self.ctx, job_id, step)
        return self.ctx.registry.steps.committed(job_id, steps[-1].id).output

    def audio(self, key: str) -> tuple[Samples, int]:
        path = self.folder / "stored.wav"
        path.write_bytes(self.ctx.store.get(key))
        return decode(path)

    def embedding(self, prefix: str) -> torch.Tensor:
        stored = self.ctx.store.keys(f"{prefix}/")
        pieces = [integrity.get_sealed(self.ctx.store, key) for key in stored]
        return torch.cat([load(piece)["features"] for piece in pieces])

    def delete_shared_features(self) -> None:
        for key in list(self.ctx.store.keys("shared/")):
            self.ctx.store.delete(key)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with use_tiny_preset(tmp_path_factory.mktemp("weights")) as model:
        yield model


@pytest.fixture
def harness(tmp_path: Path, model: dict[str, Any], portrait: Path) -> Harness:
    return Harness(tmp_path, model, portrait)


@pytest.fixture
def talk(harness: Harness) -> dict[str, Any]:
    """Two recordings: 0.8 s mono at 16 kHz, and 1.2 s stereo at 32 kHz."""
    first = harness.upload_audio(tone(0.8, 16_000, 200), 16_000)
    second = harness.upload_audio(np.stack([tone(1.2, 32_000, 330)] * 2), 32_000)
    return {"cond_audio": {"person1": first, "person2": second}, "mode": "streaming"}


# Length and order


@pytest.mark.parametrize(
    ("audio_type", "frames"), [("para", 30), ("add", 50)], ids=["together", "in turn"]
)
def test_a_video_lasts_as_long_as_the_longer_voice_or_as_both_in_turn(
    harness, talk, audio_type, frames
):
    output = harness.run(DOWNLOAD, EMBED, **talk, audio_type=audio_type)
    assert (output.frames, output.rows) == (frames, frames)
    assert len(output.embedding_prefixes) == 2
    samples, rate = harness.audio(output.audio_key)
    assert rate == 32_000
    assert samples.shape == (2, pytest.approx(frames / 25 * 32_000, abs=2))


def test_speakers_keep_their_order(harness, talk):
    # Given the same two recordings, and the speakers swapped
    recordings = talk["cond_audio"]
    swapped = {"person1": recordings["person2"], "person2": recordings["person1"]}
    first = harness.run(DOWNLOAD, EMBED, **talk, audio_type="para").embedding_prefixes
    fields = {**talk, "cond_audio": swapped}
    second = harness.run(DOWNLOAD, EMBED, **fields, audio_type="para").embedding_prefixes
    # Then so are their embeddings, which are those of two different voices
    assert first == second[::-1]
    assert first[0] != first[1]


def variation(rows: torch.Tensor) -> float:
    """The largest change of a feature over some rows."""
    return float(np.ptp(rows.numpy(), axis=0).max())


def test_a_speaker_who_waits_in_turn_is_silent(harness, talk):
    output = harness.run(DOWNLOAD, EMBED, **talk, audio_type="add")
    first, second = (harness.embedding(prefix) for prefix in output.embedding_prefixes)
    # The second voice's rows change when it begins, and the first one's when it ends: row 20 of 50
    assert variation(second[2:16]) < variation(second[16:24])
    assert variation(first[24:]) < variation(first[16:24])


def test_voices_shorter_than_a_chunk_are_both_padded(harness):
    recordings = {
        "person1": harness.upload_audio(tone(0.2, 16_000, 200), 16_000),
        "person2": harness.upload_audio(tone(0.4, 16_000, 200), 16_000),
    }
    output = harness.run(DOWNLOAD, EMBED, cond_audio=recordings, audio_type="para")
    assert (output.frames, output.rows, output.chunks) == (10, 21, 1)
    assert {len(harness.embedding(prefix)) for prefix in output.embedding_prefixes} == {21}


def test_the_error_for_a_recording_that_is_too_short_names_its_speaker(harness, talk):
    short = harness.upload_audio(tone(0.02, 16_000, 200), 16_000)
    recordings = {**talk["cond_audio"], "person2": short}
    with pytest.raises(InvalidInput, match=r"^cond_audio\.person2: it lasts 0\.020 s"):
        harness.run(DOWNLOAD, EMBED, cond_audio=recordings, audio_type="para")


def test_a_dialogue_is_spoken_by_two_voices_that_wait_for_each_other(harness):
    text = "(s1) one two three (s2) four five (s1) six"
    tts_audio = {"text": text, "human2_voice": "en-gb"}
    fields = {"cond_audio": None, "tts_audio": tts_audio}
    audio_keys = harness.run(DOWNLOAD, **fields).audio_keys
    output = harness.run(DOWNLOAD, EMBED, **fields, mode="streaming")
    # The audio of the video is the sum of two tracks, of which at least one is silent at any time
    tracks = np.concatenate([harness.audio(key)[0] for key in audio_keys])
    samples, rate = harness.audio(output.audio_key)
    assert not (tracks != 0).all(axis=0).any()
    expected = tracks.sum(0)[: samples.shape[1]]
    np.testing.assert_allclose(samples[0], expected, atol=1e-4)
    assert output.frames == int(tracks.shape[1] / rate * 25)


def test_of_a_long_recording_only_what_the_video_needs_is_embedded_to_the_same_numbers(harness):
    # Given 3 minutes, of which one chunk is shown
    pitches = (150, 220, 180)
    minutes = [tone(60, 16_000, pitch) * (0.3 + 0.3 * loud) for loud, pitch in enumerate(pitches)]
    recording = {"person1": harness.upload_audio(np.concatenate(minutes), 16_000)}
    short = harness.run(DOWNLOAD, EMBED, cond_audio=recording, mode="clip")
    (prefix,) = short.embedding_prefixes
    kept = harness.embedding(prefix)
    assert (len(kept), short.rows) == (SPAN_ROWS, 180 * 25)
    # Then its rows are those of the whole recording
    harness.delete_shared_features()
    whole = harness.run(
        DOWNLOAD, EMBED, cond_audio=recording, mode="streaming", max_frame_num=180 * 25
    )
    assert whole.embedding_prefixes == (prefix,)
    assert torch.equal(harness.embedding(prefix)[:SPAN_ROWS], kept)
    # And what a shorter job left is completed by a longer one
    assert len(harness.embedding(prefix)) == 180 * 25


def test_a_video_that_ends_beside_a_span_has_all_its_rows(harness):
    recording = {"person1": harness.upload_audio(tone(130, 16_000, 200), 16_000)}
    fields = {"cond_audio": recording, "mode": "streaming", "max_frame_num": SPAN_ROWS - 1}
    output = harness.run(DOWNLOAD, EMBED, **fields)
    plan = Plan(output.frames, 21, 5)
    last = max(max(audio_rows(plan.chunk(k), output.rows)) for k in range(plan.chunks))
    (prefix,) = output.embedding_prefixes
    assert SPAN_ROWS < last < len(harness.embedding(prefix))


# Boxes


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (
            [260, 0, 513, 512],
            "bbox.person2: got [260, 0, 513, 512]; allowed: x up to 512, y up to 512",
        ),
        (
            [260, 0, 512, 512.5],
            "bbox.person2: got [260, 0, 512, 512.5]; allowed: x up to 512, y up to 512",
        ),
    ],
)
def test_a_box_outside_the_image_is_refused_with_its_size(harness, talk, box, message):
    bbox = {"person1": LEFT, "person2": box}
    with pytest.raises(InvalidInput) as caught:
        harness.run(DOWNLOAD, **talk, audio_type="para", bbox=bbox)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ([0.5, 0, 1, 1], "0 x 0"),
        ([260, 0, 500, 100], "15 x 6"),
        ([260, 0, 400, 512], "9 x 32"),
    ],
    ids=["shares", "flat", "narrow"],
)
def test_a_box_smaller_than_a_token_is_refused_and_called_pixels(harness, talk, box, pixels):
    # Given a video of 32 x 32 pixels
    bbox = {"person1": LEFT, "person2": box}
    with pytest.raises(InvalidInput, match=r"^bbox\.person2: got \[") as caught:
        harness.run(DOWNLOAD, **talk, audio_type="para", bbox=bbox)
    assert f"of which the video shows {pixels} pixels; allowed: 16 x 16" in caught.value.message
    assert "pixels of cond_video, which has 512 x 512, and not shares" in caught.value.message


def test_of_a_box_only_what_the_crop_leaves_counts(harness, talk):
    # Given an image of which the video shows the middle third
    wide = harness.folder / "wide.png"
    Image.new("RGB", (1536, 512)).save(wide)
    fields = {**talk, "audio_type": "para", "cond_video": harness.upload(wide)}
    inside = {"person1": [512, 0, 768, 512], "person2": [768, 0, 1024, 512]}
    harness.run(DOWNLOAD, **fields, bbox=inside)
    outside = {**inside, "person1": [0, 0, 512, 512]}
    with pytest.raises(InvalidInput, match=r"^bbox\.person1: .* shows 0 x 32 pixels"):
        harness.run(DOWNLOAD, **fields, bbox=outside)


def test_the_box_of_a_single_speaker_is_reported_as_without_effect(harness, talk):
    recording = {"person1": talk["cond_audio"]["person1"]}
    assert harness.run(DOWNLOAD, EMBED, cond_audio=recording).warnings == ()
    (warning,) = harness.run(DOWNLOAD, EMBED, cond_audio=recording, bbox=LEFT).warnings
    assert warning.startswith("bbox has no effect")


def test_boxes_become_rows_and_columns_rounded_out_to_whole_pixels():
    request = job_request(
        cond_audio={"person1": "a", "person2": "b"},
        audio_type="para",
        bbox={"person1": [1.5, 2, 30.2, 40], "person2": [50, 0.1, 60, 70.9]},
    )
    assert boxes(request, scale=1) == [(2, 1, 40, 31), (0, 50, 71, 60)]
    assert boxes(request, scale=0.5) == [(1, 0, 20, 16), (0, 25, 36, 30)]


# Chunks


SMALL = {
    "mode": "clip",
    "frame_num": 5,
    "motion_frame": 1,
    "sample_steps": 1,
    "audio_type": "para",
}


def test_the_model_is_given_each_voice_with_its_speaker_and_both_boxes(harness, talk):
    # Given a job as it is, with its voices swapped, with its boxes swapped, and without boxes
    first, second = talk["cond_audio"].values()
    fields = {**talk, **SMALL}
    bbox = {"person1": LEFT, "person2": RIGHT}
    jobs = [
        fields | {"bbox": bbox},
        fields | {"bbox": bbox, "cond_audio": {"person1": second, "person2": first}},
        fields | {"bbox": {"person1": RIGHT, "person2": LEFT}},
        fields,
    ]
    # Then each makes another video
    segments = [harness.run(DOWNLOAD, EMBED, CHUNK, **job).segment_key for job in jobs]
    assert len({harness.ctx.store.get(key) for key in segments}) == 4


def test_the_size_of_the_stored_pieces_makes_no_difference_to_the_video(harness, talk, monkeypatch):
    fields = {**talk, **SMALL, "mode": "streaming"}
    steps = (DOWNLOAD, EMBED, CHUNK, Step("generate", 1))
    whole = harness.run(*steps, **fields).segment_key
    # Given pieces of so few rows that each chunk needs several
    harness.delete_shared_features()
    for module in (chunk_objects, features):
        monkeypatch.setattr(module, "ROWS_PER_OBJECT", 4)
    pieced = harness.run(*steps, **fields).segment_key
    assert harness.ctx.store.get(pieced) == harness.ctx.store.get(whole)
    assert len(list(harness.ctx.store.keys("shared/voice/"))) == 2 * 8
