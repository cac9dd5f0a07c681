"""What this machine takes for a pass of the transformer and for each part of a chunk.

Inputs are noise in the shapes of a chunk's. Seconds are medians after calls that warm up.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from farm.errors import FarmError
from farm.model.attention import NATIVE, backend_fault, random_tokens, set_attention_backend
from farm.model.attention_kernels import CUDNN_FP8, FLASH_4
from farm.model.audio import audio_windows
from farm.model.block_attention import Kept
from farm.model.colour import lab_statistics, transfer_colours
from farm.model.guidance import branches
from farm.model.pixels import to_host
from farm.model.quantise import SCHEMES
from farm.model.speakers import regions
from farm.model.transformer import TEMPORAL_STRIDE
from farm.model.variant import Variant
from farm.plan import FPS
from farm.presets import DISTILLED_STEPS, Preset, nearest_bucket

if TYPE_CHECKING:
    from farm.model.pipeline import Pipeline  # which needs more packages

TEXT_TOKENS = 40
IMAGE_TOKENS = 257
LATENT_STRIDE = 8
"""Pixels of a latent, along a side."""

PROFILED_KERNELS = 18

EncodeH264 = Callable[[NDArray[np.uint8]], object]
"""Takes a chunk's new frames, uint8 [F, H, W, 3]."""


@dataclass(frozen=True)
class Option:
    """A way to run the transformer."""

    attention: str
    quant: str | None = None
    fold_audio: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether nothing is rounded more than the model's dtype does."""
        return not (self.quant or self.fold_audio or self.attention == CUDNN_FP8)

    def __str__(self) -> str:
        folded = ", audio folded" if self.fold_audio else ""
        return f"{self.quant or 'plain'}, {self.attention}{folded}"


@dataclass(frozen=True)
class PassTime:
    """One pass by one option."""

    option: Option
    first_s: float
    """The first of a chunk and branch, which computes keys and values of all conditions."""
    pass_s: float
    """Every other one."""
    tflops: float
    """`pass_operations` by `pass_s`, in 1e12 a second."""
    peak_gib: float
    """Of the device, or of the process on a CPU."""


@dataclass(frozen=True)
class PartTimes:
    """Seconds of what a chunk has besides its passes."""

    condition_s: float
    """Once for a picture, for each chunk of a video."""
    motion_s: float
    """Encoding of the motion frames."""
    decode_s: float
    colour_s: float
    to_host_s: float
    h264_s: float | None
    """None if nothing encoded."""
    peak_gib: float

    @property
    def chunk_s(self) -> float:
        """Of a later chunk of a picture, one after the other."""
        return self.motion_s + self.decode_s + self.colour_s + self.to_host_s + (self.h264_s or 0)


@dataclass(frozen=True)
class VideoCost:
    """What a second of video takes, by the fastest pass of an exactness."""

    option: Option
    steps: int
    passes: int
    """In each step."""
    sampling_s: float
    """Of a chunk."""
    chunk_s: float
    gpu_s_per_video_s: float
    money_per_video_s: float | None
    """None without a price."""


@dataclass(frozen=True)
class KernelTime:
    """A kernel of the GPU, or an operation of the CPU."""

    name: str
    count: int
    total_ms: float


@dataclass(frozen=True)
class Bench:
    """The whole table of one machine."""

    device: str
    torch: str
    model: str
    size: str
    height: int
    width: int
    frame_num: int
    passes: Sequence[PassTime]
    faults: Sequence[str]
    """Options that do not work here, and why."""
    parts: PartTimes
    costs: Sequence[VideoCost]
    kernels: Sequence[KernelTime]
    """Of one exact pass, if it was profiled."""


