"""The video autoencoder: trained on faces, 16 numbers for 8 x 8 pixels of four frames."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor, nn

from farm.model.parts import build
from farm.model.vae import VideoAutoencoder
from farm.presets import MINIATURE
from miniature.clips import MOUTH_WEIGHT, Clips
from miniature.studio import Studio
from miniature.training import Losses, Run, generator, train_model

TRAINING_S = 780
PEAK_LR = 1.5e-3

PICTURES_SHARE = 0.18
"""Of the time, for single pictures: they are cheap, and a video depends on its first frame."""

PICTURES = 128
PICTURE_SIZES = ((128, 128), (96, 176), (176, 96))

# Whole chunks, because a shorter clip never shows what 81 frames do to a causal decoder. One size,
# because a compiled step takes half the time, and compiling it two minutes. Small and near, because
# only faces move.
CLIPS = 10
FRAMES = 81
CLIP_SIZE = (96, 96)
NEAR = (0.7, 1.5)

DRAWN = 8
"""Batches that are drawn at once: two thousand small kernels take as long for one clip as for many.
"""

FIRST_FRAME = 6.0
"""The weight of the frame from which a chunk, and all that follow it, take the face."""

LIP_WEIGHT = 0.3
"""The weight of the share of its mouth's movement that a clip lacks, dark and pale alike."""

STILL = 0.003
"""The movement of a pixel in [-1, 1], squared, below which a mouth counts as still."""

NOISE = 0.06
"""The noise in its latents that the decoder must bear."""

LATENT_PENALTY_WEIGHT = 1e-3
"""Without the penalty the latents could grow until they no longer feel the noise."""


def train(run: Run, studio: Studio, training_s: float = TRAINING_S) -> Any:
    """The autoencoder with the statistics of its latents in its configuration."""
    config = {
        **MINIATURE.parts["vae"],
        "latents_mean": [0.0] * 16,
        "latents_std": [1.0] * 16,
    }
    torch.manual_seed(0)
    model = _start_without_memory(build("vae", config))

    @lru_cache(maxsize=1)
    def rendered(number: int, frames: int) -> Clips:
        rng = generator(run, number, 1)
        chosen = random.Random(number)
        if frames > 1:
            near = chosen.uniform(*NEAR)
            return studio.clips(rng, DRAWN * CLIPS, 1, frames, CLIP_SIZE, near=near)
        speakers = 2 if chosen.random() < 0.25 else 1
        size = chosen.choice(PICTURE_SIZES)
        return studio.clips(rng, DRAWN * PICTURES, speakers, frames, size)

    def compute_losses(model: Any, step: int, progress: float) -> Losses:
        frames = 1 if progress < PICTURES_SHARE else FRAMES
        if frames > 1 and run.device.type == "cuda":
            _compile(model)
        # Every clip is used twice, because a face in a mirror is another face.
        pair, mirrored = divmod(step, 2)
        clips = rendered(pair // DRAWN, frames).part(pair % DRAWN, DRAWN)
        if mirrored:
            clips = clips.mirrored()
        return _losses(model, clips, generator(run, step, 6))

    model = train_model(run, "vae", model, compute_losses, training_s=training_s, peak_lr=PEAK_LR)
    mean, std = _statistics(run, studio, VideoAutoencoder(model, latents_per_call=20))
    run.log(stage="vae", latents_mean=mean, latents_std=std)
    model.register_to_config(latents_mean=mean, latents_std=std)
    return model


def _start_without_memory(model: Any) -> Any:
    """Zeroes the weights for earlier frames: what it learns of pictures then holds for video.

    Until it learns better, the model takes four frames for the last of them, drawn four times.
    """
    for module in model.modules():
        if not isinstance(module, WanCausalConv3d) or module.kernel_size[0] == 1:
            continue
        module.weight.data[:, :, :-1] = 0
        between_one_and_two_frames = module.kernel_size[1] == 1
        if between_one_and_two_frames:
            frames = module.out_channels // module.in_channels
            copy = torch.eye(module.in_channels).repeat(frames, 1)
            module.weight.data[:, :, -1, 0, 0] = copy
            nn.init.zeros_(module.bias)
    return model


def _compile(model: Any) -> None:
    """Compiles encoder and decoder once; by then every call has the same shape."""
    for part in (model.encoder, model.decoder):
        if part._compiled_call_impl is None:
            part.compile(dynamic=False)


def _losses(model: Any, clips: Clips, rng: torch.Generator) -> Losses:
    # 1. The video after the latents with some noise
    vae = VideoAutoencoder(model, latents_per_call=FRAMES // 4)
    latents = vae.encode(clips.video)
    noise = torch.randn(latents.shape, generator=rng, device=rng.device)
    drawn = vae.decode_unclamped(latents + NOISE * noise).float()

    # 2. Its errors, weighted by pixel and frame
    weight = clips.weight.expand(-1, -1, drawn.shape[2], -1, -1).clone()
    weight[:, :, 0] *= FIRST_FRAME
    error = drawn - clips.video
    square = error.square()
    reconstruction = ((weight / weight.mean()) * (error.abs() + 4 * square)).mean()

    # 3. The movement that is missing, and the penalty on large latents
    missed = (_movement(error, clips) / (_movement(clips.video, clips) + STILL)).mean()
    latent_penalty = latents.float().square().mean()
    loss = (
        reconstruction
        + 0.5 * _edges(error, clips.weight)
        + LIP_WEIGHT * missed
        + LATENT_PENALTY_WEIGHT * latent_penalty
    )
    return {
        "loss": loss,
        "psnr": _psnr(square),
        "psnr_first": _psnr(square[:, :, 0]),
        "missed": missed,
        "latent_std": latents.float().std(),
    }


def _edges(error: Tensor, weight: Tensor) -> Tensor:
    """How much errors differ from their neighbours in space and time.

    The only loss that is sensitive to blur.
    """
    differences = [
        error.diff(dim=3).abs() * weight[..., 1:, :],
        error.diff(dim=4).abs() * weight[..., 1:],
    ]
    if error.shape[2] > 1:
        differences.append(error.diff(dim=2).abs() * weight)
    return torch.stack([each.mean() for each in differences]).sum() / weight.mean()


def _psnr(square: Tensor) -> Tensor:
    """In dB, of squared errors between pictures in [-1, 1]."""
    return -10 * torch.log10(square.detach().mean() / 4)


def _movement(video: Tensor, clips: Clips) -> Tensor:
    """[B]: the variance over time of a pixel of each clip's mouths; 0 of a single picture."""
    mouths = (clips.weight >= MOUTH_WEIGHT).float()
    change = (video - video.mean(2, keepdim=True)).square() * mouths
    return change.mean((1, 2, 3, 4)) / mouths.mean((1, 2, 3, 4)).clamp(min=1e-6)


@torch.inference_mode()
def _statistics(run: Run, studio: Studio, vae: VideoAutoencoder) -> tuple[list[float], list[float]]:
    """Each channel's mean and deviation over some clips."""
    size = PICTURE_SIZES[0]
    videos = [studio.clips(generator(run, step, 2), 8, 1, FRAMES, size).video for step in range(4)]
    latents = torch.cat([vae.encode(video) for video in videos]).float()
    channels = latents.transpose(0, 1).flatten(1)
    return channels.mean(1).tolist(), channels.std(1).tolist()
