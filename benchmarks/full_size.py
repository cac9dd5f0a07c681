"""The 14-billion-parameter model with random weights on one GPU: does it load, what does a chunk cost, is it right?

    python -m benchmarks.full_size FOLDER [--steps 2]

Draws a checkpoint of the `infinitetalk-480` preset into FOLDER (about 55 GB) and loads it as a worker does. Makes one
chunk for one and for two speakers at 480 and one at 720, and compares the first block in the preset's dtype with the
same block in float32, and one pass of each variant (eight bits, streamed) with the plain one.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from farm.model.audio import audio_windows
from farm.model.parts import build
from farm.model.pipeline import Pipeline, Sampling, load_pipeline
from farm.model.presets import INFINITETALK, MINIATURE, Preset
from farm.model.quantise import SCHEMES
from farm.model.variant import Variant
from farm.plan import Plan

FRAMES = 81
MOTION_FRAMES = 9
VARIANTS = {
    "bfloat16": Variant(),
    **{scheme: Variant(quant=scheme) for scheme in SCHEMES},
    "streamed from the host": Variant(resident_parameters=0),
}


def draw(preset: Preset, folder: Path) -> None:
    """Random weights of every part at full size, saved in the layout that a worker reads."""
    for part, config in preset.parts.items():
        if part == "audio_encoder" or (folder / part).exists():
            continue
        with torch.device("cuda"):
            torch.set_default_dtype(torch.float32 if part == "vae" else torch.bfloat16)
            model = build(part, config)
            torch.set_default_dtype(torch.float32)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=(parameter.numel() / parameter.shape[0]) ** -0.5)
        model.save_pretrained(folder / part, max_shard_size="5GB")
        del model
        torch.cuda.empty_cache()
    shutil.copytree(
        MINIATURE.folder(folder) / "tokenizer",
        folder / "tokenizer",
        dirs_exist_ok=True,
    )


@contextmanager
def told(what: str) -> Iterator[None]:
    """Prints the seconds that the block takes and the most memory that it holds."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    yield
    torch.cuda.synchronize()
    print(
        f"{what:44} {time.perf_counter() - began:7.1f} s {torch.cuda.max_memory_allocated() / 2**30:6.1f} GiB",
        flush=True,
    )


def one_chunk(pipeline: Pipeline, size: str, speakers: int, steps: int) -> None:
    """A first chunk from a picture of noise and embeddings of noise."""
    what = f"{size}, {speakers} speaker{'s' * (speakers > 1)}"
    frame = np.random.default_rng(0).integers(0, 255, (640, 640, 3), np.uint8)
    config = pipeline.transformer.config
    text = torch.randn(40, config.text_dim)
    audio = 0.3 * torch.randn(speakers, FRAMES + 4, config.audio_layers, config.audio_dim)
    marks: list[float] = []

    def report(stage: str, done: int, total: int) -> None:
        torch.cuda.synchronize()
        marks.append(time.perf_counter())

    with told(f"{what}: condition"):
        condition = pipeline.condition(frame, size=size, frame_num=FRAMES)
    with told(f"{what}: chunk of {steps} steps x 3 passes"):
        frames, _ = pipeline.chunk(
            Plan(FRAMES, FRAMES, MOTION_FRAMES).chunk(0),
            condition=condition,
            text=text,
            negative_text=text[:30],
            audio=audio,
            tail=None,
            sampling=Sampling(steps=steps),
            report=report,
        )
    # pre, sampling 0, sampling 1 ... sampling N, decode 0, decode 1
    print(
        f"{'':6}a pass {(marks[-3] - marks[2]) / 3 / (steps - 1):.2f} s, decode {marks[-1] - marks[-2]:.2f} s",
        end=", ",
    )
    print(
        f"frames {list(frames.shape)}, finite {bool(frames.isfinite().all())}, deviation {frames.std():.3f}"
    )


@torch.inference_mode()
def compare_variants(pipeline: Pipeline) -> None:
    """One pass at 480 as each variant: seconds, peak memory, and how far its prediction is from the plain one's."""
    model = pipeline.transformer
    config = pipeline.transformer.config
    device = pipeline.device
    generator = torch.Generator(device).manual_seed(0)
    draw_ = lambda *shape: torch.randn(*shape, device=device, generator=generator)  # noqa: E731
    seen = draw_(1, 36, 21, 80, 80)
    text = draw_(1, 40, config.text_dim)
    image = draw_(1, 257, config.image_dim)
    heard = audio_windows(0.3 * draw_(1, 1, FRAMES + 4, config.audio_layers, config.audio_dim))
    time_ = torch.tensor([731.25], device=device)
    plain = None
    for name, variant in VARIANTS.items():
        with told(f"becoming {name}"):
            pipeline.switch_variant(variant)
        model(seen, time_, text=text, image=image, audio=heard)
        with told(f"one pass, {name}"):
            answer = model(seen, time_, text=text, image=image, audio=heard)
        plain = answer if plain is None else plain
        print(
            f"{'':6}relative L2 to the first: {(answer - plain).norm() / plain.norm():.2e}",
            flush=True,
        )
    pipeline.switch_variant(Variant())


@torch.inference_mode()
def compare_block(pipeline: Pipeline) -> None:
    """The first block's output in the preset's dtype against float32, relative L2, at 480's token count."""
    model = pipeline.transformer
    config = model.config
    device = pipeline.device
    grid = (21, 40, 40)
    tokens = grid[0] * grid[1] * grid[2]
    width = config.num_attention_heads * config.attention_head_dim
    draw_ = lambda *shape: torch.randn(*shape, device=device)  # noqa: E731
    rope = model.rope(torch.empty(1, 16, grid[0], 2 * grid[1], 2 * grid[2], device=device))
    given = (
        draw_(1, tokens, width),
        draw_(1, 769, width),
        0.1 * draw_(1, 6, width),
        rope,
    )
    heard = draw_(1, grid[0], config.audio_tokens, config.audio_token_dim)
    block = model.blocks[0]
    dtype = model.patch_embedding.weight.dtype
    half = block(given[0].to(dtype), given[1].to(dtype), given[2], rope, heard.to(dtype)).float()
    full = deepcopy(block).float()(*given, heard)
    print(
        f"first block, {dtype} against float32: relative L2 {(half - full).norm() / full.norm():.2e}"
    )
    print(
        f"the same of what the block adds to its input: {(half - full).norm() / (full - given[0]).norm():.2e}"
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=Path)
    words.add_argument("--steps", type=int, default=2)
    given = words.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__)
    with told("drawing and saving"):
        draw(INFINITETALK, given.folder)
    with told("loading"):
        pipeline = load_pipeline(given.folder, INFINITETALK, "cuda")
    print(f"attention: {pipeline.attention}")
    with told("a prompt"):
        pipeline.encode_text("a person talks to the camera")
    one_chunk(pipeline, "infinitetalk-480", 1, given.steps)
    one_chunk(pipeline, "infinitetalk-480", 2, given.steps)
    one_chunk(pipeline, "infinitetalk-720", 1, given.steps)
    compare_block(pipeline)
    compare_variants(pipeline)


if __name__ == "__main__":
    main()