@torch.inference_mode()
def bench(
    load: Callable[[bool], Pipeline],
    *,
    size: str | None = None,
    calls: int = 3,
    streamed: bool = False,
    price_per_h: float | None = None,
    encode_h264: EncodeH264 | None = None,
    is_profiled: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Bench:
    """Measures a square video of a size, or what is nearest to it; by default the preset's size.

    `load` gives the model, with folded audio or without. `streamed` copies the blocks from the host
    in every pass; `report` is told what is measured. Raises InvalidInput for a size that the model
    does not make, OutOfMemory.
    """
    pipeline = load(False)
    preset = pipeline.preset
    size = size or preset.defaults.size
    height, width = nearest_bucket(1, 1, preset.buckets(size))
    kernels = profile_pass(pipeline, height, width, streamed=streamed) if is_profiled else ()
    passes, faults = [], []

    def time_passes(*, fold_audio: bool) -> None:
        for option in options(pipeline, fold_audio=fold_audio):
            report(f"one pass: {option}")
            try:
                timed = time_pass(pipeline, option, height, width, calls=calls, streamed=streamed)
            except (FarmError, RuntimeError) as error:
                faults.append(f"{option}: {str(error).splitlines()[0]}")
            else:
                passes.append(timed)

    time_passes(fold_audio=False)
    report("the parts of a chunk")
    parts = time_parts(pipeline, size, height, width, calls=calls, encode_h264=encode_h264)
    del pipeline  # two may not fit
    pipeline = load(True)
    time_passes(fold_audio=True)
    return Bench(
        device=device_name(pipeline.device),
        torch=torch.__version__,
        model=preset.name,
        size=size,
        height=height,
        width=width,
        frame_num=preset.defaults.frame_num,
        passes=passes,
        faults=faults,
        parts=parts,
        costs=list(video_costs(preset, passes, parts, price_per_h)),
        kernels=kernels,
    )


def options(pipeline: Pipeline, *, fold_audio: bool) -> list[Option]:
    """Every kernel that works on the device with each format; a CPU only emulates 8 bits."""
    kernels = dict.fromkeys([pipeline.attention, *_working_kernels(pipeline)])
    quants = (None, *SCHEMES) if pipeline.device.startswith("cuda") else (None,)
    return [Option(kernel, quant, fold_audio) for quant in quants for kernel in kernels]


def _working_kernels(pipeline: Pipeline) -> list[str]:
    config = pipeline.transformer.config
    dtype = pipeline.transformer.patch_embedding.weight.dtype
    heads = config.num_attention_heads, config.attention_head_dim
    tokens = random_tokens(pipeline.device, dtype, *heads)
    known = (NATIVE, FLASH_4, CUDNN_FP8)
    return [kernel for kernel in known if backend_fault(kernel, tokens) is None]


def time_pass(
    pipeline: Pipeline, option: Option, height: int, width: int, *, calls: int, streamed: bool
) -> PassTime:
    """One pass for one speaker by an option; raises what it raises where it does not work."""
    model = pipeline.transformer
    frame_num = pipeline.preset.defaults.frame_num
    pipeline.switch_variant(
        Variant(quant=option.quant, resident_parameters=0 if streamed else None)
    )
    set_attention_backend(model, option.attention, pipeline.device)
    given = pass_inputs(model.config, height, width, frame_num, device=pipeline.device)
    model(**given, kept=None if streamed else {})  # warms up
    reset_peak(pipeline.device)
    kept: Kept | None = None if streamed else {}
    first_s = seconds(lambda: model(**given, kept=kept), pipeline.device)
    pass_s = median_seconds(lambda: model(**given, kept=kept), pipeline.device, calls)
    frames = 1 + (frame_num - 1) // TEMPORAL_STRIDE
    operations = pass_operations(model.config, frames, height, width, fold_audio=option.fold_audio)
    return PassTime(
        option,
        first_s=first_s,
        pass_s=pass_s,
        tflops=operations / pass_s / 1e12,
        peak_gib=peak_gib(pipeline.device),
    )


def pass_operations(
    config: Any, frames: int, height: int, width: int, *, fold_audio: bool = False
) -> float:
    """Multiplications and additions of a pass after the first of its chunk, from shapes.

    With L tokens (latent frames x H/16 x W/16), C channels, F of the feed-forward, N text and image
    tokens, A audio tokens of a latent frame, P values in and Q values out of a patch:

        2 L C (P + Q) + blocks x L x (8 C^2 + 4 L C    queries, keys, values, output; attention
                                     + 4 C^2 + 4 N C   of text and image, whose keys are kept
                                     + 4 C^2 + 4 A C   of audio, as well
                                     + 4 C F)          feed-forward

    Folded audio has heads x A keys as wide as a token instead: 4 heads A C. Norms, rotations, gates
    and the embedding of the time are not counted.
    """
    channels = config.num_attention_heads * config.attention_head_dim
    patch = np.prod(config.patch_size)
    tokens = frames * height * width / LATENT_STRIDE**2 / patch
    read = config.text_len + IMAGE_TOKENS
    audio = 4 * channels**2 + 4 * config.audio_tokens * channels
    if fold_audio:
        audio = 4 * config.num_attention_heads * config.audio_tokens * channels
    block = (
        8 * channels**2
        + 4 * tokens * channels
        + 4 * channels**2
        + 4 * read * channels
        + audio
        + 4 * channels * config.ffn_dim
    )
    ends = 2 * channels * patch * (config.in_channels + config.out_channels)
    return float(tokens * (config.num_layers * block + ends))


def time_parts(
    pipeline: Pipeline,
    size: str,
    height: int,
    width: int,
    *,
    calls: int,
    encode_h264: EncodeH264 | None = None,
) -> PartTimes:
    """What a chunk has besides its passes, one part after the other."""
    device = pipeline.device
    defaults = pipeline.preset.defaults
    generator = torch.Generator().manual_seed(2)
    frames = 1 + (defaults.frame_num - 1) // TEMPORAL_STRIDE
    sides = height // LATENT_STRIDE, width // LATENT_STRIDE
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    latents = torch.randn(16, frames, *sides, generator=generator).to(device)
    reset_peak(device)

    def timed(call: Callable[[], object]) -> float:
        call()
        return median_seconds(call, device, calls)

    condition_s = timed(lambda: pipeline.condition(image, size=size, frame_num=defaults.frame_num))
    decode_s = timed(lambda: pipeline.vae.decode(latents))
    video = pipeline.vae.decode(latents)
    motion = video[:, -defaults.motion_frame :]
    colours = lab_statistics(video[:, 0])
    new = video[:, defaults.motion_frame :]
    pixels = to_host(new)()
    return PartTimes(
        condition_s=condition_s,
        motion_s=timed(lambda: pipeline.vae.encode(motion)),
        decode_s=decode_s,
        colour_s=timed(lambda: transfer_colours(video, colours, 1.0)),
        to_host_s=timed(lambda: to_host(new)()),
        h264_s=timed(lambda: encode_h264(pixels)) if encode_h264 else None,
        peak_gib=peak_gib(device),
    )


def video_costs(
    preset: Preset, passes: Sequence[PassTime], parts: PartTimes, price_per_h: float | None
) -> Iterator[VideoCost]:
    """For the fastest exact pass and the fastest of all, by numbers of steps.

    A chunk is computed: its passes, the parts around them, and the frames that it adds.
    """
    defaults = preset.defaults
    video_s = (defaults.frame_num - defaults.motion_frame) / FPS
    for timed in _fastest(passes):
        for steps in step_counts(preset):
            count = len(_branches(preset, steps))
            sampling_s = count * (timed.first_s + (steps - 1) * timed.pass_s)
            chunk_s = sampling_s + parts.chunk_s
            gpu_s = chunk_s / video_s
            money = None if price_per_h is None else gpu_s * price_per_h / 3600
            yield VideoCost(timed.option, steps, count, sampling_s, chunk_s, gpu_s, money)


def _fastest(passes: Sequence[PassTime]) -> list[PassTime]:
    """The fastest exact pass, and the fastest of all if it is another."""
    exact = [each for each in passes if each.option.is_exact]
    fastest = [min(some, key=lambda each: each.pass_s) for some in (exact, passes) if some]
    return list(dict.fromkeys(fastest))


def step_counts(preset: Preset) -> tuple[int, ...]:
    """The numbers of steps that a model is used with: its own, and those of distilled adapters."""
    limit = preset.limits.get("sample_steps")
    return limit.allowed if limit else (preset.defaults.sample_steps, DISTILLED_STEPS, 4)


def _branches(preset: Preset, steps: int) -> Sequence[Any]:
    """The passes of a step: with a distilled adapter text needs no guidance."""
    defaults = preset.defaults
    text_scale = 1.0 if steps <= DISTILLED_STEPS else defaults.sample_text_guide_scale
    passes, _ = branches(text_scale, defaults.sample_audio_guide_scale)
    return passes


def pass_inputs(
    config: Any, height: int, width: int, frame_num: int, *, device: str, speakers: int = 1
) -> dict[str, Any]:
    """Noise in the shapes of a pass of a chunk."""
    generator = torch.Generator(device).manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=generator)

    rows = 0.3 * noise(1, speakers, frame_num + 4, config.audio_layers, config.audio_dim)
    frames = 1 + (frame_num - 1) // TEMPORAL_STRIDE
    sides = height // LATENT_STRIDE, width // LATENT_STRIDE
    return {
        "hidden_states": noise(1, config.in_channels, frames, *sides),
        "timestep": torch.tensor([731.25], device=device),
        "text": noise(1, TEXT_TOKENS, config.text_dim),
        "image": noise(1, IMAGE_TOKENS, config.image_dim),
        "audio": audio_windows(rows),
        "regions": regions((height, width), (height, width))[None].to(device),
    }


