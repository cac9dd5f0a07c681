"""The video autoencoder: trained on faces to say in 16 numbers what 8 x 8 pixels show in four frames."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor, nn

from farm.model.parts import build
from farm.model.presets import MINIATURE
from farm.model.vae import VideoAutoencoder
from miniature.clips import MOUTH, Clips
from miniature.studio import Studio
from miniature.training import Losses, Run, generator, trained

SECONDS = 780
PEAK = 1.5e-3

PICTURES_SHARE = 0.18
"""Of the time, for single pictures: they are cheap, and a video is drawn from its first frame."""

PICTURES = 128
PICTURE_SIZES = ((128, 128), (96, 176), (176, 96))
CLIPS, FRAMES, CLIP_SIZE, NEAR = 10, 81, (96, 96), (0.7, 1.5)
"""Whole chunks, because a shorter clip never shows what 81 frames do to a causal decoder; of one size, because a
compiled step takes half the time, and compiling it two minutes; small and near, because only faces move."""

DRAWN = 8
"""Batches that are drawn at once: two thousand small kernels take as long for one clip as for many."""

FIRST_FRAME = 6.0
"""How much more the frame counts from which a chunk, and all that follow it, take the face."""

LIPS, STILL = 0.3, 0.003
"""How much the share of its mouth's movement counts that each clip lacks, dark and pale alike; and a pixel's movement
in [-1, 1] squared below which a mouth is called still."""

NOISE, CALM = 0.06, 1e-3
"""What the decoder must bear in its latents, and what keeps those from growing until they no longer feel it."""


def train(run: Run, studio: Studio, seconds: float = SECONDS) -> Any:
    """The autoencoder with the statistics of its latents in its configuration."""
    config = {
        **MINIATURE.parts["vae"],
        "latents_mean": [0.0] * 16,
        "latents_std": [1.0] * 16,
    }
    torch.manual_seed(0)
    model = _forgetful(build("vae", config))

    @lru_cache(maxsize=1)
    def filmed(number: int, frames: int) -> Clips:
        dice = generator(run, number, 1)
        chosen = random.Random(number)
        if frames > 1:
            return studio.clips(
                dice,
                DRAWN * CLIPS,
                1,
                frames,
                CLIP_SIZE,
                near=chosen.uniform(*NEAR),
            )
        speakers = 2 if chosen.random() < 0.25 else 1
        return studio.clips(dice, DRAWN * PICTURES, speakers, frames, chosen.choice(PICTURE_SIZES))

    def lesson(model: Any, step: int, passed: float) -> Losses:
        frames = 1 if passed < PICTURES_SHARE else FRAMES
        if frames > 1 and run.device.type == "cuda":
            _compile(model)
        # A face in a mirror is another face.
        pair, mirrored = divmod(step, 2)
        clips = filmed(pair // DRAWN, frames).part(pair % DRAWN, DRAWN)
        return _losses(model, clips.mirrored() if mirrored else clips, generator(run, step, 6))

    model = trained(run, "vae", model, lesson, seconds=seconds, peak=PEAK)
    mean, std = _statistics(run, studio, VideoAutoencoder(model, latents_per_call=20))
    run.log(stage="vae", latents_mean=mean, latents_std=std)
    model.register_to_config(latents_mean=mean, latents_std=std)
    return model


def _forgetful(model: Any) -> Any:
    """Begins without looking at earlier frames: what it learns from pictures then holds for every frame of a video.

    Four frames are the last of them, drawn four times, until it learns better.
    """
    for module in model.modules():
        if isinstance(module, WanCausalConv3d) and module.kernel_size[0] > 1:
            module.weight.data[:, :, :-1] = 0
            if module.kernel_size[1] == 1:  # between one frame and two
                frames = module.out_channels // module.in_channels
                module.weight.data[:, :, -1, 0, 0] = torch.eye(module.in_channels).repeat(frames, 1)
                nn.init.zeros_(module.bias)
    return model


def _compile(model: Any) -> None:
    """Once; by then every call has the same shape."""
    for part in (model.encoder, model.decoder):
        if part._compiled_call_impl is None:
            part.compile(dynamic=False)


def _losses(model: Any, clips: Clips, dice: torch.Generator) -> Losses:
    vae = VideoAutoencoder(model, latents_per_call=FRAMES // 4)
    latents = vae.encode(clips.video)
    noise = torch.randn(latents.shape, generator=dice, device=dice.device)
    drawn = vae.decode_unclamped(latents + NOISE * noise).float()
    weight = clips.weight.expand(-1, -1, drawn.shape[2], -1, -1).clone()
    weight[:, :, 0] *= FIRST_FRAME
    error = drawn - clips.video
    square = error.square()
    near = ((weight / weight.mean()) * (error.abs() + 4 * square)).mean()
    missed = (_movement(error, clips) / (_movement(clips.video, clips) + STILL)).mean()
    loss = (
        near
        + 0.5 * _edges(error, clips.weight)
        + LIPS * missed
        + CALM * latents.float().square().mean()
    )
    return {
        "loss": loss,
        "psnr": _psnr(square),
        "psnr_first": _psnr(square[:, :, 0]),
        "missed": missed,
        "size": latents.float().std(),
    }


def _edges(error: Tensor, weight: Tensor) -> Tensor:
    """How much errors differ from their neighbours above, to the left and a frame before; nothing else sees a blur."""
    differences = [
        error.diff(dim=3).abs() * weight[..., 1:, :],
        error.diff(dim=4).abs() * weight[..., 1:],
    ]
    if error.shape[2] > 1:
        differences.append(error.diff(dim=2).abs() * weight)
    return torch.stack([each.mean() for each in differences]).sum() / weight.mean()


def _psnr(square: Tensor) -> Tensor:
    """Of squared errors between pictures in [-1, 1], in dB."""
    return -10 * torch.log10(square.detach().mean() / 4)


def _movement(video: Tensor, clips: Clips) -> Tensor:
    """[B]: how much a pixel of each clip's mouths changes over time; 0 of a single picture."""
    mouths = (clips.weight >= MOUTH).float()
    moved = (video - video.mean(2, keepdim=True)).square() * mouths
    return moved.mean((1, 2, 3, 4)) / mouths.mean((1, 2, 3, 4)).clamp(min=1e-6)


@torch.inference_mode()
def _statistics(run: Run, studio: Studio, vae: VideoAutoencoder) -> tuple[list[float], list[float]]:
    """Each channel's mean and deviation over some clips."""
    batches = [
        studio.clips(generator(run, step, 2), 8, 1, FRAMES, PICTURE_SIZES[0]).video
        for step in range(4)
    ]
    latents = torch.cat([vae.encode(video) for video in batches]).float().transpose(0, 1).flatten(1)
    return latents.mean(1).tolist(), latents.std(1).tolist()
