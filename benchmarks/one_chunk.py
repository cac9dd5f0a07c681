"""A chunk at full size, from pixels to H.264, by several options; with random weights in memory.

    python -m benchmarks.one_chunk

Each row is a later chunk of a job: its motion latents come from the chunk before, which has warmed
up. `encoded` is when the last frame was in the MP4 file, less the time of the last decoded piece.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from farm.media.encoder import Encoder
from farm.model.attention import set_attention_backend
from farm.model.block_attention import fold_audio_attention
from farm.model.denoise import Denoiser, Sampling
from farm.model.drawn import DrawnWeights, draw_part
from farm.model.pipeline import Condition, Pipeline, Tail
from farm.model.pixels import to_host
from farm.model.vae import VideoAutoencoder
from farm.model.variant import Variant, Variants
from farm.plan import FPS, Plan, audio_rows
from farm.presets import FLASHTALK, INFINITETALK, Preset

PASSES = {1: (1.0, 1.0), 2: (1.0, 2.0)}
"""Guidance scales of text and audio by how many passes a step they take."""


@dataclass(frozen=True)
class Option:
    attention: str
    quant: str | None
    fold_audio: bool
    steps: int = 4
    passes: int = 2
    skip_last_step: bool = False
    preset: Preset = INFINITETALK

    def __str__(self) -> str:
        parts = [self.quant or "bf16", self.attention]
        parts += ["audio folded"] * self.fold_audio
        parts += [f"{self.steps} steps x {self.passes}"]
        parts += ["without the last"] * self.skip_last_step
        return f"{self.preset.name}: {', '.join(parts)}"


FAST = Option("cudnn_fp8", "fp8", fold_audio=True)
OPTIONS = (
    Option("flash_4", None, fold_audio=False),
    Option("flash_4", None, fold_audio=True),
    FAST,
    replace(FAST, skip_last_step=True),
    replace(FAST, passes=1),
    replace(FAST, preset=FLASHTALK, passes=1),
    replace(FAST, preset=FLASHTALK, passes=1, steps=2),
)


class Clock:
    """Seconds since the chunk began, by stage; the device has finished what was reported."""

    def __init__(self) -> None:
        torch.cuda.synchronize()
        self.began = time.perf_counter()
        self.ended: dict[str, float] = {}
        self.begun: dict[str, float] = {}

    def report(self, stage: str, done: int, total: int) -> None:
        torch.cuda.synchronize()
        now = time.perf_counter() - self.began
        self.begun.setdefault(stage, now)
        self.ended[stage] = now


@dataclass(frozen=True)
class Job:
    """What all chunks of a row share."""

    pipeline: Pipeline
    option: Option
    plan: Plan
    condition: Condition
    text: Tensor
    voice: Tensor

    def chunk(self, index: int, tail: Tail | None, path: Path) -> tuple[Clock, float, Tail | None]:
        """The clock of a chunk, the seconds until its last frame was encoded, and its tail."""
        chunk = self.plan.chunk(index)
        with Encoder(path) as encoder:
            clock = Clock()
            _, left = self.pipeline.chunk(
                chunk,
                condition=self.condition,
                text=self.text,
                negative_text=None,
                audio=self.voice[:, audio_rows(chunk, self.voice.shape[1])],
                tail=tail,
                sampling=self.sampling(is_first=index == 0),
                report=clock.report,
                show=partial(encode, encoder),
            )
            encoder.finish()
            return clock, time.perf_counter() - clock.began, left

    def sampling(self, *, is_first: bool) -> Sampling:
        """The first chunk only warms up."""
        defaults = self.option.preset.defaults
        text_scale, audio_scale = PASSES[self.option.passes]
        return Sampling(
            steps=2 if is_first else self.option.steps,
            shift=self.option.preset.shifts[defaults.size],
            text_scale=text_scale,
            audio_scale=audio_scale,
            motion_frame=defaults.motion_frame,
            skip_last_step=self.option.skip_last_step and not is_first,
        )


def encode(encoder: Encoder, pieces: Iterator[Tensor]) -> None:
    """As the step `generate` does."""
    encoder.begin()
    for frames in pieces:
        encoder.write(to_host(frames))


def drawn_job(pipeline: Pipeline, option: Option, condition: Condition) -> Job:
    """A job of noise of three chunks."""
    defaults = option.preset.defaults
    lead_in = defaults.motion_frame if option.preset.has_lead_in else 0
    plan = Plan(3 * defaults.frame_num, defaults.frame_num, defaults.motion_frame, lead_in=lead_in)
    generator = torch.Generator().manual_seed(0)
    config = pipeline.transformer.config
    rows = (1, plan.frames + 100, config.audio_layers, config.audio_dim)
    return Job(
        pipeline,
        option,
        plan,
        condition,
        text=torch.randn(40, config.text_dim, generator=generator),
        voice=0.3 * torch.randn(rows, generator=generator),
    )


def measure(pipeline: Pipeline, option: Option, scratch: Path) -> None:
    """Prints a row."""
    defaults = option.preset.defaults
    pipeline = replace(pipeline, preset=option.preset)
    pipeline.switch_variant(Variant(quant=option.quant))
    set_attention_backend(pipeline.transformer, option.attention, "cuda")
    height, width = (640, 640) if option.preset is INFINITETALK else (768, 448)
    frame = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    clock = Clock()
    condition = pipeline.condition(frame, size=defaults.size, frame_num=defaults.frame_num)
    clock.report("condition", 1, 1)
    condition_s = clock.ended["condition"]
    job = drawn_job(pipeline, option, condition)
    _, _, tail = job.chunk(0, None, scratch / "first.mp4")
    torch.cuda.reset_peak_memory_stats()
    clock, whole_s, _ = job.chunk(1, tail, scratch / "later.mp4")
    sampling_s, decode_s = (
        clock.ended[each] - clock.begun[each] for each in ("sampling", "decode")
    )
    peak_gib = torch.cuda.max_memory_allocated() / 2**30
    print(
        f"{option!s:64} {whole_s:6.2f} s: before {clock.begun['sampling']:.2f}, sampling "
        f"{sampling_s:.2f}, decode and motion {decode_s:.2f}, encoded "
        f"{whole_s - clock.ended['decode']:.2f}; condition {condition_s:.2f}; {peak_gib:.1f} GiB; "
        f"{job.plan.chunk(1).keep / FPS:.2f} s of video",
        flush=True,
    )


@torch.inference_mode()
def main() -> None:
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    parts = INFINITETALK.parts
    transformer = draw_part("transformer", parts["transformer"], "cuda", dtype="bfloat16")
    fold_audio_attention(transformer, is_folded=False)
    vae = VideoAutoencoder(
        draw_part("vae", parts["vae"], "cuda", dtype="float32"),
        latents_per_call=INFINITETALK.latents_per_call,
        decoder_dtype=torch.float16,
    )
    base = DrawnWeights(transformer, "cuda")
    with tempfile.TemporaryDirectory() as scratch:
        for fold_audio in (False, True):
            fold_audio_attention(transformer, is_folded=fold_audio)
            pipeline = Pipeline(
                preset=INFINITETALK,
                device="cuda",
                denoiser=Denoiser(transformer, Variants(transformer, base, "cuda"), "cuda"),
                vae=vae,
                encode_text=lambda _: torch.empty(0),
                encode_image=lambda _: torch.randn(
                    1, 257, transformer.config.image_dim, device="cuda"
                ),
            )
            for option in OPTIONS:
                if option.fold_audio == fold_audio:
                    measure(pipeline, option, Path(scratch))


if __name__ == "__main__":
    main()
