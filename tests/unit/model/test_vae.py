from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm.model.checkpoints import load_part
from farm.model.vae import VideoAutoencoder


@pytest.fixture(scope="module")
def vae(weights: Path) -> VideoAutoencoder:
    return VideoAutoencoder(load_part(weights, "vae", dtype="float32"), latents_in_a_call=2)


def constants(vae: VideoAutoencoder) -> tuple[torch.Tensor, torch.Tensor]:
    config = vae.model.config
    mean, std = (torch.tensor(each).view(1, 16, 1, 1, 1) for each in (config.latents_mean, config.latents_std))
    return mean, std


@pytest.mark.parametrize("frames", [1, 5, 9, 25])
@torch.inference_mode()
def test_encoding_in_long_pieces_equals_the_stock_walk(vae: VideoAutoencoder, frames: int) -> None:
    video = torch.rand(3, frames, 32, 48, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    mean, std = constants(vae)
    stock = (vae.model.encode(video[None]).latent_dist.mean - mean) / std
    torch.testing.assert_close(vae.encode(video), stock[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("latents", [1, 2, 3, 6])
@torch.inference_mode()
def test_decoding_in_long_pieces_equals_the_stock_walk(vae: VideoAutoencoder, latents: int) -> None:
    z = torch.randn(16, latents, 4, 6, generator=torch.Generator().manual_seed(latents))
    mean, std = constants(vae)
    stock = vae.model.decode(z[None] * std + mean).sample
    video = vae.decode(z)
    assert video.shape == (3, 4 * latents - 3, 32, 48)
    torch.testing.assert_close(video, stock[0], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_condition_is_a_mask_then_the_picture_followed_by_grey(vae: VideoAutoencoder) -> None:
    image = torch.rand(3, 32, 48) * 2 - 1
    condition = vae.condition(image, 9)
    assert condition.shape == (20, 3, 4, 6)
    assert (condition[:4, 0] == 1).all()
    assert (condition[:4, 1:] == 0).all()
    grey = torch.cat([image[:, None], torch.zeros(3, 8, 32, 48)], dim=1)
    torch.testing.assert_close(condition[4:], vae.encode(grey), rtol=0, atol=0)


@torch.inference_mode()
def test_the_conditions_first_latent_is_that_of_the_picture_alone(vae: VideoAutoencoder) -> None:
    image = torch.rand(3, 32, 48) * 2 - 1
    torch.testing.assert_close(vae.condition(image, 9)[4:, :1], vae.encode(image[:, None]), rtol=0, atol=1e-6)
