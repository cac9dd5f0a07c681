from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.nn import functional as F

from farm.model.checkpoints import load_part
from farm.model.vae import VideoAutoencoder
from tests.reference.drawing import filled

PATCHED = {
    "base_dim": 8,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
}
"""Squares of 2 x 2 pixels go through two halvings instead of pixels through three."""


@pytest.fixture(scope="module", params=["pixels", "patches"])
def model(weights: Path, request: pytest.FixtureRequest) -> AutoencoderKLWan:
    if request.param == "patches":
        return filled(AutoencoderKLWan(**PATCHED))
    return load_part(weights, "vae", dtype="float32")


@pytest.fixture(scope="module")
def vae(model: AutoencoderKLWan) -> VideoAutoencoder:
    return VideoAutoencoder(model, latents_per_call=2)


def constants(vae: VideoAutoencoder) -> tuple[Tensor, Tensor]:
    config = vae.model.config
    mean, std = (
        torch.tensor(each).view(1, 16, 1, 1, 1)
        for each in (config.latents_mean, config.latents_std)
    )
    return mean, std


def pixels(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * 2 - 1


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("in_a_call", [1, 2, 10])
@pytest.mark.parametrize("frames", [1, 9, 25])
@torch.inference_mode()
def test_encoding_in_long_pieces_equals_the_stock_walk(
    model: AutoencoderKLWan, frames: int, in_a_call: int
) -> None:
    vae = VideoAutoencoder(model, latents_per_call=in_a_call)
    video = pixels(3, frames, 32, 48)
    mean, std = constants(vae)
    stock = (model.encode(video[None]).latent_dist.mode() - mean) / std
    torch.testing.assert_close(vae.encode(video), stock[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("in_a_call", [1, 2, 10])
@pytest.mark.parametrize("latents", [1, 3, 6])
@torch.inference_mode()
def test_decoding_in_long_pieces_equals_the_stock_walk(
    model: AutoencoderKLWan, latents: int, in_a_call: int
) -> None:
    vae = VideoAutoencoder(model, latents_per_call=in_a_call)
    z = noise(16, latents, 4, 6)
    mean, std = constants(vae)
    stock = model.decode(z[None] * std + mean).sample
    video = vae.decode(z)
    assert video.shape == (3, 4 * latents - 3, 32, 48)
    torch.testing.assert_close(video, stock[0], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_decoding_in_float16_differs_by_its_rounding_only(model: AutoencoderKLWan) -> None:
    z = noise(16, 3, 4, 6)
    full = VideoAutoencoder(model).decode_unclamped(z)
    half = VideoAutoencoder(model, decoder_dtype=torch.float16).decode_unclamped(z)
    assert half.dtype == torch.float32
    assert 0 < (half - full).norm() / full.norm() < 5e-3


@torch.inference_mode()
def test_values_beyond_float16_are_decoded_in_float32(
    model: AutoencoderKLWan, caplog: pytest.LogCaptureFixture
) -> None:
    larger = deepcopy(model)
    larger.decoder.conv_in.bias.fill_(1e5)  # float16 ends at 65504
    z = noise(16, 3, 4, 6)
    expected = VideoAutoencoder(larger).decode_unclamped(z)
    video = VideoAutoencoder(larger, decoder_dtype=torch.float16).decode_unclamped(z)
    assert torch.equal(video, expected)
    assert "decoded_in_float32" in caplog.text


@torch.inference_mode()
def test_pieces_that_are_out_when_a_later_one_overflows_come_again_in_float32(
    model: AutoencoderKLWan,
) -> None:
    # given a video whose last latent is beyond float16
    z = noise(16, 3, 4, 6)
    z[:, -1] *= 1e5
    vae = VideoAutoencoder(model, latents_per_call=1, decoder_dtype=torch.float16)
    taken: list[list[int]] = []

    def consume(pieces: Iterator[Tensor]) -> Tensor:
        taken.append([])
        frames = []
        for piece in pieces:
            taken[-1].append(piece.shape[1])
            frames.append(piece)
        return torch.cat(frames, dim=1)

    # then the consumer gets its first two pieces, and in a second call all, none of them in float16
    video = vae.decode_pieces(z, consume)
    assert taken == [[1, 4], [1, 4, 4]]
    exact = VideoAutoencoder(model, latents_per_call=1)
    assert torch.equal(video, exact.decode_unclamped(z))


@pytest.mark.parametrize("in_a_call", [1, 3])
@torch.inference_mode()
def test_a_still_scene_is_encoded_by_fewer_convolutions_to_the_same_bits(
    model: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch, in_a_call: int
) -> None:
    vae = VideoAutoencoder(model, latents_per_call=in_a_call)
    image = pixels(3, 32, 48)
    convolved: list[int] = []
    conv3d = F.conv3d

    def counted(x: Tensor, *others: Any, **options: Any) -> Tensor:
        convolved.append(x.numel())
        return conv3d(x, *others, **options)

    monkeypatch.setattr(F, "conv3d", counted)
    condition = vae.condition(image, 81)
    few = sum(convolved)
    convolved.clear()
    grey = torch.zeros(3, 80, 32, 48)
    expected = vae.encode(torch.cat([image[:, None], grey], dim=1))
    assert few < 0.7 * sum(convolved)
    assert torch.equal(condition[4:], expected)


@torch.inference_mode()
def test_a_batch_is_encoded_decoded_and_conditioned_like_each_of_it_alone(
    vae: VideoAutoencoder,
) -> None:
    videos = pixels(2, 3, 9, 32, 48)
    latents = noise(2, 16, 3, 4, 6)
    images = pixels(2, 3, 32, 48)
    together = vae.encode(videos), vae.decode(latents), vae.condition(images, 9)
    for index in range(2):
        alone = (
            vae.encode(videos[index]),
            vae.decode(latents[index]),
            vae.condition(images[index], 9),
        )
        for one, batch in zip(alone, together, strict=True):
            torch.testing.assert_close(batch[index], one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_loss_reaches_every_weight_from_every_frame(vae: VideoAutoencoder, side: str) -> None:
    given = (
        pixels(2, 3, 13, 32, 48) if side == "encoder" else noise(2, 16, 4, 4, 6)
    ).requires_grad_()
    vae.model.requires_grad_(True)
    made = (vae.encode if side == "encoder" else vae.decode)(given)
    made.square().mean().backward()
    assert (given.grad.abs().amax(dim=(1, 3, 4)) > 0).all()
    assert [
        name for name, each in getattr(vae.model, side).named_parameters() if each.grad is None
    ] == []


@torch.inference_mode()
def test_the_condition_is_a_mask_then_the_picture_followed_by_grey(
    vae: VideoAutoencoder,
) -> None:
    image = pixels(3, 32, 48)
    condition = vae.condition(image, 9)
    assert condition.shape == (20, 3, 4, 6)
    assert (condition[:4, 0] == 1).all()
    assert (condition[:4, 1:] == 0).all()
    grey = torch.cat([image[:, None], torch.zeros(3, 8, 32, 48)], dim=1)
    torch.testing.assert_close(condition[4:], vae.encode(grey), rtol=0, atol=0)


@torch.inference_mode()
def test_the_conditions_first_latent_is_that_of_the_picture_alone(
    vae: VideoAutoencoder,
) -> None:
    image = pixels(3, 32, 48)
    torch.testing.assert_close(
        vae.condition(image, 9)[4:, :1],
        vae.encode(image[:, None]),
        rtol=0,
        atol=1e-6,
    )
