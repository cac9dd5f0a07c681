"""The miniature's audio encoder."""

from __future__ import annotations

import re
from math import tau
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from transformers import Wav2Vec2FeatureExtractor

from farm.model.audio import AudioEncoder, load_audio_encoder
from farm.model.parts import build
from farm.presets import MINIATURE
from miniature.audio_encoder import BANDS, embeddings, evaluate, mel_filters, targets, train
from miniature.training import Run
from miniature.voices import Voices, opening, spread


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    torch.manual_seed(0)
    return AudioEncoder(build("audio_encoder", MINIATURE.parts["audio_encoder"]), do_normalize=True)


@pytest.mark.parametrize("seconds", [1.31, 5.0])
def test_a_batch_is_embedded_as_the_farm_embeds_each_recording(
    encoder: AudioEncoder, seconds: float
) -> None:
    # given recordings of different loudness, off centre, one of them silent
    recordings = torch.randn(3, int(16_000 * seconds), generator=Generator().manual_seed(0))
    recordings *= torch.tensor([[0.1], [3.0], [0.0]])
    recordings += torch.tensor([[0.0], [0.5], [0.0]])
    batched = embeddings(encoder.model, recordings)
    for row, alone in zip(batched, recordings, strict=True):
        torch.testing.assert_close(row, encoder.embed(alone.numpy()), atol=2e-5, rtol=0)


def test_a_batch_can_be_learned_from(encoder: AudioEncoder) -> None:
    embeddings(encoder.model, torch.randn(1, 16_000)).sum().backward()
    assert encoder.model.feature_extractor.conv_layers[0].conv.weight.grad.abs().sum() > 0


def test_targets_are_opening_and_spread_and_the_bands(stored: Path) -> None:
    clean = Voices(stored).clip(0)[None, :16_000]
    told = targets(clean)
    assert told.shape == (1, 25, 2 + BANDS)
    torch.testing.assert_close(told[..., 0], opening(clean))
    torch.testing.assert_close(told[..., 1], spread(clean))


def test_bands_are_relative_to_the_mean_so_that_loudness_makes_no_difference(
    stored: Path,
) -> None:
    clean = Voices(stored).clip(0)[None, :16_000]
    torch.testing.assert_close(targets(0.2 * clean), targets(clean), atol=1e-3, rtol=0)


def test_silence_is_the_lowest_in_all_bands() -> None:
    assert targets(torch.zeros(1, 16_000))[..., 2:].eq(-3).all()


@pytest.mark.parametrize(("hertz", "band"), [(220, 1), (1100, 8), (5000, 20)])
def test_a_tone_is_in_the_band_of_its_height(hertz: float, band: int) -> None:
    sound = torch.sin(tau * hertz * torch.arange(16_000) / 16_000)[None]
    assert targets(sound)[0, 12, 2:].argmax() == band


def test_bands_cover_speech_without_gaps() -> None:
    covered = mel_filters(torch.device("cpu")).sum(dim=1)
    inside = torch.linspace(0, 8000, 961)
    inside = (inside > 130) & (inside < 7000)
    assert covered[inside].min() > 0.5


def test_the_result_of_a_few_steps_is_a_part_that_the_farm_loads(
    stored: Path, tmp_path: Path
) -> None:
    model = train(Run(tmp_path, torch.device("cpu")), Voices(stored), training_s=4)
    model.half().save_pretrained(tmp_path / "audio_encoder")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "audio_encoder")
    embedded = load_audio_encoder(tmp_path).embed(np.zeros(16_000, np.float32))
    assert embedded.shape == (25, 3, 64)
    assert embedded.square().mean(dim=(0, 2)).sqrt().min() > 0.5
    assert embedded.square().mean(dim=(0, 2)).sqrt().max() < 2


class Perfect(nn.Module):
    """An encoder of one layer, whose only number is a linear function of the opening."""

    def forward(self, recordings: Tensor, *, output_hidden_states: bool) -> SimpleNamespace:
        return SimpleNamespace(hidden_states=[None, 3 - 2 * opening(recordings)[..., None]])


def test_a_perfect_encoder_scores_one_and_less_where_it_takes_noise_for_speech(
    stored: Path,
) -> None:
    lines = list(
        evaluate(
            Perfect(),
            Voices(stored),
            Voices(stored, held_out=True),
            lengths_s=(3, 5),
            items=12,
        )
    )
    for line, seconds in zip(lines, (3, 5), strict=True):
        assert line.startswith(
            f"opening of held-out voices, 12 recordings of {seconds} s: clean 1.000, worst 1.000; "
        )
        noisy, worst = (float(number) for number in re.findall(r"\d\.\d+", line)[2:])
        assert worst < noisy
