"""The command that measures the machine it runs on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from farm.cli.options import json_option
from farm.presets import PRESETS, Preset, preset
from farm.settings import Settings
from farm.steps.gpus import device_of
from farm.steps.sampling import default_variant

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from farm.model.bench import Bench, PassTime, VideoCost
    from farm.model.pipeline import Pipeline

PARTS = (
    ("condition (once for a picture)", "condition_s"),
    ("motion frames, encoding", "motion_s"),
    ("decoding", "decode_s"),
    ("colour", "colour_s"),
    ("frames to the host", "to_host_s"),
    ("H.264", "h264_s"),
)


@click.command()
@click.option(
    "--model", type=click.Choice(list(PRESETS)), help="by default the first of FARM_PRESETS"
)
@click.option("--size", metavar="NAME", help="of the video; by default the model's")
@click.option(
    "--random",
    "is_random",
    is_flag=True,
    help="weights drawn in memory, for a machine without any; the video would be noise",
)
@click.option(
    "--calls",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="calls whose median counts, after those that warm up",
)
@click.option(
    "--profile", "is_profiled", is_flag=True, help="also list the kernels that take most of a pass"
)
@json_option("print one JSON object")
def bench(
    model: str | None,
    size: str | None,
    is_random: bool,
    calls: int,
    is_profiled: bool,
    as_json: bool,
) -> None:
    """Measure what a video takes on this machine.

    That is a pass of the model by each attention kernel and format that works here, the other parts
    of a chunk, memory, and from these the GPU seconds of a second of video by number of steps, and
    its cost if FARM_GPU_PRICE_PER_H is set. FARM_DEVICE, FARM_ATTENTION, FARM_QUANT and
    FARM_OFFLOAD count as for a gpu worker. Nothing else should use the GPU. No farm is needed or
    changed. At full size it takes some minutes and the memory of the model; with --random, that of
    the model without 8 bits.

    Example: farm bench --model infinitetalk-480 --random
    """
    from farm.model.bench import bench

    settings = Settings.load(os.environ)
    chosen = preset(model or settings.presets[0])
    if size:
        chosen.buckets(size)  # refuses it before anything is loaded
    with TemporaryDirectory() as folder:
        measured = bench(
            _loader(chosen, settings, is_random),
            size=size,
            calls=calls,
            streamed=settings.offload == "on",
            price_per_h=settings.gpu_price_per_h,
            encode_h264=lambda frames: _encode(Path(folder) / "frames.mp4", frames),
            is_profiled=is_profiled,
            report=lambda text: click.echo(f"{text} ...", err=True),
        )
    if as_json:
        click.echo(json.dumps(asdict(measured), indent=2))
        return
    for line in lines(measured):
        click.echo(line)


def _loader(chosen: Preset, settings: Settings, is_random: bool) -> Callable[[bool], Pipeline]:
    """Loads the model as a gpu worker has it, or draws it; with folded audio or without."""
    from farm.model.checkpoints import checkpoint_folder
    from farm.model.drawn_pipeline import draw_pipeline
    from farm.model.pipeline import load_pipeline

    options: dict[str, Any] = {
        "attention": settings.attention,
        "variant": default_variant(settings),
    }
    device = device_of(settings)
    if is_random:
        return lambda fold: draw_pipeline(chosen, device, fold_audio=fold, **options)
    folder = checkpoint_folder(chosen, settings.weights_folder)
    return lambda fold: load_pipeline(folder, chosen, device, fold_audio=fold, **options)


def _encode(path: Path, frames: NDArray[np.uint8]) -> None:
    from farm.media.video import encode_video

    encode_video(path, frames)


def lines(measured: Bench) -> Iterator[str]:
    """The tables, for people."""
    yield f"{measured.device}, torch {measured.torch}"
    yield (
        f"{measured.model}, {measured.size}: {measured.width}x{measured.height}, "
        f"{measured.frame_num} frames, one speaker, seconds"
    )
    yield f"\n{'one pass':38}{'first':>9}{'later':>9}{'TF/s':>9}{'GiB':>8}"
    yield from map(_pass_line, measured.passes)
    yield from (f"does not work here: {fault}" for fault in measured.faults)
    parts = measured.parts
    yield f"\n{'other parts of a chunk':38}{'':>9}{'':>9}{'':>9}{parts.peak_gib:8.1f}"
    for title, field in PARTS:
        took_s = getattr(parts, field)
        shown = "-" if took_s is None else f"{took_s:.3f}"
        yield f"{title:38}{shown:>9}"
    title = "a second of video"
    yield f"\n{title:38}{'steps':>9}{'passes':>9}{'chunk':>9}{'GPU s':>8}{'cost':>9}"
    yield from map(_cost_line, measured.costs)
    if measured.kernels:
        yield f"\n{'kernels of an exact pass':38}{'ms':>9}{'times':>9}"
        for kernel in measured.kernels:
            yield f"{'':38}{kernel.total_ms:9.1f}{kernel.count:9}  {kernel.name[:90]}"


def _pass_line(timed: PassTime) -> str:
    return (
        f"{timed.option!s:38}{timed.first_s:9.3f}{timed.pass_s:9.3f}"
        f"{timed.tflops:9.2f}{timed.peak_gib:8.1f}"
    )


def _cost_line(cost: VideoCost) -> str:
    money = "-" if cost.money_per_video_s is None else f"{cost.money_per_video_s:.4f}"
    return (
        f"{cost.option!s:38}{cost.steps:9}{cost.passes:9}{cost.chunk_s:9.2f}"
        f"{cost.gpu_s_per_video_s:8.2f}{money:>9}"
    )
