from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from farm.errors import EmbeddingFailed, PipelineLoadFailed
from farm.media import audio as sound
from farm.model.audio import (
    ONE_PASS_ROWS,
    ROW_SAMPLES,
    AudioEncoder,
    audio_windows,
    load_audio_encoder,
)
from farm.model.parts import PREPROCESSOR_CONFIG
from farm.presets import MINIATURE

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def encoder(weights: Path) -> AudioEncoder:
    return load_audio_encoder(weights)


def speech(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(1).standard_normal(int(16_000 * seconds)).astype(np.float32)


@pytest.mark.parametrize(("seconds", "frames"), [(0.04, 1), (1.0, 25), (1.31, 32)])
def test_every_video_frame_gets_a_row(encoder: AudioEncoder, seconds: float, frames: int) -> None:
    embedding = encoder.embed(speech(seconds))
    assert embedding.shape == (frames, 3, 64)
    assert embedding.isfinite().all()


def test_loudness_does_not_matter(encoder: AudioEncoder) -> None:
    quiet = encoder.embed(speech(1))
    loud = encoder.embed(5 * speech(1))
    torch.testing.assert_close(quiet, loud, rtol=0, atol=1e-3)


def test_an_encoder_of_raw_samples_hears_them_as_they_are(weights: Path, tmp_path: Path) -> None:
    preprocess_differently(weights, tmp_path, do_normalize=False)
    encoder = load_audio_encoder(tmp_path)
    samples = speech(1)
    assert torch.equal(encoder.prepare(samples).samples, torch.from_numpy(samples))


def test_an_encoder_of_another_rate_is_refused(weights: Path, tmp_path: Path) -> None:
    preprocess_differently(weights, tmp_path, sampling_rate=8000)
    with pytest.raises(PipelineLoadFailed, match="got sampling_rate 8000; allowed: 16000"):
        load_audio_encoder(tmp_path)


def test_an_encoder_that_does_not_say_what_it_hears_is_refused(
    weights: Path, tmp_path: Path
) -> None:
    preprocess_differently(weights, tmp_path)
    (tmp_path / "audio_encoder" / PREPROCESSOR_CONFIG).unlink()
    with pytest.raises(PipelineLoadFailed, match="preprocessor_config"):
        load_audio_encoder(tmp_path)


def preprocess_differently(weights: Path, folder: Path, **changes: bool | int) -> None:
    """Copies the audio encoder into a folder, with changes of what it is to be given."""
    shutil.copytree(weights / "audio_encoder", folder / "audio_encoder")
    file = folder / "audio_encoder" / PREPROCESSOR_CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_silence_is_embedded_too(encoder: AudioEncoder) -> None:
    assert encoder.embed(np.zeros(16_000, np.float32)).isfinite().all()


def test_less_than_a_frame_is_refused(encoder: AudioEncoder) -> None:
    with pytest.raises(EmbeddingFailed, match="639 samples"):
        encoder.embed(speech(1)[:639])


def test_sound_that_is_not_a_number_is_refused(encoder: AudioEncoder) -> None:
    broken = speech(1)
    broken[7] = np.nan
    with pytest.raises(EmbeddingFailed, match="not finite"):
        encoder.embed(broken)


def in_one_pass(encoder: AudioEncoder, speech: np.ndarray) -> torch.Tensor:
    """The original's embedding of a recording of any length."""
    samples = torch.from_numpy(speech)
    samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
    with torch.inference_mode():
        hidden = encoder.model(samples[None], output_hidden_states=True).hidden_states
    return torch.stack(hidden[1:])[:, 0].transpose(0, 1)


def apart(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """How far each row is from its other, as a part of that."""
    return (rows - others).flatten(1).norm(dim=1) / others.flatten(1).norm(dim=1)


@pytest.fixture(scope="module")
def trained() -> AudioEncoder:
    return load_audio_encoder(MINIATURE.folder(Path()))


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """Three minutes of three voices, a whole number of rows."""
    voices = [sound.speech(EXAMPLES / f"{name}.wav") for name in ("speech", "question", "answer")]
    return np.concatenate(voices * 14)[: 180 * 16_000]


@pytest.mark.parametrize("rows", [50, ONE_PASS_ROWS])
def test_up_to_the_limit_a_recording_is_encoded_as_the_original_does_it(
    encoder: AudioEncoder, rows: int
) -> None:
    samples = speech(rows / 25)
    assert torch.equal(encoder.embed(samples), in_one_pass(encoder, samples))


def test_beyond_the_limit_rows_are_nearly_those_of_one_pass(
    trained: AudioEncoder, talk: np.ndarray
) -> None:
    distance = apart(trained.embed(talk), in_one_pass(trained, talk))
    assert distance.mean() < 1e-3
    # and within a second of each seam, where less than all is heard
    seams = [stretch.start for stretch in trained.prepare(talk).spans()][1:]
    assert len(seams) == 2
    assert max(distance[seam - 25 : seam + 25].max() for seam in seams) < 2e-3


def test_a_quiet_span_is_encoded_as_quiet(trained: AudioEncoder, talk: np.ndarray) -> None:
    # Given one that is almost nothing, with all that is heard around it
    with_a_pause = talk.copy()
    with_a_pause[45 * 16_000 : 135 * 16_000] *= 1e-3
    distance = apart(trained.embed(with_a_pause), in_one_pass(trained, with_a_pause))
    assert distance.max() < 0.05


def test_no_pass_of_the_encoder_is_longer_than_the_limit(
    encoder: AudioEncoder,
) -> None:
    heard: list[int] = []
    hook = encoder.model.register_forward_pre_hook(
        lambda _, inputs: heard.append(inputs[0].shape[-1])
    )
    try:
        encoder.embed(speech(200))
    finally:
        hook.remove()
    assert len(heard) == 4
    assert max(heard) <= ONE_PASS_ROWS * ROW_SAMPLES


@pytest.mark.parametrize("seconds", [120.04, 121.3, 180.0, 199.99])
def test_a_long_recording_has_a_row_for_every_video_frame_too(
    encoder: AudioEncoder, seconds: float
) -> None:
    voice = encoder.prepare(speech(seconds))
    assert [row for stretch in voice.spans() for row in stretch] == list(range(int(seconds * 25)))
    last = voice.spans()[-1]
    assert encoder.encode(voice, last).shape == (len(last), 3, 64)


def test_a_long_recording_leaves_the_encoder_as_it_was(
    encoder: AudioEncoder,
) -> None:
    before = encoder.embed(speech(1))
    encoder.embed(speech(121))
    assert torch.equal(encoder.embed(speech(1)), before)


def test_the_first_latent_frame_hears_two_frames_to_each_side_and_the_later_ones_eight() -> None:
    # given a chunk of nine frames from frame 20, each row holding its own frame number
    rows = torch.arange(18, 31).view(1, 13, 1, 1)
    first, later = audio_windows(rows)
    # then latent frame i >= 1 hears start + 4i - 5 .. start + 4i + 2
    assert first.flatten().tolist() == [18, 19, 20, 21, 22]
    assert later[0].flatten(1).tolist() == [
        list(range(19, 27)),
        list(range(23, 31)),
    ]


def test_a_batch_of_chunks_hears_what_each_hears_alone() -> None:
    rows = torch.arange(2 * 3 * 13 * 2 * 4).view(2, 3, 13, 2, 4)
    first, later = audio_windows(rows)
    for index in range(2):
        alone = audio_windows(rows[index])
        assert torch.equal(first[index], alone[0])
        assert torch.equal(later[index], alone[1])


def test_windows_keep_row_layer_channel_in_that_order() -> None:
    rows = torch.arange(13 * 2 * 3).view(1, 13, 2, 3)
    first, later = audio_windows(rows)
    assert torch.equal(first[0], rows[0, :5])
    assert torch.equal(later[0, 0], rows[0, 1:9])
