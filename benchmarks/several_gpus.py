"""Several GPUs for one model: a step of one and of two passes, and whole chunks of FlashTalk.

    python -m benchmarks.several_gpus [--gpus 2] [--attention cudnn_fp8 --quant fp8 --fold-audio]
    python -m benchmarks.several_gpus --device cpu --preset miniature --steps 2

Every rank draws the same random weights in the memory of its device; nothing is written. A step's
time is the median of all but the first; an efficiency is the time of one GPU alone by that of all
together, by their number. The latents are compared with those of one GPU, and of a second run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from farm.model.audio import audio_windows
from farm.model.block_attention import fold_audio_attention
from farm.model.denoise import ChunkConditions, Denoiser, Sampling
from farm.model.parts import build
from farm.model.pipeline import Condition, Pipeline, Tail
from farm.model.pixels import to_host
from farm.model.ranks import RankedDenoiser
from farm.model.sampler import SAMPLERS
from farm.model.team import Team
from farm.model.vae import VideoAutoencoder
from farm.model.variant import Variant, Variants
from farm.plan import Plan
from farm.presets import FLASHTALK, INFINITETALK, MINIATURE, MINIATURE_FLASHTALK, Preset

PRESETS = {"infinitetalk": (INFINITETALK, FLASHTALK), "miniature": (MINIATURE, MINIATURE_FLASHTALK)}
SCALES = {1: (1.0, 1.0), 2: (1.0, 2.0)}
"""Of text and audio, by the passes of a step."""

CHUNKS = 4
"""Of FlashTalk each time; the first one warms up."""


def draw(part: str, preset: Preset, device: str) -> Any:
    """A part with random weights of the preset's dtype, the same on every rank."""
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, preset.dtype_of(part)))
    with torch.device(device):
        model = build(part, preset.parts[part])
    torch.set_default_dtype(torch.float32)
    in_float32 = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            inputs = parameter.numel() / parameter.shape[0]
            parameter.data.normal_(std=inputs**-0.5)
        if in_float32 & set(name.split(".")):
            parameter.data = parameter.data.float()
    return model.eval().requires_grad_(False)


def load(preset: Preset, fold_audio: bool, device: str) -> Denoiser:
    """A denoiser with random weights."""
    transformer = draw("transformer", preset, device)
    fold_audio_attention(transformer, is_folded=fold_audio)
    weights = dict(transformer.named_parameters())
    return Denoiser(transformer, Variants(transformer, weights, device), device)


