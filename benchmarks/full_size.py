"""The 14-billion-parameter model with random weights on one GPU: loading, speed, accuracy.

    python -m benchmarks.full_size FOLDER [--steps 2]

Writes a random checkpoint of the `infinitetalk-480` preset to FOLDER (about 55 GB) and loads it as
a worker does. Generates one chunk for one and for two speakers at 480 and one at 720, and chunks of
the `flashtalk` preset, whose parts are the same. Compares the first block in the preset's dtype
with the same block in float32, and one pass of each variant (eight bits, streamed) with the plain
one.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from farm.model.bench import pass_inputs
from farm.model.denoise import Sampling
from farm.model.drawn import draw_part
from farm.model.guidance import branches
from farm.model.pipeline import Pipeline, load_pipeline
from farm.model.quantise import SCHEMES
from farm.model.vae import joined
from farm.model.variant import Variant
from farm.plan import Plan
from farm.presets import FLASHTALK, INFINITETALK, MINIATURE, Preset

FRAMES = 81
VARIANTS = {
    "bfloat16": Variant(),
    **{scheme: Variant(quant=scheme) for scheme in SCHEMES},
    "streamed from the host": Variant(resident_parameters=0),
}


def write_random_checkpoint(preset: Preset, folder: Path) -> None:
    """Writes random weights of every part that the pipeline loads (not the audio encoder).

    They have full size, in the layout that a worker reads.
    """
    for part, config in preset.parts.items():
        if part == "audio_encoder" or (folder / part).exists():
            continue
        model = draw_part(part, config, "cuda", dtype="float32" if part == "vae" else "bfloat16")
        model.save_pretrained(folder / part, max_shard_size="5GB")
        del model
        torch.cuda.empty_cache()
    tokenizer = MINIATURE.folder(folder) / "tokenizer"
    shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)


@contextmanager
def measured(title: str) -> Iterator[None]:
    """Prints the seconds that the block takes and its peak memory."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    yield
    torch.cuda.synchronize()
    took_s = time.perf_counter() - began
    peak_gib = torch.cuda.max_memory_allocated() / 2**30
    print(f"{title:44} {took_s:7.1f} s {peak_gib:6.1f} GiB", flush=True)


def one_chunk(pipeline: Pipeline, size: str, speakers: int, steps: int) -> None:
    """A first chunk from an image of noise and embeddings of noise."""
    defaults = pipeline.preset.defaults
    frame_num = defaults.frame_num
    lead_in = defaults.motion_frame if pipeline.preset.has_lead_in else 0
    passes, _ = branches(defaults.sample_text_guide_scale, defaults.sample_audio_guide_scale)
    title = f"{size}, {speakers} speaker(s)"
    frame = np.random.default_rng(0).integers(0, 255, (640, 640, 3), np.uint8)
    config = pipeline.transformer.config
    text = torch.randn(40, config.text_dim)
    audio = 0.3 * torch.randn(speakers, frame_num + 4, config.audio_layers, config.audio_dim)
    times_s: dict[str, list[float]] = defaultdict(list)

    def report(stage: str, done: int, total: int) -> None:
        torch.cuda.synchronize()
        times_s[stage].append(time.perf_counter())

    with measured(f"{title}: condition"):
        condition = pipeline.condition(frame, size=size, frame_num=frame_num)
    with measured(f"{title}: chunk of {steps} steps x {len(passes)} passes"):
        frames, _ = pipeline.chunk(
            Plan(frame_num, frame_num, defaults.motion_frame, lead_in=lead_in).chunk(0),
            condition=condition,
            text=text,
            negative_text=text[:30],
            audio=audio,
            tail=None,
            sampling=Sampling(
                steps=steps,
                shift=pipeline.preset.shifts[size],
                text_scale=defaults.sample_text_guide_scale,
                audio_scale=defaults.sample_audio_guide_scale,
                motion_frame=defaults.motion_frame,
            ),
            report=report,
            show=joined,
        )
    _, warm, *_, last = times_s["sampling"]  # before the first step, and after each; one warms up
    pass_s = (last - warm) / len(passes) / (steps - 1)
    decode_s = times_s["decode"][-1] - times_s["decode"][0]
    is_finite = bool(frames.isfinite().all())
    print(f"      a pass {pass_s:.2f} s, decode {decode_s:.2f} s", end=", ")
    print(f"frames {list(frames.shape)}, finite {is_finite}, deviation {frames.std():.3f}")


@torch.inference_mode()
def compare_variants(pipeline: Pipeline) -> None:
    """One pass at 480 as each variant: seconds, peak memory and difference from the plain one."""
    model = pipeline.transformer
    config = model.config
    device = pipeline.device
    given = pass_inputs(config, 640, 640, FRAMES, device=device)
    plain = None
    for name, variant in VARIANTS.items():
        with measured(f"switching to {name}"):
            pipeline.switch_variant(variant)
        model(**given)  # warms up
        with measured(f"one pass, {name}"):
            output = model(**given)
        if plain is None:
            plain = output
        difference = relative_difference(output, plain)
        print(f"      relative L2 to the first: {difference:.2e}", flush=True)
    pipeline.switch_variant(Variant())


@torch.inference_mode()
def compare_block(pipeline: Pipeline) -> None:
    """The first block in the preset's dtype against float32, relative L2, at 480's token count."""
    model = pipeline.transformer
    config = model.config
    device = pipeline.device
    frames, height, width = (21, 40, 40)
    tokens = frames * height * width
    channels = config.num_attention_heads * config.attention_head_dim

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    rope = model.rope(torch.empty(1, 16, frames, 2 * height, 2 * width, device=device))
    x = noise(1, tokens, channels)
    context = noise(1, 769, channels)
    modulation = 0.1 * noise(1, 6, channels)
    audio = noise(1, frames, config.audio_tokens, config.audio_token_dim)
    block = model.blocks[0]
    dtype = model.patch_embedding.weight.dtype
    half = block(x.to(dtype), context.to(dtype), modulation, rope, audio.to(dtype)).float()
    full = deepcopy(block).float()(x, context, modulation, rope, audio)
    print(f"first block, {dtype} against float32: {relative_difference(half, full):.2e}")
    added = (half - full).norm() / (full - x).norm()
    print(f"the same relative to what the block adds to its input: {added:.2e}")


def relative_difference(tensor: Tensor, reference: Tensor) -> float:
    """Relative L2."""
    return float((tensor - reference).norm() / reference.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2, help="at least 2")
    options = parser.parse_args()
    if options.steps < 2:
        parser.error(f"--steps is {options.steps}; at least 2 are needed, because one warms up")
    print(torch.cuda.get_device_name(), torch.__version__)
    with measured("writing a checkpoint"):
        write_random_checkpoint(INFINITETALK, options.folder)
    with measured("loading"):
        pipeline = load_pipeline(options.folder, INFINITETALK, "cuda")
    print(f"attention: {pipeline.attention}")
    with measured("a prompt"):
        pipeline.encode_text("a person talks to the camera")
    one_chunk(pipeline, "infinitetalk-480", 1, options.steps)
    one_chunk(pipeline, "infinitetalk-480", 2, options.steps)
    one_chunk(pipeline, "infinitetalk-720", 1, options.steps)
    flashtalk = replace(pipeline, preset=FLASHTALK)
    for steps in (4, 4, 2):  # the first one warms up
        one_chunk(flashtalk, FLASHTALK.defaults.size, 1, steps)
    compare_block(pipeline)
    compare_variants(pipeline)


if __name__ == "__main__":
    main()
