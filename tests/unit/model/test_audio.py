from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from farm.errors import EmbeddingFailed
from farm.model.audio import AudioEncoder, load_audio_encoder, windows


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
    quiet, loud = encoder.embed(speech(1)), encoder.embed(5 * speech(1))
    torch.testing.assert_close(quiet, loud, rtol=0, atol=1e-3)


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


def test_the_first_latent_frame_hears_two_frames_to_each_side_and_the_later_ones_eight() -> None:
    # given a chunk of nine frames from frame 20, each row holding its own frame number
    rows = torch.arange(18, 31).view(1, 13, 1, 1)
    first, later = windows(rows)
    # then latent frame i >= 1 hears start + 4i - 5 .. start + 4i + 2
    assert first.flatten().tolist() == [18, 19, 20, 21, 22]
    assert later[0].flatten(1).tolist() == [list(range(19, 27)), list(range(23, 31))]


def test_a_batch_of_chunks_hears_what_each_hears_alone() -> None:
    rows = torch.arange(2 * 3 * 13 * 2 * 4).view(2, 3, 13, 2, 4)
    first, later = windows(rows)
    for index in range(2):
        alone = windows(rows[index])
        assert torch.equal(first[index], alone[0])
        assert torch.equal(later[index], alone[1])


def test_windows_keep_entry_layer_channel_in_that_order() -> None:
    rows = torch.arange(13 * 2 * 3).view(1, 13, 2, 3)
    first, later = windows(rows)
    assert torch.equal(first[0], rows[0, :5])
    assert torch.equal(later[0, 0], rows[0, 1:9])