@contextmanager
def alone(ranked: RankedDenoiser) -> Iterator[Denoiser]:
    """The leader's own denoiser, without the other ranks until the block ends."""
    team = ranked.own.team
    ranked.own.team = Team()
    yield ranked.own
    ranked.own.team = team


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def steps_of(
    denoiser: Denoiser | RankedDenoiser, preset: Preset, passes: int, steps: int
) -> tuple[float, Tensor]:
    """The median seconds of a step, and the latents after all of them."""
    size = preset.defaults.size
    height, width = (side // 8 for side in preset.buckets(size)[1.0])
    frames = 1 + (preset.defaults.frame_num - 1) // 4
    config = denoiser.transformer.config
    text = drawn(1, 40, config.text_dim)
    rows = (1, 1, preset.defaults.frame_num + 4, config.audio_layers, config.audio_dim)
    conditions = ChunkConditions(
        latents=drawn(20, frames, height, width),
        image=drawn(1, 257, config.image_dim),
        regions=torch.ones(1, 3, height * width // 4),
        text={True: text, False: text.flip(1)},
        audio={
            True: audio_windows(0.3 * drawn(*rows)),
            False: audio_windows(torch.zeros(rows)),
        },
    )
    device = next(denoiser.transformer.parameters()).device
    sampler = SAMPLERS[preset.sampler]
    noise = sampler.draw(
        torch.Generator().manual_seed(0), (16, frames, height, width), steps=steps, known=None
    )
    text_scale, audio_scale = SCALES[passes]
    times_s: list[float] = []

    def report(stage: str, done: int, total: int) -> None:
        synchronize()
        times_s.append(time.perf_counter())

    latents = denoiser.denoise(
        sampler,
        noise,
        noise.initial[:, :1].to(device),
        on(conditions, device),
        Sampling(steps=steps, shift=7.0, text_scale=text_scale, audio_scale=audio_scale),
        report=report,
    )
    return median(after - before for before, after in pairwise(times_s[1:])), latents


def on(conditions: ChunkConditions, device: torch.device) -> ChunkConditions:
    """The conditions on a device."""
    return ChunkConditions(
        latents=conditions.latents.to(device),
        image=conditions.image.to(device),
        regions=conditions.regions.to(device),
        text={branch: each.to(device) for branch, each in conditions.text.items()},
        audio={
            branch: (first.to(device), later.to(device))
            for branch, (first, later) in conditions.audio.items()
        },
    )


def chunk_s(pipeline: Pipeline, steps: int) -> float:
    """The median seconds of a later chunk, from its inputs to pixels on the host."""
    preset = pipeline.preset
    defaults = preset.defaults
    ((height, width),) = preset.sizes[defaults.size].values()
    frames = 1 + (defaults.frame_num - 1) // 4
    config = pipeline.transformer.config
    motion = defaults.motion_frame
    plan = Plan(4 * defaults.frame_num, defaults.frame_num, motion, lead_in=motion)
    times_s = []
    for _ in range(CHUNKS):
        synchronize()
        began = time.perf_counter()
        pipeline.chunk(
            plan.chunk(1),
            condition=Condition(
                image_tokens=drawn(1, 257, config.image_dim),
                latents=drawn(20, frames, height // 8, width // 8),
                frame=drawn(3, height, width).clamp(-1, 1),
                regions=torch.ones(3, height * width // 256),
            ),
            text=drawn(40, config.text_dim),
            negative_text=None,
            audio=0.3 * drawn(1, defaults.frame_num + 4, config.audio_layers, config.audio_dim),
            tail=Tail(
                drawn(16, 1 + (motion - 1) // 4, height // 8, width // 8),
                torch.Generator().manual_seed(0).get_state(),
                torch.tensor([[50.0, 0.0, 0.0], [20.0, 10.0, 10.0]]),
            ),
            sampling=Sampling(
                steps=steps,
                shift=preset.shifts[defaults.size],
                text_scale=1.0,
                audio_scale=1.0,
                motion_frame=motion,
            ),
            report=lambda *_: None,
            show=pixels,
        )
        times_s.append(time.perf_counter() - began)
    return median(times_s[1:])


def pixels(frames: Iterator[Tensor]) -> list[NDArray[np.uint8]]:
    """Frames as bytes on the host, piece by piece."""
    return [to_host(each)() for each in frames]


def refuse(*_: Any) -> Tensor:
    raise NotImplementedError("every text and image is drawn")


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def compare_steps(ranked: RankedDenoiser, preset: Preset, gpus: int, steps: int) -> None:
    row("a step of", "one GPU, s", f"{gpus} GPUs, s", "efficiency", "from one GPU's", "again")
    row(*["---"] * 6)
    for passes in SCALES:
        with alone(ranked) as own:
            single_s, expected = steps_of(own, preset, passes, steps)
        together_s, latents = steps_of(ranked, preset, passes, steps)
        _, again = steps_of(ranked, preset, passes, steps)
        row(
            "1 pass" if passes == 1 else f"{passes} passes",
            f"{single_s:.3f}",
            f"{together_s:.3f}",
            f"{single_s / together_s / gpus:.3f}",
            difference(latents, expected),
            difference(again, latents),
        )


def difference(latents: Tensor, expected: Tensor) -> str:
    """How far latents are from others: `equal` bit for bit, or relative L2."""
    if torch.equal(latents, expected):
        return "equal"
    return f"{float((latents - expected).norm() / expected.norm()):.1e}"


def compare_chunks(
    ranked: RankedDenoiser, preset: Preset, gpus: int, device: str, steps: Sequence[int]
) -> None:
    vae = VideoAutoencoder(
        draw("vae", preset, device),
        latents_per_call=preset.latents_per_call,
        decoder_dtype=torch.float16 if device == "cuda" else torch.float32,
    )
    pipeline = Pipeline(
        preset=preset,
        device=device,
        denoiser=ranked,
        vae=vae,
        encode_text=refuse,
        encode_image=refuse,
    )
    new_s = (preset.defaults.frame_num - preset.defaults.motion_frame) / 25
    print()
    row(f"a chunk of {preset.name}, {new_s:.2f} s of video", "one GPU, s", f"{gpus} GPUs, s")
    row(*["---"] * 3)
    for count in steps:
        with alone(ranked) as own:
            single_s = chunk_s(replace(pipeline, denoiser=own), count)
        row(f"{count} steps", f"{single_s:.3f}", f"{chunk_s(pipeline, count):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--preset", choices=list(PRESETS), default="infinitetalk")
    parser.add_argument("--attention", default="auto", help="as FARM_ATTENTION")
    parser.add_argument("--fold-audio", action="store_true")
    parser.add_argument("--quant", help="a scheme of farm.model.quantise")
    parser.add_argument("--steps", type=int, default=4, help="of each step measurement; 2 or more")
    options = parser.parse_args()
    preset, flashtalk = PRESETS[options.preset]
    began = time.perf_counter()
    ranked = RankedDenoiser(partial(load, preset, options.fold_audio), options.device, options.gpus)
    kernel = ranked.set_attention(options.attention)
    if options.quant:
        ranked.switch(Variant(quant=options.quant))
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    took_s = time.perf_counter() - began
    print(f"{options.gpus} x {name}, torch {torch.__version__}, attention {kernel}, ", end="")
    print(f"{options.quant or preset.dtype_of('transformer')}; ready after {took_s:.0f} s\n")
    compare_steps(ranked, preset, options.gpus, options.steps)
    compare_chunks(ranked, flashtalk, options.gpus, options.device, (4, 2))
    ranked.close()


if __name__ == "__main__":
    # By its name, under which the other ranks import `load`.
    from benchmarks import several_gpus

    several_gpus.main()
