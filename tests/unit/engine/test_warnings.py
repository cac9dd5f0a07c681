"""What a job loses of its media, in the warnings of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from farm.media.audio import SILENCE, write_wav
from farm.route import DOWNLOAD, Step
from farm.store import keys
from tests.support.films import write_film
from tests.support.harness import Harness

SMALL = {"mode": "streaming", "frame_num": 5, "motion_frame": 1}


def warnings_of(harness: Harness, **sources: Path) -> tuple[str, ...]:
    """The warnings of a job with another face or voice, as `embed` leaves them for the result."""
    fields: dict[str, Any] = {}
    for field, path in sources.items():
        key = keys.upload(path)
        harness.store.put(key, path)
        fields[field] = keys.SCHEME + key
    if "voice" in fields:
        fields["cond_audio"] = {"person1": fields.pop("voice")}
    harness.enter(**SMALL, **fields)
    harness.run(DOWNLOAD)
    harness.run(Step("embed"))
    return harness.committed(Step("embed")).output.warnings


def test_good_media_have_no_warning(harness, tmp_path):
    film = write_film(tmp_path / "film.mp4", seconds=1)
    assert warnings_of(harness, cond_video=film) == ()


def test_a_film_shorter_than_the_voice_is_reported(harness, tmp_path):
    film = write_film(tmp_path / "film.mp4", seconds=0.2)
    (warning,) = warnings_of(harness, cond_video=film)
    assert warning == (
        "cond_video lasts 0.20 s, the video 0.48 s; its last frame is used for the rest"
    )


@pytest.mark.parametrize(("width", "height"), [(2000, 300), (64, 400)])
def test_more_than_a_quarter_of_the_picture_cropped_away_is_reported(
    harness, tmp_path, width, height
):
    Image.new("RGB", (width, height)).save(tmp_path / "face.png")
    (warning,) = warnings_of(harness, cond_video=tmp_path / "face.png")
    assert warning.startswith("cond_video: ")
    assert "% of the picture is cropped away" in warning
    assert f"the source {width} x {height} pixels" in warning


def test_a_picture_of_a_common_shape_is_not(harness, tmp_path):
    Image.new("RGB", (1080, 1920)).save(tmp_path / "face.png")
    assert warnings_of(harness, cond_video=tmp_path / "face.png") == ()


@pytest.mark.parametrize("level", [0.0, SILENCE / 2])
def test_a_silent_voice_is_reported(harness, tmp_path, level):
    samples = level * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(tmp_path / "voice.wav", samples, 16_000, subtype="FLOAT")
    (warning,) = warnings_of(harness, voice=tmp_path / "voice.wav")
    assert warning == (
        "cond_audio.person1: it is silent (below -90 dB); the mouth may not move as in speech"
    )


def test_a_faint_voice_above_the_bound_of_silence_is_not(harness, tmp_path):
    samples = 2 * SILENCE * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(tmp_path / "voice.wav", samples, 16_000, subtype="FLOAT")
    assert warnings_of(harness, voice=tmp_path / "voice.wav") == ()


def test_channels_that_cancel_each_other_out_are_reported(harness, tmp_path):
    left = 0.3 * np.sin(np.arange(8000) / 5).astype(np.float32)
    write_wav(tmp_path / "voice.wav", np.stack([left, -left]), 16_000)
    (warning,) = warnings_of(harness, voice=tmp_path / "voice.wav")
    assert warning == (
        "cond_audio.person1: its channels cancel each other out; the model hears only channel 1"
    )


def test_samples_that_are_no_numbers_are_reported(harness, tmp_path):
    samples = (0.1 * np.sin(np.arange(8000) / 5)).astype(np.float32)
    samples[100:103] = np.nan
    soundfile.write(tmp_path / "voice.wav", samples, 16_000, subtype="FLOAT")
    (warning,) = warnings_of(harness, voice=tmp_path / "voice.wav")
    assert warning == "cond_audio.person1: 3 samples are no numbers; they are silent"


def test_a_quiet_voice_is_not(harness, tmp_path):
    quiet = 0.003 * np.sin(np.arange(16_000) / 5).astype(np.float32)
    write_wav(tmp_path / "voice.wav", quiet, 16_000)
    assert warnings_of(harness, voice=tmp_path / "voice.wav") == ()


def test_half_of_an_upload_is_reported(harness, tmp_path):
    film = write_film(tmp_path / "film.mp4", seconds=4)
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    (warning,) = warnings_of(harness, cond_video=film)
    assert warning.startswith("cond_video: the file breaks off after ")
    assert "its header announces 4.00 s; its upload may be incomplete" in warning