def seconds(call: Callable[[], object], device: str) -> float:
    """Of one call, until the device has nothing left to do."""
    synchronise(device)
    began = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - began


def median_seconds(call: Callable[[], object], device: str, calls: int) -> float:
    """Of so many calls."""
    return statistics.median(seconds(call, device) for _ in range(calls))


def profile(call: Callable[[], object], device: str) -> list[KernelTime]:
    """What takes most of a call."""
    on_gpu = device.startswith("cuda")
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if on_gpu else activity.CPU]) as profiler:
        call()
        synchronise(device)
    took_us = attrgetter("self_device_time_total" if on_gpu else "self_cpu_time_total")
    events = sorted(profiler.key_averages(), key=took_us, reverse=True)
    return [
        KernelTime(event.key, event.count, took_us(event) / 1000)
        for event in events[:PROFILED_KERNELS]
    ]


def profile_pass(
    pipeline: Pipeline, height: int, width: int, *, streamed: bool
) -> list[KernelTime]:
    """What takes most of a pass of the model as it is, after the first of its chunk."""
    model = pipeline.transformer
    frame_num = pipeline.preset.defaults.frame_num
    given = pass_inputs(model.config, height, width, frame_num, device=pipeline.device)
    kept: Kept | None = None if streamed else {}
    model(**given, kept=kept)
    return profile(lambda: model(**given, kept=kept), pipeline.device)


def synchronise(device: str) -> None:
    """Waits until a GPU has nothing left to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def reset_peak(device: str) -> None:
    """Forgets the peak of a GPU; that of a process cannot be."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: str) -> float:
    """Peak memory of a GPU since `reset_peak`, or else of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def device_name(device: str) -> str:
    """The GPU's name, or that of the device with its threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads"
