"""The video autoencoder: trained on faces to say in 16 numbers what 8 x 8 pixels show in four frames."""

from __future__ import annotations

import random
from functools import lru_cache

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm
from torch import Tensor, nn

from farm.model.parts import built
from farm.model.presets import MINIATURE
from farm.model.vae import VideoAutoencoder
from miniature.clips import Clips
from miniature.studio import Studio
from miniature.training import Bench, Losses, generator, trained

SECONDS, PEAK = 480, 1.5e-3

# (height, width, frames, clips in a batch, chances): single pictures first, because the first frame is the hardest and
# everything else is drawn from it; then whole chunks, because a shorter clip never shows what 81 frames do to a causal
# decoder; nine frames are the motion frames that a chunk begins with.
EARLY = ((128, 128, 1, 64, 7), (128, 128, 9, 16, 3))
MAIN = (
    (128, 128, 81, 5, 12),
    (96, 176, 81, 5, 3),
    (176, 96, 81, 5, 3),
    (128, 128, 9, 16, 2),
    (192, 192, 1, 32, 1),
    (128, 128, 1, 64, 1),
)
EARLY_SHARE = 0.08

FIRST_FRAME = 6.0
"""How much more the frame counts from which a chunk, and all that follow it, take the face."""

NOISE, CALM = 0.06, 1e-3
"""What the decoder must bear in its latents, and what keeps those from growing until they no longer feel it."""


def train(bench: Bench, studio: Studio, seconds: float = SECONDS) -> nn.Module:
    """The autoencoder with the statistics of its latents in its configuration."""
    config = {**MINIATURE.parts["vae"], "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
    torch.manual_seed(0)
    model = built("vae", config)
    if bench.device.type == "cuda":
        _compile_norms(model)

    @lru_cache(maxsize=1)
    def filmed(number: int, early: bool) -> Clips:
        chosen = random.Random(number)
        menu = EARLY if early else MAIN
        height, width, frames, batch, _ = chosen.choices(menu, [each[-1] for each in menu])[0]
        speakers = 2 if width > height and chosen.random() < 0.6 else 1
        return studio.clips(generator(bench, number, 1), batch, speakers, frames, (height, width))

    def lesson(model: nn.Module, step: int, passed: float) -> Losses:
        clips = filmed(step // 2, passed < EARLY_SHARE)
        # Drawing takes a third of a step, and a face in a mirror is another face.
        clips = clips.mirrored() if step % 2 else clips
        return _losses(VideoAutoencoder(model, latents_in_a_call=20), clips)

    model = trained(bench, "vae", model, lesson, seconds=seconds, peak=PEAK)
    mean, std = _statistics(bench, studio, VideoAutoencoder(model, latents_in_a_call=20))
    bench.log(stage="vae", latents_mean=mean, latents_std=std)
    model.register_to_config(latents_mean=mean, latents_std=std)
    return model


def _compile_norms(model: nn.Module) -> None:
    """One kernel each for the norms, which take more of a step than the convolutions do."""
    for module in model.modules():
        if isinstance(module, WanRMS_norm):
            module.compile(dynamic=True)


def _losses(vae: VideoAutoencoder, clips: Clips) -> Losses:
    latents = vae.encode(clips.video)
    noisy = latents + NOISE * torch.randn_like(latents)
    drawn, wanted = vae.unclamped(noisy).float(), clips.video
    weight = clips.weight.expand(-1, -1, wanted.shape[2], -1, -1).clone()
    weight[:, :, 0] *= FIRST_FRAME
    weight = weight / weight.mean()
    error = drawn - wanted
    edges = sum(
        (error.diff(dim=side).abs() * weight.narrow(side, 1, weight.shape[side] - 1)).mean()
        for side in (2, 3, 4)
        if error.shape[side] > 1
    )
    square = error.square()
    loss = (weight * (error.abs() + 4 * square)).mean() + 0.5 * edges + CALM * latents.float().square().mean()
    return {"loss": loss, "psnr": _psnr(square), "psnr_first": _psnr(square[:, :, 0]), "size": latents.float().std()}


def _psnr(square: Tensor) -> Tensor:
    """Of errors between pictures in [-1, 1], in dB."""
    return -10 * torch.log10(square.detach().mean() / 4)


@torch.inference_mode()
def _statistics(bench: Bench, studio: Studio, vae: VideoAutoencoder) -> tuple[list[float], list[float]]:
    """Each channel's mean and deviation over some clips."""
    batches = [studio.clips(generator(bench, step, 2), 8, 1, 81, (128, 128)).video for step in range(4)]
    latents = torch.cat([vae.encode(video) for video in batches]).float().transpose(0, 1).flatten(1)
    return latents.mean(1).tolist(), latents.std(1).tolist()
